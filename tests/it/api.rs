//! The control socket under clients that are many, slow, greedy or not its owner's.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{PATIENCE, Said, World, said};

/// Nobody, everywhere.
const NOBODY: u32 = 65534;

fn connect(world: &World) -> UnixStream {
    let stream = UnixStream::connect(world.home().join("clmgr.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

/// Status and body of what is still to come.
fn answer(mut stream: UnixStream) -> (u16, String) {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        // With a body that nobody read, the end of the connection is a reset; what was said comes before it.
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn error(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn a_thousand_clients_at_once_are_all_served() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "3"]).ok();
    let pids = world.pids("a");
    let mut clients: Vec<UnixStream> = (0..1000).map(|_| connect(&world)).collect();
    // All are connected; the others are served, and the loop turns.
    assert_eq!(world.states("a"), ["online"; 3]);
    world.run(&["restart", "a:2"]).ok();
    for client in &mut clients {
        client.write_all(ask("/v1/status").as_bytes()).unwrap();
    }
    for client in clients {
        let (status, body) = answer(client);
        assert_eq!(status, 200);
        let reply: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(reply["apps"][0]["instances"].as_array().unwrap().len(), 3);
    }
    assert_eq!(world.pids("a")[..2], pids[..2]);
    // Their descriptors are given back.
    let (daemon, _) = world.manager();
    let open = || std::fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count();
    world.until("connections are closed", || open() < 100);
}

#[test]
fn more_clients_than_descriptors_wait_and_apps_are_still_started() {
    let world = World::new();
    // A hard limit, as a careful administrator may set it.
    let plain = world.command(&[]);
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 200 && exec \"$0\" start 'sleep 1000' --name a",
        env!("CARGO_BIN_EXE_clmgr"),
    ]);
    command
        .current_dir(world.path())
        .env_clear()
        .envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    said(command).ok();
    // 100 that say nothing, more than the daemon lets in.
    let greedy: Vec<UnixStream> = (0..100).map(|_| connect(&world)).collect();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut waiting = world.command(&["scale", "a", "20"]);
    let child = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let thread = std::thread::spawn(move || {
        let said = crate::harness::finish(child, &["scale"]);
        sender.send(()).unwrap();
        said
    });
    // It waits for its turn, and has it when some have gone.
    assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err());
    drop(greedy);
    receiver.recv_timeout(PATIENCE).unwrap();
    thread.join().unwrap().ok();
    assert_eq!(world.states("a"), ["online"; 20]);
}

#[test]
fn half_a_request_keeps_nobody_else_waiting_and_ends_after_a_while() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let mut heads: Vec<UnixStream> = (0..50).map(|_| connect(&world)).collect();
    for head in &mut heads {
        head.write_all(b"GET /v1/status HTTP/1.1\r\nhos").unwrap();
    }
    let mut body = connect(&world);
    body.write_all(b"POST /v1/stop HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n{\"targets\": [\"a\"").unwrap();
    // One that says nothing at all, and one that goes away in the middle.
    let silent = connect(&world);
    let mut gone = connect(&world);
    gone.write_all(b"POST /v1/stop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 17\r\n\r\n{\"targets\": [\"a\"")
        .unwrap();
    drop(gone);
    for _ in 0..20 {
        assert_eq!(world.states("a"), ["online"]);
    }
    world.run(&["restart", "a"]).ok();
    // Each is ended in the end, and nothing of it was done.
    let (status, text) = answer(body);
    assert_eq!(status, 400);
    assert!(
        error(&text)["message"]
            .as_str()
            .unwrap()
            .contains("did not arrive within 30s"),
        "{text}"
    );
    for mut stream in heads.into_iter().chain([silent]) {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
    }
    assert_eq!(world.states("a"), ["online"]);
}

#[test]
fn a_body_of_100_mib_is_refused_and_costs_no_memory() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let (daemon, _) = world.manager();
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = peak();
    let chunk = vec![b' '; 1 << 20];
    // Announced.
    let mut stream = connect(&world);
    stream
        .write_all(
            b"POST /v1/apply HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 104857600\r\n\r\n",
        )
        .unwrap();
    // It may hang up long before the end.
    let _refused = (0..100).try_for_each(|_| stream.write_all(&chunk));
    let (status, text) = answer(stream);
    assert_eq!(status, 413);
    assert_eq!(error(&text)["kind"], "too_large");
    assert!(error(&text)["message"].as_str().unwrap().contains("16 MiB"), "{text}");
    assert!(peak() < before + (8 << 10), "{before} KiB, then {}", peak());
    // Not announced.
    let mut stream = connect(&world);
    stream
        .write_all(
            b"POST /v1/apply HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .unwrap();
    let _refused = (0..100).try_for_each(|_| {
        stream
            .write_all(b"100000\r\n")
            .and_then(|()| stream.write_all(&chunk))
            .and_then(|()| stream.write_all(b"\r\n"))
    });
    let (status, text) = answer(stream);
    assert_eq!(status, 413, "{text}");
    assert!(peak() < before + (64 << 10), "{before} KiB, then {}", peak());
    // A head without end.
    let mut stream = connect(&world);
    stream.write_all(b"GET /v1/status HTTP/1.1\r\n").unwrap();
    let _refused = (0..1000).try_for_each(|_| {
        stream
            .write_all(b"x-more: ")
            .and_then(|()| stream.write_all(&chunk[..1 << 10]))
            .and_then(|()| stream.write_all(b"\r\n"))
    });
    let (status, _) = answer(stream);
    assert!(matches!(status, 400 | 431), "{status}");
    assert_eq!(world.states("a"), ["online"]);
}

#[test]
fn requests_that_make_no_sense_are_refused_in_json() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let post = |path: &str, body: &str| {
        let mut stream = connect(&world);
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        answer(stream)
    };
    let spec = |extra: &str| format!("{{\"apps\": [{{\"name\": \"x\"{extra}}}], \"env_base\": {{}}}}");
    for (path, body, status) in [
        ("/v1/stop", "", 400),
        ("/v1/stop", "nonsense", 400),
        ("/v1/stop", "{\"targets\": []}", 400),
        ("/v1/stop", "{\"targets\": [7]}", 400),
        ("/v1/stop", "{\"targets\": [\"nobody\"]}", 404),
        ("/v1/stop", "{\"targets\": [\"/(/\"]}", 400),
        ("/v1/scale", "{\"targets\": [\"a\"], \"to\": 99999999999}", 400),
        ("/v1/apply", &spec(""), 400),
        ("/v1/apply", "{\"apps\": 1}", 400),
        ("/v1/apply", &"[".repeat(100_000), 400),
        ("/v1/nothing", "{}", 404),
        ("/v1/status", "{}", 405),
    ] {
        let (got, text) = post(path, body);
        assert_eq!(got, status, "{path} {body:.80}: {text}");
        assert!(!error(&text)["message"].as_str().unwrap().is_empty(), "{text}");
    }
    for path in [
        "/v1/status?target=nobody",
        "/v1/events?limit=many",
        "/v1/events?kind=none",
        "/v1/../etc/passwd",
    ] {
        let mut stream = connect(&world);
        stream.write_all(ask(path).as_bytes()).unwrap();
        let (status, text) = answer(stream);
        assert!(matches!(status, 400 | 404), "{path}: {status} {text}");
        error(&text);
    }
    let mut stream = connect(&world);
    stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(world.states("a"), ["online"]);
}

/// Lets everybody connect.
fn open_to_all(world: &World) {
    let allow = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(world.path(), 0o711);
    allow(&world.home(), 0o711);
    allow(&world.home().join("clmgr.sock"), 0o666);
}

/// The program as another user.
fn as_nobody(world: &World, args: &[&str]) -> Said {
    use std::os::unix::process::CommandExt;
    let program = world.program_for_all();
    let plain = world.command(&[]);
    let mut command = std::process::Command::new(program);
    command
        .args(args)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .env_clear()
        .stdin(Stdio::null());
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    said(command)
}

#[test]
fn another_user_is_refused_and_that_is_recorded() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can be somebody else");
        return;
    }
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let pids = world.pids("a");
    std::fs::set_permissions(world.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    // As it is: the folder keeps others out, and no second manager is started over it.
    let refused = as_nobody(&world, &["status"]).refused(6, "may not use");
    assert!(refused.err.contains("clmgr.sock"), "{}", refused.err);
    as_nobody(&world, &["start", "sleep 1000"]).refused(6, "may not use");
    // With rights on the files the daemon still looks who is there.
    open_to_all(&world);
    for args in [
        &["status"][..],
        &["stop", "a"],
        &["env", "a", "--reveal"],
        &["kill"],
        &["logs", "--nostream"],
        &["start", "sleep 1000"],
    ] {
        let refused = as_nobody(&world, args).refused(6, "may not use this clmgr");
        assert!(
            refused.err.contains(&format!("user {NOBODY}")) && refused.err.contains("as root"),
            "{args:?}: {}",
            refused.err
        );
        assert_eq!(refused.out, "", "{args:?}");
    }
    let told: Vec<Value> = world
        .events()
        .into_iter()
        .filter(|event| event["kind"] == "access_refused")
        .collect();
    assert!(told.len() >= 6, "{told:?}");
    assert!(
        told[0]["message"].as_str().unwrap().contains(&format!("user {NOBODY}")),
        "{}",
        told[0]
    );
    let log = std::fs::read_to_string(world.home().join("logs/clmgr.log")).unwrap();
    assert!(log.contains("may not use this clmgr"), "{log}");
    assert_eq!(world.pids("a"), pids);
    // On the wire.
    let path = world.home().join("clmgr.sock");
    let stranger = std::thread::spawn(move || {
        // Of this thread only; the kernel notes it when the connection is made.
        rustix::thread::set_thread_res_uid(
            rustix::process::Uid::from_raw(NOBODY),
            rustix::process::Uid::from_raw(NOBODY),
            rustix::process::Uid::from_raw(NOBODY),
        )
        .unwrap();
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(ask("/v1/status").as_bytes()).unwrap();
        answer(stream)
    });
    let (status, text) = stranger.join().unwrap();
    assert_eq!((status, error(&text)["kind"].as_str().unwrap()), (403, "forbidden"));
    assert!(!text.contains("sleep"), "{text}");
}
