//! `GET /health`: over the control socket like every route, and alone over TCP when a runtime is asked for that.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::{Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::api::health::HealthReply;
use crate::api::routes;
use crate::daemon::http::{leaving, refusal};
use crate::daemon::mail::Mail;
use crate::model::event::EventKind;
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::os::clock;

/// Connections answered at once; more wait.
const MOST: usize = 64;
/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an address that is taken is left alone.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn health(Shared(mail): Shared<Mail>) -> Response<Body> {
    match mail.ask(|daemon| daemon.health()).await {
        Some(health) => response(&health),
        None => refusal(&leaving()),
    }
}

fn response(health: &HealthReply) -> Response<Body> {
    let status = if health.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut json = serde_json::to_vec(health).unwrap_or_default();
    json.push(b'\n');
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, json).into_response()
}

/// Serves nothing but this route at `address` until the daemon ends.
pub(crate) async fn serve_tcp(address: SocketAddr, mail: Mail) {
    let listener = bind(address, &mail).await;
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let mail = mail.clone();
                tokio::spawn(async move {
                    connection(stream, mail).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!("a connection to {address} cannot be accepted: {error}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Tries until the address is free; says so once.
async fn bind(address: SocketAddr, mail: &Mail) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !told => {
                told = true;
                let message = format!(
                    "/health cannot be served at {address}: {}; trying again every second",
                    crate::daemon::text::cause(&error)
                );
                mail.post(move |daemon| {
                    daemon.hub.announce(clock::wall(), EventKind::AccessRefused, message);
                });
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn connection(stream: TcpStream, mail: Mail) {
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mail = mail.clone();
        async move { Ok::<_, Infallible>(only_health(request.method(), request.uri().path(), mail).await) }
    });
    // A client that breaks off is no trouble of ours.
    let _broken = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(8 << 10)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await;
}

async fn only_health(method: &Method, path: &str, mail: Mail) -> Response<Body> {
    if path != routes::HEALTH.path {
        let message = format!("there is no {path} here; only {}", routes::HEALTH.path);
        return refusal(&ErrorBody::new(ErrorKind::NotFound, message));
    }
    if method != Method::GET && method != Method::HEAD {
        let message = format!("{path} does not take {method}");
        let mut response = refusal(&ErrorBody::new(ErrorKind::BadRequest, message));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    health(Shared(mail)).await
}
