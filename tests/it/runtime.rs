//! `clmgr runtime`: the foreground of a container, also as a real PID 1.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::harness::{World, eventually};

/// A runtime under way; its output goes into `out` and `err` of the world.
struct Runtime<'w> {
    world: &'w World,
    child: Child,
}

impl<'w> Runtime<'w> {
    fn begin(world: &'w World, args: &[&str]) -> Self {
        let mut all = vec!["runtime"];
        all.extend(args);
        Self::spawn(world, world.command(&all))
    }

    fn spawn(world: &'w World, mut command: Command) -> Self {
        let file = |name: &str| File::create(world.path().join(name)).unwrap();
        let child = command.stdout(file("out")).stderr(file("err")).spawn().unwrap();
        Self { world, child }
    }

    /// The same, in PID and mount namespaces of its own. None where that is not permitted.
    fn as_pid_1(world: &'w World, args: &[&str]) -> Option<Self> {
        const NAMESPACES: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];
        let probe = Command::new("unshare").args(NAMESPACES).arg("true").output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            let _untold = writeln!(std::io::stderr(), "SKIPPED: no PID namespace can be made here");
            return None;
        }
        let plain = world.command(&["runtime"]);
        let mut command = Command::new("unshare");
        command
            .args(NAMESPACES)
            .arg(plain.get_program())
            .arg("runtime")
            .args(args);
        command.current_dir(world.path()).env_clear().stdin(Stdio::null());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        Some(Self::spawn(world, command))
    }

    /// The process of this role, as it is numbered out here.
    fn process(&self, role: &str) -> Option<i32> {
        self.world.processes().into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
        })
    }

    fn signal(&self, pid: i32, signal: Signal) {
        assert!(self.world.processes().contains(&pid));
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// To the runtime itself.
    fn tell(&self, signal: Signal) {
        self.signal(i32::try_from(self.child.id()).unwrap(), signal);
    }

    fn out(&self) -> String {
        self.world.text("out")
    }

    fn err(&self) -> String {
        self.world.text("err")
    }

    #[track_caller]
    fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        if !eventually(&mut || holds(self)) {
            let log = self.world.text("home/logs/clmgr.log");
            panic!("{what}\nout: {}\nerr: {}\nlog: {log}", self.out(), self.err());
        }
    }

    /// Its exit code, when it has ended by itself.
    #[track_caller]
    fn code(mut self) -> i32 {
        let mut status = None;
        let ended = eventually(&mut || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it did not end\nout: {}\nerr: {}", self.out(), self.err());
        status.and_then(|status| status.code()).unwrap_or(-1)
    }
}

/// Status and body of `GET path`.
fn get(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status, body.unwrap_or_default())
}

fn health(world: &World) -> Option<(u16, Value)> {
    let stream = UnixStream::connect(world.home().join("clmgr.sock")).ok()?;
    let (status, body) = get(stream, "GET /health");
    Some((status, serde_json::from_str(&body).unwrap()))
}

/// An app that counts aloud.
const COUNT: &str = r#"cmd = ["sh", "-c", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done"]"#;

#[test]
fn pid_1_reaps_strangers_survives_its_daemon_and_stops_gracefully() {
    let world = World::new();
    // The orphan waits until its parents are gone, notes who adopted it, and ends.
    let orphan =
        r#"until [ "$(cut -d' ' -f4 /proc/$$/stat)" = 1 ]; do sleep 0.01; done; echo adopted > adopted; exit 3"#;
    world.file("orphan.sh", &format!("#!/bin/sh\n{orphan}\n"));
    world.file(
        "app.sh",
        "#!/bin/sh\n(setsid ./orphan.sh &)\ntrap 'echo bye; exit 0' TERM\nn=0\nwhile :; do n=$((n+1)); echo $n; sleep 0.05; done\n",
    );
    world.file("ecosystem.toml", "[[apps]]\nname = \"app\"\ncmd = \"./app.sh\"\n");
    let Some(runtime) = Runtime::as_pid_1(&world, &["ecosystem.toml"]) else {
        return;
    };
    runtime.until("it speaks", |runtime| runtime.out().contains("5\n"));
    assert_eq!(world.manager().1, 1, "the keeper is PID 1");
    world.until("the orphan is adopted", || world.text("adopted") == "adopted\n");
    let keeper = runtime.process("keeper").unwrap();
    let zombies = || {
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
        let is_zombie =
            |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
        children.split_whitespace().filter(is_zombie).count()
    };
    world.until("no zombie is left", || zombies() == 0);

    let pids = world.pids("app");
    let (daemon, _) = world.manager();
    runtime.signal(runtime.process("daemon").unwrap(), Signal::KILL);
    world.until("another daemon", || world.manager().0 != daemon);
    assert_eq!(world.pids("app"), pids);
    let lines = runtime.out().lines().count();
    runtime.until("output goes on", |runtime| runtime.out().lines().count() > lines + 3);
    // Not one line is missing, and none came twice.
    let out = runtime.out();
    let whole = out.rsplit_once('\n').unwrap().0;
    let counted: Vec<usize> = whole.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(counted, (1..=counted.len()).collect::<Vec<_>>());

    runtime.signal(keeper, Signal::TERM);
    runtime.until("its last word", |runtime| runtime.out().ends_with("bye\n"));
    assert_eq!(runtime.code(), 0);
    assert!(world.processes().is_empty());
}

#[test]
fn a_signal_that_no_daemon_lived_to_hear_is_obeyed_by_the_next() {
    let world = World::new();
    world.file("ecosystem.toml", &format!("[[apps]]\nname = \"app\"\n{COUNT}\n"));
    let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
    runtime.until("it speaks", |runtime| runtime.out().contains("2\n"));
    let daemon = runtime.process("daemon").unwrap();
    runtime.signal(daemon, Signal::STOP);
    runtime.tell(Signal::INT);
    runtime.signal(daemon, Signal::KILL);
    assert_eq!(runtime.code(), 0);
}

#[test]
fn ends_as_its_only_app_does() {
    for (script, law, code) in [
        ("echo done; exit 7", "restart = \"never\"", 7),
        ("echo done", "restart = \"on-failure\"", 0),
        ("exit 3", "stop_exit_codes = [3]", 3),
        ("kill -9 $$$$", "restart = \"never\"", 137),
    ] {
        let world = World::new();
        let text = format!("[[apps]]\nname = \"job\"\ncmd = [\"sh\", \"-c\", \"{script}\"]\n{law}\n");
        world.file("ecosystem.toml", &text);
        let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
        assert_eq!(runtime.code(), code, "{script}: {}", world.text("err"));
        assert_eq!(world.text("out"), if script.contains("echo") { "done\n" } else { "" });
    }
}

#[test]
fn ends_when_all_have_ended_well_or_not() {
    for (last, code) in [("exit 0", 0), ("exit 9", 1)] {
        let world = World::new();
        let app = |name: &str, script: &str| {
            format!("[[apps]]\nname = \"{name}\"\ncmd = [\"sh\", \"-c\", \"{script}\"]\nrestart = \"never\"\n")
        };
        let text = app("first", "exit 0") + &app("last", &format!("until [ -e go ]; do sleep 0.02; done; {last}"));
        world.file("ecosystem.toml", &text);
        let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
        runtime.until("one has ended", |runtime| runtime.err().contains("first:0: completed"));
        world.file("go", "");
        assert_eq!(runtime.code(), code, "{}", world.text("err"));
    }
}

#[test]
fn writes_lines_raw_prefixed_or_as_json() {
    let one = "[[apps]]\nname = \"one\"\ncmd = [\"sh\", \"-c\", \"echo out; echo err >&2; printf half\"]\nrestart = \"never\"\n";
    let two = "[[apps]]\nname = \"two\"\ncmd = [\"sh\", \"-c\", \"echo two\"]\nrestart = \"never\"\n";
    let lines = |text: String, sorted: bool| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if sorted {
            lines.sort();
        }
        lines
    };
    for (text, args, expected, err) in [
        (one.to_owned(), &[][..], &["out", "half"][..], "err"),
        (
            format!("{one}{two}"),
            &[][..],
            &["one:0 | half", "one:0 | out", "two:0 | two"][..],
            "one:0 | err",
        ),
        (
            format!("{one}{two}"),
            &["--output", "raw"][..],
            &["half", "out", "two"][..],
            "err",
        ),
        (
            one.to_owned(),
            &["--output", "prefix"][..],
            &["one:0 | out", "one:0 | half"][..],
            "one:0 | err",
        ),
    ] {
        let world = World::new();
        world.file("ecosystem.toml", &text);
        let mut all = vec!["ecosystem.toml"];
        all.extend(args);
        assert_eq!(Runtime::begin(&world, &all).code(), 0, "{}", world.text("err"));
        assert_eq!(lines(world.text("out"), text.contains("two")), expected);
        let app: Vec<String> = lines(world.text("err"), false)
            .into_iter()
            .filter(|line| !line.starts_with("clmgr: "))
            .collect();
        assert_eq!(app, [err]);
    }
    let world = World::new();
    world.file("ecosystem.toml", one);
    let runtime = Runtime::begin(&world, &["ecosystem.toml", "--output", "json"]);
    assert_eq!(runtime.code(), 0);
    let values: Vec<Value> = world
        .text("out")
        .lines()
        .chain(world.text("err").lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&values[0]["app"], &values[0]["message"]),
        (&"one".into(), &"out".into())
    );
    assert!(
        values
            .iter()
            .any(|value| value["stream"] == "err" && value["message"] == "err")
    );
    assert!(
        values
            .iter()
            .any(|value| value["stream"] == "clmgr" && value["kind"] == "completed")
    );
}

#[test]
fn a_named_file_keeps_its_output_and_logs_are_there_for_a_second_shell() {
    let world = World::new();
    let text =
        format!("[[apps]]\nname = \"quiet\"\nout_file = \"quiet.log\"\n{COUNT}\n[[apps]]\nname = \"loud\"\n{COUNT}\n");
    world.file("ecosystem.toml", &text);
    let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
    runtime.until("the loud one speaks", |runtime| runtime.out().contains("loud:0 | 5\n"));
    world.until("the quiet one writes", || world.text("quiet.log").contains("5\n"));
    assert!(!runtime.out().contains("quiet"));
    world.until("logs", || {
        world.run(&["logs", "loud", "--lines", "50"]).ok().out.contains('5')
    });
    world.run(&["scale", "loud", "2"]).ok();
    runtime.until("a second one", |runtime| runtime.out().contains("loud:1 | 1\n"));
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 0);
}

#[test]
fn hang_up_does_what_changed_in_the_file_and_nothing_if_that_is_wrong() {
    let world = World::new();
    let app = |name: &str, word: &str| {
        format!(
            "[[apps]]\nname = \"{name}\"\ncmd = [\"sh\", \"-c\", \"echo {word}; exec sleep 1000\"]\nrollout = {{ min_healthy = 0 }}\n"
        )
    };
    world.file("ecosystem.toml", &(app("a", "first") + &app("b", "same")));
    let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
    runtime.until("both speak", |runtime| {
        runtime.out().contains("first") && runtime.out().contains("same")
    });
    world.until("both are ready", || {
        health(&world).is_some_and(|(status, _)| status == 200)
    });
    let pids = (world.pids("a"), world.pids("b"));
    world.file("ecosystem.toml", "[[apps]]\nname = \"a\"\ncmd = 7\n");
    runtime.tell(Signal::HUP);
    runtime.until("it complains", |runtime| {
        runtime.err().contains("clmgr: nothing was changed")
    });
    assert!(runtime.err().contains("ecosystem.toml:3"), "{}", runtime.err());
    assert_eq!((world.pids("a"), world.pids("b")), pids);

    world.file("ecosystem.toml", &(app("a", "second") + &app("c", "new")));
    runtime.tell(Signal::HUP);
    runtime.until("the new words", |runtime| {
        runtime.out().contains("a:0 | second") && runtime.out().contains("c:0 | new")
    });
    runtime.until("what is not in the file", |runtime| {
        runtime.err().contains("clmgr: b is not in the file")
    });
    assert_eq!(world.pids("b"), pids.1);
    world.until("the old one is gone", || world.pids("a") != pids.0);
    runtime.tell(Signal::QUIT);
    assert_eq!(runtime.code(), 0);
}

#[test]
fn a_reader_that_goes_away_harms_nobody() {
    let world = World::new();
    world.file("ecosystem.toml", &format!("[[apps]]\nname = \"app\"\n{COUNT}\n"));
    let mut command = world.command(&["runtime", "ecosystem.toml"]);
    let err = File::create(world.path().join("err")).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(err).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let mut some = [0; 4];
    pipe.read_exact(&mut some).unwrap();
    assert_eq!(&some, b"1\n2\n");
    drop(pipe);
    let runtime = Runtime { world: &world, child };
    runtime.until("it is told", |runtime| runtime.err().contains("Broken pipe"));
    let pids = world.pids("app");
    let log = || world.text("home/logs/app-0-out.log").lines().count();
    let before = log();
    world.until("the file goes on", || log() > before + 3);
    assert_eq!(world.pids("app"), pids);
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 0);
}

#[test]
fn a_reader_that_stalls_loses_nothing() {
    let world = World::new();
    let text = "[[apps]]\nname = \"app\"\ncmd = [\"sh\", \"-c\", \"seq 400000; echo end >&2; exec sleep 1000\"]\n";
    let other = "[[apps]]\nname = \"other\"\ncmd = [\"sh\", \"-c\", \"echo other; exec sleep 1000\"]\n";
    world.file("ecosystem.toml", &format!("{text}{other}"));
    let mut command = world.command(&["runtime", "ecosystem.toml", "--output", "raw"]);
    let err = File::create(world.path().join("err")).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(err).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let runtime = Runtime { world: &world, child };
    // Nobody reads, and everything else works.
    runtime.until("both run", |runtime| {
        runtime.err().contains("app:0: online") && runtime.err().contains("other:0: online")
    });
    world.run(&["restart", "other"]).ok();
    assert!(!runtime.err().contains("\nend"));
    let mut numbers = 0;
    let mut others = 0;
    for line in std::io::BufRead::lines(std::io::BufReader::new(&mut pipe)) {
        match line.unwrap().as_str() {
            "other" => others += 1,
            number => {
                assert_eq!(number, (numbers + 1).to_string(), "lines were lost or mixed");
                numbers += 1;
            }
        }
        if (numbers, others) == (400_000, 2) {
            break;
        }
    }
    runtime.until("it went on", |runtime| runtime.err().contains("end\n"));
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 0);
}

/// Crashes at once, and its circuit opens soon.
const BROKEN: &str = "[[apps]]\nname = \"broken\"\ncmd = [\"sh\", \"-c\", \"echo no luck >&2; exit 4\"]\nmax_restarts = 2\nbackoff = { first = \"10ms\" }\n";

#[test]
fn an_open_circuit_ends_it_only_if_asked() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        &format!("{BROKEN}[[apps]]\nname = \"app\"\n{COUNT}\n"),
    );
    let runtime = Runtime::begin(&world, &["ecosystem.toml", "--exit-on-error"]);
    assert_eq!(runtime.code(), 1);
    let err = world.text("err");
    for text in [
        "clmgr: broken: circuit_open: ",
        "stderr: no luck",
        "the circuit of broken is open",
        "clmgr: app:0: stopped",
    ] {
        assert!(err.contains(text), "no {text} in {err}");
    }

    let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
    runtime.until("its circuit opens", |runtime| runtime.err().contains("circuit_open"));
    let lines = runtime.out().lines().count();
    runtime.until("the other goes on", |runtime| runtime.out().lines().count() > lines + 3);
    let (status, body) = health(&world).unwrap();
    assert_eq!((status, &body["not_ready"][0]["app"]), (503, &"broken".into()));
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 0);
}

#[test]
fn health_is_served_over_tcp_and_nothing_else() {
    let world = World::new();
    let text = "[[apps]]\nname = \"slow\"\ncmd = [\"sh\", \"-c\", \"until [ -e go ]; do sleep 0.02; done; echo >&3; exec sleep 1000\"]\nready = \"fd:3\"\n";
    world.file("ecosystem.toml", text);
    let address = format!("127.0.0.1:{}", crate::harness::free_port());
    let runtime = Runtime::begin(&world, &["ecosystem.toml", "--health", &address]);
    let ask = |request: &str| TcpStream::connect(&address).ok().map(|stream| get(stream, request));
    let mut last = None;
    runtime.until("it answers", |_| {
        last = ask("GET /health");
        last.as_ref().is_some_and(|(_, body)| body.contains("\"slow\""))
    });
    let (status, body) = last.unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["starting"]), (503, &true.into()));
    assert_eq!(body["not_ready"][0]["state"], "starting");
    world.file("go", "");
    runtime.until("it is ready", |_| {
        ask("GET /health").is_some_and(|(status, _)| status == 200)
    });
    assert_eq!(health(&world).unwrap().0, 200);
    assert_eq!(ask("GET /v1/status").unwrap().0, 404);
    assert_eq!(ask("POST /health").unwrap().0, 405);
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 0);
}

#[test]
fn a_mistake_ends_it_before_anything_is_touched() {
    let world = World::new();
    world.file("ecosystem.toml", "[[apps]]\nname = \"a\"\ncmd = 7\n");
    world.run(&["runtime", "ecosystem.toml"]).refused(2, "ecosystem.toml:3");
    world.run(&["runtime", "-"]).refused(2, "standard input");
    world.run(&["runtime", "all"]).refused(3, "no app");
    world
        .run(&["runtime", "no-such-program-here"])
        .refused(2, "no-such-program-here");
    assert!(!world.home().join("clmgr.db").exists());
    world.file(
        "needy.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"true\"\nrequire = { env = [\"NOT_SET\"] }\n",
    );
    world.run(&["runtime", "needy.toml"]).refused(1, "NOT_SET");
}

#[test]
fn the_file_replaces_what_was_saved() {
    let world = World::new();
    world.file("before.toml", "[[apps]]\nname = \"before\"\ncmd = \"sleep 1000\"\n");
    world.run(&["start", "before.toml"]).ok();
    world.run(&["runtime", "before.toml"]).refused(1, "already");
    world.run(&["kill"]).ok();
    world.file("after.toml", "[[apps]]\nname = \"after\"\ncmd = \"sleep 1000\"\n");
    let runtime = Runtime::begin(&world, &["after.toml"]);
    runtime.until("it runs", |runtime| runtime.err().contains("after:0: online"));
    assert!(world.states("before").is_empty());
    assert_eq!(world.count_events("started", "before"), 1);
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 0);
}

#[test]
fn the_third_signal_kills_everything() {
    let world = World::new();
    let text = "[[apps]]\nname = \"deaf\"\ncmd = [\"sh\", \"-c\", \"trap '' TERM; echo deaf; while :; do sleep 1; done\"]\nkill_timeout = \"1h\"\n";
    world.file("ecosystem.toml", text);
    let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
    runtime.until("it speaks", |runtime| runtime.out() == "deaf\n");
    runtime.tell(Signal::TERM);
    runtime.until("it stops", |runtime| {
        runtime.err().contains("clmgr: stopping everything")
    });
    runtime.tell(Signal::INT);
    runtime.tell(Signal::QUIT);
    assert_eq!(runtime.code(), 137);
    world.until("nobody is left", || world.processes().is_empty());
}

#[test]
fn whoever_had_to_be_killed_shows_in_the_exit_code() {
    let world = World::new();
    let text = "[[apps]]\nname = \"deaf\"\ncmd = [\"sh\", \"-c\", \"trap '' TERM; echo deaf; while :; do sleep 1; done\"]\nkill_timeout = \"100ms\"\n";
    world.file("ecosystem.toml", text);
    let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
    runtime.until("it speaks", |runtime| runtime.out() == "deaf\n");
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 1);
    assert!(
        world.text("err").contains("clmgr: deaf:0: killed"),
        "{}",
        world.text("err")
    );
}

#[test]
fn takes_a_program_and_its_options() {
    let world = World::new();
    let args = [
        "--name",
        "two",
        "-i",
        "2",
        "--output",
        "prefix",
        "sh",
        "--",
        "-c",
        "echo $0-$NODE_APP_INSTANCE; env; exec sleep 1000",
    ];
    let runtime = Runtime::begin(&world, &args);
    runtime.until("both speak", |runtime| {
        runtime.out().contains("two:0 | sh-0") && runtime.out().contains("two:1 | sh-1")
    });
    runtime.until("the rest", |runtime| runtime.out().matches("CLMGR_HOME=").count() == 2);
    assert!(!runtime.out().contains("CLMGR_RUNTIME"));
    runtime.tell(Signal::HUP);
    runtime.until("nothing to do", |runtime| {
        runtime.err().to_lowercase().contains("unchanged")
    });
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 0);
}

#[test]
fn a_dead_helper_or_daemon_is_no_disaster_during_the_start() {
    for role in ["runtime", "daemon"] {
        dies_during_the_start(role);
    }
}

fn dies_during_the_start(role: &str) {
    let world = World::new();
    let text = "[[apps]]\nname = \"slow\"\ncmd = [\"sh\", \"-c\", \"echo $$; until [ -e go ]; do sleep 0.02; done; echo >&3; exec sleep 1000\"]\nready = \"fd:3\"\n";
    world.file("ecosystem.toml", text);
    let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
    runtime.until("it speaks", |runtime| runtime.out().contains('\n'));
    let first = runtime.process(role).unwrap();
    runtime.signal(first, Signal::KILL);
    runtime.until("another one", |_| runtime.process(role).is_some_and(|pid| pid != first));
    world.file("go", "");
    world.until("it is ready", || {
        health(&world).is_some_and(|(status, _)| status == 200)
    });
    assert_eq!(runtime.out().lines().count(), 1, "nothing was started twice");
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 0);
}

#[test]
fn a_stop_during_the_start_is_graceful() {
    let world = World::new();
    let text = "[[apps]]\nname = \"slow\"\ncmd = [\"sh\", \"-c\", \"echo begun; exec sleep 1000\"]\nready = \"fd:3\"\n";
    world.file("ecosystem.toml", text);
    let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
    runtime.until("it begins", |runtime| runtime.out() == "begun\n");
    runtime.tell(Signal::TERM);
    assert_eq!(runtime.code(), 0, "{}", world.text("err"));
}

#[test]
fn outside_of_a_namespace_the_apps_survive_the_runtime_itself() {
    let world = World::new();
    world.file("ecosystem.toml", &format!("[[apps]]\nname = \"app\"\n{COUNT}\n"));
    let runtime = Runtime::begin(&world, &["ecosystem.toml"]);
    runtime.until("it speaks", |runtime| runtime.out().contains("2\n"));
    world.until("it is ready", || {
        health(&world).is_some_and(|(status, _)| status == 200)
    });
    let pids = world.pids("app");
    runtime.tell(Signal::KILL);
    runtime.until("it is told", |runtime| runtime.err().contains("keeper_replaced"));
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("another daemon", || world.manager().0 != daemon);
    let lines = runtime.out().lines().count();
    runtime.until("output goes on", |runtime| runtime.out().lines().count() > lines + 3);
    assert_eq!(world.pids("app"), pids);
    assert_eq!(health(&world).unwrap().0, 200);
    world.run(&["kill"]).ok();
    assert_eq!(runtime.code(), -1);
}
