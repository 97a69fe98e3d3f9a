//! `/users/me/privacy`: who may write to the caller, add it, and see when it was last there.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, get, patch};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::extract::{ApiResult, Body, Caller};
use super::resource;
use crate::domain::Error;
use crate::domain::privacy::Audience;
use crate::gateway::Edge;
use crate::storage::{PrivacyChange, PrivacyRecord};

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service.service(resource("/users/me/privacy").route(get().to(privacy)).route(patch().to(change)));
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(privacy, change))]
pub struct Rows;

/// Who may do what to the caller.
#[derive(Serialize, ToSchema)]
struct Privacy {
    /// Direct messages.
    #[schema(value_type = Audience)]
    who_may_write: &'static str,
    /// To groups; with `nobody` no contact requests either.
    #[schema(value_type = Audience)]
    who_may_add: &'static str,
    /// `last_seen_ms` in presence.
    #[schema(value_type = Audience)]
    who_sees_last_seen: &'static str,
}

impl From<PrivacyRecord> for Privacy {
    fn from(privacy: PrivacyRecord) -> Self {
        Self {
            who_may_write: privacy.who_may_write.as_str(),
            who_may_add: privacy.who_may_add.as_str(),
            who_sees_last_seen: privacy.who_sees_last_seen.as_str(),
        }
    }
}

/// The caller's privacy.
#[utoipa::path(
    get, path = "/users/me/privacy",
    responses((status = 200, description = "All settings.", body = Privacy)),
)]
async fn privacy(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    let privacy = edge.on_main(async move { contacts.privacy(caller.user_id).await }).await?;
    Ok(HttpResponse::Ok().json(Privacy::from(privacy)))
}

/// Those that are not named, or `null`, stay as they are.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = ChangePrivacy)]
#[serde(default)]
struct Change {
    #[schema(value_type = Option<Audience>)]
    who_may_write: Option<String>,
    #[schema(value_type = Option<Audience>)]
    who_may_add: Option<String>,
    #[schema(value_type = Option<Audience>)]
    who_sees_last_seen: Option<String>,
}

fn audience(field: &'static str, word: Option<String>) -> Result<Option<Audience>, Error> {
    let Some(word) = word else { return Ok(None) };
    let unknown = || Error::invalid(field, format!("{field} is everyone, contacts or nobody"));
    Audience::from_word(&word).map(Some).ok_or_else(unknown)
}

/// Changes the caller's privacy.
#[utoipa::path(
    patch, path = "/users/me/privacy", request_body = Change,
    responses((status = 200, description = "All settings; they hold on all nodes.", body = Privacy)),
)]
async fn change(edge: Data<Edge>, Caller(caller): Caller, Body(body): Body<Change>) -> ApiResult {
    let change = PrivacyChange {
        who_may_write: audience("who_may_write", body.who_may_write)?,
        who_may_add: audience("who_may_add", body.who_may_add)?,
        who_sees_last_seen: audience("who_sees_last_seen", body.who_sees_last_seen)?,
    };
    let contacts = edge.services.contacts.clone();
    let privacy = edge.on_main(async move { contacts.change_privacy(caller.user_id, change).await }).await?;
    Ok(HttpResponse::Ok().json(Privacy::from(privacy)))
}
