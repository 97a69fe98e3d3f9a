//! The API's description, made from the handlers themselves, and the page that shows it: `/api/openapi.json` and
//! `/api/docs`. Handlers say what is their own; what all of them have (ids in paths, errors, the token) is added here.

mod common;

use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{ServiceConfig, get};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Described;

use super::http::extract::Refusal;
use super::http::resource;
use crate::protocol::VERSION;

/// What a file of handlers says of its rows.
pub struct Part {
    /// Under which the page shows them.
    pub group: &'static str,
    /// Before the handler's name in the operation's id.
    pub file: &'static str,
    /// Before the paths.
    pub below: &'static str,
    /// The rows.
    pub rows: Described,
}

/// The whole's frame.
#[derive(OpenApi)]
#[openapi(paths(description), components(schemas(Refusal)))]
struct Frame;

/// What stands at the top.
const ABOUT: &str = "\
Everything but signing up and signing in wants the token of `POST /api/v1/sessions`, as `Authorization: Bearer TOKEN`.

Bodies are read as JSON, leniently: `null` is a field's default, unknown fields are ignored, whole numbers may be decimal \
strings, and an empty body is an empty object. Answers are strict: every scalar field is named, nothing is `null`, ids and \
seqs are integers below 2^53, and times are milliseconds of Unix time.

Lists take `limit` and `cursor` and answer `items` and `next_cursor`, which is empty at the end. Refusals have the status of \
their code, and say in one sentence what is wrong and how to mend it. A method that a path does not have is 405 with `Allow`, \
an unknown path 404, each with the same body.";

/// The routes, below `/api`.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(resource("/openapi.json").route(get().to(description)))
        .service(resource("/docs").route(get().to(page)))
        .service(resource("/docs/page.css").route(get().to(style)))
        .service(resource("/docs/page.js").route(get().to(script)));
}

/// This description.
#[utoipa::path(
    get, path = "/api/openapi.json", security(()),
    responses((status = 200, description = "OpenAPI 3.1.", body = Object, content_type = "application/json")),
)]
async fn description() -> HttpResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_string());
    fixed("application/json", text)
}

async fn page() -> HttpResponse {
    let mut page = fixed("text/html; charset=utf-8", include_str!("openapi/page.html"));
    // The rest stands in the page; this can't.
    let framing = header::HeaderValue::from_static("frame-ancestors 'none'");
    page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, framing);
    page
}

async fn style() -> HttpResponse {
    fixed("text/css; charset=utf-8", include_str!("openapi/page.css"))
}

async fn script() -> HttpResponse {
    fixed("text/javascript; charset=utf-8", include_str!("openapi/page.js"))
}

/// What is part of the binary. Browsers ask each time, so that a new version of the node is seen at once.
fn fixed(content_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(text)
}

/// The description, made once.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| assemble(super::http::described()).0)
}

/// The methods of a path as the routes have it, for `Allow`; `None`: it is not described.
pub fn methods(path: &str) -> Option<String> {
    let row = document()["paths"].get(path)?.as_object()?;
    Some(row.keys().map(|method| method.to_uppercase()).collect::<Vec<_>>().join(", "))
}

/// The whole of the parts, and the names of schemas that stand for two different things, of which there must be none.
fn assemble(parts: Vec<Part>) -> (Value, Vec<String>) {
    let frame = Part { group: "Server", file: "server", below: "", rows: Frame::openapi() };
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    let (mut groups, mut doubled): (Vec<&str>, _) = (Vec::new(), Vec::new());
    for part in parts.into_iter().chain([frame]) {
        let mut rows = serde_json::to_value(part.rows).expect("a description is plain data");
        if !groups.contains(&part.group) {
            groups.push(part.group);
        }
        for (path, row) in taken(&mut rows["paths"]) {
            let path = format!("{}{path}", part.below);
            let known = object(paths.entry(path.clone()).or_insert_with(|| json!({})));
            for (method, mut operation) in taken_of(row) {
                operation["tags"] = json!([part.group]);
                let name = operation["operationId"].as_str().unwrap_or_default();
                operation["operationId"] = json!(format!("{}_{name}", part.file));
                common::complete(&path, &mut operation);
                known.insert(method, operation);
            }
        }
        let own = taken(&mut rows["components"]["schemas"]);
        let named: Vec<String> = own.keys().cloned().collect();
        for (name, mut schema) in own {
            // Generic parts come inlined.
            if let Some(item) =
                name.strip_prefix("List_").filter(|item| named.iter().any(|name| name == item))
            {
                let reference = json!({ "$ref": format!("#/components/schemas/{item}") });
                schema["properties"]["items"]["items"] = reference;
            }
            match schemas.get(&name) {
                Some(known) if *known != schema => doubled.push(name),
                Some(_) => {}
                None => {
                    schemas.insert(name, schema);
                }
            }
        }
    }
    let mut whole = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Rookery",
            "version": VERSION,
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "security": [{ "bearer": [] }],
        "tags": groups.iter().map(|group| json!({ "name": group })).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": common::responses(),
            "securitySchemes": { "bearer": {
                "type": "http", "scheme": "bearer", "description": "The token that `POST /api/v1/sessions` answers.",
            }},
        },
    });
    common::tidy(&mut whole);
    (whole, doubled)
}

/// The members of an object, which is left empty; none of anything else.
fn taken(value: &mut Value) -> Map<String, Value> {
    taken_of(value.take())
}

fn taken_of(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("it was made as an object")
}

#[cfg(test)]
thread_local! {
    static REGISTERED: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Notes that a resource was registered on this thread.
#[cfg(test)]
pub fn registered(path: &str) {
    REGISTERED.with_borrow_mut(|paths| paths.push(path.to_owned()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::web;

    use super::*;

    /// The resources that `routes` registers.
    fn resources(below: &str, routes: impl FnOnce(&mut ServiceConfig)) -> Vec<String> {
        REGISTERED.with_borrow_mut(Vec::clear);
        let _scope = web::scope("").configure(routes);
        REGISTERED.take().into_iter().map(|path| format!("{below}{path}")).collect()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let mut routes: BTreeSet<String> =
            resources("/api/v1", super::super::http::rows).into_iter().collect();
        routes.extend(resources("", super::super::http::health));
        routes.extend(
            resources("/api", super::routes).into_iter().filter(|path| !path.starts_with("/api/docs")),
        );
        let described: BTreeSet<String> =
            document()["paths"].as_object().expect("an object").keys().cloned().collect();
        let missing: Vec<_> = routes.difference(&described).collect();
        assert!(missing.is_empty(), "no #[utoipa::path], or no Rows in http::described(): {missing:?}");
        let untrue: Vec<_> = described.difference(&routes).collect();
        assert!(untrue.is_empty(), "described, but there is no such route: {untrue:?}");
        assert!(routes.len() > 20, "{routes:?}");
    }

    #[test]
    fn every_name_stands_for_one_schema_and_every_reference_leads_somewhere() {
        let (whole, doubled) = assemble(super::super::http::described());
        assert!(doubled.is_empty(), "two types of one name; give one #[schema(as = …)]: {doubled:?}");
        fn visit(whole: &Value, at: &Value) {
            if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
                let target = whole.pointer(reference.trim_start_matches('#'));
                assert!(target.is_some(), "{reference} leads nowhere");
            }
            match at {
                Value::Object(members) => members.values().for_each(|member| visit(whole, member)),
                Value::Array(items) => items.iter().for_each(|item| visit(whole, item)),
                _ => {}
            }
        }
        visit(&whole, &whole);
    }

    #[test]
    fn every_operation_has_an_id_of_its_own_and_says_what_it_does() {
        let mut ids = BTreeSet::new();
        for (path, row) in document()["paths"].as_object().expect("an object") {
            for (method, operation) in row.as_object().expect("an object") {
                let id = operation["operationId"].as_str().unwrap_or_default();
                assert!(ids.insert(id.to_owned()), "{id} is {method} {path} and another");
                assert!(operation["summary"].is_string(), "{method} {path} has no doc comment");
            }
        }
    }

    #[test]
    fn the_committed_description_is_what_the_code_makes() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        let made = serde_json::to_string_pretty(document()).expect("plain data") + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(&file, &made).expect("the project can be written");
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        let same = serde_json::from_str::<Value>(&committed).is_ok_and(|committed| committed == *document());
        assert!(
            same,
            "docs/openapi.json is not what the handlers say; renew it by \
             UPDATE_OPENAPI=1 cargo test --lib openapi, and look at what changed"
        );
    }

    #[test]
    fn a_path_knows_its_methods() {
        assert_eq!(methods("/api/v1/users").as_deref(), Some("GET, POST"));
        assert_eq!(methods("/api/v1/nothing"), None);
    }
}
