//! The feed client package: typed methods over [`client_core::Caller`].
//!
//! Degraded means here: `GetFeeds` is answered from the last good reply for the same request, else with an empty list.
//! `CreateFeed` is never answered degraded and never sent twice when the first may have arrived.
//!
//! ```no_run
//! # async fn example(parts: &client_core::Parts) -> Result<(), client_core::CallError> {
//! use client_core::Context;
//! use client_feed::FeedClient;
//! use proto::feed::GetFeedsRequest;
//!
//! let client = FeedClient::new(parts);
//! let reply = client.get_feeds(&Context::default(), &GetFeedsRequest::default()).await?;
//! println!("{:?}, degraded: {:?}", reply.value, reply.degraded);
//! # Ok(())
//! # }
//! ```

use client_core::{CallError, Caller, Context, Method, Parts, Reply, Service};
use proto::feed::{FeedRecord, GetFeedsRequest, GetFeedsResponse, OkResponse};

/// The service and its methods; a method's number is its place in the table.
pub const SERVICE: &Service = &Service {
    name: "feed",
    grpc: "feed.Feed",
    methods: &[
        Method { name: "GetFeeds", path: "/feed.Feed/GetFeeds", idempotent: true, fallback: true },
        Method { name: "CreateFeed", path: "/feed.Feed/CreateFeed", idempotent: false, fallback: false },
    ],
};
const GET: usize = 0;
const CREATE: usize = 1;

/// Calls the feed service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FeedClient {
    caller: Caller,
}

impl FeedClient {
    /// Starts watching and connecting; never fails, never waits.
    #[must_use]
    pub fn new(parts: &Parts) -> Self {
        Self { caller: Caller::new(SERVICE, parts) }
    }

    /// A user's feeds, true or degraded: an empty list at worst.
    ///
    /// # Errors
    /// The service's own error; or, for a strict caller or with the fallback off, why no instance could answer.
    pub async fn get_feeds(
        &self,
        context: &Context,
        request: &GetFeedsRequest,
    ) -> Result<Reply<GetFeedsResponse>, CallError> {
        let default = || Some(GetFeedsResponse::default());
        self.caller.call(context, GET, request, default).await
    }

    /// Stores a feed. `Err` says whether it may have happened all the same.
    ///
    /// # Errors
    /// The service's own error, or why no instance could answer.
    pub async fn create_feed(&self, context: &Context, request: &FeedRecord) -> Result<(), CallError> {
        self.caller.call(context, CREATE, request, || None::<OkResponse>).await.map(|_| ())
    }

    /// What it calls through, for readiness and the debug port.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}
