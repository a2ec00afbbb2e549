//! The gRPC side: checks what is asked, asks the store, maps failures to codes.

use std::sync::Arc;

use proto::routes::{Built, Server};
use proto::topic::{CreateTopicRequest, GetTopicRequest, GetTopicResponse, OkResponse, topic_server};
use tonic::{Request, Response, Status};

use crate::store::Store;

/// The longest text of a topic, in bytes, each.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// The topic service over `store`, with health and reflection.
///
/// # Errors
/// See [`proto::routes::build`].
pub async fn routes(store: Arc<dyn Store>) -> Result<Built<impl Server>, Box<dyn std::error::Error + Send + Sync>> {
    let server = topic_server::TopicServer::new(Service { store });
    Ok(proto::routes::build(server).await?)
}

#[derive(Debug)]
struct Service {
    store: Arc<dyn Store>,
}

#[tonic::async_trait]
impl topic_server::Topic for Service {
    async fn get_topic(&self, request: Request<GetTopicRequest>) -> Result<Response<GetTopicResponse>, Status> {
        let GetTopicRequest { topic_id } = request.into_inner();
        valid_id(topic_id)?;
        let found = self.store.get(topic_id).await?;
        let CreateTopicRequest { topic_id, subject, content } =
            found.ok_or_else(|| Status::not_found(format!("no topic {topic_id}")))?;
        Ok(Response::new(GetTopicResponse { topic_id, subject, content }))
    }

    async fn create_topic(&self, request: Request<CreateTopicRequest>) -> Result<Response<OkResponse>, Status> {
        let record = request.into_inner();
        valid_id(record.topic_id)?;
        valid_text("subject", &record.subject)?;
        valid_text("content", &record.content)?;
        self.store.create(record).await?;
        Ok(Response::new(OkResponse {}))
    }
}

#[allow(clippy::result_large_err)] // tonic's own error type
fn valid_id(topic_id: i64) -> Result<(), Status> {
    if topic_id >= 1 {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("topic_id must be at least 1, not {topic_id}")))
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

    use futures_lite::future::block_on;
    use tonic::Code;
    use topic_server::Topic as _;

    use super::*;
    use crate::store::Memory;

    fn service() -> Service {
        Service { store: Arc::new(Memory::default()) }
    }

    fn create(service: &Service, topic_id: i64, subject: &str, content: &str) -> Result<(), Status> {
        let record = CreateTopicRequest { topic_id, subject: subject.into(), content: content.into() };
        block_on(service.create_topic(Request::new(record))).map(|_| ())
    }

    fn get(service: &Service, topic_id: i64) -> Result<GetTopicResponse, Status> {
        block_on(service.get_topic(Request::new(GetTopicRequest { topic_id }))).map(Response::into_inner)
    }

    #[test]
    fn what_is_created_is_got_and_the_unknown_is_not_found() {
        let service = service();
        create(&service, 1, "tea", "is hot").unwrap();
        let expected = GetTopicResponse { topic_id: 1, subject: "tea".into(), content: "is hot".into() };
        assert_eq!(get(&service, 1).unwrap(), expected);
        let status = get(&service, 2).unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no topic 2"));
    }

    #[test]
    fn each_bad_field_is_named_with_its_bound() {
        let service = service();
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let wrong = [
            (create(&service, 0, "", "").unwrap_err(), "topic_id must be at least 1, not 0"),
            (create(&service, 1, &long, "").unwrap_err(), "subject must be at most 65536 bytes, not 65537"),
            (create(&service, 1, "", &long).unwrap_err(), "content must be at most 65536 bytes, not 65537"),
            (get(&service, -1).unwrap_err(), "topic_id must be at least 1, not -1"),
        ];
        for (status, message) in wrong {
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
        }
        assert_eq!(get(&service, 1).unwrap_err().code(), Code::NotFound, "nothing was stored");
    }
}
