//! Routes that only look.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::Response;

use crate::api::status::{AppDescription, DescribeReply};
use crate::daemon::http::{answer, leaving};
use crate::daemon::mail::Mail;
use crate::model::names::AppName;
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::target::Target;
use crate::store::EventQuery;

type Res = Response<Body>;

/// Crashes and events shown by `describe`.
const SHOWN: u32 = 10;

/// A query string, taken apart.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn new(raw: Option<String>) -> Self {
        let raw = raw.unwrap_or_default();
        Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.all(name)
            .any(|value| value == "true" || value == "1" || value.is_empty())
    }

    /// A value of a type that can be read from text.
    pub(super) fn value<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Box<ErrorBody>> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                Box::new(ErrorBody::new(
                    ErrorKind::BadRequest,
                    format!("{name}={text} cannot be read"),
                ))
            })
        };
        self.all(name).next().map(parse).transpose()
    }

    pub(super) fn targets(&self) -> Result<Vec<Target>, Box<ErrorBody>> {
        self.all("target")
            .map(|text| {
                text.parse().map_err(|error: crate::model::target::TargetError| {
                    Box::new(ErrorBody::new(ErrorKind::BadRequest, error.to_string()))
                })
            })
            .collect()
    }
}

pub(super) async fn ping(State(mail): State<Mail>) -> Res {
    answer(mail.ask(|daemon| daemon.ping()).await.ok_or_else(leaving))
}

pub(super) async fn upgrade_outcome(State(mail): State<Mail>) -> Res {
    answer(mail.ask(|daemon| daemon.upgrade_status()).await.ok_or_else(leaving))
}

pub(super) async fn status(State(mail): State<Mail>, RawQuery(raw): RawQuery) -> Res {
    let run = async {
        let targets = Query::new(raw).targets()?;
        mail.ask(move |daemon| daemon.status(&targets))
            .await
            .unwrap_or_else(|| Err(leaving()))
    };
    answer(run.await)
}

pub(super) async fn describe(State(mail): State<Mail>, RawQuery(raw): RawQuery) -> Res {
    let run = async {
        let mut targets = Query::new(raw).targets()?;
        if targets.is_empty() {
            targets.push(Target::All);
        }
        let mut apps = mail
            .ask(move |daemon| daemon.describe(&targets))
            .await
            .unwrap_or_else(|| Err(leaving()))?;
        for app in &mut apps {
            history(&mail, app).await;
        }
        Ok::<_, Box<ErrorBody>>(DescribeReply { apps })
    };
    answer(run.await)
}

/// Adds what the store knows. A store that does not answer leaves the lists empty.
async fn history(mail: &Mail, app: &mut AppDescription) {
    let (id, name) = (app.status.id, app.status.name.clone());
    let (crash_sender, crashes) = tokio::sync::oneshot::channel();
    let (event_sender, events) = tokio::sync::oneshot::channel();
    mail.post(move |daemon| {
        daemon
            .store
            .crashes(id, SHOWN, Box::new(move |result| drop(crash_sender.send(result))));
        let query = EventQuery {
            apps: vec![name],
            limit: Some(SHOWN),
            newest_first: true,
            ..EventQuery::default()
        };
        daemon
            .store
            .events(query, Box::new(move |result| drop(event_sender.send(result))));
    });
    if let Ok(Ok(found)) = crashes.await {
        app.crashes = found;
    }
    if let Ok(Ok(found)) = events.await {
        app.events = found;
    }
}

pub(super) async fn env(State(mail): State<Mail>, RawQuery(raw): RawQuery) -> Res {
    let run = async {
        let query = Query::new(raw);
        let (targets, reveal) = (query.targets()?, query.flag("reveal"));
        mail.ask(move |daemon| daemon.env(&targets, reveal))
            .await
            .unwrap_or_else(|| Err(leaving()))
    };
    answer(run.await)
}

pub(super) async fn log_sources(State(mail): State<Mail>, RawQuery(raw): RawQuery) -> Res {
    let run = async {
        let targets = Query::new(raw).targets()?;
        mail.ask(move |daemon| daemon.log_sources(&targets))
            .await
            .unwrap_or_else(|| Err(leaving()))
    };
    answer(run.await)
}

pub(super) async fn openapi() -> Res {
    answer(Ok(crate::api::openapi::document()))
}

/// The names of the apps that targets mean.
pub(super) async fn names(mail: &Mail, targets: Vec<Target>) -> Result<Vec<AppName>, Box<ErrorBody>> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    mail.ask(move |daemon| {
        let found = daemon.core.resolve(&targets)?;
        Ok(found
            .iter()
            .filter_map(|(id, _)| daemon.core.apps.get(id))
            .map(|app| app.name().clone())
            .collect())
    })
    .await
    .unwrap_or_else(|| Err(leaving()))
}
