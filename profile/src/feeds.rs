//! Where a profile's feeds come from: the feed service, through its client package.

use client_core::{CallError, Context, Reply};
use client_feed::FeedClient;
use proto::feed::{GetFeedsRequest, GetFeedsResponse};

/// A source of a user's feeds.
#[tonic::async_trait]
pub trait Feeds: std::fmt::Debug + Send + Sync + 'static {
    /// The feeds asked for, true or degraded.
    ///
    /// # Errors
    /// No instance could answer, or the service's own error.
    async fn get_feeds(
        &self,
        context: &Context,
        request: &GetFeedsRequest,
    ) -> Result<Reply<GetFeedsResponse>, CallError>;
}

#[tonic::async_trait]
impl Feeds for FeedClient {
    async fn get_feeds(
        &self,
        context: &Context,
        request: &GetFeedsRequest,
    ) -> Result<Reply<GetFeedsResponse>, CallError> {
        Self::get_feeds(self, context, request).await
    }
}
