//! Days on which things go wrong around clmgr: state of another version, leftovers of a crash, several commands at
//! once, callers that go away in the middle.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use crate::harness::{Said, World, finish, said};

/// An app that is ready when the file `go` is there.
const SLOW: &str = "#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.05; done\necho ready\nexec sleep 1000\n";
const SLOW_TOML: &str =
    "[[apps]]\nname = \"slow\"\ncmd = \"./slow\"\nready = { log = \"ready\" }\nlisten_timeout = \"5m\"\n";

/// Starts a command without waiting for it.
fn background(world: &World, args: &[&str]) -> Child {
    world
        .command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The same in a process group of its own, as a shell does.
fn in_foreground(world: &World, args: &[&str]) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command = world.command(args);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Ctrl-C: the whole group gets it, so whatever the command started in it would, too.
fn interrupt(child: &Child) {
    let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
}

fn signal(pid: i64, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// `clmgr` by `sh`, for redirections.
fn shell(world: &World, script: &str) -> Command {
    let plain = world.command(&[]);
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_clmgr")])
        .current_dir(world.path())
        .env_clear();
    command
        .envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .stdin(Stdio::null());
    command
}

#[test]
fn a_state_of_a_newer_version_is_left_alone() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "kept"]).ok();
    world.run(&["kill"]).ok();
    let db = world.home().join("clmgr.db");
    let version = |number: i64| {
        let file = rusqlite::Connection::open(&db).unwrap();
        let old: i64 = file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        file.pragma_update(None, "user_version", number).unwrap();
        old
    };
    let ours = version(999);
    let before = std::fs::read(&db).unwrap();
    for args in [
        &["start", "sleep 1000"][..],
        &["resurrect"],
        &["start", "kept"],
        &["stop", "kept", "--json"],
    ] {
        let said = world.run(args);
        assert_eq!(said.code, 5, "{args:?}: {}{}", said.out, said.err);
        let told = format!("{}{}", said.out, said.err);
        for word in ["schema 999", "clmgr.db", "CLMGR_HOME", "clmgr.log"] {
            assert!(told.contains(word), "{args:?}: no {word:?} in {told}");
        }
        world.until("nothing is left running", || world.processes().is_empty());
        assert_eq!(std::fs::read(&db).unwrap(), before, "{args:?}");
    }
    version(ours);
    world.run(&["resurrect"]).ok();
    world.until("the app is back", || world.states("kept") == ["online"]);
}

#[test]
fn a_state_file_of_another_program_is_left_alone() {
    let world = World::new();
    std::fs::create_dir(world.home()).unwrap();
    let db = world.home().join("clmgr.db");
    rusqlite::Connection::open(&db)
        .unwrap()
        .execute_batch("CREATE TABLE recipes (name TEXT); PRAGMA application_id = 7")
        .unwrap();
    let before = std::fs::read(&db).unwrap();
    world.run(&["start", "sleep 1000"]).refused(5, "not one of clmgr");
    assert_eq!(std::fs::read(&db).unwrap(), before);
    world.until("nothing is left running", || world.processes().is_empty());
}

#[test]
fn a_damaged_state_file_is_put_aside_and_that_is_told() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "lost"]).ok();
    world.run(&["kill"]).ok();
    let db = world.home().join("clmgr.db");
    std::fs::write(&db, vec![0x5a; 64 << 10]).unwrap();
    world.run(&["start", "sleep 1000", "--name", "new"]).ok();
    let aside = std::fs::read_dir(world.home())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    assert_eq!(aside.filter(|name| name.contains("damaged")).count(), 1);
    let told = world
        .events()
        .into_iter()
        .find(|event| event["kind"] == "state_lost")
        .unwrap();
    assert!(told["message"].as_str().unwrap().contains("damaged"), "{told}");
}

#[test]
fn a_socket_path_that_is_too_long_is_refused() {
    let world = World::new();
    let long = world.path().join("x".repeat(120));
    for args in [&["start", "sleep 1000"][..], &["status"], &["ping"]] {
        let mut command = world.command(args);
        command.env("CLMGR_HOME", &long);
        let said = said(command);
        assert_eq!(said.code, 2, "{args:?}: {}{}", said.out, said.err);
        for word in ["notify.sock", "107", "set CLMGR_HOME to a shorter folder"] {
            assert!(said.err.contains(word), "{}", said.err);
        }
    }
    assert!(!long.exists());
    // The longest that is possible works: notify.sock is the longest name.
    let room = 107 - "/notify.sock".len() - world.path().as_os_str().len() - 1;
    let longest = world.path().join("y".repeat(room));
    let with = |args: &[&str]| {
        let mut command = world.command(args);
        command.env("CLMGR_HOME", &longest);
        said(command)
    };
    with(&["start", "sleep 1000"]).ok();
    with(&["kill"]).ok();
}

#[test]
fn stale_sockets_and_locks_are_no_obstacle() {
    let world = World::new();
    std::fs::create_dir(world.home()).unwrap();
    drop(UnixListener::bind(world.home().join("clmgr.sock")).unwrap());
    drop(UnixListener::bind(world.home().join("notify.sock")).unwrap());
    // The number of a process that lives, but holds nothing.
    std::fs::write(world.home().join("clmgr.lock"), "1\n").unwrap();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let lock = std::fs::read_to_string(world.home().join("clmgr.lock")).unwrap();
    let socket = world.home().join("clmgr.sock");
    assert_eq!(lock, format!("{}\n{}\n", world.manager().1, socket.display()));
    world.run(&["kill"]).ok();
    std::fs::write(world.home().join("clmgr.lock"), [0xff; 4096]).unwrap();
    std::fs::write(world.home().join("clmgr.sock"), "no socket").unwrap();
    world.run(&["resurrect"]).ok();
    world.until("the app is back", || world.states("a") == ["online"]);
}

#[test]
fn whatever_keeps_the_keeper_from_starting_reaches_the_command() {
    for name in ["clmgr.lock", "clmgr.sock", "notify.sock", "clmgr.db"] {
        let world = World::new();
        std::fs::create_dir_all(world.home().join(name).join("x")).unwrap();
        let said = world.run(&["start", "sleep 1000"]);
        assert_eq!(said.code, 5, "{name}: {}{}", said.out, said.err);
        assert!(
            said.err.contains(world.home().join(name).to_str().unwrap()),
            "{name}: {}",
            said.err
        );
        assert!(said.err.to_lowercase().contains("directory"), "{name}: {}", said.err);
        world.until("nothing is left running", || world.processes().is_empty());
    }
}

#[test]
fn sockets_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.run(&["start", "sleep 1000"]).ok();
    let mode = |path: &str| std::fs::metadata(world.home().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("."), 0o700);
    assert_eq!(mode("logs"), 0o700);
    for file in ["clmgr.sock", "notify.sock", "clmgr.db", "clmgr.lock", "logs/clmgr.log"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn keeper_and_daemon_killed_at_once_leave_the_app_and_the_next_command_finds_it() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "2"]).ok();
    let pids = world.pids("a");
    let (daemon, keeper) = world.manager();
    signal(keeper, rustix::process::Signal::STOP);
    signal(daemon, rustix::process::Signal::KILL);
    signal(keeper, rustix::process::Signal::KILL);
    world.until("both are gone", || world.processes().len() == 2);
    assert_eq!(world.pids("a"), pids, "neither started again nor doubled");
    assert_eq!(world.states("a"), ["online", "online"]);
    assert_eq!(world.processes().len(), 4, "two apps, a keeper, a daemon");
}

#[test]
fn many_first_commands_at_once_start_one_keeper_and_each_app_once() {
    let world = World::new();
    world.file(
        "a.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\ninstances = 3\n",
    );
    let starts: Vec<Child> = (0..6).map(|_| background(&world, &["start", "a.toml"])).collect();
    let all: Vec<Said> = starts
        .into_iter()
        .map(|child| finish(child, &["start", "a.toml"]))
        .collect();
    for said in all {
        said.ok();
    }
    assert_eq!(world.states("a"), ["online"; 3]);
    // A keeper that was one too many may still be ending.
    world.until("three apps, a keeper, a daemon", || world.processes().len() == 5);
    assert_eq!(
        world.events().iter().filter(|event| event["kind"] == "started").count(),
        3
    );
    assert_eq!(world.status()["apps"].as_array().unwrap().len(), 1);
}

#[test]
fn scaling_during_a_reload_is_refused_or_done_and_never_mixed_up() {
    let world = World::new();
    world.file(
        "a.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\ninstances = 2\nrollout = { min_healthy = \"5s\" }\n",
    );
    world.run(&["start", "a.toml"]).ok();
    let before = world.pids("a");
    let reload = background(&world, &["reload", "a"]);
    world.until("the reload is under way", || {
        world.events().iter().any(|event| event["kind"] == "reload_started")
    });
    for args in [&["scale", "a", "4"][..], &["restart", "a"], &["stop", "a:0"]] {
        let said = world.run(args).refused(4, "a is being reloaded");
        assert!(said.err.contains("wait for it"), "{}", said.err);
    }
    finish(reload, &["reload", "a"]).ok();
    let after = world.pids("a");
    assert_eq!(world.states("a"), ["online", "online"]);
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    world.run(&["scale", "a", "4"]).ok();
    assert_eq!(world.states("a"), ["online"; 4]);
    assert_eq!(world.processes().len(), 6);
}

#[test]
fn an_app_in_backoff_is_deleted_at_once_and_for_good() {
    let world = World::new();
    let text = "[[apps]]\nname = \"a\"\ncmd = \"sh -c 'exit 3'\"\nbackoff = { first = \"1s\", max = \"1s\", jitter = 0 }\nmax_restarts = 100\n";
    world.file("a.toml", text);
    world.run(&["start", "a.toml"]);
    world.until("it waits", || world.states("a") == ["backoff"]);
    world.run(&["delete", "a"]).ok();
    assert_eq!(world.status()["apps"], serde_json::json!([]));
    let count = |kind: &str| {
        world
            .events()
            .iter()
            .filter(|event| event["kind"] == kind && event["app"] == "a")
            .count()
    };
    let started = count("started");
    assert_eq!(count("app_deleted"), 1);
    // Another of the same name lives its first second without the old one's timer.
    world.run(&["start", "sleep 1000", "--name", "b"]).ok();
    world.until("the old timer would have come", || {
        world.instances("b")[0]["uptime_ms"].as_u64().unwrap() > 1500
    });
    assert_eq!(count("started"), started);
    world.run(&["kill"]).ok();
    world.run(&["resurrect"]).ok();
    assert_eq!(world.instances("a").len(), 0);
}

#[test]
fn kill_ends_a_start_that_is_under_way_and_what_was_wanted_stays_wanted() {
    let world = World::new();
    world.file("slow", SLOW);
    world.file("a.toml", SLOW_TOML);
    let start = background(&world, &["start", "a.toml"]);
    world.until("it is starting", || world.states("slow") == ["starting"]);
    world.run(&["kill"]).ok();
    let said = finish(start, &["start"]);
    assert_ne!(said.code, 0);
    assert!(said.err.contains("error: "), "{}", said.err);
    world.until("nothing is left running", || world.processes().is_empty());
    world.file("go", "");
    world.run(&["resurrect"]).ok();
    world.until("it is back", || world.states("slow") == ["online"]);
}

#[test]
fn kill_does_not_return_before_everything_is_gone() {
    let world = World::new();
    world.file("alert", "#!/bin/sh\necho began > alert.out\nexec sleep 1000\n");
    world.file(
        "a.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\non_event = { online = \"./alert\" }\n",
    );
    world.run(&["start", "a.toml"]).ok();
    // Not even a command of an alert that hangs keeps clmgr.
    world.until("the alert runs", || world.path().join("alert.out").exists());
    world.run(&["kill"]).ok();
    assert!(!world.home().join("clmgr.db-wal").exists(), "the state is closed");
    assert!(!world.home().join("clmgr.sock").exists());
    // The kernel may still be ending the alert command.
    world.until("nothing is left running", || world.processes().is_empty());
    let said = world.run(&["kill"]).ok();
    assert!(said.out.contains("does not run"), "{}", said.out);
}

#[test]
fn an_interrupted_command_ends_and_its_work_goes_on() {
    let world = World::new();
    world.file("slow", SLOW);
    world.file("a.toml", SLOW_TOML);
    let start = in_foreground(&world, &["start", "a.toml"]);
    world.until("it is starting", || {
        world.states("slow") == ["starting"] && world.pids("slow") != [0]
    });
    interrupt(&start);
    let said = finish(start, &["start"]).refused(130, "interrupted");
    assert!(
        said.err.contains("still going on") && said.err.contains("clmgr status"),
        "{}",
        said.err
    );
    let pids = world.pids("slow");
    assert_eq!(world.states("slow"), ["starting"]);
    world.file("go", "");
    world.until("it is up", || world.states("slow") == ["online"]);
    assert_eq!(world.pids("slow"), pids);
    // A reload goes on the same way, and the first one's answer is not needed.
    let reload = in_foreground(&world, &["reload", "slow"]);
    world.until("the reload is under way", || {
        world.events().iter().any(|event| event["kind"] == "reload_started")
    });
    interrupt(&reload);
    finish(reload, &["reload"]).refused(130, "interrupted");
    world.until("the reload is done", || {
        world.events().iter().any(|event| event["kind"] == "reload_done")
    });
    assert_ne!(world.pids("slow"), pids);
    assert_eq!(world.states("slow"), ["online"]);
    assert_eq!(world.processes().len(), 3);
}

#[test]
fn an_interrupted_kill_still_ends_everything() {
    let world = World::new();
    world.file(
        "stubborn",
        "#!/bin/sh\ntrap '' TERM\necho trapped\nwhile :; do sleep 0.1; done\n",
    );
    world.file(
        "a.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"./stubborn\"\nready = { log = \"trapped\" }\nkill_timeout = \"6s\"\n",
    );
    world.run(&["start", "a.toml"]).ok();
    let kill = in_foreground(&world, &["kill"]);
    world.until("it is stopping", || world.states("a") == ["stopping"]);
    interrupt(&kill);
    finish(kill, &["kill"]).refused(130, "interrupted");
    world.until("nothing is left running", || world.processes().is_empty());
    world.run(&["resurrect"]).ok();
    world.until("the app is back", || world.states("a") == ["online"]);
}

#[test]
fn a_command_that_is_interrupted_while_it_is_checked_goes_on() {
    let world = World::new();
    world.run(&["status"]).ok();
    // The one place of its queue is taken, so the next connection hangs until there is room.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let _first = std::net::TcpStream::connect(address).unwrap();
    world.file(
        "a.toml",
        &format!("[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\nrequire = {{ tcp = [\"{address}\"] }}\n"),
    );
    let start = in_foreground(&world, &["start", "a.toml"]);
    let remote = format!(":{:04X} 02 ", address.port());
    world.until("the daemon asks for a connection", || {
        std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&remote)
    });
    interrupt(&start);
    finish(start, &["start"]).refused(130, "still going on");
    assert_eq!(world.instances("a").len(), 0);
    // Ends with the test's process.
    std::thread::spawn(move || for _taken in listener.incoming() {});
    world.until("it is up", || world.states("a") == ["online"]);
}

#[test]
fn a_caller_that_is_killed_changes_nothing_about_its_work() {
    let world = World::new();
    world.file("slow", SLOW);
    world.file("a.toml", SLOW_TOML);
    let mut start = background(&world, &["start", "a.toml"]);
    world.until("it is starting", || world.states("slow") == ["starting"]);
    start.kill().unwrap();
    start.wait().unwrap();
    world.file("go", "");
    world.until("it is up", || world.states("slow") == ["online"]);
}

/// Reads one line of a command's output, closes it, and returns how the command ended.
fn first_line(world: &World, args: &[&str]) -> (String, Said) {
    let mut child = background(world, args);
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    // `finish` wants both; nobody writes to this one.
    let (empty, _) = std::io::pipe().map(|(reader, writer)| (reader, drop(writer))).unwrap();
    child.stdout = Some(std::process::ChildStdout::from(std::os::fd::OwnedFd::from(empty)));
    (line, finish_slowly(child, args))
}

/// As `finish`, for a command whose output is closed already.
fn finish_slowly(mut child: Child, args: &[&str]) -> Said {
    let ended = crate::harness::eventually(&mut || child.try_wait().unwrap().is_some());
    if !ended {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("hung: clmgr {args:?}");
    }
    finish(child, args)
}

#[test]
fn readers_that_close_the_pipe_are_no_error() {
    let world = World::new();
    world.file("talk", "#!/bin/sh\ni=0\nwhile [ $i -lt 20000 ]; do echo \"line $i of many, long enough to fill a pipe\"; i=$((i+1)); done\nwhile :; do echo more; sleep 0.1; done\n");
    world.run(&["start", "./talk", "--name", "talk"]).ok();
    let log = world.home().join("logs/talk-0-out.log");
    world.until("it has talked", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("more"))
    });
    for args in [
        &["logs", "talk", "--lines", "15000", "--nostream"][..],
        &["logs", "--lines", "15000", "--nostream", "--raw"],
        &["logs", "--lines", "15000", "--nostream", "--json"],
        &["logs", "-f", "--lines", "15000"],
        &["logs", "-f", "--lines", "1"],
        &["events", "--json"],
        &["status"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let (line, said) = first_line(&world, args);
        assert!(!line.is_empty(), "{args:?}");
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{args:?}");
    }
    // And one that is closed from the beginning.
    for verb in [
        "status",
        "logs --nostream",
        "--version",
        "describe talk",
        "--help",
        "ping",
        "env talk",
    ] {
        let said = said(shell(&world, &format!("\"$0\" {verb} >&-; echo code $? >&2")));
        assert!(
            said.err.trim().ends_with("code 0") && !said.err.contains("panic"),
            "{verb}: {}",
            said.err
        );
    }
}

#[test]
fn a_full_output_device_is_an_error_that_is_told() {
    let world = World::new();
    world.run(&["start", "sleep 1000"]).ok();
    let said = said(shell(&world, "\"$0\" status > /dev/full"));
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("cannot write the output"), "{}", said.err);
}

#[test]
fn everything_starts_with_closed_standard_descriptors() {
    let world = World::new();
    said(shell(&world, "exec \"$0\" start 'sleep 1000' --name a <&- >&- 2>&-")).ok();
    assert_eq!(world.states("a"), ["online"]);
    let (daemon, keeper) = world.manager();
    for pid in [daemon, keeper] {
        for fd in 0..3 {
            let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
            let fine = target == std::path::Path::new("/dev/null") || target.ends_with("clmgr.log");
            assert!(fine, "descriptor {fd} of {pid} is {}", target.display());
        }
    }
    // The app has its own, and nothing of the manager's.
    let app = world.pids("a")[0];
    assert_eq!(std::fs::read_dir(format!("/proc/{app}/fd")).unwrap().count(), 3);
    world.run(&["kill"]).ok();
    // A keeper in the foreground.
    let mut keeper = shell(&world, "exec \"$0\" keeper <&- >&- 2>&-").spawn().unwrap();
    world.until("the app is back", || {
        let ping = world.run(&["ping", "--json"]);
        ping.code == 0 && world.states("a") == ["online"]
    });
    assert_eq!(world.manager().1, i64::from(keeper.id()));
    world.run(&["kill"]).ok();
    assert!(keeper.wait().unwrap().success());
}

#[test]
fn a_second_keeper_says_that_there_is_one() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let (_, keeper) = world.manager();
    let said = world.run(&["keeper"]);
    assert_eq!(said.code, 4);
    assert!(
        said.err.contains("already running") && said.err.contains(&keeper.to_string()),
        "{}",
        said.err
    );
    assert_eq!(world.states("a"), ["online"]);
}
