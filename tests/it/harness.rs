//! A home of its own for each test, and the program to use it with.
//!
//! A [`World`] is a short temporary folder that is `CLMGR_HOME`; its keeper, daemon and apps end with it, also
//! when the test fails. Nothing else is ever signalled. Waiting is for a condition with a deadline.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

/// How long a condition may take before a test fails. Machines are slow and shared; nothing here measures time.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one command may take before it counts as hung.
const HANG: Duration = Duration::from_secs(120);

/// A home, gone with everything in it when dropped.
#[derive(Debug)]
pub struct World {
    folder: tempfile::TempDir,
    /// File systems to be unmounted when nobody uses them any more.
    mounts: std::sync::Mutex<Vec<PathBuf>>,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Fails the test unless the command worked.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// Fails the test unless the command failed with this exit code and said this on standard error.
    #[track_caller]
    pub fn refused(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        assert!(self.err.contains(text), "no {text:?} in: {}", self.err);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\nerr: {}", self.out, self.err))
    }
}

impl World {
    /// A fresh home.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cl").tempdir_in("/tmp").unwrap();
        Self {
            folder,
            mounts: std::sync::Mutex::default(),
        }
    }

    /// The folder; `CLMGR_HOME` is `home` in it, apps live beside that.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The state folder.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// Makes a folder (0700) that is a file system of its own, of this many KiB, gone with the world. False where
    /// nothing may be mounted: the test says so and ends.
    #[track_caller]
    pub fn disk(&self, path: &Path, kib: u32) -> bool {
        std::fs::create_dir_all(path).unwrap();
        let options = format!("size={kib}k,mode=0700");
        let flags = nix::mount::MsFlags::empty();
        let mounted = nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()));
        match mounted {
            Ok(()) => self.mounts.lock().unwrap().push(path.to_owned()),
            Err(error) => {
                let _untold = writeln!(
                    std::io::stderr(),
                    "SKIPPED: a file system cannot be mounted here: {error}"
                );
            }
        }
        mounted.is_ok()
    }

    /// Changes the size of a [`World::disk`], in KiB, or whether it can be written.
    #[track_caller]
    pub fn redisk(&self, path: &Path, kib: u32, writable: bool) {
        let mut flags = nix::mount::MsFlags::MS_REMOUNT;
        flags.set(nix::mount::MsFlags::MS_RDONLY, !writable);
        let options = format!("size={kib}k");
        nix::mount::mount(None::<&str>, path, None::<&str>, flags, Some(options.as_str())).unwrap();
    }

    /// Writes a file beside the home, executable if it begins with `#!`.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        if text.starts_with("#!") {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        path
    }

    /// A copy of the program that everybody may run. Made by another process: a file that this one has open for
    /// writing may be inherited by a child of another test for a moment, and then cannot be run.
    #[track_caller]
    pub fn program_for_all(&self) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let program = self.path().join("clmgr-for-all");
        if !program.exists() {
            let copied = Command::new("cp")
                .arg(env!("CARGO_BIN_EXE_clmgr"))
                .arg(&program)
                .status();
            assert!(copied.unwrap().success());
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        program
    }

    /// The program with this home, in the world's folder, with a small environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clmgr"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("CLMGR_HOME", self.home())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Said {
        said(self.command(args))
    }

    /// Runs a command with standard input.
    #[track_caller]
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Said {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that reads nothing closes its end; that is for the test to judge.
        let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
        finish(child, args)
    }

    /// `status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.run(&["status", "--json"]).ok().json()
    }

    /// The instances of an app, by slot.
    #[track_caller]
    pub fn instances(&self, app: &str) -> Vec<Value> {
        let status = self.status();
        let apps = status["apps"].as_array().unwrap();
        apps.iter()
            .find(|known| known["name"] == app)
            .map(|known| known["instances"].as_array().unwrap().clone())
            .unwrap_or_default()
    }

    /// The states of an app's instances, by slot.
    #[track_caller]
    pub fn states(&self, app: &str) -> Vec<String> {
        self.instances(app)
            .iter()
            .map(|instance| instance["state"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The pids of an app's instances, by slot; 0 where there is none.
    #[track_caller]
    pub fn pids(&self, app: &str) -> Vec<i64> {
        self.instances(app)
            .iter()
            .map(|instance| instance["pid"].as_i64().unwrap_or(0))
            .collect()
    }

    /// `describe --json` of one app.
    #[track_caller]
    pub fn describe(&self, app: &str) -> Value {
        self.run(&["describe", app, "--json"]).ok().json()["apps"][0].clone()
    }

    /// How often something happened to an app.
    #[track_caller]
    pub fn count_events(&self, kind: &str, app: &str) -> usize {
        self.events()
            .iter()
            .filter(|event| event["kind"] == kind && event["app"] == app)
            .count()
    }

    /// A command under way. [`finish`] waits for it.
    #[track_caller]
    pub fn begin(&self, args: &[&str]) -> Child {
        self.command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// SIGKILL to a process of this world, and only of this world. False if it is gone already.
    pub fn kill9(&self, pid: i64) -> bool {
        let number = i32::try_from(pid).unwrap();
        let Some(fd) = Pid::from_raw(number).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return false;
        };
        // The descriptor is open: the pid cannot be given to somebody else between this look and the signal.
        self.processes().contains(&number) && pidfd_send_signal(fd, Signal::KILL).is_ok()
    }

    /// Signals a process of this world by its descriptor.
    #[track_caller]
    pub fn signal(&self, pid: i64, signal: Signal) {
        pidfd_send_signal(self.process(pid), signal).unwrap();
    }

    /// A process of this world.
    #[track_caller]
    pub fn process(&self, pid: i64) -> OwnedFd {
        let number = i32::try_from(pid).unwrap();
        let fd = pidfd_open(Pid::from_raw(number).unwrap(), PidfdFlags::empty()).unwrap();
        // The descriptor is open: from here on the pid cannot be given to somebody else.
        assert!(self.processes().contains(&number), "{pid} is not of this world");
        fd
    }

    /// Kills keeper and daemon so that neither can replace the other.
    #[track_caller]
    pub fn kill_both(&self) {
        self.kill_manager(self.manager());
    }

    /// The same for these, daemon and keeper: they need not answer.
    #[track_caller]
    pub fn kill_manager(&self, (daemon, keeper): (i64, i64)) {
        let both = [self.process(keeper), self.process(daemon)];
        for signal in [Signal::STOP, Signal::KILL] {
            for process in &both {
                pidfd_send_signal(process, signal).unwrap();
            }
        }
        self.until("the end of both", || !lives(keeper) && !lives(daemon));
        // A thread that ends late keeps the socket open for a moment longer.
        let socket = self.home().join("clmgr.sock");
        self.until("the end of their socket", || UnixStream::connect(&socket).is_err());
    }

    /// A file's text; empty while there is none.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// The same of a file that need not be UTF-8.
    pub fn text_lossy(&self, name: &str) -> String {
        let bytes = std::fs::read(self.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Daemon and keeper.
    #[track_caller]
    pub fn manager(&self) -> (i64, i64) {
        let ping = self.run(&["ping", "--json"]).ok().json();
        (ping["pid"].as_i64().unwrap(), ping["keeper_pid"].as_i64().unwrap())
    }

    /// All events, oldest first.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let said = self.run(&["events", "--json", "--limit", "10000"]).ok();
        said.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until a condition holds; fails with what is known if it does not.
    #[track_caller]
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        if !eventually(&mut holds) {
            panic!("{what}: not within {PATIENCE:?}\n{}", self.report());
        }
    }

    /// Everything worth knowing about a failure.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for args in [&["status"][..], &["events", "--limit", "40"]] {
            let said = self.run(args);
            let _written = writeln!(text, "--- {args:?}\n{}{}", said.out, said.err);
        }
        let log = std::fs::read_to_string(self.home().join("logs/clmgr.log")).unwrap_or_default();
        let _written = writeln!(text, "--- clmgr.log\n{log}");
        text
    }

    /// Pids of this world's processes: those with its home or its mark in the environment.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("CLMGR_HOME={}", self.home().display());
        let own = i32::try_from(std::process::id()).unwrap();
        let entries = std::fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| *pid != own)
            .filter(|pid| {
                let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                let alive =
                    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
                alive && environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
            })
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let said = self.run(&["kill"]);
        let gone = eventually(&mut || self.processes().is_empty());
        if !gone {
            // Only processes that carry this world's home, and only when clmgr could not end them. All are halted
            // first: keeper and daemon replace each other.
            for signal in [Signal::STOP, Signal::KILL] {
                for pid in self.processes() {
                    let fd = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                    if let Some(fd) = fd.filter(|_| self.processes().contains(&pid)) {
                        let _gone = pidfd_send_signal(fd, signal);
                    }
                }
            }
        }
        for path in std::mem::take(&mut *self.mounts.lock().unwrap()) {
            // Detached where somebody still uses it; then it ends with its last user.
            let _unmounted = nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH);
        }
        if !std::thread::panicking() {
            assert!(gone, "processes were left: {} {}", said.out, said.err);
        }
    }
}

/// An argument for `sleep` that nobody else uses: every caller has a number of its own.
pub fn unique(number: u32) -> String {
    format!("{number}000.{:07}", std::process::id())
}

/// Living processes whose command line has this text. Ours is not one of them, nor is a clmgr.
pub fn tagged(tag: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&line);
            text.contains(tag) && !text.contains(env!("CARGO_BIN_EXE_clmgr"))
        })
        .collect()
}

/// True while a process lives (a zombie does not).
pub fn lives(pid: i64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// A TCP port that is free now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// What is going on right now has happened: time for those who misbehave, without a sleep.
pub fn rest(millis: u64) {
    let (_keep, quiet) = std::sync::mpsc::channel::<()>();
    let _nothing = quiet.recv_timeout(Duration::from_millis(millis));
}

/// Waits until a condition holds; false if it does not in time. Looks again every 10 ms: what is waited for here
/// happens in other processes, which cannot be subscribed to.
pub fn eventually(holds: &mut dyn FnMut() -> bool) -> bool {
    let (_keep, quiet) = std::sync::mpsc::channel::<()>();
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if holds() {
            return true;
        }
        let _nothing = quiet.recv_timeout(Duration::from_millis(10));
    }
    holds()
}

/// Runs a command to its end.
#[track_caller]
pub fn said(mut command: Command) -> Said {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let args: Vec<String> = command
        .get_args()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    finish(child, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Reads a child to its end; kills it and fails if that takes too long.
#[track_caller]
pub fn finish(mut child: Child, args: &[&str]) -> Said {
    let mut out = child.stdout.take().unwrap();
    let mut err = child.stderr.take().unwrap();
    let (sender, done) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _broken = err.read_to_end(&mut text);
        text
    });
    let writer = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _broken = out.read_to_end(&mut text);
        let _gone = sender.send(());
        text
    });
    if done.recv_timeout(HANG).is_err() {
        let _gone = child.kill();
        let _gone = child.wait();
        panic!("hung: clmgr {args:?}");
    }
    let output = Output {
        status: child.wait().unwrap(),
        stdout: writer.join().unwrap(),
        stderr: reader.join().unwrap(),
    };
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
