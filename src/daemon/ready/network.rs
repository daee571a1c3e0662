//! Readiness seen from the network: a listening socket, an accepted connection, an HTTP answer.

use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

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
        if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, TcpStream::connect(&address)).await {
            return mail.input(Input::Ready(run));
        }
        pace.wait().await;
    }
}

/// Until the URL answers 2xx or 3xx.
pub(super) async fn answers(mail: Mail, run: RunId, url: String) {
    let mut pace = Pace::new();
    loop {
        if let Ok(Ok(status)) = tokio::time::timeout(PATIENCE, get(&url)).await
            && is_good(status)
        {
            return mail.input(Input::Ready(run));
        }
        pace.wait().await;
    }
}

/// 2xx or 3xx.
pub(crate) fn is_good(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// What a GET of this URL answers, or why it does not answer, for people. Nothing of it goes on when this is dropped.
pub(crate) async fn get(url: &str) -> Result<StatusCode, String> {
    let bad = || format!("{url:?} is not an http URL");
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
        return Err(bad());
    };
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)))
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
