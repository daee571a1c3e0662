//! The event stream: what was recorded, then what happens, one JSON object a line.

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{Response, header};
use axum::response::IntoResponse;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::daemon::http::read::{Query, names};
use crate::daemon::http::{answer, leaving};
use crate::daemon::mail::Mail;
use crate::model::event::{Event, EventKind};
use crate::model::names::AppName;
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::time::WallTime;
use crate::store::EventQuery;

/// Events of the past, unless another number is asked for.
const LIMIT: u32 = 1000;

struct Wanted {
    apps: Vec<AppName>,
    kinds: Vec<EventKind>,
}

impl Wanted {
    fn has(&self, event: &Event) -> bool {
        (self.apps.is_empty() || event.app.as_ref().is_some_and(|app| self.apps.contains(app)))
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }
}

pub(super) async fn events(State(mail): State<Mail>, RawQuery(raw): RawQuery) -> Response<Body> {
    match stream(&mail, &Query::new(raw)).await {
        Ok(response) => response,
        Err(error) => answer::<()>(Err(error)),
    }
}

async fn stream(mail: &Mail, query: &Query) -> Result<Response<Body>, Box<ErrorBody>> {
    let kinds: Vec<EventKind> = query
        .all("kind")
        .map(|text| {
            text.parse()
                .map_err(|why: String| Box::new(ErrorBody::new(ErrorKind::BadRequest, why)))
        })
        .collect::<Result<_, _>>()?;
    let apps = names(mail, query.targets()?).await?;
    let past = EventQuery {
        since: query.value::<i64>("since")?.map(WallTime),
        after_seq: query.value("after")?,
        apps: apps.clone(),
        kinds: kinds.clone(),
        limit: Some(query.value("limit")?.unwrap_or(LIMIT)),
        newest_first: true,
    };
    let follow = query.flag("follow");
    let (sender, receiver) = oneshot::channel();
    wait_for_last_words(mail).await;
    // Following begins before the past is read, so nothing falls in between.
    let (live, unpublished) = mail
        .ask(move |daemon| {
            let live = follow.then(|| daemon.hub.follow());
            daemon.persist();
            daemon
                .store
                .events(past, Box::new(move |result| drop(sender.send(result))));
            (live, daemon.unpublished())
        })
        .await
        .ok_or_else(leaving)?;
    let mut recorded = receiver
        .await
        .map_err(|_| leaving())?
        .map_err(|error| Box::new(ErrorBody::new(ErrorKind::Internal, crate::daemon::text::chain(&error))))?;
    recorded.retain(|event| unpublished.is_none_or(|first| event.seq < first));
    recorded.reverse();
    let (lines, out) = mpsc::channel::<Result<Bytes, std::io::Error>>(64);
    tokio::spawn(feed(recorded, live, Wanted { apps, kinds }, lines));
    let body = Body::from_stream(Lines(out));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// What has happened before is told, and what is told of ends comes after the last words are in the files. Later ends
/// are not waited for.
async fn wait_for_last_words(mail: &Mail) {
    let (sender, receiver) = oneshot::channel::<()>();
    mail.post(move |daemon| {
        if daemon.unpublished().is_some() {
            daemon.pump.sync(Box::new(move || drop(sender)));
        }
    });
    // Ended by being dropped.
    let _written = receiver.await;
}

async fn feed(
    recorded: Vec<Event>,
    live: Option<broadcast::Receiver<Event>>,
    wanted: Wanted,
    out: mpsc::Sender<Result<Bytes, std::io::Error>>,
) {
    let mut last = 0;
    for event in recorded {
        last = last.max(event.seq);
        if out.send(Ok(line(&event))).await.is_err() {
            return;
        }
    }
    let Some(mut live) = live else { return };
    loop {
        tokio::select! {
            event = live.recv() => match event {
                Ok(event) if event.seq > last && wanted.has(&event) => {
                    if out.send(Ok(line(&event))).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    // A reader that is too slow is told to come again.
                    let why = std::io::Error::other(format!("{missed} events were missed"));
                    drop(out.send(Err(why)).await);
                    return;
                }
                Err(RecvError::Closed) => return,
            },
            () = out.closed() => return,
        }
    }
}

fn line(event: &Event) -> Bytes {
    let mut json = serde_json::to_vec(event).unwrap_or_default();
    json.push(b'\n');
    json.into()
}

/// A channel as a stream.
struct Lines(mpsc::Receiver<Result<Bytes, std::io::Error>>);

impl futures_core::Stream for Lines {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}
