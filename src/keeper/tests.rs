//! The real loop in a process of its own: this test program, started again to run
//! [`keeper_process`] alone. Whenever that keeper wants a daemon, it sends the daemon's end of a link over
//! descriptor 3.

mod follow;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::link::{Link, LinkError};
use super::protocol::{ChildEntry, FromKeeper, Held, Restored, SpawnRequest, ToKeeper, UpgradeOrder, VERSION};
use super::{DaemonProcess, DaemonStarter, run_with};
use crate::model::duration::Millis;
use crate::model::exit::{Exit, ExitStatus};
use crate::os::cstrings::CStrings;
use crate::os::spawn::{SpawnPlan, Spawned, Step, spawn};
use crate::os::{detach, fds, pidfd, poll, procfs, reap};

const PATIENCE: Millis = Millis(20_000);

struct Handed(OwnedFd);

impl DaemonStarter for Handed {
    fn start(&mut self) -> io::Result<DaemonProcess> {
        let (ours, theirs) = fds::socketpair()?;
        fds::send(&self.0, b"x", &[theirs.as_fd()])?;
        Ok(DaemonProcess {
            link: ours,
            process: None,
        })
    }
}

#[test]
fn keeper_process() {
    if std::env::var_os("CLMGR_TEST_KEEPER").is_some() {
        run_with(&mut Handed(fds::inherited(3).unwrap())).unwrap();
    }
}

struct Fixture {
    keeper: Spawned,
    control: OwnedFd,
}

impl Fixture {
    fn new() -> Self {
        let (control, theirs) = fds::socketpair().unwrap();
        let exe = std::env::current_exe().unwrap();
        let name = "keeper::tests::keeper_process";
        let argv = CStrings::from_iter([exe.to_str().unwrap(), "--exact", name, "--test-threads=1"]);
        let mut env = detach::inherited_env(&[]);
        env.push(b"CLMGR_TEST_KEEPER=1");
        let null = fds::null().unwrap();
        let mut plan = SpawnPlan::new(argv, env);
        // The test runner's main thread must leave them to the loop's thread.
        plan.blocked = [libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1]
            .iter()
            .map(|signal| 1 << (signal - 1))
            .sum();
        plan.fds = vec![(0, null.as_fd()), (1, null.as_fd()), (3, theirs.as_fd())];
        Self {
            keeper: spawn(&plan).unwrap(),
            control,
        }
    }

    /// The next daemon's end.
    fn socket(&self) -> OwnedFd {
        assert!(
            poll::readable(&self.control, PATIENCE).unwrap(),
            "no daemon was started"
        );
        let mut received: Vec<OwnedFd> = Vec::new();
        fds::receive(&self.control, &mut [0; 1], &mut received).unwrap();
        received.pop().unwrap()
    }

    fn daemon(&self) -> Daemon {
        let mut daemon = Daemon {
            link: Link::new(self.socket()).unwrap(),
            early: VecDeque::new(),
        };
        daemon.send(&hello());
        assert!(matches!(daemon.next().0, FromKeeper::Welcome { current: VERSION, .. }));
        daemon
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(pidfd::signal(&self.keeper.pidfd, libc::SIGKILL, pidfd::Scope::Process));
        drop(poll::readable(&self.keeper.pidfd, PATIENCE));
        drop(reap::one(self.keeper.pid));
    }
}

fn hello() -> ToKeeper {
    ToKeeper::Hello {
        min: 1,
        current: VERSION,
        daemon_version: "test".into(),
    }
}

struct Daemon {
    link: Link,
    early: VecDeque<(FromKeeper, Vec<OwnedFd>)>,
}

impl Daemon {
    fn send(&mut self, message: &ToKeeper) {
        self.send_with(message, Vec::new());
    }

    fn send_with(&mut self, message: &ToKeeper, fds: Vec<OwnedFd>) {
        self.link
            .queue(message, fds.into_iter().map(std::sync::Arc::new).collect())
            .unwrap();
        self.link.flush().unwrap();
    }

    fn next(&mut self) -> (FromKeeper, Vec<OwnedFd>) {
        if let Some(message) = self.early.pop_front() {
            return message;
        }
        loop {
            self.link.flush().unwrap();
            if let Some(message) = self.link.receive().unwrap() {
                return message;
            }
            assert!(poll::readable(&self.link, PATIENCE).unwrap(), "the keeper says nothing");
        }
    }

    /// Exits may come between an order and its answer.
    fn answer(&mut self) -> (FromKeeper, Vec<OwnedFd>) {
        let mut exits = VecDeque::new();
        loop {
            let message = self.next();
            if !matches!(message.0, FromKeeper::Exited { .. }) {
                self.early.extend(exits);
                return message;
            }
            exits.push_back(message);
        }
    }

    fn exit(&mut self) -> (u64, u64, Exit) {
        match self.next() {
            (FromKeeper::Exited { seq, run, exit, .. }, _) => (seq, run, exit),
            other => panic!("{other:?}"),
        }
    }

    fn spawn(&mut self, request: SpawnRequest) -> (i32, Vec<OwnedFd>) {
        self.send(&ToKeeper::Spawn(request));
        match self.answer() {
            (FromKeeper::Spawned { pid, held, .. }, fds) => {
                assert_eq!(held.count(), fds.len());
                (pid, fds)
            }
            other => panic!("{other:?}"),
        }
    }

    fn table(&mut self) -> Vec<(ChildEntry, usize)> {
        self.send(&ToKeeper::Table);
        let mut all = Vec::new();
        loop {
            match self.answer() {
                (FromKeeper::Children { last, children }, fds) => {
                    assert_eq!(
                        children.iter().map(|child| child.held.count()).sum::<usize>(),
                        fds.len()
                    );
                    all.extend(children.into_iter().map(|child| (child.clone(), child.held.count())));
                    if last {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn sh(run: u64, script: &str) -> SpawnRequest {
    let env = CStrings::from_iter(["PATH=/usr/bin:/bin"]);
    SpawnRequest::new(run, CStrings::from_iter(["bash", "-c", script]), env, b"/")
}

fn read_all(fd: &OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        assert!(poll::readable(fd, PATIENCE).unwrap());
        match rustix::io::read(fd, &mut buffer).unwrap() {
            0 => return String::from_utf8(text).unwrap(),
            length => text.extend_from_slice(&buffer[..length]),
        }
    }
}

#[test]
fn spawns_connects_and_tells_the_end() {
    let fixture = Fixture::new();
    let mut daemon = fixture.daemon();
    let (read, write) = fds::pipe().unwrap();
    let mut request = sh(
        1,
        "read a; read b <&5; echo $a $b; echo oops >&2; echo extra >&6; exit 7",
    );
    request.stdin = true;
    request.channel = Some(5);
    request.extra = vec![6];
    daemon.send_with(&ToKeeper::Spawn(request), vec![write]);
    let (message, fds) = daemon.answer();
    assert!(
        matches!(
            message,
            FromKeeper::Spawned {
                run: 1,
                held: Held(31),
                ..
            }
        ),
        "{message:?}"
    );
    let [_pidfd, out, err, stdin, channel] = &fds[..] else {
        panic!("{fds:?}")
    };
    rustix::io::write(stdin, b"in\n").unwrap();
    rustix::io::write(channel, b"chan\n").unwrap();
    assert_eq!(read_all(out), "in chan\n");
    assert_eq!(read_all(err), "oops\n");
    assert_eq!(read_all(&read), "extra\n");
    let (seq, run, exit) = daemon.exit();
    assert_eq!((seq, run, exit.status), (1, 1, ExitStatus::Code(7)));
    assert!(exit.max_rss > 0);
    daemon.spawn(sh(2, "kill -TERM $$"));
    assert_eq!(daemon.exit().2.status, ExitStatus::Signal(15));
    let mut merged = sh(3, "echo a; echo b >&2");
    merged.merge_output = true;
    let (_, fds) = daemon.spawn(merged);
    assert_eq!(read_all(&fds[1]), "a\nb\n");
    let mut wrong = sh(4, "true");
    wrong.argv = b"/none\0".to_vec();
    daemon.send(&ToKeeper::Spawn(wrong));
    assert!(matches!(
        daemon.answer().0,
        FromKeeper::SpawnFailed {
            run: 4,
            step: Step::Exec,
            errno: libc::ENOENT
        }
    ));
    daemon.send(&ToKeeper::Spawn(sh(1, "true")));
    assert!(matches!(daemon.answer().0, FromKeeper::Refused { .. }));
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let fixture = Fixture::new();
    let socket = fixture.socket();
    let mut bytes = Vec::new();
    for message in [hello(), ToKeeper::Ping, ToKeeper::Spawn(sh(1, "exit 3"))] {
        let body = minicbor::to_vec(&message).unwrap();
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&body);
    }
    for byte in bytes {
        assert_eq!(fds::send(&socket, &[byte], &[]).unwrap(), 1);
    }
    let mut daemon = Daemon {
        link: Link::new(socket).unwrap(),
        early: VecDeque::new(),
    };
    assert!(matches!(daemon.next().0, FromKeeper::Welcome { .. }));
    assert!(matches!(daemon.next().0, FromKeeper::Pong));
    assert!(matches!(daemon.next().0, FromKeeper::Spawned { run: 1, .. }));
    assert_eq!(daemon.exit().2.status, ExitStatus::Code(3));
}

#[test]
fn exits_and_descriptors_outlive_daemons() {
    let fixture = Fixture::new();
    let mut daemon = fixture.daemon();
    let mut request = sh(1, "echo before; read x; echo after; exit 9");
    request.stdin = true;
    request.label = b"api:0".to_vec();
    let (_, fds) = daemon.spawn(request);
    daemon.send_with(&ToKeeper::Store { name: "socket".into() }, vec![fds::null().unwrap()]);
    drop(daemon);
    let mut daemon = fixture.daemon();
    rustix::io::write(&fds[3], b"\n").unwrap();
    let first = daemon.exit();
    assert_eq!((first.1, first.2.status), (1, ExitStatus::Code(9)));
    drop(daemon);
    let mut daemon = fixture.daemon();
    assert_eq!(daemon.exit(), first, "an exit is told again until it is acknowledged");
    let table = daemon.table();
    assert_eq!(
        (table.len(), table[0].1, &table[0].0.label[..]),
        (1, 4, b"api:0" as &[u8])
    );
    assert!(table[0].0.exited.as_ref().is_some_and(|exit| !exit.acked));
    daemon.send(&ToKeeper::Ack { up_to: first.0 });
    assert_eq!(daemon.table().len(), 1);
    daemon.send(&ToKeeper::Release { run: 1 });
    assert!(daemon.table().is_empty());
    daemon.send(&ToKeeper::Fetch { name: "socket".into() });
    assert_eq!(daemon.answer().1.len(), 1);
    daemon.send(&ToKeeper::Drop { name: "socket".into() });
    daemon.send(&ToKeeper::Names);
    assert!(matches!(daemon.answer().0, FromKeeper::StoredNames { names } if names.is_empty()));
}

#[test]
#[expect(clippy::wildcard_enum_match_arm, reason = "anything else is a failure")]
fn a_thousand_orders_at_once() {
    let fixture = Fixture::new();
    let mut daemon = fixture.daemon();
    let argv = CStrings::from_iter(["/bin/true"]);
    for run in 0..1000 {
        let request = SpawnRequest::new(run, argv.clone(), CStrings::new(), b"/");
        daemon.link.queue(&ToKeeper::Spawn(request), Vec::new()).unwrap();
    }
    let (mut spawned, mut exited) = (0, 0);
    while exited < 1000 {
        match daemon.next().0 {
            FromKeeper::Spawned { run, .. } => {
                assert_eq!(run, spawned, "in order");
                spawned += 1;
            }
            FromKeeper::Exited { seq, run, exit, .. } => {
                assert!(run < spawned && exit.is_success());
                exited += 1;
                daemon.send(&ToKeeper::Ack { up_to: seq });
                daemon.send(&ToKeeper::Release { run });
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(daemon.table().is_empty());
}

#[test]
fn takes_over_the_child_of_another() {
    let fixture = Fixture::new();
    let mut daemon = fixture.daemon();
    let env = CStrings::from_iter(["PATH=/usr/bin:/bin"]);
    let foreign = spawn(&SpawnPlan::new(CStrings::from_iter(["sleep", "1000"]), env)).unwrap();
    let restored = Restored {
        run: 5,
        pid: foreign.pid,
        start_ticks: procfs::stat(foreign.pid).unwrap().start_ticks,
        label: Vec::new(),
        started: crate::model::time::Moment(1),
        held: Held::default(),
    };
    let mut other = restored.clone();
    (other.run, other.start_ticks) = (6, 1);
    daemon.send(&ToKeeper::Restore {
        children: vec![restored, other],
    });
    // Another process has that pid now: gone, and nobody can tell how.
    let (_, run, exit) = daemon.exit();
    assert_eq!((run, exit.status), (6, ExitStatus::Unknown));
    daemon.send(&ToKeeper::Exit { force: false });
    assert!(matches!(daemon.answer().0, FromKeeper::Refused { .. }));
    pidfd::signal(&foreign.pidfd, libc::SIGTERM, pidfd::Scope::Group).unwrap();
    let (_, run, exit) = daemon.exit();
    assert_eq!((run, exit.status), (5, ExitStatus::Signal(15)));
    reap::one(foreign.pid).unwrap();
}

#[test]
fn leaves_when_told_and_only_then() {
    let fixture = Fixture::new();
    let mut stranger = Link::new(fixture.socket()).unwrap();
    stranger.queue(&ToKeeper::Ping, Vec::new()).unwrap();
    let old = ToKeeper::Hello {
        min: VERSION + 1,
        current: VERSION + 1,
        daemon_version: "next".into(),
    };
    stranger.queue(&old, Vec::new()).unwrap();
    stranger.flush().unwrap();
    let mut daemon = Daemon {
        link: stranger,
        early: VecDeque::new(),
    };
    for _ in 0..2 {
        assert!(matches!(daemon.next().0, FromKeeper::Refused { .. }));
    }
    drop(daemon);
    let mut daemon = fixture.daemon();
    pidfd::signal(&fixture.keeper.pidfd, libc::SIGTERM, pidfd::Scope::Process).unwrap();
    assert!(matches!(daemon.next().0, FromKeeper::Terminate));
    // Rubbish is a dead daemon, not a dead keeper; the next one is told again.
    fds::send(&daemon.link, &[0, 0, 0, 255, 0], &[]).unwrap();
    let mut daemon = fixture.daemon();
    assert!(matches!(daemon.next().0, FromKeeper::Terminate));
    daemon.send(&ToKeeper::Exit { force: false });
    assert!(poll::readable(&fixture.keeper.pidfd, PATIENCE).unwrap());
    assert_eq!(pidfd::exit_status(&fixture.keeper.pidfd), Some(ExitStatus::Code(0)));
    let end = daemon.link.receive::<FromKeeper>();
    assert!(matches!(end, Err(LinkError::Closed)), "{end:?}");
}

#[test]
fn detaches_from_living_children() {
    let fixture = Fixture::new();
    let mut daemon = fixture.daemon();
    let (pid, fds) = daemon.spawn(sh(1, "sleep 1000"));
    pidfd::signal(&fixture.keeper.pidfd, libc::SIGUSR1, pidfd::Scope::Process).unwrap();
    assert!(matches!(daemon.next().0, FromKeeper::Detach));
    daemon.send(&ToKeeper::Exit { force: true });
    assert!(poll::readable(&fixture.keeper.pidfd, PATIENCE).unwrap());
    assert_eq!(pidfd::exit_status(&fixture.keeper.pidfd), Some(ExitStatus::Code(0)));
    assert!(pidfd::alive(&fds[0]), "process {pid} was not to be touched");
    pidfd::signal(&fds[0], libc::SIGKILL, pidfd::Scope::Group).unwrap();
}

#[test]
fn detaches_from_a_daemon_that_cannot_be_asked() {
    let fixture = Fixture::new();
    let mut old = Daemon {
        link: Link::new(fixture.socket()).unwrap(),
        early: VecDeque::new(),
    };
    old.send(&ToKeeper::Hello {
        min: 1,
        current: 1,
        daemon_version: "old".into(),
    });
    assert!(matches!(old.next().0, FromKeeper::Welcome { .. }));
    pidfd::signal(&fixture.keeper.pidfd, libc::SIGUSR1, pidfd::Scope::Process).unwrap();
    assert!(poll::readable(&fixture.keeper.pidfd, PATIENCE).unwrap());
    assert_eq!(pidfd::exit_status(&fixture.keeper.pidfd), Some(ExitStatus::Code(0)));
}

#[test]
fn a_daemon_of_the_first_protocol_is_served_and_hears_nothing_new() {
    let fixture = Fixture::new();
    let mut daemon = Daemon {
        link: Link::new(fixture.socket()).unwrap(),
        early: VecDeque::new(),
    };
    daemon.send(&ToKeeper::Hello {
        min: 1,
        current: 1,
        daemon_version: "first".into(),
    });
    assert!(matches!(daemon.next().0, FromKeeper::Welcome { min: 1, .. }));
    daemon.spawn(sh(1, "exit 4"));
    assert_eq!(daemon.exit().2.status, ExitStatus::Code(4));
    daemon.send(&ToKeeper::Ping);
    assert!(matches!(daemon.next().0, FromKeeper::Pong));
}

#[test]
fn an_upgrade_that_cannot_be_is_refused_and_everything_goes_on() {
    let fixture = Fixture::new();
    let mut daemon = fixture.daemon();
    let order = |exe: &str| {
        ToKeeper::Upgrade(UpgradeOrder {
            id: 7,
            exe: exe.into(),
            from: "1".into(),
            to: "2".into(),
            seen: None,
        })
    };
    for (exe, why) in [
        ("/nonexistent/clmgr", "cannot be asked"),
        ("/bin/false", "ended with exit code 1"),
    ] {
        daemon.send(&order(exe));
        let FromKeeper::Upgraded(outcome) = daemon.answer().0 else {
            panic!("no answer to the order")
        };
        let failed = outcome.failed.unwrap();
        assert!(failed.contains(why), "{failed}");
        assert_eq!((outcome.id, outcome.fresh), (7, true));
    }
    // A daemon that dies while it is checked: the next one hears of it, once as news.
    let folder = tempfile::tempdir().unwrap();
    let sleeper = folder.path().join("slow");
    crate::os::fsx::write_atomic(&sleeper, b"#!/bin/sh\nexec sleep 60\n", 0o755).unwrap();
    daemon.send(&order(sleeper.to_str().unwrap()));
    daemon.send(&order("/bin/false"));
    daemon.send(&ToKeeper::Ping);
    assert!(matches!(daemon.answer().0, FromKeeper::Pong));
    drop(daemon);
    for fresh in [true, false] {
        let mut next = fixture.daemon();
        let FromKeeper::Upgraded(outcome) = next.answer().0 else {
            panic!("the outcome is not told")
        };
        assert_eq!(outcome.fresh, fresh);
        assert!(outcome.failed.unwrap().contains("before anything was done"));
        let (_, fds) = next.spawn(sh(if fresh { 1 } else { 2 }, "echo fine"));
        assert_eq!(read_all(&fds[1]), "fine\n");
    }
}
