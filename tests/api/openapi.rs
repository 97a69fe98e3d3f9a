//! The API's description is true: each row of it exists, no other method does, and its page is served. That answers are as
//! described is checked where every test asks: see `described`.

use reqwest::Method;
use serde_json::Value;

use crate::described::document;
use crate::world::{Answer, World, within};

const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];

/// A path with something in the place of its parameters.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "1" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_path_has_the_methods_described_and_no_others() {
    let world = World::shared();
    for (path, row) in document()["paths"].as_object().expect("paths are an object") {
        let described: Vec<String> =
            row.as_object().expect("a row is an object").keys().map(|method| method.to_uppercase()).collect();
        for method in METHODS {
            let what = format!("{method} {path}");
            // Without a token, so that nothing is done.
            let response = within(&what, world.request(method.clone(), &filled(path)).send()).await;
            let response = response.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let status = response.status().as_u16();
            if !described.contains(&method.to_string()) {
                assert_eq!(status, 405, "{what} is not described");
                let allow = response.headers().get("allow").and_then(|value| value.to_str().ok());
                assert_eq!(allow, Some(described.join(", ").as_str()), "{what}");
                continue;
            }
            let operation = &row[method.as_str().to_lowercase()];
            let is_open = operation["security"] == serde_json::json!([]);
            if is_open {
                assert!(![404, 405].contains(&status), "{what} answered {status}");
                let known = operation["responses"].get(status.to_string());
                assert!(known.is_some(), "{what} answered {status}, which is not described");
            } else {
                assert_eq!(status, 401, "{what} wants a token, as it is described");
            }
        }
    }
}

#[tokio::test]
async fn the_served_description_is_the_committed_one() {
    let world = World::shared();
    let answer = Answer::of("openapi.json", world.request(Method::GET, "/api/openapi.json")).await;
    let served: Value = answer.is(200);
    assert!(served == *document(), "the node serves another description than docs/openapi.json");
}

#[tokio::test]
async fn the_page_is_served_with_everything_it_refers_to() {
    let world = World::shared();
    for (path, kind) in [
        ("/api/docs", "text/html"),
        ("/api/docs/page.css", "text/css"),
        ("/api/docs/page.js", "text/javascript"),
    ] {
        let response = within(path, world.request(Method::GET, path).send()).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        let given = response.headers()["content-type"].to_str().expect("plain").to_owned();
        assert!(given.starts_with(kind), "{path} is {given}");
        let text = response.text().await.expect("a body");
        assert!(text.len() > 500, "{path}");
        assert!(!text.contains("https://") && !text.contains("http://"), "{path} refers to elsewhere");
    }
}
