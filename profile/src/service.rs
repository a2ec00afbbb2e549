//! The gRPC side: checks what is asked, asks the store and the feed service, maps failures to codes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use client_core::{Context, Degraded, Kind};
use proto::feed::GetFeedsRequest;
use proto::profile::{CreateProfileRequest, GetProfileRequest, GetProfileResponse, OkResponse, profile_server};
use proto::routes::{Built, Server};
use tonic::{Request, Response, Status};

use crate::{feeds::Feeds, store::Store};

/// Feeds in one answer: the user's first ones.
pub const FEEDS_SHOWN: i64 = 10;
/// The longest text of a profile, in bytes, each.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Time kept back from the feed call, so that the profile itself is answered within the caller's deadline.
const RESERVE: Duration = Duration::from_millis(50);

/// The profile service over `store`, with `feeds` for its users' feeds, with health and reflection.
///
/// # Errors
/// See [`proto::routes::build`].
pub async fn routes(
    store: Arc<dyn Store>,
    feeds: Arc<dyn Feeds>,
) -> Result<Built<impl Server>, Box<dyn std::error::Error + Send + Sync>> {
    let server = profile_server::ProfileServer::new(Service { store, feeds });
    Ok(proto::routes::build(server).await?)
}

#[derive(Debug)]
struct Service {
    store: Arc<dyn Store>,
    feeds: Arc<dyn Feeds>,
}

#[tonic::async_trait]
impl profile_server::Profile for Service {
    async fn get_profile(&self, request: Request<GetProfileRequest>) -> Result<Response<GetProfileResponse>, Status> {
        let context = Context::of(&request);
        let GetProfileRequest { user_id } = request.into_inner();
        valid_id(user_id)?;
        let found = self.store.get(user_id).await?;
        let CreateProfileRequest { user_id, name, company, title } =
            found.ok_or_else(|| Status::not_found(format!("no profile of user {user_id}")))?;
        let (feeds, degraded) = self.feeds_of(context, user_id).await;
        let mut response = Response::new(GetProfileResponse { user_id, name, company, title, feeds });
        if let Some(degraded) = degraded {
            degraded.write(response.metadata_mut());
        }
        Ok(response)
    }

    async fn create_profile(&self, request: Request<CreateProfileRequest>) -> Result<Response<OkResponse>, Status> {
        let record = request.into_inner();
        valid_id(record.user_id)?;
        valid_text("name", &record.name)?;
        valid_text("company", &record.company)?;
        valid_text("title", &record.title)?;
        self.store.create(record).await?;
        Ok(Response::new(OkResponse {}))
    }
}

impl Service {
    /// The user's first feeds, encoded; and how they are degraded, if they are.
    async fn feeds_of(&self, mut context: Context, user_id: i64) -> (Vec<Vec<u8>>, Option<Degraded>) {
        context.deadline = context.deadline.map(|deadline| reserved(deadline, Instant::now()));
        let request = GetFeedsRequest { user_id, size: FEEDS_SHOWN, after_id: 0 };
        match self.feeds.get_feeds(&context, &request).await {
            Ok(reply) => {
                let feeds = reply.value.feeds.iter().map(prost::Message::encode_to_vec).collect();
                (feeds, reply.degraded)
            }
            Err(error) => (Vec::new(), Some(Degraded { kind: Kind::Default, reason: error.code })),
        }
    }
}

/// The deadline of the feed call: a quarter of what is left is kept back, but never more than [`RESERVE`].
fn reserved(deadline: Instant, now: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    deadline.checked_sub(RESERVE.min(left / 4)).unwrap_or(deadline)
}

#[allow(clippy::result_large_err)] // tonic's own error type
fn valid_id(user_id: i64) -> Result<(), Status> {
    if user_id >= 1 {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("user_id must be at least 1, not {user_id}")))
}

#[allow(clippy::result_large_err)] // tonic's own error type
fn valid_text(field: &str, text: &str) -> Result<(), Status> {
    if text.contains('\0') {
        // PostgreSQL cannot keep it, and all stores are alike.
        return Err(Status::invalid_argument(format!("{field} must not hold a NUL character")));
    }
    let length = text.len();
    if length <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} must be at most {TEXT_BYTES_MAX} bytes, not {length}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use client_core::{CallError, Reply, Sent};
    use futures_lite::future::block_on;
    use profile_server::Profile as _;
    use prost::Message as _;
    use proto::feed::{FeedRecord, GetFeedsResponse};
    use tonic::Code;

    use super::*;
    use crate::store::Memory;

    /// Answers what it was told to, and keeps what it was asked.
    #[derive(Debug)]
    struct Fake {
        answer: Result<Reply<GetFeedsResponse>, CallError>,
        asked: Mutex<Vec<(GetFeedsRequest, Option<Instant>)>>,
    }

    #[tonic::async_trait]
    impl Feeds for Fake {
        async fn get_feeds(
            &self,
            context: &Context,
            request: &GetFeedsRequest,
        ) -> Result<Reply<GetFeedsResponse>, CallError> {
            self.asked.lock().unwrap().push((*request, context.deadline));
            self.answer.clone()
        }
    }

    fn service(answer: Result<Reply<GetFeedsResponse>, CallError>) -> (Service, Arc<Fake>) {
        let fake = Arc::new(Fake { answer, asked: Mutex::default() });
        (Service { store: Arc::new(Memory::default()), feeds: fake.clone() }, fake)
    }

    fn one_feed() -> GetFeedsResponse {
        GetFeedsResponse { feeds: vec![FeedRecord { id: 1, user_id: 5, content: "x".into() }] }
    }

    fn create(service: &Service, user_id: i64, name: &str) -> Result<(), Status> {
        let record = CreateProfileRequest { user_id, name: name.into(), ..CreateProfileRequest::default() };
        block_on(service.create_profile(Request::new(record))).map(|_| ())
    }

    fn get(service: &Service, user_id: i64) -> Result<Response<GetProfileResponse>, Status> {
        block_on(service.get_profile(Request::new(GetProfileRequest { user_id })))
    }

    #[test]
    fn profile_brings_its_users_feeds_encoded() {
        let (service, fake) = service(Ok(Reply { value: one_feed(), degraded: None }));
        create(&service, 5, "Ann").unwrap();
        let response = get(&service, 5).unwrap();
        assert!(response.metadata().is_empty());
        let profile = response.into_inner();
        assert_eq!((profile.user_id, profile.name.as_str()), (5, "Ann"));
        let feeds: Vec<_> = profile.feeds.iter().map(|feed| FeedRecord::decode(feed.as_slice()).unwrap()).collect();
        assert_eq!(feeds, one_feed().feeds);
        let asked = fake.asked.lock().unwrap().clone();
        assert_eq!(asked, [(GetFeedsRequest { user_id: 5, size: FEEDS_SHOWN, after_id: 0 }, None)]);
    }

    #[test]
    fn unknown_user_is_not_found_and_feed_is_not_asked() {
        let (service, fake) = service(Ok(Reply { value: one_feed(), degraded: None }));
        let status = get(&service, 5).unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no profile of user 5"));
        assert!(fake.asked.lock().unwrap().is_empty());
    }

    #[test]
    fn profile_is_answered_without_feeds_when_feed_fails_and_says_so() {
        let error = CallError {
            code: Code::Unavailable,
            message: "nobody".into(),
            sent: Sent::No,
            answered: false,
            retry_after: None,
        };
        let (service, _) = service(Err(error));
        create(&service, 5, "Ann").unwrap();
        let response = get(&service, 5).unwrap();
        let expected = Degraded { kind: Kind::Default, reason: Code::Unavailable };
        assert_eq!(Degraded::read(response.metadata()), Some(expected));
        assert_eq!(response.into_inner().feeds, [[0; 0]; 0]);
    }

    #[test]
    fn stale_feeds_make_a_stale_profile() {
        let stale = Degraded { kind: Kind::Stale { age: Duration::from_secs(3) }, reason: Code::Unavailable };
        let (service, _) = service(Ok(Reply { value: one_feed(), degraded: Some(stale) }));
        create(&service, 5, "Ann").unwrap();
        assert_eq!(Degraded::read(get(&service, 5).unwrap().metadata()), Some(stale));
    }

    #[test]
    fn feed_call_leaves_time_to_answer() {
        let now = Instant::now();
        assert_eq!(reserved(now + Duration::from_secs(1), now), now + Duration::from_millis(950));
        assert_eq!(reserved(now + Duration::from_millis(40), now), now + Duration::from_millis(30));
        assert_eq!(reserved(now, now), now);
    }

    #[test]
    fn each_bad_field_is_named_with_its_bound() {
        let (service, _) = service(Ok(Reply { value: one_feed(), degraded: None }));
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let wrong = [
            (create(&service, 0, "").unwrap_err(), "user_id must be at least 1, not 0"),
            (create(&service, 1, "a\0").unwrap_err(), "name must not hold a NUL character"),
            (create(&service, 1, &long).unwrap_err(), "name must be at most 65536 bytes, not 65537"),
            (get(&service, -1).unwrap_err(), "user_id must be at least 1, not -1"),
        ];
        for (status, message) in wrong {
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
        }
    }
}
