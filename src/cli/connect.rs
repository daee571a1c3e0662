//! How commands reach the daemon. Only this file touches `client` and the folders of `os::home`.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::operation::OperationReply;
use crate::api::routes::{self, Route};
use crate::api::status::Ping;
use crate::cli::failure::{Failure, chain};
use crate::cli::{interrupt, launch};
use crate::client::{Client, ClientError};
use crate::os::home::Home;
use crate::os::{pidfd, running};

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    client: Client,
}

/// How often a question is asked again after the death of the daemon that was to answer it.
const REPEATS: u32 = 5;

/// A query of a request.
pub(crate) type Query<'a> = [(&'a str, String)];

/// The folders of this user, or of `CLMGR_HOME`.
pub(crate) fn home() -> Result<Home, Failure> {
    Home::discover().map_err(|error| Failure::usage(chain(&error)))
}

impl Daemon {
    /// Connects; starts keeper and daemon where none run.
    pub(crate) fn start() -> Result<Self, Failure> {
        Ok(Self {
            client: launch::ensure_running(&home()?)?,
        })
    }

    /// Connects to a daemon that runs; none where it does not.
    pub(crate) fn running() -> Result<Option<Self>, Failure> {
        match Client::connect(&home()?.socket()) {
            Ok(client) => Ok(Some(Self { client })),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    /// The same, but a daemon that is being restarted by its keeper runs, too: it is waited for.
    pub(crate) fn running_or_restarting() -> Result<Option<Self>, Failure> {
        if let Some(daemon) = Self::running()? {
            return Ok(Some(daemon));
        }
        let home = home()?;
        if !launch::keeper_lives(&home) {
            return Ok(None);
        }
        let client = launch::ensure_running(&home)?;
        Ok(Some(Self { client }))
    }

    /// The same, but one that was killed since this machine was started is brought back, too: its apps may live. None
    /// after an orderly end.
    pub(crate) fn unless_ended() -> Result<Option<Self>, Failure> {
        if let Some(daemon) = Self::running_or_restarting()? {
            return Ok(Some(daemon));
        }
        if running::read(&home()?.running()).is_none() {
            return Ok(None);
        }
        Self::start().map(Some)
    }

    /// The keeper, as something that becomes readable when it ends; none where that cannot be told.
    pub(crate) fn keeper(&mut self) -> Option<OwnedFd> {
        let ping: Ping = self.get(routes::PING, &[]).ok()?;
        pidfd::open(ping.keeper_pid).ok()
    }

    /// Asks a question.
    pub(crate) fn get<Reply: DeserializeOwned>(&mut self, route: Route, query: &Query<'_>) -> Result<Reply, Failure> {
        self.again(|client| client.call::<(), Reply>(route, query, None))
    }

    /// Asks, and asks again if the daemon died meanwhile and its keeper lives: a question may be repeated.
    fn again<T>(&mut self, mut ask: impl FnMut(&mut Client) -> Result<T, ClientError>) -> Result<T, Failure> {
        for _ in 0..REPEATS {
            match ask(&mut self.client) {
                Err(ClientError::NotRunning { .. } | ClientError::Interrupted(_)) if launch::keeper_lives(&home()?) => {
                    self.client = launch::ensure_running(&home()?)?;
                }
                answer => return answer.map_err(failure),
            }
        }
        ask(&mut self.client).map_err(failure)
    }

    /// Asks a question and returns the JSON text of the answer.
    pub(crate) fn raw(&mut self, route: Route, query: &Query<'_>) -> Result<impl AsRef<[u8]> + use<>, Failure> {
        self.again(|client| client.raw::<()>(route, query, None))
    }

    /// Does something that needs no words. Ctrl-C ends the command, not the work.
    pub(crate) fn act(mut self, route: Route) -> Result<OperationReply, Failure> {
        interrupt::unless_interrupted(move || self.client.call::<(), _>(route, &[], None).map_err(failure))
    }

    /// Changes something. Ctrl-C ends the command, not the work.
    pub(crate) fn change<Request>(mut self, route: Route, request: Request) -> Result<OperationReply, Failure>
    where
        Request: Serialize + Send + 'static,
    {
        interrupt::unless_interrupted(move || self.client.call(route, &[], Some(&request)).map_err(failure))
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
            Err(ClientError::Interrupted(_)) => Ok(false),
            Err(error) => Err(failure(error)),
        }
    }
}

/// A client's error as the user sees it.
pub(crate) fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Api(body) => Failure::from(*body),
        ClientError::Refused(_) => Failure::forbidden(chain(&error)),
        ClientError::NotRunning { .. } => {
            Failure::unreachable(chain(&error)).hint("clmgr resurrect brings it and the saved apps back")
        }
        ClientError::Io { .. } | ClientError::Interrupted(_) | ClientError::TimedOut | ClientError::NotOurs { .. } => {
            Failure::unreachable(chain(&error))
        }
        ClientError::Decode(_) | ClientError::Encode(_) | ClientError::LineTooLong => {
            let mut failure = Failure::failed(chain(&error));
            failure.from_daemon = true;
            failure
        }
    }
}
