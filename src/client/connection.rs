//! One connection to the daemon, and requests on it.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use crate::api::error::{ErrorBody, ErrorKind};
use crate::api::routes::Route;
use crate::client::error::ClientError;
use crate::client::lines::Lines;
use crate::client::watch;

/// A connection to the daemon. Every call blocks until its answer is there.
pub struct Client {
    path: PathBuf,
    sender: SendRequest<Full<Bytes>>,
    deadline: Option<Duration>,
    /// A request was sent on some connection.
    used: bool,
    // Last, so that it goes last.
    runtime: Runtime,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Longest line of a stream, in bytes; far more than an event with all its stderr lines has.
    pub const MAX_LINE: usize = 4 << 20;

    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] if nobody listens, [`ClientError::Refused`] if this user may not use
    /// the socket, [`ClientError::Io`] otherwise (a path of more than 107 bytes, for one).
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let socket = dial(path)?;
        let io = |source| ClientError::Io {
            path: path.to_owned(),
            source,
        };
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(io)?;
        let sender = handshake(&runtime, socket).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            sender,
            deadline: None,
            used: false,
            runtime,
        })
    }

    /// Gives up each later call after this time. Without it a call may take as long as its work does.
    pub const fn set_deadline(&mut self, deadline: Option<Duration>) {
        self.deadline = deadline;
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// [`ClientError::Api`] if the daemon says no; the others if there is no proper answer.
    pub fn call<Req: Serialize + ?Sized, Rep: DeserializeOwned>(
        &mut self,
        route: Route,
        query: &[(&str, String)],
        body: Option<&Req>,
    ) -> Result<Rep, ClientError> {
        let bytes = self.raw(route, query, body)?;
        serde_json::from_slice(&bytes).map_err(ClientError::Decode)
    }

    /// The same, with the answer's bytes as they came.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn raw<Req: Serialize + ?Sized>(
        &mut self,
        route: Route,
        query: &[(&str, String)],
        body: Option<&Req>,
    ) -> Result<Bytes, ClientError> {
        let body = match body {
            Some(body) => Bytes::from(serde_json::to_vec(body).map_err(ClientError::Encode)?),
            None => Bytes::new(),
        };
        let sent = self.raw_once(route, query, body.clone());
        if let Err(ClientError::Interrupted(error)) = &sent
            && (route.method == "GET" || error.is_canceled())
        {
            // The daemon was replaced meanwhile. Asking again what changes nothing does no harm, nor does
            // what was never sent.
            return self.raw_once(route, query, body);
        }
        sent
    }

    fn raw_once(&mut self, route: Route, query: &[(&str, String)], body: Bytes) -> Result<Bytes, ClientError> {
        let request = self.request(route, query, body)?;
        self.reconnect_if_closed()?;
        let (path, sender) = (&self.path, &mut self.sender);
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| broken(path, e))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|e| broken(path, e))?.to_bytes();
            check(path, &Response::from_parts(parts, ()), &body)?;
            Ok(body)
        };
        let deadline = self.deadline;
        let served = async {
            tokio::select! {
                biased;
                answer = answer => answer,
                error = watch::until_silent(path) => Err(error),
            }
        };
        self.runtime.block_on(within(deadline, served))
    }

    /// Reads newline-delimited JSON line by line until the daemon ends it or `on_line` breaks. The
    /// deadline is for the beginning of the answer only.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientError::Interrupted`] if the daemon goes away in the middle, so that
    /// the caller can connect again and go on after the last line it had.
    pub fn stream(
        &mut self,
        route: Route,
        query: &[(&str, String)],
        mut on_line: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let request = self.request(route, query, Bytes::new())?;
        self.reconnect_if_closed()?;
        let (path, sender, deadline) = (&self.path, &mut self.sender, self.deadline);
        self.runtime.block_on(async {
            let begin = async { sender.send_request(request).await.map_err(|e| broken(path, e)) };
            let served = async {
                tokio::select! {
                    biased;
                    answer = begin => answer,
                    error = watch::until_silent(path) => Err(error),
                }
            };
            let response = within(deadline, served).await?;
            let (parts, body) = response.into_parts();
            if !parts.status.is_success() {
                let body = body.collect().await.map_err(|e| broken(path, e))?.to_bytes();
                return check(path, &Response::from_parts(parts, ()), &body);
            }
            lines(path, body, &mut on_line).await
        })
    }

    fn request(
        &self,
        route: Route,
        query: &[(&str, String)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut uri = route.path.to_owned();
        if !query.is_empty() {
            uri.push('?');
            let at = uri.len();
            uri = form_urlencoded::Serializer::for_suffix(uri, at)
                .extend_pairs(query)
                .finish();
        }
        let mut request = Request::builder()
            .method(route.method)
            .uri(uri)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/json");
        if route.method != "GET" {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(body)).map_err(|error| ClientError::Io {
            path: self.path.clone(),
            source: io::Error::other(error),
        })
    }

    fn reconnect_if_closed(&mut self) -> Result<(), ClientError> {
        let reused = std::mem::replace(&mut self.used, true);
        let sender = &mut self.sender;
        let ready = self.runtime.block_on(async {
            if reused {
                // The first lets the driver see that the other side is gone, the second the connection.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            sender.ready().await
        });
        if ready.is_err() {
            let socket = dial(&self.path)?;
            self.sender = handshake(&self.runtime, socket).map_err(|source| ClientError::Io {
                path: self.path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

/// Connects while blocking: a non-blocking connect fails at once when a thousand others are waiting.
fn dial(path: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(path).map_err(|source| {
        let path = path.to_owned();
        let kind = source.kind();
        // With a file in place of the folder nobody runs either; starting it will say so.
        if matches!(
            kind,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
        ) {
            let stale = kind == io::ErrorKind::ConnectionRefused;
            return ClientError::NotRunning { path, stale };
        }
        if kind == io::ErrorKind::PermissionDenied {
            return ClientError::Refused(format!(
                "this user may not use {}; use the account that clmgr was started with",
                path.display()
            ));
        }
        ClientError::Io { path, source }
    })
}

fn handshake(runtime: &Runtime, socket: UnixStream) -> io::Result<SendRequest<Full<Bytes>>> {
    socket.set_nonblocking(true)?;
    runtime.block_on(async { shake(tokio::net::UnixStream::from_std(socket)?).await })
}

/// Makes a connection of a socket. It is driven by a task of the runtime that this runs in.
pub(super) async fn shake(socket: tokio::net::UnixStream) -> io::Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    // Its errors come back through the sender.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn within<T>(
    deadline: Option<Duration>,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match deadline {
        None => work.await,
        Some(time) => tokio::time::timeout(time, work)
            .await
            .unwrap_or(Err(ClientError::TimedOut)),
    }
}

async fn lines(
    path: &Path,
    mut body: Incoming,
    on_line: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), ClientError> {
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| broken(path, e))?;
        if let Some(chunk) = frame.data_ref()
            && lines.push(chunk, Client::MAX_LINE, on_line)?.is_break()
        {
            return Ok(());
        }
    }
    lines.finish(on_line);
    Ok(())
}

fn broken(path: &Path, error: hyper::Error) -> ClientError {
    if error.is_parse() {
        return ClientError::NotOurs {
            path: path.to_owned(),
            what: error.to_string(),
        };
    }
    ClientError::Interrupted(error)
}

/// Turns an answer that is not 2xx into an error.
fn check(path: &Path, response: &Response<()>, body: &[u8]) -> Result<(), ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    if status == StatusCode::SERVICE_UNAVAILABLE && response.headers().contains_key(header::RETRY_AFTER) {
        return Err(ClientError::Replaced);
    }
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(error) if error.kind == ErrorKind::Forbidden => {
            let parts: Vec<String> = std::iter::once(error.message).chain(error.hints).collect();
            Err(ClientError::Refused(parts.join("; ")))
        }
        Ok(error) => Err(ClientError::Api(Box::new(error))),
        // A route that an older daemon does not have is answered without a body of ours.
        Err(_) if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
            Err(ClientError::NotOurs {
                path: path.to_owned(),
                what: format!("it does not know this request (HTTP {status}), or it is of another version"),
            })
        }
        Err(_) => {
            let text: String = String::from_utf8_lossy(body)
                .chars()
                .filter(|c| !c.is_control())
                .take(120)
                .collect();
            Err(ClientError::NotOurs {
                path: path.to_owned(),
                what: format!("HTTP {status} {text}").trim_end().to_owned(),
            })
        }
    }
}
