//! The topic client package: typed methods over [`client_core::Caller`].
//!
//! Degraded means here: `GetTopic` is answered from the last good reply for the same request, else with the id and empty texts.
//! `CreateTopic` is never answered degraded and never sent twice when the first may have arrived.
//!
//! ```text
//!   TopicClient: typed methods --> Caller: deadline, attempts, degraded replies --> the instances of topic
//!     SERVICE: the method table        Parts: directory, bounds, metrics, traces
//! ```
//!
//! Here no instance is there to ask:
//!
//! ```
//! use client_core::{Context, Parts, directory::fixed::Fixed};
//! use client_topic::TopicClient;
//! use proto::topic::GetTopicRequest;
//!
//! let client = TopicClient::new(&Parts::fixed(Fixed::default()));
//! let (context, request) = (Context::default(), GetTopicRequest { topic_id: 7 });
//! let reply = futures_lite::future::block_on(client.get_topic(&context, &request))?;
//! assert_eq!((reply.value.topic_id, reply.value.subject.as_str()), (7, ""));
//! assert!(reply.degraded.is_some_and(|how| how.to_string() == "default; reason=UNAVAILABLE"));
//! # Ok::<(), client_core::CallError>(())
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
