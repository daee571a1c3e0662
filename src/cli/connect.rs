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
use crate::model::duration::Millis;
use crate::os::home::Home;
use crate::os::{pidfd, poll, running};

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    client: Client,
    /// It is started where it does not run.
    starts: bool,
}

/// How often a daemon that dies between the connection and the question is connected to again. For as long as its
/// last thread lives, its socket still takes connections.
const TRIES: u32 = 50;
/// And after which pause.
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
        })
    }

    /// Connects to a daemon that runs; none where it does not.
    pub(crate) fn running() -> Result<Option<Self>, Failure> {
        match Client::connect(&home()?.socket()) {
            Ok(client) => Ok(Some(Self { client, starts: false })),
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
        Ok(Some(Self { client, starts: false }))
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

    /// Asks, and asks again if the daemon died meanwhile and another one comes: a question may be repeated.
    fn again<T>(&mut self, ask: impl FnMut(&mut Client) -> Result<T, ClientError>) -> Result<T, Failure> {
        self.persist(
            |error| matches!(error, ClientError::NotRunning { .. } | ClientError::Interrupted(_)),
            ask,
        )
    }

    /// Asks until the failure is not of this kind, or nobody comes.
    fn persist<T>(
        &mut self,
        may_repeat: fn(&ClientError) -> bool,
        mut ask: impl FnMut(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let mut tries = TRIES;
        loop {
            match ask(&mut self.client) {
                Err(error) if tries > 0 && may_repeat(&error) && (self.starts || launch::keeper_lives(&home()?)) => {
                    tries -= 1;
                    poll::pause(PAUSE);
                    self.client = launch::ensure_running(&home()?)?;
                }
                answer => return answer.map_err(failure),
            }
        }
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
        // Where nobody listens, nothing was sent.
        let unsent = |error: &ClientError| matches!(error, ClientError::NotRunning { .. });
        interrupt::unless_interrupted(move || self.persist(unsent, |client| client.call(route, &[], Some(&request))))
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
