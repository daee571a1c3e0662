//! An instance is ready when it says so, in every way it can say it, and not before.

use crate::harness::{World, finish, free_port};

/// Waits for the file `go`, becomes ready in the way of its argument, and stays.
const APP: &str = r#"
import os, sys, time, socket, threading, http.server
def say(text): print(text, flush=True)
open("up", "w").write(str(os.getpid()))
while not os.path.exists("go"): time.sleep(0.01)
kind = sys.argv[1]
keep = []
if kind == "listen":
    s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); keep.append(s)
elif kind == "unix":
    s = socket.socket(socket.AF_UNIX); s.bind("app.sock"); s.listen(); keep.append(s)
elif kind == "child":
    if os.fork() == 0:
        s = socket.socket(socket.AF_INET6); s.bind(("::1", 0)); s.listen(); time.sleep(1000)
elif kind == "tcp":
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(os.environ["PORT"]))); s.listen(); keep.append(s)
elif kind == "notify":
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.sendto(b"STATUS=nearly\n", os.environ["NOTIFY_SOCKET"])
    s.sendto(b"STATUS=here\nREADY=1\n", os.environ["NOTIFY_SOCKET"])
elif kind == "fd-write":
    os.write(5, b"\n")
elif kind == "fd-close":
    os.close(5)
elif kind == "log":
    say("not ready yet"); sys.stdout.write("server is "); sys.stdout.flush(); time.sleep(0.05); say("ready on port 1")
elif kind == "log-err":
    print("server is ready", file=sys.stderr, flush=True)
elif kind == "exec":
    open("ready.flag", "w").close()
elif kind == "http":
    class H(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with open("asked", "a") as f: f.write(self.path + "\n")
            self.send_response(204 if os.path.exists("healthy") else 500); self.end_headers()
        def log_message(self, *a): pass
    threading.Thread(target=http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever, daemon=True).start()
time.sleep(1000)
"#;

fn start(world: &World, kind: &str, ready: &str, more: &str) -> std::process::Child {
    world.file("app.py", APP);
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\nscript = \"app.py\"\ninterpreter = \"/usr/bin/python3\"\nargs = [\"{kind}\"]\nready = {ready}\nkill_timeout = \"2s\"\n{more}\n"),
    );
    let start = world.begin(&["start"]);
    world.until("its program runs", || !world.text("up").is_empty());
    assert_eq!(world.states("a"), ["starting"], "{kind}");
    start
}

#[track_caller]
fn becomes_ready(kind: &str, ready: &str, more: &str) {
    let world = World::new();
    let command = start(&world, kind, ready, more);
    world.file("go", "");
    finish(command, &["start"]).ok();
    assert_eq!(world.states("a"), ["online"], "{kind}");
    assert_eq!(world.pids("a")[0].to_string(), world.text("up"));
    assert_eq!(world.count_events("online", "a"), 1);
    assert_eq!(world.count_events("started", "a"), 1);
}

#[test]
fn spawn_is_ready_when_the_program_executes() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\nready = \"spawn\"\n",
    );
    world.run(&["start"]).ok();
    assert_eq!(world.states("a"), ["online"]);
}

#[test]
fn a_listening_tcp_socket() {
    becomes_ready("listen", "\"listen\"", "");
}

#[test]
fn a_listening_unix_socket() {
    becomes_ready("unix", "\"listen\"", "");
}

#[test]
fn a_listening_socket_of_a_child() {
    becomes_ready("child", "\"listen\"", "");
}

#[test]
fn a_message_to_the_notify_socket() {
    becomes_ready("notify", "\"notify\"", "");
}

#[test]
fn a_byte_on_a_descriptor() {
    becomes_ready("fd-write", "\"fd:5\"", "");
}

#[test]
fn a_closed_descriptor() {
    becomes_ready("fd-close", "\"fd:5\"", "");
}

#[test]
fn a_descriptor_that_is_closed_by_the_end_says_nothing() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"sleep 0.1; exit 7\"]\nready = \"fd:5\"\ninstances = 20\n\
         restart = \"never\"\n",
    );
    assert_ne!(world.run(&["start"]).code, 0);
    assert_eq!(world.count_events("exited", "a"), 20);
    assert_eq!(world.count_events("online", "a"), 0);
}

#[test]
fn a_port_that_accepts() {
    becomes_ready(
        "tcp",
        "{ tcp = \"127.0.0.1:{port}\" }",
        &format!("env = {{ PORT = {} }}", free_port()),
    );
}

#[test]
fn a_line_that_comes_in_two_parts() {
    becomes_ready("log", "{ log = \"^server is ready on port \\\\d+$\" }", "");
}

#[test]
fn a_line_of_standard_error() {
    becomes_ready("log-err", "{ log = \"is ready\" }", "");
}

#[test]
fn a_command_that_succeeds_at_last() {
    becomes_ready("exec", "{ exec = [\"test\", \"-e\", \"ready.flag\"] }", "");
}

#[test]
fn a_web_server_that_is_ill_at_first() {
    let world = World::new();
    let command = start(
        &world,
        "http",
        "{ http = \"http://127.0.0.1:{port}/health?x=1\" }",
        &format!("env = {{ PORT = {} }}", free_port()),
    );
    world.file("go", "");
    world.until("two refusals", || world.text("asked").lines().count() >= 2);
    assert_eq!(world.states("a"), ["starting"], "500 is not ready");
    world.file("healthy", "");
    finish(command, &["start"]).ok();
    assert_eq!(world.states("a"), ["online"]);
    assert_eq!(world.text("asked").lines().next(), Some("/health?x=1"));
}

#[test]
fn node_says_ready_and_is_told_to_shut_down() {
    let world = World::new();
    world.file(
        "app.js",
        "process.on('message', m => { if (m === 'shutdown') { console.log('bye'); process.exit(0); } });\n\
         process.on('SIGTERM', () => console.log('a signal'));\n\
         const t = setInterval(() => { if (require('fs').existsSync('go')) { clearInterval(t); process.send('ready'); setInterval(() => {}, 1e6); } }, 10);\n\
         require('fs').writeFileSync('up', String(process.pid));\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\nscript = \"app.js\"\nwait_ready = true\nshutdown_with_message = true\n",
    );
    let command = world.begin(&["start"]);
    world.until("its program runs", || !world.text("up").is_empty());
    assert_eq!(world.states("a"), ["starting"]);
    world.file("go", "");
    finish(command, &["start"]).ok();
    assert_eq!(world.states("a"), ["online"]);
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.text("home/logs/a-0-out.log"), "bye\n");
    assert_eq!(world.count_events("killed", "a"), 0);
}

#[test]
fn who_is_never_ready_fails_the_command_with_its_own_words() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"echo cannot bind to port 80 >&2; exec sleep 1000\"]\nready = \"notify\"\nlisten_timeout = \"3s\"\nbackoff = { first = \"10m\", max = \"10m\" }\n",
    );
    let said = world.run(&["start"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("not ready after 3s") && said.out.contains("cannot bind to port 80"),
        "{said:?}"
    );
    world.until("it waits", || world.states("a") == ["backoff"]);
    assert_eq!(world.pids("a"), [0]);
    assert_eq!(world.count_events("ready_timeout", "a"), 1);
}

#[test]
fn running_out_of_time_may_count_as_ready() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\nready = \"notify\"\nlisten_timeout = \"300ms\"\non_listen_timeout = \"ready\"\n",
    );
    world.run(&["start"]).ok();
    assert_eq!(world.states("a"), ["online"]);
}

#[test]
fn a_stranger_cannot_say_ready_for_somebody_else() {
    let world = World::new();
    let command = start(&world, "nothing", "\"notify\"", "");
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", world.home().join("notify.sock")).unwrap();
    crate::harness::rest(200);
    assert_eq!(world.states("a"), ["starting"]);
    world.run(&["delete", "a"]).ok();
    assert_ne!(finish(command, &["start"]).code, 0);
}

#[test]
fn who_dies_before_it_is_ready_fails_the_command() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"echo no database >&2; exit 3\"]\nready = \"listen\"\n",
    );
    let said = world.run(&["start"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("exit code 3") && said.out.contains("no database"),
        "{said:?}"
    );
}
