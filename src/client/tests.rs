//! The client against a socket that says what the test wants.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Client, ClientError, version_note};
use crate::api::error::{ErrorBody, ErrorKind};
use crate::api::routes;
use crate::api::status::{Ping, StatusReply};

/// Serves one scripted answer per connection and collects the requests.
struct Script {
    _folder: tempfile::TempDir,
    path: PathBuf,
    thread: JoinHandle<Vec<String>>,
}

fn script(answers: Vec<String>) -> Script {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        answers
            .into_iter()
            .map(|answer| {
                let mut socket = listener.accept().unwrap().0;
                let request = read_request(&mut socket);
                // The client may be gone already.
                drop(socket.write_all(answer.as_bytes()));
                request
            })
            .collect()
    });
    Script {
        _folder: folder,
        path,
        thread,
    }
}

fn read_request(socket: &mut UnixStream) -> String {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = socket.read(&mut chunk).unwrap();
        request.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let expected = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |n| n.parse().unwrap());
            if body.len() >= expected {
                return text;
            }
        }
        assert!(length > 0, "half a request: {text}");
    }
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn asks_properly_and_reads_the_answer() {
    let script = script(vec![http("200 OK", "{\"apps\":[]}")]);
    let mut client = Client::connect(&script.path).unwrap();
    let query = [("target", "/a b&c=\u{e9}+/".to_owned()), ("target", "x".to_owned())];
    let reply: StatusReply = client.call(routes::STATUS, &query, None::<&()>).unwrap();
    assert!(reply.apps.is_empty());
    let requests = script.thread.join().unwrap();
    let line = requests[0].lines().next().unwrap();
    assert_eq!(
        line,
        "GET /v1/status?target=%2Fa+b%26c%3D%C3%A9%2B%2F&target=x HTTP/1.1"
    );
}

#[test]
fn sends_a_body_and_passes_bytes_through() {
    let script = script(vec![http("200 OK", "{ \"results\" : [] , \"new\": 1 }")]);
    let mut client = Client::connect(&script.path).unwrap();
    let bytes = client
        .raw(routes::STOP, &[], Some(&serde_json::json!({"targets": ["api"]})))
        .unwrap();
    assert_eq!(&bytes[..], b"{ \"results\" : [] , \"new\": 1 }");
    let requests = script.thread.join().unwrap();
    assert!(requests[0].starts_with("POST /v1/stop HTTP/1.1\r\n"), "{requests:?}");
    assert!(requests[0].ends_with("{\"targets\":[\"api\"]}"), "{requests:?}");
}

#[test]
fn every_kind_of_no_is_told_apart() {
    let no = |kind| serde_json::to_string(&ErrorBody::new(kind, "no app \"x\"").hint("list them")).unwrap();
    let ask = |answer: String| {
        let script = script(vec![answer]);
        let mut client = Client::connect(&script.path).unwrap();
        let error = client.call::<(), Ping>(routes::PING, &[], None).unwrap_err();
        script.thread.join().unwrap();
        error
    };
    let error = ask(http("404 Not Found", &no(ErrorKind::NotFound)));
    assert!(
        matches!(&error, ClientError::Api(body) if body.hints == ["list them"]),
        "{error}"
    );
    let error = ask(http("403 Forbidden", &no(ErrorKind::Forbidden)));
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    let error = ask(http("502 Bad Gateway", "<html>nginx\x1b[31m</html>"));
    assert!(
        matches!(&error, ClientError::NotOurs { what, .. } if what.contains("nginx")),
        "{error}"
    );
    assert!(!error.to_string().contains('\x1b'));
    let error = ask(http("404 Not Found", ""));
    assert!(
        matches!(&error, ClientError::NotOurs { what, .. } if what.contains("version")),
        "{error}"
    );
    let error = ask("220 mail.example.org ESMTP\r\n".into());
    assert!(matches!(error, ClientError::NotOurs { .. }), "{error:?}");
    let error = ask(http("200 OK", "{\"unexpected\": true}"));
    assert!(matches!(error, ClientError::Decode(_)), "{error:?}");
}

#[test]
fn a_daemon_that_was_replaced_is_asked_again_but_only_for_what_changes_nothing() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_owned();
    let first = script(vec![cut.clone(), http("200 OK", "{\"apps\":[]}")]);
    let mut client = Client::connect(&first.path).unwrap();
    let reply: StatusReply = client.call(routes::STATUS, &[], None::<&()>).unwrap();
    assert!(reply.apps.is_empty());
    assert_eq!(first.thread.join().unwrap().len(), 2);

    let second = script(vec![cut]);
    let mut client = Client::connect(&second.path).unwrap();
    let error = client.raw(routes::RESTART, &[], Some(&())).unwrap_err();
    assert!(matches!(error, ClientError::Interrupted(_)), "{error:?}");
    second.thread.join().unwrap();
}

#[test]
fn a_connection_that_was_closed_between_two_calls_is_made_again() {
    let script = script(vec![http("200 OK", "1"), http("200 OK", "2")]);
    let mut client = Client::connect(&script.path).unwrap();
    for expected in 1..=2 {
        let number: u8 = client.call(routes::RESTART, &[], Some(&())).unwrap();
        assert_eq!(number, expected);
    }
    script.thread.join().unwrap();
}

#[test]
fn streams_line_by_line_until_told_to_stop() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n3\r\ntwo\r\n7\r\n\nthree\n\r\n0\r\n\r\n";
    for (wanted, most) in [(vec!["one", "two", "three"], 9), (vec!["one", "two"], 2)] {
        let script = script(vec![chunked.to_owned()]);
        let mut client = Client::connect(&script.path).unwrap();
        let mut got = Vec::new();
        client
            .stream(routes::EVENTS, &[("follow", "true".into())], |line| {
                got.push(String::from_utf8(line.to_vec()).unwrap());
                if got.len() == most {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        assert_eq!(got, wanted);
        script.thread.join().unwrap();
    }
    let script = script(vec![
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n".into(),
    ]);
    let mut client = Client::connect(&script.path).unwrap();
    let error = client
        .stream(routes::EVENTS, &[], |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(matches!(error, ClientError::Interrupted(_)), "{error:?}");
}

#[test]
fn says_that_nobody_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let error = Client::connect(&path).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { stale: false, .. }), "{error}");
    drop(UnixListener::bind(&path).unwrap());
    let error = Client::connect(&path).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { stale: true, .. }), "{error}");
    let long = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
    assert!(matches!(Client::connect(&long), Err(ClientError::Io { .. })));
}

#[test]
fn a_deadline_ends_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _silent = UnixListener::bind(&path).unwrap();
    let mut client = Client::connect(&path).unwrap();
    client.set_deadline(Some(Duration::from_millis(20)));
    let error = client.call::<(), Ping>(routes::PING, &[], None).unwrap_err();
    assert!(matches!(error, ClientError::TimedOut), "{error:?}");
}

#[test]
fn only_another_version_is_worth_a_note() {
    let mut ping = Ping {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: 1,
        keeper_pid: 1,
        keeper_version: String::new(),
        uptime_ms: 0,
        home: "/".into(),
    };
    assert_eq!(version_note(&ping), None);
    ping.version = "99.1.0".into();
    assert!(version_note(&ping).unwrap().contains("99.1.0"));
}

#[test]
fn a_daemon_that_is_being_replaced_has_done_nothing() {
    let script = script(vec![
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 2\r\n\r\n{}".into(),
    ]);
    let mut client = Client::connect(&script.path).unwrap();
    let error = client.raw(routes::RESTART, &[], Some(&())).unwrap_err();
    assert!(matches!(error, ClientError::Replaced), "{error:?}");
    script.thread.join().unwrap();
}
