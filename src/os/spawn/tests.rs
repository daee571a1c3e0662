use super::{SpawnError, SpawnPlan, Spawned, Step, spawn};
use crate::model::duration::Millis;
use crate::model::exit::ExitStatus;
use crate::os::cstrings::CStrings;
use crate::os::{fds, poll, reap};
use std::fs::Permissions;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;

fn plan(argv: &[&str]) -> SpawnPlan<'static> {
    SpawnPlan::new(argv.iter().collect(), CStrings::from_iter(["PATH=/usr/bin:/bin"]))
}

fn wait(child: &Spawned) -> ExitStatus {
    assert!(poll::readable(&child.pidfd, Millis::from_secs(20)).unwrap());
    reap::one(child.pid).unwrap().unwrap().exit.status
}

/// Standard output of a shell script with these descriptors.
fn output(mut plan: SpawnPlan<'_>) -> String {
    let (read, write) = fds::pipe().unwrap();
    let child = {
        let mut fds = plan.fds.clone();
        fds.push((1, write.as_fd()));
        plan.fds.clear();
        spawn(&SpawnPlan { fds, ..plan }).unwrap()
    };
    drop(write);
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).unwrap();
    wait(&child);
    text
}

#[test]
fn tells_codes_and_signals() {
    assert_eq!(wait(&spawn(&plan(&["true"])).unwrap()), ExitStatus::Code(0));
    assert_eq!(
        wait(&spawn(&plan(&["sh", "-c", "exit 7"])).unwrap()),
        ExitStatus::Code(7)
    );
    assert_eq!(
        wait(&spawn(&plan(&["sh", "-c", "kill -9 $$"])).unwrap()),
        ExitStatus::Signal(9)
    );
}

#[test]
fn failures_name_the_step_and_leave_no_child() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8], mode: u32| {
        let path = temp.path().join(name);
        crate::os::fsx::write_atomic(&path, text, 0o600).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let script = file("noshebang", b"echo\n", 0o755);
    let orphan = file("orphan", b"#!/none/such\n", 0o755);
    let plain = file("plain", b"x", 0o644);
    let cases: [(&[&str], Step, i32); 8] = [
        (&[], Step::Plan, libc::ENOENT),
        (&[""], Step::Plan, libc::ENOENT),
        (&["/none/such"], Step::Exec, libc::ENOENT),
        (&["no-such-program"], Step::Exec, libc::ENOENT),
        (&[&script], Step::Exec, libc::ENOEXEC),
        (&[&orphan], Step::Interpreter, libc::ENOENT),
        (&[&plain], Step::Exec, libc::EACCES),
        (&["/etc/passwd/x"], Step::Exec, libc::ENOTDIR),
    ];
    for (argv, step, errno) in cases {
        assert_eq!(spawn(&plan(argv)).unwrap_err(), SpawnError { step, errno }, "{argv:?}");
    }
    let mut gone = plan(&["true"]);
    gone.cwd = Some(c"/none".to_owned());
    let error = spawn(&gone).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot enter its working folder: no such file or directory"
    );
    // A program that is there but may not be executed beats one that is not there.
    let mut path = plan(&["plain"]);
    path.env = CStrings::from_iter([format!("PATH={}:/none", temp.path().display())]);
    assert_eq!(spawn(&path).unwrap_err().errno, libc::EACCES);
    let mut big = plan(&["true"]);
    big.env.push(&vec![b'x'; 200 * 1024]);
    assert_eq!(spawn(&big).unwrap_err().errno, libc::E2BIG);
    let mut bad = plan(&["true"]);
    let null = fds::null().unwrap();
    bad.fds = vec![(-1, null.as_fd())];
    assert_eq!(spawn(&bad).unwrap_err().step, Step::Plan);
    bad.fds = vec![(i32::MAX - 1, null.as_fd())];
    assert_eq!(spawn(&bad).unwrap_err().step, Step::Descriptors);
}

#[test]
fn descriptors_may_overlap_in_any_way() {
    let (a, b) = fds::socketpair().unwrap();
    let (c, d) = fds::pipe().unwrap();
    for (fd, word) in [(&a, "fromb"), (&b, "froma")] {
        rustix::io::write(fd, format!("{word}\n").as_bytes()).unwrap();
    }
    rustix::io::write(&d, b"pipe\n").unwrap();
    // A ring: each takes the number of the next.
    let (x, y, z) = (a.as_raw_fd(), b.as_raw_fd(), c.as_raw_fd());
    let script = format!("read l <&{y}; echo $l; read l <&{z}; echo $l; read l <&{x}; echo $l");
    let mut ring = plan(&["bash", "-c", &script]);
    ring.fds = vec![(y, a.as_fd()), (z, b.as_fd()), (x, c.as_fd())];
    assert_eq!(output(ring), "froma\nfromb\npipe\n");
    // One that stays in its place, and twice the same.
    rustix::io::write(&d, b"one\ntwo\n").unwrap();
    let script = format!("read l <&{z}; echo $l; read l <&9; echo $l");
    let mut same = plan(&["bash", "-c", &script]);
    same.fds = vec![(z, c.as_fd()), (9, c.as_fd())];
    let text = output(same);
    assert!(text.starts_with("one\n"), "{text}");
}

#[test]
fn nothing_else_is_inherited() {
    let leak = fds::null().unwrap();
    fds::set_close_on_exec(&leak, false).unwrap();
    let high = fds::lift(fds::null().unwrap(), 300);
    fds::set_close_on_exec(&high, false).unwrap();
    let null = fds::null().unwrap();
    let mut list = plan(&["sh", "-c", "echo /proc/$$/fd/*; exec 2>&1; umask"]);
    list.fds = vec![(0, null.as_fd()), (2, null.as_fd()), (7, null.as_fd())];
    list.umask = Some(0o027);
    let text = output(list);
    let (fds, umask) = text.split_once('\n').unwrap();
    let mut numbers: Vec<&str> = fds.split(' ').filter_map(|path| path.rsplit('/').next()).collect();
    numbers.sort_unstable();
    // 3 is the folder that the shell is listing.
    assert_eq!(numbers, ["0", "1", "2", "3", "7"], "{text}");
    assert_eq!(umask.trim(), "0027");
}

#[test]
fn begins_clean() {
    let mut clean = plan(&[
        "sh",
        "-c",
        "grep -E '^Sig(Blk|Ign)' /proc/self/status; ulimit -n; cut -d' ' -f1,5,6 /proc/$$/stat; echo $$ $MY_PID",
    ]);
    clean.env.push(b"MY_PID=stale");
    clean.pid_vars = vec![b"MY_PID".to_vec()];
    clean.nofile = Some(77);
    crate::os::signals::ignore(&[libc::SIGPIPE, libc::SIGUSR1]).unwrap();
    let text = output(clean);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[..2] {
        assert!(line.ends_with("0000000000000000"), "{text}");
    }
    assert_eq!(lines[2], "77");
    let ids: Vec<&str> = lines[3].split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{text}");
    let (own, told) = lines[4].split_once(' ').unwrap();
    assert_eq!(own, told);
}

#[test]
fn many_threads_at_once() {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for _ in 0..20 {
                    let code = format!("exit {thread}");
                    let child = spawn(&plan(&["sh", "-c", &code])).unwrap();
                    assert_eq!(wait(&child), ExitStatus::Code(thread));
                    assert!(spawn(&plan(&["/none"])).is_err());
                }
            });
        }
    });
}
