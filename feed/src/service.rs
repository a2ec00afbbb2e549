//! The gRPC side: checks what is asked, asks the store, maps failures to codes.

use std::sync::Arc;

use proto::feed::{FeedRecord, GetFeedsRequest, GetFeedsResponse, OkResponse, feed_server};
use proto::routes::{Built, Server};
use tonic::{Request, Response, Status};

use crate::store::Store;

/// The most feeds in one answer.
pub const PAGE_MAX: i64 = 1000;
/// The longest text of a feed, in bytes.
pub const CONTENT_BYTES_MAX: usize = 64 << 10;

/// The feed service over `store`, with health and reflection.
///
/// # Errors
/// See [`proto::routes::build`].
pub async fn routes(store: Arc<dyn Store>) -> Result<Built<impl Server>, Box<dyn std::error::Error + Send + Sync>> {
    let server = feed_server::FeedServer::new(Service { store });
    Ok(proto::routes::build(server).await?)
}

#[derive(Debug)]
struct Service {
    store: Arc<dyn Store>,
}

#[tonic::async_trait]
impl feed_server::Feed for Service {
    async fn get_feeds(&self, request: Request<GetFeedsRequest>) -> Result<Response<GetFeedsResponse>, Status> {
        let GetFeedsRequest { user_id, size, after_id } = request.into_inner();
        at_least("user_id", user_id, 1)?;
        at_least("after_id", after_id, 0)?;
        if size > PAGE_MAX {
            return Err(Status::invalid_argument(format!("size must be at most {PAGE_MAX}, not {size}")));
        }
        let Ok(limit @ 1..) = usize::try_from(size) else {
            return Ok(Response::new(GetFeedsResponse::default()));
        };
        let feeds = self.store.list(user_id, after_id, limit).await?;
        Ok(Response::new(GetFeedsResponse { feeds }))
    }

    async fn create_feed(&self, request: Request<FeedRecord>) -> Result<Response<OkResponse>, Status> {
        let record = request.into_inner();
        at_least("id", record.id, 1)?;
        at_least("user_id", record.user_id, 1)?;
        valid_text("content", &record.content)?;
        self.store.create(record).await?;
        Ok(Response::new(OkResponse {}))
    }
}

#[allow(clippy::result_large_err)] // tonic's own error type
fn at_least(field: &str, value: i64, least: i64) -> Result<(), Status> {
    if value >= least {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} must be at least {least}, not {value}")))
}

#[allow(clippy::result_large_err)] // tonic's own error type
fn valid_text(field: &str, text: &str) -> Result<(), Status> {
    if text.contains('\0') {
        // PostgreSQL cannot keep it, and all stores are alike.
        return Err(Status::invalid_argument(format!("{field} must not hold a NUL character")));
    }
    let length = text.len();
    if length <= CONTENT_BYTES_MAX {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} must be at most {CONTENT_BYTES_MAX} bytes, not {length}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use feed_server::Feed as _;
    use futures_lite::future::block_on;
    use tonic::Code;

    use super::*;
    use crate::store::Memory;

    fn service() -> Service {
        Service { store: Arc::new(Memory::default()) }
    }

    fn create(service: &Service, id: i64, user_id: i64, content: &str) -> Result<(), Status> {
        let record = FeedRecord { id, user_id, content: content.into() };
        block_on(service.create_feed(Request::new(record))).map(|_| ())
    }

    fn get(service: &Service, user_id: i64, size: i64, after_id: i64) -> Result<Vec<FeedRecord>, Status> {
        let request = GetFeedsRequest { user_id, size, after_id };
        block_on(service.get_feeds(Request::new(request))).map(|response| response.into_inner().feeds)
    }

    #[test]
    fn what_is_created_is_got() {
        let service = service();
        create(&service, i64::MAX, i64::MAX, &"x".repeat(CONTENT_BYTES_MAX)).unwrap();
        let feeds = get(&service, i64::MAX, PAGE_MAX, 0).unwrap();
        assert_eq!(feeds.first().map(|feed| (feed.id, feed.content.len())), Some((i64::MAX, CONTENT_BYTES_MAX)));
        assert_eq!(get(&service, 5, 1, 0).unwrap(), []);
    }

    #[test]
    fn size_of_zero_or_less_gives_an_empty_list() {
        let service = service();
        create(&service, 1, 1, "x").unwrap();
        for size in [0, -1, i64::MIN] {
            assert_eq!(get(&service, 1, size, 0).unwrap(), []);
        }
    }

    #[test]
    fn each_bad_field_is_named_with_its_bound() {
        let service = service();
        let long = "x".repeat(CONTENT_BYTES_MAX + 1);
        let wrong = [
            (create(&service, 0, 1, "").unwrap_err(), "id must be at least 1, not 0"),
            (create(&service, i64::MIN, 1, "").unwrap_err(), "id must be at least 1, not -9223372036854775808"),
            (create(&service, 1, 0, "").unwrap_err(), "user_id must be at least 1, not 0"),
            (create(&service, 1, 1, &long).unwrap_err(), "content must be at most 65536 bytes, not 65537"),
            (create(&service, 1, 1, "a\0").unwrap_err(), "content must not hold a NUL character"),
            (get(&service, 0, 1, 0).unwrap_err(), "user_id must be at least 1, not 0"),
            (get(&service, 1, 1001, 0).unwrap_err(), "size must be at most 1000, not 1001"),
            (get(&service, 1, 1, -1).unwrap_err(), "after_id must be at least 0, not -1"),
        ];
        for (status, message) in wrong {
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
        }
        assert_eq!(get(&service, 1, 10, 0).unwrap(), [], "nothing was stored");
    }
}
