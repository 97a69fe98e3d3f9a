//! `/presence`: how users look to the caller.

use actix_web::web::{Data, ServiceConfig, get};
use serde::Deserialize;
use utoipa::{IntoParams, OpenApi};

use super::extract::{ApiResult, Caller, List, Query, list};
use super::resource;
use crate::domain::Error;
use crate::gateway::Edge;
use crate::protocol::v1::Presence;

/// The routes.
pub fn routes(service: &mut ServiceConfig) {
    service.service(resource("/presence").route(get().to(look)));
}

/// What the API's description says of these.
#[derive(OpenApi)]
#[openapi(paths(look))]
pub struct Rows;

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct Users {
    /// At most 1,000 ids with commas between them.
    #[param(required = true, example = "1,2")]
    user_ids: String,
}

fn ids(text: &str) -> Result<Vec<u64>, Error> {
    let wrong =
        || Error::invalid("user_ids", "user_ids is a list of ids with commas between them, such as 1,2");
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|_| wrong())).collect()
}

/// How users look to the caller.
#[utoipa::path(
    get, path = "/presence", params(Users),
    responses((status = 200, description = "In the order asked; one page.", body = List<Presence>)),
)]
async fn look(edge: Data<Edge>, Caller(caller): Caller, Query(users): Query<Users>) -> ApiResult {
    let user_ids = ids(&users.user_ids)?;
    let presence = edge.services.presence.clone();
    let users = edge.on_main(async move { presence.look(caller.user_id, &user_ids).await }).await?;
    Ok(list(users, String::new()))
}
