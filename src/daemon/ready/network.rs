//! Readiness seen from the network: a listening socket, an accepted connection, an HTTP answer.

use std::io;
use std::net::SocketAddr;
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
pub(super) async fn accepts(mail: Mail, run: RunId, address: String) {
    let mut pace = Pace::new();
    loop {
        if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, reach(&mail, run, &address)).await {
            return mail.input(Input::Ready(run));
        }
        pace.wait().await;
    }
}

/// Until the URL answers 2xx or 3xx.
pub(super) async fn answers(mail: Mail, run: RunId, url: String) {
    let mut pace = Pace::new();
    loop {
        if let Ok(Ok(status)) = tokio::time::timeout(PATIENCE, get(&mail, run, &url)).await
            && is_good(status)
        {
            return mail.input(Input::Ready(run));
        }
        pace.wait().await;
    }
}

/// Connects to `host:port`; where that is a socket of the run's own app, to the one of this very run.
///
/// # Errors
/// The system's own; `ConnectionRefused` as long as only other instances listen there.
pub(crate) async fn reach(mail: &Mail, run: RunId, address: &str) -> io::Result<TcpStream> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
    let local = found
        .iter()
        .find(|address| address.is_ipv4() && address.ip().is_loopback());
    if let Some(local) = local.copied() {
        let port = local.port();
        match mail.ask(move |daemon| daemon.way_to(run, port)).await {
            Some(Way::From(source)) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(source.into(), 0))?;
                return socket.connect(local).await;
            }
            Some(Way::NotYet) => return Err(io::ErrorKind::ConnectionRefused.into()),
            Some(Way::Any) | None => {}
        }
    }
    TcpStream::connect(&found[..]).await
}

/// 2xx or 3xx.
pub(crate) fn is_good(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// What a GET of this URL answers, or why it does not answer, for people. Nothing of it goes on when this is dropped.
pub(crate) async fn get(mail: &Mail, run: RunId, url: &str) -> Result<StatusCode, String> {
    let bad = || format!("{url:?} is not an http URL");
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
        return Err(bad());
    };
    let stream = reach(mail, run, &format!("{host}:{}", uri.port_u16().unwrap_or(80)))
        .await
        .map_err(|error| cause(&error))?;
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
