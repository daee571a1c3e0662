//! Routes that change something.

use std::path::PathBuf;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};

use crate::api::operation::{ApplyRequest, OperationReply, ScaleRequest, SendRequest, SignalRequest, TargetRequest};
use crate::api::trigger::TriggerRequest;
use crate::api::upgrade::UpgradeRequest;
use crate::daemon::Daemon;
use crate::daemon::http::{answer, body, leaving};
use crate::daemon::mail::Mail;
use crate::daemon::requests::{self, Reply};
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::supervise::Command;

type Req = Request<Body>;
type Res = Response<Body>;

pub(super) async fn apply(State(mail): State<Mail>, request: Req) -> Res {
    let run = async { requests::apply(&mail, body::<ApplyRequest>(request).await?).await };
    answer(run.await)
}

async fn targets(request: Req) -> Result<TargetRequest, Box<ErrorBody>> {
    let request: TargetRequest = body(request).await?;
    if request.targets.is_empty() {
        return Err(Box::new(
            ErrorBody::new(ErrorKind::BadRequest, "no target is given").hint("name an app, or say all"),
        ));
    }
    Ok(request)
}

async fn starting(mail: Mail, request: Req, make: fn(TargetRequest) -> Command) -> Reply {
    requests::start(&mail, targets(request).await?, make).await
}

async fn plain(mail: Mail, request: Req, make: fn(TargetRequest) -> Command) -> Reply {
    requests::command(&mail, make(targets(request).await?)).await
}

pub(super) async fn start(State(mail): State<Mail>, request: Req) -> Res {
    answer(
        starting(mail, request, |request| Command::Start {
            targets: request.targets,
            env: request.update_env,
        })
        .await,
    )
}

pub(super) async fn restart(State(mail): State<Mail>, request: Req) -> Res {
    answer(
        starting(mail, request, |request| Command::Restart {
            targets: request.targets,
            env: request.update_env,
        })
        .await,
    )
}

pub(super) async fn reload(State(mail): State<Mail>, request: Req) -> Res {
    let make = |request: TargetRequest| Command::Reload {
        targets: request.targets,
        env: request.update_env,
        no_rollback: request.no_rollback,
    };
    answer(starting(mail, request, make).await)
}

pub(super) async fn stop(State(mail): State<Mail>, request: Req) -> Res {
    answer(
        plain(mail, request, |request| Command::Stop {
            targets: request.targets,
        })
        .await,
    )
}

pub(super) async fn delete(State(mail): State<Mail>, request: Req) -> Res {
    answer(
        plain(mail, request, |request| Command::Delete {
            targets: request.targets,
        })
        .await,
    )
}

pub(super) async fn reset(State(mail): State<Mail>, request: Req) -> Res {
    answer(
        plain(mail, request, |request| Command::Reset {
            targets: request.targets,
        })
        .await,
    )
}

pub(super) async fn scale(State(mail): State<Mail>, request: Req) -> Res {
    let run = async {
        let request: ScaleRequest = body(request).await?;
        requests::scale(&mail, request).await
    };
    answer(run.await)
}

pub(super) async fn signal(State(mail): State<Mail>, request: Req) -> Res {
    let run = async {
        let request: SignalRequest = body(request).await?;
        mail.ask(move |daemon| daemon.signal(&request))
            .await
            .unwrap_or_else(|| Err(leaving()))
    };
    answer(run.await)
}

pub(super) async fn send(State(mail): State<Mail>, request: Req) -> Res {
    let run = async {
        let request: SendRequest = body(request).await?;
        mail.ask(move |daemon| daemon.send_text(&request))
            .await
            .unwrap_or_else(|| Err(leaving()))
    };
    answer(run.await)
}

pub(super) async fn trigger(State(mail): State<Mail>, request: Req) -> Res {
    let run = async { crate::daemon::trigger::trigger(&mail, body::<TriggerRequest>(request).await?).await };
    answer(run.await)
}

pub(super) async fn flush(State(mail): State<Mail>, request: Req) -> Res {
    with_files(mail, request, |daemon, files| daemon.pump.flush(files)).await
}

pub(super) async fn reopen(State(mail): State<Mail>, request: Req) -> Res {
    with_files(mail, request, |daemon, files| daemon.pump.reopen(Some(files))).await
}

/// Does something with the files of the targets; answers when it is done.
async fn with_files(mail: Mail, request: Req, act: fn(&mut Daemon, Vec<PathBuf>)) -> Res {
    let run = async {
        let request = targets(request).await?;
        let (files, results) = mail
            .ask(move |daemon| daemon.log_files(&request.targets))
            .await
            .unwrap_or_else(|| Err(leaving()))?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        mail.post(move |daemon| {
            act(daemon, files);
            // The client may have gone away.
            daemon.pump.sync(Box::new(move || {
                let _gone = sender.send(());
            }));
        });
        receiver.await.map_err(|_| leaving())?;
        Ok::<_, Box<ErrorBody>>(OperationReply { results })
    };
    answer(run.await)
}

pub(super) async fn save(State(mail): State<Mail>) -> Res {
    let run = async {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        mail.post(move |daemon| {
            daemon.persist();
            daemon.store.flush(Box::new(move |result| {
                drop(sender.send(result.map_err(|error| crate::daemon::text::chain(&error))));
            }));
        });
        match receiver.await {
            Ok(Ok(())) => Ok(OperationReply::default()),
            Ok(Err(why)) => Err(Box::new(
                ErrorBody::new(ErrorKind::Storage, format!("the state is not on disk: {why}"))
                    .hint("make room on the disk of the state folder"),
            )),
            Err(_) => Err(leaving()),
        }
    };
    answer(run.await)
}

pub(super) async fn kill(State(mail): State<Mail>) -> Res {
    let result = requests::command(&mail, Command::Shutdown).await;
    if result.is_ok() {
        mail.post(|daemon| daemon.leave());
    }
    answer(result)
}

pub(super) async fn upgrade(State(mail): State<Mail>, request: Req) -> Res {
    let run = async { crate::daemon::upgrade::upgrade(&mail, body::<UpgradeRequest>(request).await?).await };
    answer(run.await)
}
