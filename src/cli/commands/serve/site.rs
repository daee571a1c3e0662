//! The router: who may, which file, and what stands in for a missing one.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::services::{ServeDir, ServeFile};

use super::auth::BasicAuth;
use super::guard;

/// What is served, and how.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The folder, with every link followed.
    pub(super) root: PathBuf,
    /// Unknown paths get the root's `index.html`.
    pub(super) spa: bool,
    /// Who may.
    pub(super) auth: Option<BasicAuth>,
}

/// The whole server.
pub(super) fn router(site: Site) -> Router {
    let files = ServeDir::new(&site.root);
    let router = if site.spa {
        Router::new().fallback_service(files.fallback(ServeFile::new(site.root.join("index.html"))))
    } else {
        let page = Arc::new(site.root.join("404.html"));
        let missing = axum::handler::Handler::with_state(not_found, page);
        Router::new().fallback_service(files.fallback(missing))
    };
    router.layer(middleware::from_fn_with_state(Arc::new(site), check))
}

/// Before any file is touched.
async fn check(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if let Some(auth) = &site.auth
        && !auth.allows(request.headers())
    {
        let mut answer = text(StatusCode::UNAUTHORIZED, "401 unauthorized\n");
        let ask = HeaderValue::from_static("Basic realm=\"clmgr\", charset=\"UTF-8\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, ask);
        return answer;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n");
    }
    if !guard::may_pass(&site.root, request.uri().path()) {
        return text(StatusCode::NOT_FOUND, "404 not found\n");
    }
    next.run(request).await
}

/// `404.html` of the folder, or a line.
async fn not_found(State(page): State<Arc<PathBuf>>) -> Response {
    match tokio::fs::read(&*page).await {
        Ok(html) => {
            let kind = [(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))];
            (StatusCode::NOT_FOUND, kind, Body::from(html)).into_response()
        }
        Err(_) => text(StatusCode::NOT_FOUND, "404 not found\n"),
    }
}

fn text(status: StatusCode, line: &'static str) -> Response {
    (status, line).into_response()
}
