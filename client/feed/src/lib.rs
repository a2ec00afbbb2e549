//! The feed client package: typed methods over [`client_core::Caller`].
//!
//! Degraded means here: `GetFeeds` is answered from the last good reply for the same request, else with an empty list.
//! `CreateFeed` is never answered degraded and never sent twice when the first may have arrived.
//!
//! ```text
//!   FeedClient: typed methods --> Caller: deadline, attempts, degraded replies --> the instances of feed
//!     SERVICE: the method table        Parts: directory, bounds, metrics, traces
//! ```
//!
//! Here no instance is there to ask:
//!
//! ```
//! use client_core::{Context, Parts, directory::fixed::Fixed};
//! use client_feed::FeedClient;
//! use proto::feed::GetFeedsRequest;
//!
//! let client = FeedClient::new(&Parts::fixed(Fixed::default()));
//! let (context, request) = (Context::default(), GetFeedsRequest { user_id: 123, size: 2, after_id: 0 });
//! let reply = futures_lite::future::block_on(client.get_feeds(&context, &request))?;
//! assert!(reply.value.feeds.is_empty());
//! assert!(reply.degraded.is_some_and(|how| how.to_string() == "default; reason=UNAVAILABLE"));
//! # Ok::<(), client_core::CallError>(())
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
