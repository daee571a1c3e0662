//! Node clusters with clmgr as the primary: unmodified programs, in every version of Node that is there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{World, free_port, lives, rest, said};

/// What `scripts/node-packages` has installed.
fn packages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node")
}

fn skipped(why: &str) {
    let _untold = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED: {why}\n").as_bytes());
}

/// Without node there is nothing to try; says so.
pub fn has_node() -> bool {
    let found = Command::new("node").arg("--version").output().is_ok();
    if !found {
        skipped("there is no node here");
    }
    found
}

/// The system's node and those that are installed, each with its major version.
fn nodes() -> Vec<(u32, PathBuf)> {
    let mut all = vec![PathBuf::from("node")];
    for version in [18, 22, 24] {
        let path = packages().join(format!("node_modules/node{version}/bin/node"));
        if path.exists() {
            all.push(path);
        } else {
            skipped(&format!(
                "node {version} is not here; scripts/node-packages installs it"
            ));
        }
    }
    all.into_iter()
        .filter_map(|path| {
            let said = Command::new(&path).arg("--version").output().ok()?;
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            let major = text.trim_start_matches('v').split('.').next()?.parse().ok()?;
            Some((major, path))
        })
        .collect()
}

/// The answers to these questions, each over a connection of its own.
#[track_caller]
fn ask(questions: &[String]) -> Vec<String> {
    let mut command = Command::new("node");
    command.arg(packages().join("client.js")).args(questions);
    said(command).ok().out.lines().map(str::to_owned).collect()
}

/// A server that says its slot and pid.
pub const SERVER: &str = "const http = require('http');
http.createServer((request, response) => response.end(process.env.NODE_APP_INSTANCE + ':' + process.pid))
  .listen(Number(process.env.AT), '127.0.0.1');
";

/// Its app; `more` are lines of the file.
pub fn server(world: &World, script: &str, instances: u32, port: u16, more: &str) -> String {
    world.file("app.js", script);
    format!(
        "[[apps]]\nname = \"a\"\nscript = \"app.js\"\ninstances = {instances}\nenv = {{ AT = \"{port}\" }}\n\
         rollout = {{ min_healthy = \"100ms\" }}\n{more}\n"
    )
}

/// One answer over a connection of its own.
#[track_caller]
pub fn get(port: u16) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text:?}");
    text.rsplit_once("\r\n\r\n")
        .unwrap()
        .1
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .lines()
        .next()
        .unwrap_or("")
        .to_owned()
}

/// Makes a certificate; none where there is no openssl.
fn certificate(world: &World) -> Option<(PathBuf, PathBuf)> {
    let (key, cert) = (world.path().join("key.pem"), world.path().join("cert.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    made.is_ok_and(|made| made.status.success()).then_some((key, cert))
}

/// What the zoo is to serve, and the questions that its servers answer.
#[derive(Default)]
struct Zoo {
    env: Vec<String>,
    questions: Vec<String>,
}

impl Zoo {
    fn tell(&mut self, name: &str, value: &str) {
        self.env.push(format!("ZOO_{name} = {value:?}"));
    }

    fn serve(&mut self, name: &str, kind: &str) {
        let port = free_port();
        self.tell(name, &port.to_string());
        self.questions.push(format!("{kind}:{port}"));
    }

    /// Everything that this version of Node can have here.
    fn new(world: &World, major: u32) -> Self {
        let mut zoo = Self::default();
        let path = world.path().join("zoo.sock").display().to_string();
        zoo.tell("UNIX", &path);
        zoo.questions.push(format!("unix:{path}"));
        for (name, kind) in [
            ("HTTP", "http"),
            ("V4", "http"),
            ("HTTP2", "http2"),
            ("UDP", "udp"),
            ("AGAIN", "http"),
        ] {
            zoo.serve(name, kind);
        }
        for (package, name) in [("express", "EXPRESS"), ("koa", "KOA"), ("fastify", "FASTIFY")] {
            // This fastify is for Node 20 and later.
            let is_here = packages().join("node_modules").join(package).exists();
            if is_here && (major >= 20 || package != "fastify") {
                zoo.serve(name, "http");
            } else {
                skipped(&format!("{package} with node {major}"));
            }
        }
        match certificate(world) {
            Some((key, cert)) => {
                zoo.serve("HTTPS", "https");
                zoo.tell("KEY", &key.display().to_string());
                zoo.tell("CERT", &cert.display().to_string());
            }
            None => skipped("https: there is no openssl"),
        }
        zoo
    }
}

/// What a worker of the zoo has seen.
#[track_caller]
fn report(world: &World, slot: usize) -> Value {
    serde_json::from_str(&world.text(&format!("report-{slot}"))).unwrap()
}

#[track_caller]
fn check(report: &Value, slot: usize, major: u32) {
    for (key, expected) in [
        ("worker", Value::from(true)),
        ("primary", Value::from(false)),
        ("id", Value::from(slot + 1)),
        ("slot", Value::from(slot.to_string())),
        ("options", Value::Null),
        ("channel", Value::Null),
        ("twice", Value::from("EADDRINUSE")),
        ("taken", Value::from("EADDRINUSE")),
        ("strange", Value::from("EADDRNOTAVAIL")),
    ] {
        assert_eq!(report[key], expected, "node {major}: {key}");
    }
    assert!(report["version"].as_str().unwrap().starts_with(&format!("v{major}.")));
    assert_ne!(report["random"][0], report["random"][1]);
}

#[test]
fn every_kind_of_server_works_in_every_version_of_node() {
    if !has_node() {
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (major, node) in nodes() {
        let world = World::new();
        let mut zoo = Zoo::new(&world, major);
        zoo.tell("TAKEN", &taken.local_addr().unwrap().port().to_string());
        let (script, folder) = (packages().join("zoo.js"), world.path().to_owned());
        world.file(
            "ecosystem.toml",
            &format!(
                "[[apps]]\nname = \"zoo\"\nscript = {script:?}\ninterpreter = {node:?}\ncwd = {folder:?}\n\
                 instances = 2\nwait_ready = true\nrollout = {{ min_healthy = \"100ms\" }}\nenv = {{ {} }}\n",
                zoo.env.join(", ")
            ),
        );
        world.run(&["start"]).ok();
        let reports = [report(&world, 0), report(&world, 1)];
        for (slot, report) in reports.iter().enumerate() {
            check(report, slot, major);
        }
        // A port that the kernel chose is the same for both.
        assert_eq!(reports[0]["random"], reports[1]["random"]);
        let random = (0..2).map(|at| format!("net:{}", reports[0]["random"][at]));
        let questions: Vec<String> = zoo.questions.into_iter().chain(random).collect();
        let pids: Vec<String> = world.pids("zoo").iter().map(ToString::to_string).collect();
        let answers = ask(&questions);
        assert_eq!(answers.len(), questions.len());
        for (question, answer) in questions.iter().zip(answers) {
            let (worker, pid) = answer.split_once(':').unwrap_or_else(|| panic!("{question}: {answer}"));
            let slot: usize = worker.parse::<usize>().unwrap() - 1;
            assert_eq!(
                pid.split(' ').next(),
                Some(pids[slot].as_str()),
                "node {major}: {question}"
            );
        }
        let told = format!("it is in use by process {}", std::process::id());
        let events = world.events();
        let mut failed = events.iter().filter(|event| event["kind"] == "listen_failed");
        assert!(
            failed.any(|event| event["message"].as_str().unwrap().contains(&told)),
            "{events:?}"
        );
        world.run(&["reload", "zoo"]).ok();
        assert_eq!(report(&world, 0)["random"], reports[0]["random"]);
        world.run(&["stop", "zoo"]).ok();
        assert_eq!(world.count_events("killed", "zoo"), 0, "{}", world.report());
        assert!(!world.path().join("zoo.sock").exists());
    }
}

#[test]
fn modules_and_children_work_as_ever() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    world.file(
        "app.mjs",
        "import http from 'node:http';
import cluster from 'node:cluster';
import { execFileSync, fork } from 'node:child_process';
if (process.argv[2] === 'child') {
  process.send(`${cluster.isWorker} ${process.env.NODE_OPTIONS}`);
  process.exit();
}
const executed = execFileSync(process.execPath, ['-p', 'String(process.env.NODE_OPTIONS) + process.env.NODE_CHANNEL_FD']);
const child = fork(process.argv[1], ['child']);
child.on('message', (heard) => {
  http.createServer((request, response) => response.end(`0 ${executed.toString().trim()} ${heard}`))
    .listen(Number(process.env.AT), '127.0.0.1');
});
",
    );
    world.file(
        "ecosystem.toml",
        &format!(
            "[[apps]]\nname = \"a\"\nscript = \"app.mjs\"\nexec_mode = \"cluster\"\n\
             env = {{ AT = \"{port}\", NODE_OPTIONS = \"--no-deprecation\" }}\n"
        ),
    );
    world.run(&["start"]).ok();
    let options = "--no-deprecation";
    assert_eq!(get(port), format!("0 {options}undefined false {options}"));
}

#[test]
fn a_worker_that_dies_is_replaced_and_keeps_its_id() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    let file = server(&world, SERVER, 2, port, "");
    world.file("ecosystem.toml", &file);
    world.run(&["start"]).ok();
    let before = world.pids("a");
    assert!(world.kill9(before[1]));
    world.until("another worker in its place", || {
        let now = world.pids("a");
        now[0] == before[0] && now[1] != before[1] && now[1] != 0 && world.states("a") == ["online"; 2]
    });
    let now = world.pids("a")[1];
    world.until("its answer", || get(port) == format!("1:{now}"));
}

#[test]
fn who_never_listens_fails_and_is_told_what_to_write() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let file = server(
        &world,
        "setInterval(() => {}, 1e6);",
        1,
        1,
        "listen_timeout = \"1s\"\nbackoff = { first = \"10m\", max = \"10m\" }",
    );
    world.file("ecosystem.toml", &file);
    world
        .run(&["start"])
        .refused(1, "for workers that never do, write `ready = \"spawn\"`");
    world.file("ecosystem.toml", &format!("{file}ready = \"spawn\"\n"));
    world.run(&["start"]).ok();
    assert_eq!(world.states("a"), ["online"]);
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.count_events("killed", "a"), 0);
}

#[test]
fn a_worker_finishes_what_it_has_begun_and_then_ends_whatever_else_it_holds() {
    if !has_node() {
        return;
    }
    let holds = "setInterval(() => {}, 1e6);\n";
    let handler = "process.on('SIGTERM', () => { console.log('bye'); process.exit(3); });\n";
    for (more, code, out, preload) in [
        ("", 0, "", true),
        (holds, 0, "", true),
        (&format!("{holds}{handler}")[..], 3, "bye\n", true),
        (&format!("{holds}{handler}")[..], 3, "bye\n", false),
    ] {
        let world = World::new();
        let port = free_port();
        let script = format!(
            "const http = require('http'); const fs = require('fs');
http.createServer((request, response) => {{
  fs.writeFileSync('asked', '');
  const timer = setInterval(() => {{ if (fs.existsSync('go')) {{ clearInterval(timer); response.end('0 done'); }} }}, 10);
}}).listen(Number(process.env.AT), '127.0.0.1');
{more}"
        );
        let file = server(
            &world,
            &script,
            1,
            port,
            &format!("node_preload = {preload}\nkill_timeout = \"60s\""),
        );
        world.file("ecosystem.toml", &file);
        world.run(&["start"]).ok();
        let asking = std::thread::spawn(move || get(port));
        world.until("the request", || world.path().join("asked").exists());
        let stop = world.begin(&["stop", "a"]);
        world.until("it is stopping", || world.states("a") == ["stopping"]);
        world.file("go", "");
        assert_eq!(asking.join().unwrap(), "0 done");
        crate::harness::finish(stop, &["stop"]).ok();
        let exit = &world.instances("a")[0]["last_exit"]["status"];
        assert_eq!(
            (&exit["code"], world.count_events("killed", "a")),
            (&code.into(), 0),
            "{exit}"
        );
        assert_eq!(world.text("home/logs/a-0-out.log"), out);
    }
}

#[test]
fn keep_alive_connections_lose_nothing_when_a_worker_ends() {
    use std::io::{BufRead, BufReader, Write};
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    let patient = SERVER.replace("createServer(", "createServer({ keepAliveTimeout: 60000 }, ");
    world.file("ecosystem.toml", &server(&world, &patient, 1, port, ""));
    world.run(&["start"]).ok();
    let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut answer = || {
        (&stream).write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
        let mut body = vec![0; 0];
        let chunked = head.contains("chunked");
        assert!(!chunked, "{head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap();
        body.resize(length.parse().unwrap(), 0);
        std::io::Read::read_exact(&mut reader, &mut body).unwrap();
        head
    };
    assert!(answer().contains("Connection: keep-alive"));
    let stop = world.begin(&["stop", "a"]);
    // Nobody takes new connections any more, but this one is still answered.
    world.until("it is stopping", || world.states("a") == ["stopping"]);
    let pid = world.pids("a")[0];
    rest(200);
    assert!(lives(pid));
    assert!(answer().contains("Connection: close"));
    crate::harness::finish(stop, &["stop"]).ok();
    assert_eq!(world.count_events("killed", "a"), 0);
}

#[test]
fn without_the_preload_nothing_is_loaded() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    let script = SERVER.replace("process.pid", "process.env.NODE_OPTIONS");
    world.file(
        "ecosystem.toml",
        &server(&world, &script, 1, port, "node_preload = false"),
    );
    world.run(&["start"]).ok();
    assert_eq!(get(port), "0:undefined");
    let preloads = |world: &World| {
        std::fs::read_dir(world.home())
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter(|name| name.starts_with("preload-"))
            .count()
    };
    assert_eq!(preloads(&world), 0);
    world.file("ecosystem.toml", &server(&world, &script, 1, port, ""));
    world.run(&["start"]).ok();
    assert_eq!(preloads(&world), 1);
    let mode = std::fs::metadata(world.home()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn what_waits_for_a_blocked_worker_is_answered_by_another() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    let script = format!(
        "const fs = require('fs');
{SERVER}
if (process.env.NODE_APP_INSTANCE === '0') {{
  const timer = setInterval(() => {{
    if (!fs.existsSync('block')) return;
    clearInterval(timer);
    fs.writeFileSync('blocked', '');
    while (!fs.existsSync('go')) {{}}
  }}, 5);
}}
"
    );
    world.file("ecosystem.toml", &server(&world, &script, 2, port, ""));
    world.run(&["start"]).ok();
    let pids = world.pids("a");
    world.file("block", "");
    world.until("it is blocked", || world.path().join("blocked").exists());
    // Half of them wait for the one that does nothing.
    for _ in 0..24 {
        assert_eq!(get(port), format!("1:{}", pids[1]));
    }
    world.file("go", "");
    world.until("its answer", || get(port) == format!("0:{}", pids[0]));
    assert_eq!(world.pids("a"), pids);
}

#[test]
fn a_worker_that_has_answered_enough_is_replaced() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    world.file("ecosystem.toml", &server(&world, SERVER, 1, port, "max_requests = 20"));
    world.run(&["start"]).ok();
    let first = world.pids("a")[0];
    for _ in 0..17 {
        assert_eq!(get(port), format!("0:{first}"));
    }
    world.until("another worker", || get(port) != format!("0:{first}"));
    world.until("the end of the first", || !lives(first));
    assert_eq!(world.count_events("killed", "a"), 0);
    let events = world.events();
    let told = |event: &Value| event["message"].as_str().unwrap().contains("requests");
    assert!(events.iter().any(told), "{events:?}");
}
