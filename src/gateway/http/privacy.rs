//! `/users/me/privacy`: who may write to the caller, add it, and see when it was last there.

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, get, patch};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{ApiResult, Body, Caller};
use super::resource;
use crate::domain::Error;
use crate::domain::privacy::Audience;
use crate::gateway::Edge;
use crate::services::contacts::PrivacyChange;
use crate::storage::PrivacyRecord;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service.service(resource("/users/me/privacy").route(get().to(privacy)).route(patch().to(change)));
}

fn privacy_json(privacy: &PrivacyRecord) -> Value {
    json!({
        "who_may_write": privacy.who_may_write.as_str(),
        "who_may_add": privacy.who_may_add.as_str(),
        "who_sees_last_seen": privacy.who_sees_last_seen.as_str(),
    })
}

async fn privacy(edge: Data<Edge>, Caller(caller): Caller) -> ApiResult {
    let contacts = edge.services.contacts.clone();
    let privacy = edge.on_main(async move { contacts.privacy(caller.user_id).await }).await?;
    Ok(HttpResponse::Ok().json(privacy_json(&privacy)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Change {
    who_may_write: Option<String>,
    who_may_add: Option<String>,
    who_sees_last_seen: Option<String>,
}

fn audience(field: &'static str, word: Option<String>) -> Result<Option<Audience>, Error> {
    let Some(word) = word else { return Ok(None) };
    let unknown = || Error::invalid(field, format!("{field} is everyone, contacts or nobody"));
    Audience::from_word(&word).map(Some).ok_or_else(unknown)
}

async fn change(edge: Data<Edge>, Caller(caller): Caller, Body(body): Body<Change>) -> ApiResult {
    let change = PrivacyChange {
        who_may_write: audience("who_may_write", body.who_may_write)?,
        who_may_add: audience("who_may_add", body.who_may_add)?,
        who_sees_last_seen: audience("who_sees_last_seen", body.who_sees_last_seen)?,
    };
    let contacts = edge.services.contacts.clone();
    let privacy = edge.on_main(async move { contacts.change_privacy(caller.user_id, change).await }).await?;
    Ok(HttpResponse::Ok().json(privacy_json(&privacy)))
}
