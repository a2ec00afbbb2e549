//! `/api/feed`: feeds of users.

use proto::feed::{FeedRecord, GetFeedsRequest};
use tide::Response;

use crate::{
    Problem,
    body::Fields,
    handler::Inbound,
    query::{Query, SIZE_MAX},
    render,
};

/// `PUT /api/feed/create_feed`
pub(crate) async fn create_feed(mut inbound: Inbound) -> Result<Response, Problem> {
    let mut fields = Fields::parse(&inbound.body().await?, ["id", "user_id", "content"])?;
    let record = FeedRecord { id: fields.id("id")?, user_id: fields.id("user_id")?, content: fields.text("content")? };
    inbound.gateway.clients.feed.create_feed(&inbound.context, &record).await.map_err(Problem::write)?;
    Ok(render::created())
}

/// `GET /api/feed/get_feeds`
pub(crate) async fn get_feeds(inbound: Inbound) -> Result<Response, Problem> {
    let request = list_request(&inbound)?;
    let reply = inbound.gateway.clients.feed.get_feeds(&inbound.context, &request).await.map_err(Problem::read)?;
    Ok(render::answer(&render::Feeds { feeds: &reply.value.feeds }, reply.degraded))
}

fn list_request(inbound: &Inbound) -> Result<GetFeedsRequest, Problem> {
    let query = Query::of(inbound.url(), ["user_id", "size", "after_id"]);
    let user_id = query.id("user_id", 123)?;
    let size = query.required("size", 10)?;
    if size > SIZE_MAX {
        let most = SIZE_MAX;
        return Err(Problem::bad_request(format!("size must be at most {most}, not {size}: use after_id to page")));
    }
    let after_id = query.integer("after_id")?.unwrap_or(0);
    if after_id < 0 {
        return Err(Problem::bad_request(format!("after_id must be at least 0, not {after_id}")));
    }
    Ok(GetFeedsRequest { user_id, size, after_id })
}
