//! `/api/topic`: subjects and what is said of them.

use proto::topic::{CreateTopicRequest, GetTopicRequest};
use tide::Response;

use crate::{Problem, body::Fields, handler::Inbound, query::Query, render};

/// `PUT /api/topic/create_topic`
pub(crate) async fn create_topic(mut inbound: Inbound) -> Result<Response, Problem> {
    let mut fields = Fields::parse(&inbound.body().await?, ["topic_id", "subject", "content"])?;
    let request = CreateTopicRequest {
        topic_id: fields.id("topic_id")?,
        subject: fields.text("subject")?,
        content: fields.text("content")?,
    };
    inbound.gateway.clients.topic.create_topic(&inbound.context, &request).await.map_err(Problem::write)?;
    Ok(render::created())
}

/// `GET /api/topic/view`
pub(crate) async fn view_topic(inbound: Inbound) -> Result<Response, Problem> {
    let topic_id = Query::of(inbound.url(), ["topic_id"]).id("topic_id", 7)?;
    let request = GetTopicRequest { topic_id };
    let reply = inbound.gateway.clients.topic.get_topic(&inbound.context, &request).await.map_err(Problem::read)?;
    let topic = reply.value;
    let value = render::Topic { topic_id: topic.topic_id, subject: &topic.subject, content: &topic.content };
    Ok(render::answer(&value, reply.degraded))
}
