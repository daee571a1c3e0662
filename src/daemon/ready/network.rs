//! Readiness seen from the network: a listening socket, an accepted connection, an HTTP answer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

use crate::daemon::listeners::Way;
use crate::daemon::mail::Mail;
use crate::daemon::ready::Pace;
use crate::daemon::text::cause;
use crate::model::names::RunId;
use crate::os::{listening, tree};
use crate::supervise::Input;

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Until a process of the run holds a listening socket.
pub(super) async fn listens(mail: Mail, run: RunId, pid: i32) {
    let mut pace = Pace::new();
    loop {
        let mut pids = vec![pid];
        pids.extend(tree::descendants(pid).iter().map(|member| member.pid));
        if !listening::listening(&pids).is_empty() {
            return mail.input(Input::Ready(run));
        }
        pace.wait().await;
    }
}

/// Until the address accepts a connection.
pub(super) async fn accepts(asker: Asker, address: String) {
    let mut pace = Pace::new();
    loop {
        if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, asker.connect(&address)).await {
            return asker.mail.input(Input::Ready(asker.run));
        }
        pace.wait().await;
    }
}

/// Until the URL answers 2xx or 3xx.
pub(super) async fn answers(asker: Asker, url: String) {
    let mut pace = Pace::new();
    loop {
        if let Ok(Ok(status)) = tokio::time::timeout(PATIENCE, asker.get(&url)).await
            && is_good(status)
        {
            return asker.mail.input(Input::Ready(asker.run));
        }
        pace.wait().await;
    }
}

/// 2xx or 3xx.
pub(crate) fn is_good(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// Asks one run over the network.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub mail: Mail,
    pub run: RunId,
    /// Its port may be one that it shares with others.
    pub shares: bool,
}

impl Asker {
    /// A connection to this `host:port`; where sockets of the run's own app listen there, to the one of this very run.
    ///
    /// # Errors
    /// The system's own; `ConnectionRefused` as long as only other instances listen there.
    pub(crate) async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
        // Places can be named over IPv4 alone, and only from this machine.
        let local = |address: &&SocketAddr| self.shares && address.is_ipv4() && address.ip().is_loopback();
        if let Some(local) = found.iter().find(local).copied() {
            let (run, port) = (self.run, local.port());
            match self.mail.ask(move |daemon| daemon.way_to(run, port)).await {
                Some(Way::From(source)) => return connect_from(source, local).await,
                Some(Way::NotYet) => return Err(io::ErrorKind::ConnectionRefused.into()),
                Some(Way::Any) | None => {}
            }
        }
        TcpStream::connect(&found[..]).await
    }

    /// What a GET of this URL answers, or why it does not answer, for people. Nothing of it goes on when this is dropped.
    pub(crate) async fn get(&self, url: &str) -> Result<StatusCode, String> {
        let bad = || format!("{url:?} is not an http URL");
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
            return Err(bad());
        };
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let stream = self.connect(&address).await.map_err(|error| cause(&error))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // Without `close` the server would read on, and log that we left.
        let request = Request::get(path)
            .header("host", authority.as_str())
            .header("user-agent", concat!("clmgr/", env!("CARGO_PKG_VERSION")))
            .header("connection", "close")
            .body(Empty::<Bytes>::new())
            .map_err(|_| bad())?;
        let broken = |error: hyper::Error| {
            let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
            source.map_or_else(|| error.to_string(), cause)
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let answer = sender.send_request(request);
        tokio::pin!(answer);
        let answer = tokio::select! {
            biased;
            answer = &mut answer => answer,
            // It has given the answer before it ended, or it never will.
            _ended = connection => answer.await,
        };
        answer.map(|answer| answer.status()).map_err(broken)
    }
}

async fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.into(), 0))?;
    socket.connect(address).await
}
