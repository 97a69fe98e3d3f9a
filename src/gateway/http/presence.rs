//! `/presence`: how users look to the caller.

use actix_web::web::{Data, ServiceConfig, get};
use serde::Deserialize;

use super::extract::{ApiResult, Caller, Query, list, wire};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service.service(resource("/presence").route(get().to(look)));
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Users {
    user_ids: String,
}

fn ids(text: &str) -> Result<Vec<u64>, Error> {
    let wrong =
        || Error::invalid("user_ids", "user_ids is a list of ids with commas between them, such as 1,2");
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|_| wrong())).collect()
}

async fn look(edge: Data<Edge>, Caller(caller): Caller, Query(users): Query<Users>) -> ApiResult {
    let user_ids = ids(&users.user_ids)?;
    let presence = edge.services.presence.clone();
    let users = edge.on_main(async move { presence.look(caller.user_id, &user_ids).await }).await?;
    Ok(list(users.iter().map(wire).collect(), String::new()))
}
