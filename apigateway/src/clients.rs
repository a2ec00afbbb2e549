//! The services as the handlers see them: traits over the client packages, so that a test can stand in for a service.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use client_core::{CallError, Context, Reply};
use client_feed::FeedClient;
use client_profile::ProfileClient;
use client_topic::TopicClient;
use proto::{
    feed::{FeedRecord, GetFeedsRequest, GetFeedsResponse},
    profile::{CreateProfileRequest, GetProfileRequest, GetProfileResponse},
    topic::{CreateTopicRequest, GetTopicRequest, GetTopicResponse},
};

/// What a call returns: one box per call, small beside the call itself.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// The feed service.
pub trait FeedApi: Send + Sync + 'static {
    /// The first `size` feeds of a user after `after_id`.
    fn get_feeds<'a>(
        &'a self,
        context: &'a Context,
        request: &'a GetFeedsRequest,
    ) -> Answer<'a, Reply<GetFeedsResponse>>;
    /// Stores a feed; the same ids again replace it.
    fn create_feed<'a>(&'a self, context: &'a Context, record: &'a FeedRecord) -> Answer<'a, ()>;
}

/// The profile service.
pub trait ProfileApi: Send + Sync + 'static {
    /// A user's profile, with the user's feeds.
    fn get_profile<'a>(
        &'a self,
        context: &'a Context,
        request: &'a GetProfileRequest,
    ) -> Answer<'a, Reply<GetProfileResponse>>;
    /// Stores a profile; the same user again replaces it.
    fn create_profile<'a>(&'a self, context: &'a Context, request: &'a CreateProfileRequest) -> Answer<'a, ()>;
}

/// The topic service.
pub trait TopicApi: Send + Sync + 'static {
    /// A topic.
    fn get_topic<'a>(
        &'a self,
        context: &'a Context,
        request: &'a GetTopicRequest,
    ) -> Answer<'a, Reply<GetTopicResponse>>;
    /// Stores a topic; the same id again replaces it.
    fn create_topic<'a>(&'a self, context: &'a Context, request: &'a CreateTopicRequest) -> Answer<'a, ()>;
}

impl FeedApi for FeedClient {
    fn get_feeds<'a>(
        &'a self,
        context: &'a Context,
        request: &'a GetFeedsRequest,
    ) -> Answer<'a, Reply<GetFeedsResponse>> {
        Box::pin(Self::get_feeds(self, context, request))
    }
    fn create_feed<'a>(&'a self, context: &'a Context, record: &'a FeedRecord) -> Answer<'a, ()> {
        Box::pin(Self::create_feed(self, context, record))
    }
}

impl ProfileApi for ProfileClient {
    fn get_profile<'a>(
        &'a self,
        context: &'a Context,
        request: &'a GetProfileRequest,
    ) -> Answer<'a, Reply<GetProfileResponse>> {
        Box::pin(Self::get_profile(self, context, request))
    }
    fn create_profile<'a>(&'a self, context: &'a Context, request: &'a CreateProfileRequest) -> Answer<'a, ()> {
        Box::pin(Self::create_profile(self, context, request))
    }
}

impl TopicApi for TopicClient {
    fn get_topic<'a>(
        &'a self,
        context: &'a Context,
        request: &'a GetTopicRequest,
    ) -> Answer<'a, Reply<GetTopicResponse>> {
        Box::pin(Self::get_topic(self, context, request))
    }
    fn create_topic<'a>(&'a self, context: &'a Context, request: &'a CreateTopicRequest) -> Answer<'a, ()> {
        Box::pin(Self::create_topic(self, context, request))
    }
}

/// The services that the gateway calls.
#[derive(Clone)]
pub struct Clients {
    /// Feeds of users.
    pub feed: Arc<dyn FeedApi>,
    /// Who users are.
    pub profile: Arc<dyn ProfileApi>,
    /// Subjects and what is said of them.
    pub topic: Arc<dyn TopicApi>,
}

impl Clients {
    /// Over one value that stands in for all services.
    #[must_use]
    pub fn all(one: impl FeedApi + ProfileApi + TopicApi) -> Self {
        let one = Arc::new(one);
        Self { feed: one.clone(), profile: one.clone(), topic: one.clone() }
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}
