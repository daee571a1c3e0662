//! `sd_notify(3)` from real programs: every message, whoever dies in between.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::harness::{World, eventually, finish, lives};

/// What the programs here have in common.
const CLIENT: &str = r#"
import array, os, select, socket, struct, sys, time
def address():
    name = os.environ["NOTIFY_SOCKET"]
    return "\0" + name[1:] if name.startswith("@") else name
def say(text, fds=()):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(address())
    s.sendmsg([text if isinstance(text, bytes) else text.encode()],
              [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    s.close()
def barrier():
    r, w = os.pipe()
    say("BARRIER=1", [w])
    os.close(w)
    while not select.select([r], [], [], 60)[0]: sys.exit("no answer to a barrier")
    os.close(r)
def note(name, text):
    with open(name + ".new", "w") as f: f.write(str(text))
    os.rename(name + ".new", name)
def wait(name):
    while not os.path.exists(name): time.sleep(0.01)
def stored():
    if os.environ.get("LISTEN_PID") != str(os.getpid()): return {}
    names = os.environ["LISTEN_FDNAMES"].split(":")
    assert len(names) == int(os.environ["LISTEN_FDS"])
    return {name: 3 + at for at, name in enumerate(names)}
"#;

/// A world with one app, `a`, of this program.
fn world(app: &str, more: &str) -> World {
    let world = World::new();
    world.file("app.py", &format!("{CLIENT}{app}"));
    world.file(
        "ecosystem.toml",
        &format!(
            "[[apps]]\nname = \"a\"\nscript = \"app.py\"\ninterpreter = \"/usr/bin/python3\"\nready = \"notify\"\n\
             kill_timeout = \"5s\"\nmin_uptime = \"1ms\"\nbackoff = {{ first = \"10ms\" }}\n{more}\n"
        ),
    );
    world
}

fn instance(world: &World) -> Value {
    world.instances("a")[0].clone()
}

fn says(world: &World) -> String {
    instance(world)["status_text"].as_str().unwrap_or_default().to_owned()
}

fn notices(world: &World) -> Vec<String> {
    let events = world.events();
    let noted = events.iter().filter(|event| event["kind"] == "notified");
    noted
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect()
}

/// Kills keeper and daemon so that neither can replace the other.
fn kill_both(world: &World, (daemon, keeper): (i64, i64)) {
    for signal in [Signal::STOP, Signal::KILL] {
        for pid in [keeper, daemon] {
            let number = i32::try_from(pid).unwrap();
            let fd = pidfd_open(Pid::from_raw(number).unwrap(), PidfdFlags::empty()).unwrap();
            assert!(world.processes().contains(&number));
            pidfd_send_signal(fd, signal).unwrap();
        }
    }
    world.until("the end of both", || !lives(keeper) && !lives(daemon));
}

/// Somebody is there again, and everything was taken over.
fn settled(world: &World, before: (i64, i64), daemon: bool, keeper: bool) {
    world.until("another manager", || {
        let said = world.run(&["ping", "--json"]);
        let Ok(ping) = serde_json::from_str::<Value>(&said.out) else {
            return false;
        };
        (!daemon || ping["pid"] != before.0) && (!keeper || ping["keeper_pid"] != before.1)
    });
}

/// What may happen to the manager.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Daemon,
    Keeper,
    Both,
    Upgrade,
}

const BLOWS: [Blow; 4] = [Blow::Daemon, Blow::Keeper, Blow::Both, Blow::Upgrade];

fn strike(world: &World, blow: Blow) {
    let before = world.manager();
    match blow {
        Blow::Daemon => assert!(world.kill9(before.0)),
        Blow::Keeper => assert!(world.kill9(before.1)),
        Blow::Both => kill_both(world, before),
        Blow::Upgrade => {
            world.run(&["upgrade", "--to", env!("CARGO_BIN_EXE_clmgr")]).ok();
        }
    }
    let daemon = matches!(blow, Blow::Daemon | Blow::Both | Blow::Upgrade);
    let keeper = matches!(blow, Blow::Keeper | Blow::Both);
    settled(world, before, daemon, keeper);
}

#[test]
fn a_status_is_shown_and_survives_the_daemon() {
    let world = world(
        r#"
say("STATUS=starting up")
barrier()
note("started", 1)
wait("go")
say("READY=1\nSTATUS=3 clients\t\x1b[31mand more")
wait("reload")
say("RELOADING=1\nMONOTONIC_USEC=%d" % (time.monotonic_ns() // 1000))
say("STATUS=" + "x" * 3000 + "\nX_MINE=1\nUNKNOWN=2\nREADY=1")
wait("stop")
say("STOPPING=1\nSTATUS=")
say("STOPPING=1")
barrier()
note("stopping", 1)
wait("end")
say("STATUS=cannot go on\nERRNO=28")
barrier()
sys.exit(3)
"#,
        "restart = \"never\"",
    );
    let start = world.begin(&["start"]);
    world.until("the app to begin", || !world.text("started").is_empty());
    assert_eq!(says(&world), "starting up");
    assert_eq!(world.states("a"), ["starting"]);
    world.file("go", "");
    finish(start, &["start"]).ok();
    world.until("its status", || says(&world) == "3 clients  [31mand more");
    let described = world.run(&["describe", "a"]).ok().out;
    assert!(described.contains("3 clients  [31mand more"), "{described}");
    let daemon = world.manager().0;
    assert!(world.kill9(daemon));
    settled(&world, (daemon, 0), true, false);
    assert_eq!(says(&world), "3 clients  [31mand more");
    world.file("reload", "");
    world.until("its long status", || says(&world) == "x".repeat(1024));
    world.until("it is online again", || world.states("a") == ["online"]);
    world.file("stop", "");
    world.until("it says that it stops", || !world.text("stopping").is_empty());
    assert_eq!(says(&world), "says that it stops");
    let told = notices(&world);
    assert_eq!(told, ["says that it stops"], "{told:?}");
    world.file("end", "");
    world.until("its end", || instance(&world)["pid"].is_null());
    let last = says(&world);
    assert!(
        last.starts_with("cannot go on; ") && last.contains("error 28"),
        "{last}"
    );
}

#[test]
fn a_barrier_is_answered_when_everything_before_it_is_handled() {
    let world = world(
        r#"
for at in range(300): say("STATUS=%d" % at)
barrier()
note("handled", 1)
say("READY=1")
time.sleep(1000)
"#,
        "",
    );
    let start = world.begin(&["start"]);
    world.until("the barrier", || !world.text("handled").is_empty());
    assert_eq!(says(&world), "299");
    finish(start, &["start"]).ok();
}

#[test]
fn a_program_of_a_shell_script_speaks_for_its_app() {
    let world = World::new();
    let tool = std::path::Path::new("/usr/bin/systemd-notify").exists();
    let say = if tool {
        "systemd-notify --status='by a tool' --ready".to_owned()
    } else {
        world.file(
            "say.py",
            &format!("{CLIENT}say('STATUS=by a tool\\nREADY=1')\nbarrier()\n"),
        );
        "/usr/bin/python3 say.py".to_owned()
    };
    world.file("app.sh", &format!("#!/bin/sh\n{say}\necho $? > code\nsleep 1000\n"));
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\nscript = \"app.sh\"\nready = \"notify\"\n",
    );
    world.run(&["start"]).ok();
    assert_eq!(says(&world), "by a tool");
    world.until("the tool to end", || world.text("code") == "0\n");
}

#[test]
fn nobody_speaks_for_another_app() {
    let world = world(
        "note('up', os.environ['NOTIFY_SOCKET'])\nwait('go')\nsay('READY=1')\ntime.sleep(1000)\n",
        "",
    );
    world.file(
        "liar.py",
        &format!("{CLIENT}wait('up')\nos.environ['NOTIFY_SOCKET'] = open('up').read()\nsay('READY=1\\nSTATUS=a lie')\nbarrier()\nnote('lied', 1)\ntime.sleep(1000)\n"),
    );
    // Another app, and a process that is nobody's; the latter even carries the mark of a run.
    world.file(
        "liar.toml",
        "[[apps]]\nname = \"liar\"\nscript = \"liar.py\"\ninterpreter = \"/usr/bin/python3\"\n",
    );
    let start = world.begin(&["start"]);
    world.until("the app to begin", || !world.text("up").is_empty());
    world.run(&["start", "liar.toml"]).ok();
    world.until("the other app's lie", || !world.text("lied").is_empty());
    std::fs::remove_file(world.path().join("lied")).unwrap();
    let pid = world.pids("a")[0];
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let mark = environ
        .split(|byte| *byte == 0)
        .find(|entry| entry.starts_with(b"CLMGR_RUN="))
        .unwrap();
    let mark = String::from_utf8_lossy(mark).into_owned();
    let mut outsider = std::process::Command::new("/usr/bin/python3")
        .arg(world.path().join("liar.py"))
        .current_dir(world.path())
        .env("CLMGR_RUN", mark.strip_prefix("CLMGR_RUN=").unwrap())
        .spawn()
        .unwrap();
    let lied = eventually(&mut || !world.text("lied").is_empty());
    outsider.kill().unwrap();
    outsider.wait().unwrap();
    assert!(lied, "even a stranger's barrier is answered");
    assert_eq!(
        (world.states("a"), says(&world)),
        (vec!["starting".to_owned()], String::new())
    );
    let liar = &world.instances("liar")[0];
    assert_eq!(liar["status_text"], "a lie", "it speaks for itself");
    world.file("go", "");
    finish(start, &["start"]).ok();
}

#[test]
fn rubbish_and_floods_do_no_harm() {
    let world = world(
        r#"
junk = [os.urandom(200), b"", b"\xff=\xfe\nREADY", b"READY=1" * 2000, b"=" * 4000, b"FDSTORE=1", b"\0" * 10]
for at in range(400):
    say(junk[at % len(junk)])
null = os.open("/dev/null", os.O_RDWR)
for at in range(40): say("STATUS=many", [null] * 250)
for at in range(40): say("FDSTORE=1\nFDNAME=many", [null] * 250)
r, w = os.pipe()
say("WATCHDOG=2", [w])
say("STATUS=" + "y" * 5000, [w])
os.close(w)
assert os.read(r, 1) == b"", "what came along is closed"
say("READY=1\nSTATUS=done")
time.sleep(1000)
"#,
        "fd_store = 3",
    );
    world.run(&["start"]).ok();
    assert_eq!(
        (world.states("a"), says(&world)),
        (vec!["online".to_owned()], "done".to_owned())
    );
    // The same file a thousand times is one.
    assert_eq!(instance(&world)["stored_descriptors"], 1);
    let daemon = world.manager().0;
    let open = std::fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count();
    assert!(open < 100, "{open} descriptors are open");
    assert_eq!(notices(&world).len(), 1, "one complaint is enough");
}

/// Stores one end of a socket pair that says something to whoever has the other end, and a memory file.
const STORER: &str = r#"
have = stored()
note("names", " ".join(sorted(have)))
if "memory" in have:
    note("content", os.pread(have["memory"], 100, 0).decode())
    # As a program does: what it was given it keeps open.
else:
    memory = os.memfd_create("state")
    os.write(memory, b"begun by %d" % os.getpid())
    say("FDSTORE=1\nFDNAME=memory\nFDPOLL=0", [memory])
    left, right = socket.socketpair()
    say("FDSTORE=1\nFDNAME=pair", [left.fileno()])
    say("FDSTORE=1\nFDNAME=pair", [left.fileno()])
    say("FDSTORE=1\nFDNAME=fourth", [os.open("/dev/null", os.O_RDONLY)])
    say("FDSTORE=1\nFDNAME=toomuch", [os.open("/dev/zero", os.O_RDONLY)])
    left.detach()
    # Somebody else has the other end, whom no manager knows.
    import subprocess
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    home = {"CLMGR_HOME": os.environ["CLMGR_HOME"]}
    note("holder", subprocess.Popen(["/bin/sleep", "1000"], stdin=right, env=home, **quiet).pid)
    right.close()
say("READY=1")
barrier()
note("ready", os.getpid())
time.sleep(1000)
"#;

fn ready_again(world: &World, before: i64) -> i64 {
    world.until("the next process", || {
        let pid = world.pids("a")[0];
        pid != 0 && pid != before && world.text("ready") == pid.to_string()
    });
    world.pids("a")[0]
}

#[test]
fn stored_descriptors_outlive_everybody() {
    let world = world(STORER, "fd_store = 3\ntreekill = false");
    world.run(&["start"]).ok();
    world.until("the first process", || !world.text("ready").is_empty());
    let first = world.pids("a")[0];
    let content = format!("begun by {first}");
    assert_eq!(world.text("names"), "");
    assert_eq!(instance(&world)["stored_descriptors"], 3);
    let told = notices(&world);
    assert!(
        told.len() == 1 && told[0].contains("`toomuch`") && told[0].contains("`fd_store` allows 3"),
        "{told:?}"
    );
    assert!(world.kill9(first));
    let mut pid = ready_again(&world, first);
    assert_eq!(
        (world.text("names"), world.text("content")),
        ("fourth memory pair".to_owned(), content.clone())
    );
    for blow in BLOWS {
        strike(&world, blow);
        assert_eq!(
            world.pids("a")[0],
            pid,
            "{blow:?}: the app does not notice\n{}",
            world.report()
        );
        assert_eq!(
            instance(&world)["stored_descriptors"],
            3,
            "{blow:?}\n{}",
            world.report()
        );
        assert!(world.kill9(pid));
        pid = ready_again(&world, pid);
        assert_eq!(world.text("names"), "fourth memory pair", "{blow:?}");
        assert_eq!(world.text("content"), content, "{blow:?}");
    }
    world.run(&["restart", "a"]).ok();
    assert_eq!(world.text("names"), "fourth memory pair", "kept over a restart");
    // Its other end goes: nobody needs it any more.
    let holder: i64 = world.text("holder").parse().unwrap();
    assert!(world.kill9(holder));
    world.until("its end", || !lives(holder));
    world.run(&["restart", "a"]).ok();
    assert_eq!(world.text("names"), "fourth memory");
    world.run(&["stop", "a"]).ok();
    world.run(&["start", "a"]).ok();
    assert_eq!(world.text("names"), "", "dropped when it was stopped");
    assert!(world.kill9(world.text("holder").parse().unwrap()));
}

#[test]
fn stored_descriptors_come_after_the_sockets_and_can_be_removed() {
    let world = world(
        r#"
have = stored()
note("names", os.environ.get("LISTEN_FDNAMES"))
if "b" in have:
    assert os.read(have["b"], 3) == b"one", "not the file that was stored"
    say("FDSTOREREMOVE=1\nFDNAME=b")
    say("READY=1")
    time.sleep(1000)
for name in ["b", "c"]:
    r, w = os.pipe()
    os.write(w, b"one two three")
    say("FDSTORE=1\nFDPOLL=0\nFDNAME=" + name, [r])
say("READY=1")
time.sleep(1000)
"#,
        "fd_store = 10\nlisten = [{ tcp = \"127.0.0.1:0\", name = \"web\" }]\nready = \"notify\"",
    );
    world.file(
        "ecosystem.toml",
        &std::fs::read_to_string(world.path().join("ecosystem.toml"))
            .unwrap()
            .replacen("ready = \"notify\"\n", "", 1),
    );
    world.run(&["start"]).ok();
    assert_eq!(world.text("names"), "web");
    world.run(&["restart", "a"]).ok();
    assert_eq!(world.text("names"), "web:b:c");
    let env = world.run(&["env", "a", "--reveal"]).ok().out;
    assert!(env.contains("LISTEN_FDNAMES=web:c"), "{env}");
    world.run(&["restart", "a"]).ok();
    assert_eq!(world.text("names"), "web:c");
}

/// Makes itself a daemon: the grandchild in a session of its own is the main process, the first one ends.
const DAEMON: &str = r#"
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() != 0: os._exit(0)
    os.close(r)
    say("MAINPID=%d\nSTATUS=main" % os.getpid())
    say("READY=1")
    barrier()
    note("main", os.getpid())
    os.write(w, b".")
    os.close(w)
    wait("end%d" % os.getpid())
    os._exit(7)
os.close(w)
os.read(r, 1)
os._exit(0)
"#;

fn main_pid(world: &World, before: i64) -> i64 {
    world.until("its main process", || {
        let pid = world.pids("a")[0];
        pid != 0 && pid != before && world.text("main") == pid.to_string()
    });
    world.pids("a")[0]
}

#[test]
fn a_program_that_makes_itself_a_daemon_is_followed() {
    let world = world(DAEMON, "");
    world.run(&["start"]).ok();
    let mut main = main_pid(&world, 0);
    for blow in BLOWS {
        world.until("the first process to be gone", || {
            std::fs::read_to_string(format!("/proc/{main}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
                && world.states("a") == ["online"]
        });
        strike(&world, blow);
        assert_eq!(world.pids("a")[0], main, "{blow:?}\n{}", world.report());
        let exits = world.count_events("exited", "a");
        world.file(&format!("end{main}"), "");
        let next = main_pid(&world, main);
        let events = world.events();
        let last = events.iter().rfind(|event| event["kind"] == "exited").unwrap();
        assert_eq!(
            world.count_events("exited", "a"),
            exits + 1,
            "one end is one end: {blow:?}\n{}",
            world.report()
        );
        assert_eq!(
            (last["pid"].as_i64(), &last["exit"]["status"]["code"]),
            (Some(main), &Value::from(7)),
            "{last}"
        );
        if matches!(blow, Blow::Daemon | Blow::Upgrade) {
            // The keeper has collected it, as it does with its own children.
            assert!(last["exit"]["max_rss"].as_u64() > Some(0), "{last}");
        }
        main = next;
    }
    assert!(says(&world).contains("main"));
    world.run(&["stop", "a"]).ok();
    assert!(!lives(main));
}

#[test]
fn the_end_of_the_first_process_is_heard_after_what_it_said() {
    // It says who the main process is and ends at once; the daemon cannot hear either before it goes on.
    let world = world(
        r#"
pid = os.fork()
if pid == 0:
    os.setsid()
    wait("go")
    say("STATUS=still here")
    time.sleep(1000)
say("READY=1")
barrier()
note("up", pid)
wait("now")
say("MAINPID=%d" % pid)
os._exit(0)
"#,
        "",
    );
    world.run(&["start"]).ok();
    world.until("it is up", || !world.text("up").is_empty());
    let child: i64 = world.text("up").parse().unwrap();
    let (daemon, _) = world.manager();
    let leader = world.pids("a")[0];
    let number = i32::try_from(daemon).unwrap();
    let fd = pidfd_open(Pid::from_raw(number).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&fd, Signal::STOP).unwrap();
    world.file("now", "");
    world.until("the first process to end", || !lives(leader));
    // The next daemon finds its end in the keeper's table, and the message in the queue.
    pidfd_send_signal(&fd, Signal::KILL).unwrap();
    world.until("it is followed", || world.pids("a") == [child]);
    world.file("go", "");
    world.until("it speaks", || says(&world) == "still here");
    assert_eq!(world.count_events("exited", "a"), 0, "{}", world.report());
    assert!(lives(child));
}

#[test]
fn only_a_process_of_the_instance_can_become_its_main_process() {
    let world = world(
        "say('MAINPID=1')\nsay('MAINPID=%d' % os.getppid())\nsay('MAINPID=%d' % int(open('stranger').read()))\nsay('MAINPID=%d' % os.getpid())\nsay('READY=1')\ntime.sleep(1000)\n",
        "",
    );
    world.run(&["start", "sleep 1000", "--name", "other"]).ok();
    world.file("stranger", &world.pids("other")[0].to_string());
    world.run(&["start"]).ok();
    let told = notices(&world);
    assert!(told.len() == 1 && told[0].contains("does not belong"), "{told:?}");
    let environ = std::fs::read_to_string(format!("/proc/{}/cmdline", world.pids("a")[0])).unwrap();
    assert!(environ.contains("app.py"), "{environ}");
}
