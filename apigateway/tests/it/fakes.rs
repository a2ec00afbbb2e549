//! Stand-ins for the three services, and a caller for the application.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use apigateway::{Answer, Clients, FeedApi, Options, ProfileApi, State, TopicApi};
use client_core::{CallError, Context, Degraded, Reply, Sent};
use proto::{
    feed::{FeedRecord, GetFeedsRequest, GetFeedsResponse},
    profile::{CreateProfileRequest, GetProfileRequest, GetProfileResponse},
    topic::{CreateTopicRequest, GetTopicRequest, GetTopicResponse},
};
use tide::http::{Method, Request, Response, Url};
use tonic::Code;

/// Three services in one value, and what they were asked.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    pub shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
pub struct Shared {
    pub feeds: BTreeMap<(i64, i64), FeedRecord>,
    pub profile: Option<GetProfileResponse>,
    pub topic: Option<GetTopicResponse>,
    /// Every call is answered with this.
    pub fail: Option<CallError>,
    /// Every reply to a read carries this.
    pub degraded: Option<Degraded>,
    pub panic: bool,
    /// Calls stay unanswered while it is set.
    pub hold: bool,
    /// The contexts of the calls that came.
    pub contexts: Vec<Context>,
}

impl Fake {
    fn answer<'a, T: Send + 'a>(
        &'a self,
        context: &Context,
        value: impl FnOnce(&mut Shared) -> Option<T>,
    ) -> Answer<'a, T> {
        let mut shared = self.shared.lock().unwrap();
        shared.contexts.push(context.clone());
        if shared.panic {
            drop(shared);
            return Box::pin(async { panic!("as the test wants it") });
        }
        if shared.hold {
            return Box::pin(std::future::pending());
        }
        let result = match shared.fail.clone() {
            Some(error) => Err(error),
            None => value(&mut shared).ok_or_else(|| error(Code::NotFound, Sent::Maybe)),
        };
        Box::pin(std::future::ready(result))
    }

    pub fn with(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.shared.lock().unwrap());
    }

    pub fn calls(&self) -> usize {
        self.shared.lock().unwrap().contexts.len()
    }

    pub fn last(&self) -> Context {
        self.shared.lock().unwrap().contexts.last().cloned().expect("a call was made")
    }

    pub fn app(&self) -> tide::Server<State> {
        self.app_with(Options::default())
    }

    pub fn app_with(&self, options: Options) -> tide::Server<State> {
        apigateway::app(Clients::all(self.clone()), options, None, tracer::Tracer::off())
    }
}

pub fn error(code: Code, sent: Sent) -> CallError {
    CallError { code, message: format!("the service's words on {code:?}"), sent, answered: true, retry_after: None }
}

impl FeedApi for Fake {
    fn get_feeds<'a>(
        &'a self,
        context: &'a Context,
        request: &'a GetFeedsRequest,
    ) -> Answer<'a, Reply<GetFeedsResponse>> {
        self.answer(context, |shared| {
            let size = usize::try_from(request.size).unwrap_or(0);
            let of_user = shared.feeds.range((request.user_id, request.after_id + 1)..=(request.user_id, i64::MAX));
            let feeds = of_user.map(|(_, feed)| feed.clone()).take(size).collect();
            Some(Reply { value: GetFeedsResponse { feeds }, degraded: shared.degraded })
        })
    }
    fn create_feed<'a>(&'a self, context: &'a Context, record: &'a FeedRecord) -> Answer<'a, ()> {
        self.answer(context, |shared| {
            shared.feeds.insert((record.user_id, record.id), record.clone());
            Some(())
        })
    }
}

impl ProfileApi for Fake {
    fn get_profile<'a>(
        &'a self,
        context: &'a Context,
        _: &'a GetProfileRequest,
    ) -> Answer<'a, Reply<GetProfileResponse>> {
        self.answer(context, |shared| Some(Reply { value: shared.profile.clone()?, degraded: shared.degraded }))
    }
    fn create_profile<'a>(&'a self, context: &'a Context, request: &'a CreateProfileRequest) -> Answer<'a, ()> {
        let CreateProfileRequest { user_id, name, company, title } = request.clone();
        self.answer(context, |shared| {
            shared.profile = Some(GetProfileResponse { user_id, name, company, title, feeds: vec![] });
            Some(())
        })
    }
}

impl TopicApi for Fake {
    fn get_topic<'a>(&'a self, context: &'a Context, _: &'a GetTopicRequest) -> Answer<'a, Reply<GetTopicResponse>> {
        self.answer(context, |shared| Some(Reply { value: shared.topic.clone()?, degraded: shared.degraded }))
    }
    fn create_topic<'a>(&'a self, context: &'a Context, request: &'a CreateTopicRequest) -> Answer<'a, ()> {
        let CreateTopicRequest { topic_id, subject, content } = request.clone();
        self.answer(context, |shared| {
            shared.topic = Some(GetTopicResponse { topic_id, subject, content });
            Some(())
        })
    }
}

/// A request in the making.
pub struct Call(Request);

pub fn get(target: &str) -> Call {
    method(Method::Get, target)
}

pub fn put(target: &str, body: impl AsRef<[u8]>) -> Call {
    let mut call = method(Method::Put, target);
    call.0.set_body(body.as_ref());
    call.header("content-type", "application/x-www-form-urlencoded")
}

pub fn method(method: Method, target: &str) -> Call {
    Call(Request::new(method, Url::parse(&format!("http://gateway{target}")).unwrap()))
}

impl Call {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.insert_header(name, value);
        self
    }

    pub fn to(self, app: &tide::Server<State>) -> Got {
        async_std::task::block_on(async_std::future::timeout(Duration::from_secs(10), self.answer(app)))
            .expect("answered in time")
    }

    pub async fn answer(self, app: &tide::Server<State>) -> Got {
        let mut response: Response = app.respond(self.0).await.unwrap();
        let body = response.body_bytes().await.unwrap();
        Got { response, body: String::from_utf8(body).unwrap() }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Got {
    pub response: Response,
    pub body: String,
}

impl Got {
    pub fn status(&self) -> u16 {
        self.response.status() as u16
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.header(name).map(|values| values.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    /// The problem's detail, once it was seen to be a whole problem of this status and code.
    pub fn problem(&self, status: u16, code: &str) -> String {
        let problem = self.json();
        assert_eq!(self.status(), status, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["code"], code);
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["title"], self.response.status().canonical_reason());
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        problem["detail"].as_str().expect("there is a detail").to_owned()
    }
}
