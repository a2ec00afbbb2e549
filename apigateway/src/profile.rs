//! `/api/profile`: who users are.

use prost::Message as _;
use proto::{
    feed::FeedRecord,
    profile::{CreateProfileRequest, GetProfileRequest},
};
use tide::Response;

use crate::{Problem, body::Fields, handler::Inbound, query::Query, render};

/// `PUT /api/profile/create_profile`
pub(crate) async fn create_profile(mut inbound: Inbound) -> Result<Response, Problem> {
    let mut fields = Fields::parse(&inbound.body().await?, ["user_id", "name", "company", "title"])?;
    let request = CreateProfileRequest {
        user_id: fields.id("user_id")?,
        name: fields.text("name")?,
        company: fields.text("company")?,
        title: fields.text("title")?,
    };
    inbound.gateway.clients.profile.create_profile(&inbound.context, &request).await.map_err(Problem::write)?;
    Ok(render::created())
}

/// `GET /api/profile/get_profile`
pub(crate) async fn get_profile(inbound: Inbound) -> Result<Response, Problem> {
    let user_id = Query::of(inbound.url(), ["user_id"]).id("user_id", 123)?;
    let request = GetProfileRequest { user_id };
    let reply = inbound.gateway.clients.profile.get_profile(&inbound.context, &request).await.map_err(Problem::read)?;
    let profile = reply.value;
    let feeds = decode(&profile.feeds, user_id);
    let value = render::Profile {
        user_id: profile.user_id,
        name: &profile.name,
        company: &profile.company,
        title: &profile.title,
        feeds: &feeds,
    };
    Ok(render::answer(&value, reply.degraded))
}

/// Decodes the feeds that the profile service passes on; one that is broken is left out, the others stand.
fn decode(encoded: &[impl AsRef<[u8]>], user_id: i64) -> Vec<FeedRecord> {
    let feeds: Vec<_> = encoded.iter().filter_map(|bytes| FeedRecord::decode(bytes.as_ref()).ok()).collect();
    let broken = encoded.len() - feeds.len();
    if broken > 0 {
        log::warn!(user_id = user_id, broken = broken; "left out feeds of a profile that cannot be decoded");
    }
    feeds
}
