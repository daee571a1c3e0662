//! The control API over the Unix socket: who may, which route, which form. What is done stands elsewhere.

mod events;
mod health;
mod logs;
mod read;
mod write;

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::api::routes;
use crate::daemon::mail::Mail;
use crate::daemon::start::DaemonError;
use crate::model::event::EventKind;
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::os::{clock, fds, limits};

/// Largest request body: specs of a thousand apps with large environments fit.
const MAX_BODY: usize = 16 << 20;
/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) use health::serve_tcp as serve_health;

/// Requests being answered.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Connections.
static CONNECTED: AtomicUsize = AtomicUsize::new(0);
/// Another daemon takes over: what this one does not begin any more is to be asked again.
static REPLACED: AtomicBool = AtomicBool::new(false);

/// From now on a request that is not begun is answered with `Retry-After`.
pub(crate) fn begin_replacement() {
    REPLACED.store(true, Ordering::Relaxed);
}

/// Binds the socket, 0600, in place of a stale one. The keeper's lock guarantees that nobody else serves it.
pub(crate) fn bind(path: &Path) -> Result<std::os::unix::net::UnixListener, DaemonError> {
    let failed = |doing: &str| DaemonError::system(format!("{doing} {}", path.display()));
    unbind(path).map_err(failed("remove the stale socket"))?;
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed("listen on"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed("protect"))?;
    listener.set_nonblocking(true).map_err(failed("listen on"))?;
    Ok(listener)
}

/// Removes the socket's name.
pub(crate) fn unbind(path: &Path) -> io::Result<()> {
    crate::os::fsx::remove_file(path)
}

/// Until no more requests than these are being answered.
pub(crate) async fn drained(but: usize) {
    while OPEN.load(Ordering::Relaxed) > but {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many connections may be open at once; more wait until others end. Descriptors are needed for apps, too: a
/// daemon without free ones loses those that its keeper sends.
fn most_connections() -> usize {
    let limit = limits::nofile().unwrap_or(u64::MAX) / 4;
    usize::try_from(limit).unwrap_or(usize::MAX).clamp(16, 4096)
}

/// How many more connections may come: each needs a descriptor that nobody else may take.
pub(crate) fn free_places() -> u64 {
    most_connections().saturating_sub(CONNECTED.load(Ordering::Relaxed)) as u64
}

/// Serves until the daemon ends.
pub(crate) async fn serve(listener: UnixListener, mail: Mail) {
    let router = router(mail.clone());
    let room = Arc::new(Semaphore::new(most_connections()));
    let mut refused = false;
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                refused = false;
                let (router, mail) = (router.clone(), mail.clone());
                tokio::spawn(async move {
                    CONNECTED.fetch_add(1, Ordering::Relaxed);
                    connection(stream, router, mail).await;
                    CONNECTED.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors: wait for some to be given back. The client waits in the queue.
                if !std::mem::replace(&mut refused, true) {
                    tracing::error!("connections cannot be accepted for now: {error}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, router: Router, mail: Mail) {
    let allowed = allowed(&stream, &mail);
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let router = router.clone();
        let forbidden = allowed.clone().err();
        async move {
            match forbidden {
                Some(error) => Ok(refusal(&error)),
                None => to_the_end(router, request.map(Body::new)).await,
            }
        }
    });
    // A client that breaks off is no trouble of ours.
    let _broken = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await;
}

/// Answers a request. What it asks for is done to the end also when its client has gone away meanwhile.
async fn to_the_end(router: Router, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    OPEN.fetch_add(1, Ordering::Relaxed);
    let work = tokio::spawn(async move {
        let answer = tower::ServiceExt::oneshot(router, request).await;
        OPEN.fetch_sub(1, Ordering::Relaxed);
        answer
    });
    work.await.unwrap_or_else(|error| {
        OPEN.fetch_sub(1, Ordering::Relaxed);
        let message = format!("the request could not be worked on: {error}");
        Ok(refusal(&ErrorBody::new(ErrorKind::Internal, message)))
    })
}

/// Only the daemon's own user and root.
fn allowed(stream: &UnixStream, mail: &Mail) -> Result<(), ErrorBody> {
    let own = rustix::process::geteuid().as_raw();
    let peer = fds::peer_cred(stream.as_fd());
    match peer {
        Ok(peer) if peer.uid == own || peer.uid == 0 => Ok(()),
        Ok(peer) => {
            let message = format!(
                "user {} (pid {}) may not use this clmgr; it belongs to user {own}",
                peer.uid, peer.pid
            );
            tracing::warn!("{message}");
            let text = message.clone();
            mail.post(move |daemon| {
                daemon.hub.announce(clock::wall(), EventKind::AccessRefused, text);
            });
            Err(ErrorBody::new(ErrorKind::Forbidden, message).hint("run the command as that user, or as root"))
        }
        Err(error) => Err(ErrorBody::new(
            ErrorKind::Forbidden,
            format!("the user at the other end cannot be told: {error}"),
        )),
    }
}

fn router(mail: Mail) -> Router {
    Router::new()
        .route(routes::PING.path, get(read::ping))
        .route(routes::HEALTH.path, get(health::health))
        .route(routes::STATUS.path, get(read::status))
        .route(routes::DESCRIBE.path, get(read::describe))
        .route(routes::ENV.path, get(read::env))
        .route(routes::LOG_SOURCES.path, get(read::log_sources))
        .route(routes::LOGS.path, get(logs::logs))
        .route(routes::OPENAPI.path, get(read::openapi))
        .route(routes::EVENTS.path, get(events::events))
        .route(routes::APPLY.path, post(write::apply))
        .route(routes::START.path, post(write::start))
        .route(routes::STOP.path, post(write::stop))
        .route(routes::RESTART.path, post(write::restart))
        .route(routes::RELOAD.path, post(write::reload))
        .route(routes::DELETE.path, post(write::delete))
        .route(routes::SCALE.path, post(write::scale))
        .route(routes::RESET.path, post(write::reset))
        .route(routes::SIGNAL.path, post(write::signal))
        .route(routes::SEND.path, post(write::send))
        .route(routes::TRIGGER.path, post(write::trigger))
        .route(routes::FLUSH.path, post(write::flush))
        .route(routes::REOPEN.path, post(write::reopen))
        .route(routes::SAVE.path, post(write::save))
        .route(routes::KILL.path, post(write::kill))
        .route(routes::UPGRADE.path, post(write::upgrade))
        .route(routes::UPGRADE_OUTCOME.path, get(read::upgrade_outcome))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(mail)
}

async fn unknown(request: Request<Body>) -> Response<Body> {
    refusal(
        &ErrorBody::new(ErrorKind::NotFound, format!("there is no {}", request.uri().path()))
            .hint(format!("GET {} lists what there is", routes::OPENAPI.path)),
    )
}

async fn wrong_method(request: Request<Body>) -> Response<Body> {
    let mut response = refusal(&ErrorBody::new(
        ErrorKind::BadRequest,
        format!("{} does not take {}", request.uri().path(), request.method()),
    ));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// An error as a response.
pub(super) fn refusal(error: &ErrorBody) -> Response<Body> {
    let status = StatusCode::from_u16(error.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        serde_json::to_vec(error).unwrap_or_default(),
    )
        .into_response();
    if error.kind == ErrorKind::Unavailable && REPLACED.load(Ordering::Relaxed) {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("0"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A result as a response.
pub(super) fn answer<T: Serialize>(result: Result<T, Box<ErrorBody>>) -> Response<Body> {
    match result.map(|value| serde_json::to_vec(&value)) {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(Err(error)) => refusal(&ErrorBody::new(
            ErrorKind::Internal,
            format!("the answer cannot be written: {error}"),
        )),
        Err(error) => refusal(&error),
    }
}

/// The answer when the loop has ended.
pub(super) fn leaving() -> Box<ErrorBody> {
    Box::new(ErrorBody::new(ErrorKind::Unavailable, "clmgr is shutting down"))
}

/// Reads a JSON body, bounded in size and time.
pub(super) async fn body<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Box<ErrorBody>> {
    let bytes = bytes(request).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Box::new(ErrorBody::new(
            ErrorKind::BadRequest,
            format!("the request body is not what is expected here: {error}"),
        ))
    })
}

async fn bytes(request: Request<Body>) -> Result<Bytes, Box<ErrorBody>> {
    let too_large = || {
        Box::new(ErrorBody::new(
            ErrorKind::TooLarge,
            format!("the request body is larger than {} MiB", MAX_BODY >> 20),
        ))
    };
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    let limited = http_body_util::Limited::new(request.into_body(), MAX_BODY);
    match tokio::time::timeout(PATIENCE, http_body_util::BodyExt::collect(limited)).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Box::new(ErrorBody::new(
            ErrorKind::BadRequest,
            format!("the request body broke off: {error}"),
        ))),
        Err(_) => Err(Box::new(ErrorBody::new(
            ErrorKind::BadRequest,
            "the request body did not arrive within 30s",
        ))),
    }
}
