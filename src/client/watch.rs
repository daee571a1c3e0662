//! A request that is not answered for long: is the daemon at work, or is there none?
//!
//! The control socket is the keeper's, too, so a connection can be made while no daemon lives, and waits for the
//! next one. A command may rightly take minutes; a daemon that does not even answer a ping on another connection is
//! not at work.

use std::path::Path;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, header};

use crate::api::routes;
use crate::client::connection::shake;
use crate::client::error::{ClientError, SILENCE};

/// Between two tries to connect while others wait for the same.
const PAUSE: Duration = Duration::from_millis(100);

/// Ends when nobody answers any more.
pub(super) async fn until_silent(path: &Path) -> ClientError {
    loop {
        tokio::time::sleep(SILENCE).await;
        let answered = async {
            while ping(path).await.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        if tokio::time::timeout(SILENCE, answered).await.is_err() {
            return ClientError::Silent { path: path.to_owned() };
        }
    }
}

/// Any answer at all.
async fn ping(path: &Path) -> Option<()> {
    let mut sender = shake(tokio::net::UnixStream::connect(path).await.ok()?).await.ok()?;
    let request = Request::builder()
        .method(routes::PING.method)
        .uri(routes::PING.path)
        .header(header::HOST, "localhost")
        .body(Full::new(Bytes::new()));
    sender.send_request(request.ok()?).await.ok().map(drop)
}
