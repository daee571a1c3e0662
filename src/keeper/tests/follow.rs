//! A run becomes another process of its tree.

use super::{Daemon, Fixture, PATIENCE, sh};
use crate::keeper::protocol::{FromKeeper, ToKeeper};
use crate::model::exit::ExitStatus;
use crate::os::pidfd::{self, Scope};
use crate::os::{clock, poll, tree};

/// A run whose leader has one child in a session of its own.
fn pair(daemon: &mut Daemon, run: u64) -> (i32, std::os::fd::OwnedFd, tree::Member) {
    let (pid, mut fds) = daemon.spawn(sh(run, "setsid sleep 1000 & wait; exit 3"));
    let begin = clock::monotonic();
    loop {
        // The child is found when it has left the session.
        let found = tree::descendants(pid)
            .into_iter()
            .find(|member| crate::os::procfs::stat(member.pid).is_some_and(|stat| stat.session == member.pid));
        if let Some(member) = found {
            return (pid, fds.remove(0), member);
        }
        assert!(clock::monotonic().since(begin) < PATIENCE);
        std::thread::yield_now();
    }
}

fn end(process: impl std::os::fd::AsFd, signal: i32) {
    pidfd::signal(&process, signal, Scope::Process).unwrap();
    assert!(poll::readable(&process, PATIENCE).unwrap());
}

#[test]
fn the_end_of_the_first_process_is_none_of_the_run() {
    let fixture = Fixture::new();
    let mut daemon = fixture.daemon();
    let (_, leader, child) = pair(&mut daemon, 1);
    let follow = ToKeeper::Follow { run: 1, pid: child.pid };
    daemon.send_with(&follow, vec![child.fd.try_clone().unwrap()]);
    assert_eq!(daemon.table()[0].0.pid, child.pid);
    end(&leader, libc::SIGKILL);
    end(&child.fd, libc::SIGTERM);
    // The first that is heard of; it was an orphan of the keeper by then, so everything is known.
    let (_, run, exit) = daemon.exit();
    assert_eq!((run, exit.status), (1, ExitStatus::Signal(libc::SIGTERM)));
    assert!(exit.max_rss > 0);
    // Nothing of it is watched any more: the keeper sleeps, and answers.
    daemon.send(&ToKeeper::Ping);
    assert_eq!(daemon.answer().0, FromKeeper::Pong);
}

#[test]
fn an_end_that_was_told_is_taken_back() {
    let fixture = Fixture::new();
    let mut daemon = fixture.daemon();
    let (pid, leader, child) = pair(&mut daemon, 1);
    end(&leader, libc::SIGKILL);
    let (seq, run, _) = daemon.exit();
    assert_eq!(run, 1);
    let follow = ToKeeper::Follow { run: 1, pid: child.pid };
    daemon.send_with(&follow, vec![child.fd.try_clone().unwrap()]);
    daemon.send(&ToKeeper::Ack { up_to: seq });
    let (entry, _) = &daemon.table()[0];
    assert_eq!((entry.pid, &entry.exited), (child.pid, &None));
    assert_ne!(entry.pid, pid);
    end(&child.fd, libc::SIGUSR1);
    let (_, run, exit) = daemon.exit();
    assert_eq!((run, exit.status), (1, ExitStatus::Signal(libc::SIGUSR1)));
}

#[test]
fn whom_nobody_knows_cannot_be_followed() {
    let fixture = Fixture::new();
    let mut daemon = fixture.daemon();
    daemon.send(&ToKeeper::Follow { run: 9, pid: 1 });
    assert!(matches!(daemon.answer().0, FromKeeper::Refused { .. }));
    let (_, leader, child) = pair(&mut daemon, 1);
    let follow = ToKeeper::Follow { run: 9, pid: child.pid };
    daemon.send_with(&follow, vec![child.fd.try_clone().unwrap()]);
    assert!(matches!(daemon.answer().0, FromKeeper::Refused { .. }));
    end(&child.fd, libc::SIGKILL);
    assert!(poll::readable(&leader, PATIENCE).unwrap());
    let (_, run, exit) = daemon.exit();
    assert_eq!((run, exit.status), (1, ExitStatus::Code(3)));
}
