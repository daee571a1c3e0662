//! `GET /v1/logs`: what was written, then what is written, as NDJSON or as server-sent events.
//!
//! ```text
//!  files ──► thread "logs-read" ── blocks, at most one waits ──► body ──► client
//!            (one a stream, low priority)
//! ```
//!
//! The loop only passes blocks on. The thread reads when the client has taken the block before: a client that stalls
//! costs what its thread has in hand, and nobody waits for it.

mod encode;
mod reader;
mod resume;
mod wanted;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Response, header};
use axum::response::IntoResponse;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::daemon::http::read::Query;
use crate::daemon::http::{answer, leaving};
use crate::daemon::mail::Mail;
use crate::model::outcome::{ErrorBody, ErrorKind};
use encode::Form;
use reader::Reader;
use resume::Had;
use wanted::Wanted;

/// Streams that may be open at once: each has a thread.
const MOST: usize = 32;
/// Room for a thread's stack, of which only what is used costs memory.
const STACK: usize = 1 << 20;

static ROOM: Semaphore = Semaphore::const_new(MOST);

pub(super) async fn logs(State(mail): State<Mail>, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response<Body> {
    let accepts = headers.get_all(header::ACCEPT).iter();
    let events = accepts
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/event-stream"));
    let form = if events { Form::Events } else { Form::Lines };
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    match stream(mail, &Query::new(raw), form, last).await {
        Ok(response) => response,
        Err(error) => answer::<()>(Err(error)),
    }
}

async fn stream(mail: Mail, query: &Query, form: Form, last: Option<&str>) -> Result<Response<Body>, Box<ErrorBody>> {
    let wanted = Wanted::read(query)?;
    let had = last.map(Had::read).transpose()?;
    let Ok(place) = ROOM.try_acquire() else {
        let message = format!("{MOST} streams of logs are open already");
        let error = ErrorBody::new(ErrorKind::Unavailable, message);
        return Err(Box::new(
            error.hint("end one of them, or read the files that /v1/logs/sources names"),
        ));
    };
    let targets = wanted.targets.clone();
    let (found, news) = mail
        .ask(move |daemon| (daemon.log_sources(&targets), daemon.hub.follow()))
        .await
        .ok_or_else(leaving)?;
    let found = found.map_err(|mut error| {
        error.message = format!("target: {}", error.message);
        error
    })?;
    let (blocks, out) = mpsc::channel(1);
    let (opened, is_open) = oneshot::channel();
    let reader = Reader::new(wanted, form, mail, news, blocks);
    std::thread::Builder::new()
        .name("logs-read".into())
        .stack_size(STACK)
        .spawn(move || {
            reader.run(found, had.as_ref(), opened);
            drop(place);
        })
        .map_err(|error| {
            let message = format!("no thread can be started to read logs: {error}");
            Box::new(ErrorBody::new(ErrorKind::Unavailable, message))
        })?;
    is_open.await.map_err(|_| leaving())??;
    let headers = [
        (header::CONTENT_TYPE, form.content_type()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(Blocks(out))).into_response())
}

/// A channel as a stream.
struct Blocks(mpsc::Receiver<std::io::Result<Bytes>>);

impl futures_core::Stream for Blocks {
    type Item = std::io::Result<Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}
