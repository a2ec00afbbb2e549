//! The topic client package: typed methods over [`client_core::Caller`].
//!
//! Degraded means here: `GetTopic` is answered from the last good reply for the same request, else with the id and empty texts.
//! `CreateTopic` is never answered degraded and never sent twice when the first may have arrived.
//!
//! ```no_run
//! # async fn example(parts: &client_core::Parts) -> Result<(), client_core::CallError> {
//! use client_core::Context;
//! use client_topic::TopicClient;
//! use proto::topic::GetTopicRequest;
//!
//! let client = TopicClient::new(parts);
//! let reply = client.get_topic(&Context::default(), &GetTopicRequest::default()).await?;
//! println!("{:?}, degraded: {:?}", reply.value, reply.degraded);
//! # Ok(())
//! # }
//! ```

use client_core::{CallError, Caller, Context, Method, Parts, Reply, Service};
use proto::topic::{CreateTopicRequest, GetTopicRequest, GetTopicResponse, OkResponse};

/// The service and its methods; a method's number is its place in the table.
pub const SERVICE: &Service = &Service {
    name: "topic",
    grpc: "topic.Topic",
    methods: &[
        Method { name: "GetTopic", path: "/topic.Topic/GetTopic", idempotent: true, fallback: true },
        Method { name: "CreateTopic", path: "/topic.Topic/CreateTopic", idempotent: false, fallback: false },
    ],
};
const GET: usize = 0;
const CREATE: usize = 1;

/// Calls the topic service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TopicClient {
    caller: Caller,
}

impl TopicClient {
    /// Starts watching and connecting; never fails, never waits.
    #[must_use]
    pub fn new(parts: &Parts) -> Self {
        Self { caller: Caller::new(SERVICE, parts) }
    }

    /// A topic, true or degraded: the id and empty texts at worst.
    ///
    /// # Errors
    /// The service's own error; or, for a strict caller or with the fallback off, why no instance could answer.
    pub async fn get_topic(
        &self,
        context: &Context,
        request: &GetTopicRequest,
    ) -> Result<Reply<GetTopicResponse>, CallError> {
        let default = || Some(GetTopicResponse { topic_id: request.topic_id, ..GetTopicResponse::default() });
        self.caller.call(context, GET, request, default).await
    }

    /// Stores a topic. `Err` says whether it may have happened all the same.
    ///
    /// # Errors
    /// The service's own error, or why no instance could answer.
    pub async fn create_topic(&self, context: &Context, request: &CreateTopicRequest) -> Result<(), CallError> {
        self.caller.call(context, CREATE, request, || None::<OkResponse>).await.map(|_| ())
    }

    /// What it calls through, for readiness and the debug port.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}
