//! The web client, as a browser fetches it.

use std::collections::BTreeSet;

use reqwest::Method;

use crate::world::{Answer, World, within};

/// What stands in quotes behind these beginnings.
fn referenced(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for beginning in ["src=\"", "href=\"", "from \"", "from '", "import \"", "import '"] {
        for rest in text.split(beginning).skip(1) {
            let end = rest.find(['"', '\'']).unwrap_or(0);
            let path = &rest[..end];
            if !path.is_empty() && !path.starts_with('#') && !path.contains("${") && !path.contains(':') {
                found.insert(path.to_owned());
            }
        }
    }
    found
}

/// A path as a page at `base` means it.
fn resolve(base: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[tokio::test]
async fn the_page_is_served_at_the_root_with_everything_it_refers_to() {
    let world = World::shared();
    let (mut waiting, mut seen) = (vec!["/".to_owned()], BTreeSet::new());
    while let Some(path) = waiting.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let response = within(&path, world.request(Method::GET, &path).send()).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        let kind = response.headers()["content-type"].to_str().expect("plain").to_owned();
        let expected = match path.rsplit_once('.').map(|(_, ending)| ending) {
            None | Some("html") => "text/html",
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("svg") => "image/svg",
            Some(_) => "",
        };
        assert!(kind.starts_with(expected), "{path} is {kind}");
        let text = response.text().await.expect("a body");
        assert!(!text.is_empty(), "{path}");
        if expected == "text/html" || expected == "text/javascript" {
            waiting.extend(referenced(&text).iter().map(|other| resolve(&path, other)));
        }
    }
    assert!(seen.len() > 3, "a page, a style and scripts: {seen:?}");
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let world = World::shared();
    let response = within("/", world.request(Method::GET, "/").send()).await.expect("an answer");
    let tag = response.headers()["etag"].to_str().expect("plain").to_owned();
    let request = world.request(Method::GET, "/").header("If-None-Match", tag);
    let answer = Answer::of("again", request).await;
    assert_eq!((answer.status, answer.text.as_str()), (304, ""));
    let request = world.request(Method::GET, "/").header("If-None-Match", "\"another\"");
    Answer::of("another version", request).await.is(200);
}

#[tokio::test]
async fn nothing_but_the_pages_files_is_served() {
    let world = World::shared();
    for path in [
        "/nothing.js",
        "/js/",
        "/js",
        "/.gitkeep",
        "/%2e%2e/Cargo.toml",
        "/..%2fCargo.toml",
        "/etc/passwd",
        "//",
    ] {
        let answer = Answer::of(path, world.request(Method::GET, path)).await;
        answer.is_refused(404, "not_found");
    }
}
