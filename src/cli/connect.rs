//! How commands reach the daemon. Only this file touches `client` and the folders of `os::home`.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::operation::OperationReply;
use crate::api::routes::{self, Route};
use crate::api::status::Ping;
use crate::cli::failure::{Failure, chain};
use crate::cli::progress::Progress;
use crate::cli::{interrupt, launch};
use crate::client::{Client, ClientError};
use crate::model::duration::Millis;
use crate::model::target::Target;
use crate::os::home::Home;
use crate::os::{pidfd, poll, running};

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    client: Client,
    /// Where nobody runs, keeper and daemon may be started.
    starts: bool,
    /// They may be if they were killed.
    revives: bool,
}

/// How often a daemon may be lost before an answer is given up. For as long as the last thread of a dying one lives,
/// its socket still takes connections.
const LOSSES: usize = 50;
/// And after which pause one is looked for again.
const PAUSE: Millis = Millis(20);

/// A query of a request.
pub(crate) type Query<'a> = [(&'a str, String)];

/// The folders of this user, or of `CLMGR_HOME`.
pub(crate) fn home() -> Result<Home, Failure> {
    let home = Home::discover().map_err(|error| Failure::usage(chain(&error)))?;
    Ok(home.located())
}

impl Daemon {
    /// Connects; starts keeper and daemon where none run.
    pub(crate) fn start() -> Result<Self, Failure> {
        Ok(Self {
            client: launch::ensure_running(&home()?)?,
            starts: true,
            revives: false,
        })
    }

    const fn of(client: Client) -> Self {
        Self {
            client,
            starts: false,
            revives: false,
        }
    }

    /// Connects to a daemon that runs; none where it does not.
    pub(crate) fn running() -> Result<Option<Self>, Failure> {
        match Client::connect(&home()?.socket()) {
            Ok(client) => Ok(Some(Self::of(client))),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    /// The same, but a daemon that is being restarted by its keeper runs, too: it is waited for.
    pub(crate) fn running_or_restarting() -> Result<Option<Self>, Failure> {
        if let Some(daemon) = Self::running()? {
            return Ok(Some(daemon));
        }
        Ok(launch::rejoin(&home()?)?.map(Self::of))
    }

    /// The same, but one that was killed since this machine was started is brought back, too: its apps may live. None
    /// after an orderly end.
    pub(crate) fn unless_ended() -> Result<Option<Self>, Failure> {
        if let Some(daemon) = Self::running_or_restarting()? {
            // It may be dying, and its keeper with it.
            return Ok(Some(Self {
                revives: true,
                ..daemon
            }));
        }
        if running::read(&home()?.running()).is_none() {
            return Ok(None);
        }
        Self::start().map(Some)
    }

    /// The same for what can only be asked of one that runs.
    pub(crate) fn to_be_asked() -> Result<Self, Failure> {
        Self::unless_ended()?.ok_or_else(|| {
            Failure::unreachable("clmgr does not run here")
                .hint("clmgr start, or clmgr resurrect, brings it and the saved apps back")
        })
    }

    /// The keeper, as something that becomes readable when it ends; none where that cannot be told.
    pub(crate) fn keeper(&mut self) -> Option<OwnedFd> {
        let ping: Ping = self.get(routes::PING, &[]).ok()?;
        pidfd::open(ping.keeper_pid).ok()
    }

    /// Asks a question.
    pub(crate) fn get<Reply: DeserializeOwned>(&mut self, route: Route, query: &Query<'_>) -> Result<Reply, Failure> {
        self.ask(route, |client| client.call::<(), Reply>(route, query, None))
    }

    /// Sends until there is an answer, or none can be expected. What changes nothing, and what was not begun, is
    /// asked again; what may have been begun is never repeated.
    fn ask<T>(
        &mut self,
        route: Route,
        mut ask: impl FnMut(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        for _ in 0..LOSSES {
            match ask(&mut self.client) {
                Err(ClientError::Interrupted(_)) if route.method != "GET" => return Err(lost()),
                Err(ClientError::NotRunning { .. } | ClientError::Interrupted(_) | ClientError::Replaced) => {}
                answer => return answer.map_err(failure),
            }
            let home = home()?;
            let may_start = self.starts || (self.revives && running::read(&home.running()).is_some());
            poll::pause(PAUSE);
            self.client = if may_start {
                launch::ensure_running(&home)?
            } else if let Some(client) = launch::rejoin(&home)? {
                client
            } else {
                break;
            };
        }
        ask(&mut self.client).map_err(failure)
    }

    /// Asks a question and returns the JSON text of the answer.
    pub(crate) fn raw(&mut self, route: Route, query: &Query<'_>) -> Result<impl AsRef<[u8]> + use<>, Failure> {
        self.ask(route, |client| client.raw::<()>(route, query, None))
    }

    /// Asks for something that has an answer of its own.
    pub(crate) fn post<Request: Serialize, Reply: DeserializeOwned>(
        &mut self,
        route: Route,
        request: &Request,
    ) -> Result<Reply, Failure> {
        self.ask(route, |client| client.call(route, &[], Some(request)))
    }

    /// Does something that needs no words. Ctrl-C ends the command, not the work.
    pub(crate) fn act(mut self, route: Route) -> Result<OperationReply, Failure> {
        interrupt::unless_interrupted(move || self.ask(route, |client| client.call::<(), _>(route, &[], None)))
    }

    /// Changes something. Ctrl-C ends the command, not the work.
    pub(crate) fn change<Request>(mut self, route: Route, request: Request) -> Result<OperationReply, Failure>
    where
        Request: Serialize + Send + 'static,
    {
        interrupt::unless_interrupted(move || self.ask(route, |client| client.call(route, &[], Some(&request))))
    }

    /// The same, while a terminal shows how it goes on with these apps.
    pub(crate) fn change_watched<Request>(
        mut self,
        route: Route,
        request: Request,
        targets: &[Target],
    ) -> Result<OperationReply, Failure>
    where
        Request: Serialize + Send + 'static,
    {
        let work = move || self.ask(route, |client| client.call(route, &[], Some(&request)));
        interrupt::watched(work, Progress::of(targets))
    }

    /// Calls `each` with every line of an NDJSON answer until it breaks off or the answer ends; false if
    /// the daemon went away in the middle.
    pub(crate) fn stream(
        &mut self,
        route: Route,
        query: &Query<'_>,
        each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<bool, Failure> {
        match self.client.stream(route, query, each) {
            Ok(()) => Ok(true),
            Err(ClientError::Interrupted(_) | ClientError::Replaced) => Ok(false),
            Err(error) => Err(failure(error)),
        }
    }
}

/// A command that a daemon had begun when it ended.
fn lost() -> Failure {
    Failure::unreachable(
        "the daemon was lost or replaced while this command was running; what it had acknowledged holds, and work that \
         was begun goes on",
    )
    .hint("clmgr status shows what became of it")
    .hint("clmgr events -f shows what is still going on")
}

/// A client's error as the user sees it.
pub(crate) fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Api(body) => Failure::from(*body),
        ClientError::Refused(_) => Failure::forbidden(chain(&error)),
        ClientError::NotRunning { .. } => {
            Failure::unreachable(chain(&error)).hint("clmgr resurrect brings it and the saved apps back")
        }
        ClientError::Silent { .. } => {
            let failure = Failure::unreachable(chain(&error));
            match home().map(|home| home.own_log()) {
                Ok(log) if log.exists() => failure.hint(format!("its own log: {}", log.display())),
                Ok(_) | Err(_) => failure,
            }
        }
        ClientError::Io { .. }
        | ClientError::Interrupted(_)
        | ClientError::Replaced
        | ClientError::TimedOut
        | ClientError::NotOurs { .. } => Failure::unreachable(chain(&error)),
        ClientError::Decode(_) | ClientError::Encode(_) | ClientError::LineTooLong => {
            let mut failure = Failure::failed(chain(&error));
            failure.from_daemon = true;
            failure
        }
    }
}
