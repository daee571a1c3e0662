//! Programs as they come from their makers take the sockets of `listen` by the convention each of them knows, and are
//! replaced under load without a failed request.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::World;
use crate::listen::{connect, port_of};

/// ASGI and WSGI in one file, standard library only.
const PYTHON: &str = r#"
async def asgi(scope, receive, send):
    while scope["type"] == "lifespan":
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown": return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"asgi"})
def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return [b"wsgi"]
"#;

/// The program's file, where a user's PATH, an administrator's, or npm has it. Without one the test says so and ends.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let others = [
        PathBuf::from("/usr/sbin"),
        root.join("tests/node/node_modules/.bin"),
        root.join("target/tools/node_modules/.bin"),
    ];
    let found = std::env::split_paths(&path)
        .chain(others)
        .map(|folder| folder.join(name))
        .find(|file| file.exists());
    if found.is_none() {
        let _untold = writeln!(std::io::stderr(), "SKIPPED: there is no {name} here");
    }
    found
}

/// One request on a connection of its own: the whole answer must be 200 with this body.
fn ask(port: u16, body: &str) -> Result<(), String> {
    let mut stream = connect(port).ok_or("refused")?;
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).map_err(|error| format!("request: {error}"))?;
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    read.map_err(|error| format!("answer: {error} after {text:?}"))?;
    let good = text.starts_with("HTTP/1.1 200 ") && text.trim_end().ends_with(body);
    good.then_some(()).ok_or_else(|| format!("answer: {text:?}"))
}

fn answers(port: u16, body: &str) -> bool {
    ask(port, body).is_ok()
}

/// Starts the app, asks it, replaces it while it is asked, and kills it.
#[track_caller]
fn serves(world: &World, command: &str, more: &str, body: &str) {
    serves_on(world, 0, command, more, body);
}

/// The same on a port that the program must be told beside the socket.
#[track_caller]
fn serves_on(world: &World, port: u16, command: &str, more: &str, body: &str) {
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\ncmd = {command:?}\nlisten = \"127.0.0.1:{port}\"\nrollout = {{ min_healthy = \"100ms\" }}\n{more}\n"),
    );
    world.run(&["start"]).ok();
    let port = port_of(world, "a");
    world.until("an answer", || answers(port, body));
    let before = world.pids("a");
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (failed, more) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut failed = Vec::new();
            while !done.load(Ordering::Relaxed) {
                failed.extend(ask(port, body).err());
                asked.fetch_add(1, Ordering::Relaxed);
            }
            failed
        });
        let said = world.run(&["reload", "a"]);
        let sofar = asked.load(Ordering::Relaxed);
        let more = crate::harness::eventually(&mut || asked.load(Ordering::Relaxed) > sofar + 5);
        done.store(true, Ordering::Relaxed);
        said.ok();
        (load.join().unwrap(), more)
    });
    assert!(more, "no requests after the reload\n{}", world.report());
    assert!(failed.is_empty(), "{failed:?}\n{}", world.report());
    let after = world.pids("a");
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    world.run(&["signal", "a", "KILL"]).ok();
    world.until("the end of all", || {
        after.iter().all(|pid| !crate::harness::lives(*pid))
    });
    world.until("an answer after a crash", || answers(port, body));
    assert_eq!(port_of(world, "a"), port);
}

#[test]
fn gunicorn_reads_the_variables() {
    let Some(program) = program("gunicorn") else { return };
    let world = World::new();
    world.file("app.py", PYTHON);
    serves(
        &world,
        &format!("{} --workers 2 app:wsgi", program.display()),
        "",
        "wsgi",
    );
}

#[test]
fn uvicorn_is_told_the_number() {
    let Some(program) = program("uvicorn") else { return };
    let world = World::new();
    world.file("app.py", PYTHON);
    let command = format!("{} --fd {{fd}} app:asgi", program.display());
    serves(&world, &command, "instances = 2", "asgi");
}

#[test]
fn nginx_has_a_variable_of_its_own() {
    let Some(program) = program("nginx") else { return };
    let world = World::new();
    world.file("run/here", "");
    // nginx knows an inherited socket by its address: the port must be known before.
    let port = crate::harness::free_port();
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path run/{name}; "))
        .concat();
    world.file(
        "nginx.conf",
        &format!(
            "daemon off; pid run/nginx.pid; error_log stderr; events {{ worker_connections 64; }}\n\
             http {{ access_log off; {folders}\n server {{ listen 127.0.0.1:{port}; location / {{ return 200 nginx; }} }} }}\n"
        ),
    );
    let more = "env = { NGINX = \"{fd};\" }\nstop_signal = \"SIGQUIT\"";
    let command = format!("{} -p . -c nginx.conf -e stderr", program.display());
    serves_on(&world, port, &command, more, "nginx");
}

#[test]
fn haproxy_is_told_the_number() {
    let Some(program) = program("haproxy") else { return };
    let world = World::new();
    world.file(
        "haproxy.cfg",
        "defaults\n mode http\n timeout client 5s\n timeout connect 5s\n timeout server 5s\nfrontend f\n bind \"fd@${FD}\"\n \
         http-request return status 200 content-type text/plain string haproxy\n",
    );
    let more = "env = { FD = \"{fd}\" }\nstop_signal = \"SIGUSR1\"";
    let command = format!("{} -db -f haproxy.cfg", program.display());
    serves(&world, &command, more, "haproxy");
}

#[test]
fn deno_and_bun_listen_on_a_descriptor() {
    let world = World::new();
    // Neither finishes anything on SIGTERM by itself.
    world.file(
        "deno.mjs",
        "import http from 'node:http';\n\
         const server = http.createServer((q, s) => s.end('deno')).listen({ fd: 3 });\n\
         process.on('SIGTERM', () => server.close(() => process.exit()));\n",
    );
    // Bun's http takes no descriptor, its net does.
    world.file(
        "bun.mjs",
        "import http from 'node:http';\nimport net from 'node:net';\n\
         const server = http.createServer((q, s) => s.end('bun'));\n\
         const door = net.createServer((socket) => server.emit('connection', socket)).listen({ fd: 3 });\n\
         process.on('SIGTERM', () => door.close(() => process.exit()));\n",
    );
    for (name, arguments) in [("deno", "run --allow-all deno.mjs"), ("bun", "bun.mjs")] {
        if let Some(program) = program(name) {
            let command = format!("{} {arguments}", program.display());
            serves(&world, &command, "instances = 2", name);
            world.run(&["delete", "a"]).ok();
        }
    }
}
