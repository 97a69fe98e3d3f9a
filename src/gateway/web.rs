//! The web pages, embedded in the binary and served at `/`.

use actix_web::http::header::{self, EntityTag, IfNoneMatch};
use actix_web::web::{Header, Path, ServiceConfig, get, head};
use actix_web::{HttpResponse, http::StatusCode};

use super::http::extract::ApiError;
use super::http::resource;
use crate::domain::Error;

/// What lies in the folder at build time; a debug build reads the folder itself.
#[derive(rust_embed::RustEmbed)]
#[folder = "src/gateway/web/assets/"]
struct Assets;

/// What the pages may load, and that nobody may frame them; the pages say the first part themselves too, for whoever
/// keeps them as files.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The page at `/`.
const INDEX: &str = "index.html";

/// Routes `/` and every file by its path.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/").route(get().to(index)).route(head().to(index)))
        .service(resource("/{path:.*}").route(get().to(file)).route(head().to(file)));
}

async fn index(if_none_match: Option<Header<IfNoneMatch>>) -> Result<HttpResponse, ApiError> {
    serve(INDEX.to_owned(), if_none_match).await
}

async fn file(
    path: Path<String>,
    if_none_match: Option<Header<IfNoneMatch>>,
) -> Result<HttpResponse, ApiError> {
    serve(path.into_inner(), if_none_match).await
}

/// A file, or 304 where the browser has it. `no-cache` makes browsers ask each time, so that a new version of the
/// node is seen at once.
async fn serve(path: String, if_none_match: Option<Header<IfNoneMatch>>) -> Result<HttpResponse, ApiError> {
    let file = if path.starts_with('.') { None } else { Assets::get(&path) };
    let Some(file) = file else {
        return Err(ApiError::from(Error::not_found(format!(
            "there is no /{path} here; the API is under /api/v1"
        ))));
    };
    let tag = EntityTag::new_strong(hex::encode(&file.metadata.sha256_hash()[..16]));
    let known = match if_none_match.map(Header::into_inner) {
        Some(IfNoneMatch::Any) => true,
        Some(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        None => false,
    };
    let mut response = HttpResponse::build(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    response
        .insert_header(header::ETag(tag))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CONTENT_TYPE, content_type(file.metadata.mimetype())));
    Ok(if known { response.finish() } else { response.body(file.data.into_owned()) })
}

/// Our texts are UTF-8 and say so.
fn content_type(mime: &str) -> String {
    match mime {
        text if text.starts_with("text/") || text.ends_with("javascript") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_file_comes_with_the_policy_that_the_page_names() {
        for path in [INDEX, "js/app.js"] {
            let Ok(response) = serve(path.to_owned(), None).await else { panic!("there is a {path}") };
            let policy =
                response.headers().get(header::CONTENT_SECURITY_POLICY).and_then(|text| text.to_str().ok());
            assert_eq!(policy, Some(POLICY), "{path}");
        }
        let page = Assets::get(INDEX).expect("there is a page").data;
        let (named, framing) = POLICY.rsplit_once("; ").expect("it has parts");
        assert!(String::from_utf8_lossy(&page).contains(&format!("content=\"{named}\"")), "{named}");
        assert_eq!(framing, "frame-ancestors 'none'");
    }

    #[test]
    fn texts_name_their_encoding_and_pictures_do_not() {
        assert_eq!(content_type("text/css"), "text/css; charset=utf-8");
        assert_eq!(content_type("text/javascript"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("image/png"), "image/png");
    }
}
