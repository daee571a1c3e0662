//! Output that goes to journald and syslog, played by sockets of the test, and to a runtime's standard output.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::harness::{PATIENCE, Said, World, said};

/// Starts apps in a manager that knows these sockets.
struct Targets {
    world: World,
    journald: UnixDatagram,
    syslog: UnixDatagram,
}

impl Targets {
    fn new() -> Self {
        let world = World::new();
        let bind = |name: &str| {
            let socket = UnixDatagram::bind(world.path().join(name)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (journald, syslog) = (bind("journald"), bind("syslog"));
        Self {
            world,
            journald,
            syslog,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        command.env("CLMGR_JOURNALD_SOCKET", self.world.path().join("journald"));
        command.env("CLMGR_SYSLOG_SOCKET", self.world.path().join("syslog"));
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        said(self.command(args))
    }
}

fn next(socket: &UnixDatagram) -> String {
    let mut bytes = vec![0; 64 << 10];
    let count = socket.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[test]
fn lines_arrive_and_readers_are_told_where() {
    let targets = Targets::new();
    let world = &targets.world;
    let script = "echo hello; echo oops >&2; exec sleep 1000";
    let text = format!(
        "[[apps]]\nname = 'web'\ncmd = ['sh', '-c', '{script}']\nlog_to = 'journald'\n\
         [[apps]]\nname = 'db'\ncmd = ['sh', '-c', 'echo started; exec sleep 1000']\nlog_to = ['files', 'syslog']\nsyslog_facility = 'local1'\nout_file = 'db.log'\n"
    );
    world.file("ecosystem.toml", &text);
    targets.run(&["start"]).ok();
    let entries = [next(&targets.journald), next(&targets.journald)];
    for (text, stream, priority) in [("hello", "out", 6), ("oops", "err", 3)] {
        let entry = entries
            .iter()
            .find(|entry| entry.ends_with(&format!("{text}\n")))
            .unwrap();
        assert!(entry.contains(&format!("CLMGR_STREAM={stream}\n")), "{entry}");
        assert!(entry.contains(&format!("PRIORITY={priority}\n")), "{entry}");
        assert!(entry.contains("CLMGR_APP=web\n") && entry.contains(&format!("SYSLOG_PID={}\n", world.pids("web")[0])));
    }
    let message = next(&targets.syslog);
    assert!(
        message.starts_with("<142>1 ") && message.ends_with("] started"),
        "{message}"
    );
    world.until("the file", || world.text("db.log") == "started\n");
    let shown = world.run(&["logs", "web", "--nostream"]).ok();
    assert!(shown.err.contains("journalctl -f CLMGR_APP=web"), "{}", shown.err);
    assert!(world.describe("web")["logs"].as_array().unwrap().is_empty());
}

#[test]
fn a_kill_of_the_manager_costs_no_line() {
    const LINES: usize = 3000;
    let targets = Targets::new();
    let world = &targets.world;
    let script = format!(
        "for i in `seq 0 {}`; do echo $i; [ $((i % 100)) = 0 ] && sleep 0.02; done; exec sleep 1000",
        LINES - 1
    );
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = 'a'\ncmd = ['bash', '-c', '{script}']\nlog_to = 'journald'\n"),
    );
    targets.run(&["start"]).ok();
    let mut expected = 0;
    let mut kills = 0;
    while expected < LINES {
        let text = next(&targets.journald);
        let number: usize = text
            .rsplit(['\0', '\n'])
            .find(|part| !part.is_empty())
            .unwrap()
            .parse()
            .unwrap();
        assert!(number <= expected, "{number} instead of {expected}");
        expected = expected.max(number + 1);
        // While much of it is on its way.
        if number / 700 > kills {
            kills = number / 700;
            let (daemon, _) = world.manager();
            world.kill9(daemon);
        }
    }
    assert!(kills >= 3, "{kills} kills");
    assert_eq!(world.count_events("log_lost", "a"), 0);
}

#[test]
fn a_target_that_is_down_is_told_of_once_and_delays_nobody() {
    let targets = Targets::new();
    let world = &targets.world;
    std::fs::remove_file(world.path().join("journald")).unwrap();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = 'a'\ncmd = ['sh', '-c', 'seq 1 200000; touch done; exec sleep 1000']\nlog_to = 'journald'\n",
    );
    targets.run(&["start"]).ok();
    world.until("the app has written all", || world.path().join("done").exists());
    world.until("an event", || world.count_events("log_lost", "a") == 1);
    let socket = UnixDatagram::bind(world.path().join("journald")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut count = 0;
    let marker = loop {
        let entry = next(&socket);
        if entry.contains(" were lost between ") {
            break entry;
        }
        count += 1;
        assert!(entry.ends_with(&format!("{count}\n")), "{count}: {entry}");
    };
    let lost: usize = marker
        .split_once("[clmgr: ")
        .unwrap()
        .1
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(count + lost, 200_000, "{marker}");
    assert!(
        count > 1000 && marker.contains("CLMGR_APP=a\n") && marker.contains("PRIORITY=4\n"),
        "{count}"
    );
    world.until("the other event", || world.count_events("log_resumed", "a") == 1);
    assert_eq!(world.count_events("log_lost", "a"), 1);
}

#[test]
fn standard_output_is_for_runtimes() {
    let targets = Targets::new();
    let world = &targets.world;
    let app = "cmd = ['sh', '-c', 'echo said']\nrestart = 'never'\n";
    let text = format!(
        "[[apps]]\nname = 'a'\n{app}log_to = 'stdout'\n[[apps]]\nname = 'b'\n{app}log_to = 'files'\nout_file = 'b.log'\n"
    );
    let file = world.file("ecosystem.toml", &text);
    let refused = targets.run(&["start"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("works under `clmgr runtime`"), "{}", refused.err);
    world.run(&["kill"]);
    let ran = targets.run(&["runtime", file.to_str().unwrap()]).ok();
    assert_eq!(ran.out.matches("said").count(), 1, "{} {}", ran.out, ran.err);
    assert_eq!(world.text("b.log"), "said\n");
}
