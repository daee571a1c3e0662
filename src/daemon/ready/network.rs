//! Readiness seen from the network: a listening socket, an accepted connection, an HTTP answer.

use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::daemon::mail::Mail;
use crate::daemon::ready::Pace;
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
        if let Ok(Some(true)) = tokio::time::timeout(PATIENCE, get(&url)).await {
            return mail.input(Input::Ready(run));
        }
        pace.wait().await;
    }
}

async fn get(url: &str) -> Option<bool> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)))
        .await
        .ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let driver = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header("host", uri.authority()?.as_str())
        .header("user-agent", concat!("clmgr/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .ok()?;
    let status = sender.send_request(request).await.ok()?.status();
    driver.abort();
    Some(status.is_success() || status.is_redirection())
}
