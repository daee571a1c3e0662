//! The keeper as the main process of a service, with a service manager that is this test: it listens, and keeps
//! descriptors from one keeper to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use clmgr::os::fds;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::harness::{World, lives};

/// Says what it was given, answers its input, and tells when that or its channel is gone.
const TALKER: &str = "\
import os, sys, threading
print('given', [name for name in ('NOTIFY_SOCKET', 'LISTEN_FDS', 'WATCHDOG_USEC', 'CLMGR_SERVICE') if name in os.environ], flush=True)
channel = int(os.environ['NODE_CHANNEL_FD'])
os.write(channel, b'\"ready\"\\n')
def listen():
    while os.read(channel, 1000):
        pass
    print('channel lost', flush=True)
threading.Thread(target=listen, daemon=True).start()
for line in sys.stdin:
    print('heard', line.strip(), flush=True)
print('input lost', flush=True)
threading.Event().wait()
";

/// Becomes a keeper that was started with descriptors, as a service manager does it.
const STARTER: &str = "\
import fcntl, os, sys
names, numbers = sys.argv[2], [int(number) for number in sys.argv[3].split(',') if number]
copies = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 200) for number in numbers]
os.closerange(3, 200)
for at, copy in enumerate(copies):
    os.dup2(copy, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)), LISTEN_FDNAMES=names)
os.execv(sys.argv[1], ['clmgr', 'keeper'])
";

/// The watchdog's interval in microseconds. A daemon that lives on a busy machine has a quarter of it to be late.
const WATCHDOG: u64 = 12_000_000;

struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    said: Vec<String>,
    kept: BTreeMap<String, OwnedFd>,
}

impl Manager {
    fn new(world: &World) -> Self {
        let path = world.path().join("manager");
        Self {
            socket: UnixDatagram::bind(&path).unwrap(),
            path,
            said: Vec::new(),
            kept: BTreeMap::new(),
        }
    }

    fn start(&self, world: &World, watchdog: Option<u64>) -> Child {
        let names: Vec<&str> = self.kept.keys().map(String::as_str).collect();
        let mut numbers = Vec::new();
        for fd in self.kept.values() {
            fds::set_close_on_exec(fd, false).unwrap();
            numbers.push(fd.as_raw_fd().to_string());
        }
        let template = world.command(&[]);
        let mut command = Command::new("python3");
        command
            .args([
                "-c",
                STARTER,
                env!("CARGO_BIN_EXE_clmgr"),
                &names.join(":"),
                &numbers.join(","),
            ])
            .env_clear()
            .envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("NOTIFY_SOCKET", &self.path)
            .stdin(Stdio::null());
        if let Some(micros) = watchdog {
            command.env("WATCHDOG_USEC", micros.to_string());
        }
        let child = command.spawn().unwrap();
        for fd in self.kept.values() {
            fds::set_close_on_exec(fd, true).unwrap();
        }
        child
    }

    /// Takes what has been said; true if some message has this line.
    fn heard(&mut self, line: &str) -> bool {
        let mut buffer = [0; 4096];
        let mut received: Vec<OwnedFd> = Vec::new();
        while let Ok(got) = fds::receive(&self.socket, &mut buffer, &mut received) {
            let text = String::from_utf8(buffer[..got.bytes].to_vec()).unwrap();
            let name = text
                .lines()
                .find_map(|line| line.strip_prefix("FDNAME="))
                .map(ToOwned::to_owned);
            match (name, received.pop()) {
                (Some(name), Some(fd)) => drop(self.kept.insert(name, fd)),
                (Some(name), None) => drop(self.kept.remove(&name)),
                (None, _) => {}
            }
            self.said.push(text);
        }
        self.said.iter().any(|text| text.lines().any(|known| known == line))
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let fd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(fd, signal).unwrap();
}

fn talker(world: &World) {
    world.file("talker.py", TALKER);
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"talker\"\ncmd = [\"python3\", \"-u\", \"talker.py\"]\nready = \"ipc\"\n",
    );
}

#[test]
fn apps_keep_pid_channel_and_input_when_the_service_is_restarted() {
    let world = World::new();
    talker(&world);
    let mut manager = Manager::new(&world);
    let mut keeper = manager.start(&world, None);
    world.until("readiness without apps", || manager.heard("READY=1"));
    assert!(manager.heard("STATUS=no apps"));
    let mut start = world.command(&["start"]);
    start.env("NOTIFY_SOCKET", "/nonexistent").env("WATCHDOG_USEC", "1000");
    crate::harness::said(start).ok();
    world.until("the status", || manager.heard("STATUS=1 app online"));
    world.until("what is kept", || {
        manager.heard("");
        manager.kept.len() == 4
    });
    let names: BTreeSet<&str> = manager.kept.keys().map(String::as_str).collect();
    assert!(
        names.contains("notify")
            && names.iter().filter(|name| name.starts_with("control/")).count() == 1
            && names.iter().filter(|name| name.starts_with("run/")).count() == 2,
        "{names:?}"
    );
    let pids = world.pids("talker");

    // Once left in good order, once killed with the daemon.
    for by_force in [false, true] {
        manager.said.clear();
        if by_force {
            let (daemon, _) = world.manager();
            signal(keeper.id(), Signal::STOP);
            assert!(world.kill9(daemon));
            signal(keeper.id(), Signal::KILL);
            keeper.wait().unwrap();
        } else {
            signal(keeper.id(), Signal::USR1);
            assert!(keeper.wait().unwrap().success());
        }
        assert!(lives(pids[0]));
        keeper = manager.start(&world, None);
        world.until("readiness", || manager.heard("READY=1"));
        assert_eq!(world.pids("talker"), pids);
        world
            .run(&["send", "talker", if by_force { "two" } else { "one" }])
            .ok();
    }
    world.until("both words", || {
        let said = world.run(&["logs", "talker", "--nostream"]).ok().out;
        said.contains("heard one") && said.contains("heard two")
    });
    let said = world.run(&["logs", "talker", "--nostream"]).ok().out;
    assert!(said.contains("given []") && !said.contains("lost"), "{said}");

    // What is not needed any more is given back.
    world.run(&["delete", "talker"]).ok();
    world.until("what is kept of a dead app", || {
        manager.heard("");
        !manager.kept.is_empty() && manager.kept.keys().all(|name| !name.starts_with("run/"))
    });
    signal(keeper.id(), Signal::TERM);
    assert!(keeper.wait().unwrap().success());
    assert!(manager.heard("STOPPING=1"), "{:?}", manager.said);
}

#[test]
fn a_hung_daemon_is_replaced_and_apps_do_not_notice() {
    let world = World::new();
    let mut manager = Manager::new(&world);
    let mut keeper = manager.start(&world, Some(WATCHDOG));
    world.until("a sign of life", || manager.heard("WATCHDOG=1"));
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let pids = world.pids("a");
    let (daemon, _) = world.manager();
    signal(u32::try_from(daemon).unwrap(), Signal::STOP);
    world.until("the end of the hung one", || !lives(daemon));
    assert_eq!(world.pids("a"), pids);
    assert_eq!(world.manager().1, i64::from(keeper.id()));
    world.run(&["kill"]).ok();
    assert!(keeper.wait().unwrap().success());
}

#[test]
fn a_hung_daemon_is_replaced_after_an_upgrade_as_well() {
    let world = World::new();
    let mut manager = Manager::new(&world);
    let mut keeper = manager.start(&world, Some(WATCHDOG));
    world.until("a sign of life", || manager.heard("WATCHDOG=1"));
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let pids = world.pids("a");
    world.run(&["upgrade"]).ok();
    let (daemon, _) = world.manager();
    // Before its first one it is given two minutes, for a long recovery. What the daemon before said is all there
    // by now: its keeper passed everything on before it was replaced.
    manager.heard("");
    manager.said.clear();
    world.until("a sign of life of the new daemon", || manager.heard("WATCHDOG=1"));
    signal(u32::try_from(daemon).unwrap(), Signal::STOP);
    world.until("the end of the hung one", || !lives(daemon));
    assert_eq!(world.pids("a"), pids);
    assert_eq!(world.manager().1, i64::from(keeper.id()));
    world.run(&["kill"]).ok();
    assert!(keeper.wait().unwrap().success());
}

#[test]
fn a_keeper_that_is_one_too_many_says_so_with_a_code_of_its_own() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    world
        .run(&["keeper"])
        .refused(4, "another keeper is already running as process");
}

#[test]
fn without_a_service_manager_startup_says_what_to_do() {
    let world = World::new();
    for (kind, line) in [
        ("systemd", "ExecStart="),
        ("systemd-user", "WantedBy=default.target"),
        ("openrc", "#!/sbin/openrc-run"),
    ] {
        let printed = world.run(&["startup", "--print", kind]).ok();
        assert!(printed.out.contains(line), "{}", printed.out);
        assert!(
            printed.out.contains(&world.home().display().to_string()),
            "the same home"
        );
    }
    world.run(&["startup", "--user", "no-such-user"]).refused(3, "no user");
    let known = ["/run/systemd/system", "/run/openrc"].map(|path| PathBuf::from(path).is_dir());
    if known.contains(&true) {
        // Nothing may be installed on the machine that runs the tests.
        return;
    }
    let refused = world.run(&["startup"]).refused(1, "neither systemd nor OpenRC");
    assert!(refused.err.contains("--print"), "{}", refused.err);
    world.run(&["unstartup"]).refused(1, "neither systemd nor OpenRC");
}
