//! One home with its keeper, daemon and apps: asking it, finding its processes, and killing them. Only processes
//! that carry this home in their environment are ever signalled.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use clmgr::api::status::{AppDescription, DescribeReply, Ping};
use clmgr::model::duration::Millis;
use clmgr::model::state::State;
use clmgr::os::pidfd::Scope;
use clmgr::os::{clock, pidfd, poll, procfs};
use serde::de::DeserializeOwned;

use crate::apps;

/// The program that is tested.
const CLMGR: &str = env!("CARGO_BIN_EXE_clmgr");

/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Millis = Millis(60_000);

/// How long the last process may take to be gone after `clmgr kill` has answered.
const GONE: Millis = Millis(20_000);

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code; -1 if a signal ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// The home and the folder around it.
#[derive(Debug)]
pub(crate) struct World {
    root: PathBuf,
    mark: Vec<u8>,
}

impl World {
    /// A new folder below `/tmp`, with a path short enough for a socket, and the servers in it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("clo").tempdir_in("/tmp")?.keep();
        std::fs::create_dir(root.join(crate::held::FOLDER))?;
        let mark = [b"CLMGR_HOME=", root.join("home").as_os_str().as_bytes()].concat();
        let world = Self { root, mark };
        world.file("server.py", apps::PYTHON)?;
        world.file("server.js", apps::NODE)?;
        Ok(world)
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file beside the home.
    pub(crate) fn file(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CLMGR);
        command
            .args(args)
            .current_dir(&self.root)
            .env_clear()
            .env("CLMGR_HOME", self.root.join("home"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.root)
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Begins a command.
    pub(crate) fn begin(&self, args: &[&str]) -> anyhow::Result<Child> {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("clmgr cannot be run")
    }

    /// Runs a command to its end.
    pub(crate) fn cli(&self, args: &[&str]) -> anyhow::Result<Said> {
        let output = self.command(args).output().context("clmgr cannot be run")?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must work.
    pub(crate) fn done(&self, args: &[&str]) -> anyhow::Result<String> {
        let said = self.cli(args)?;
        ensure!(
            said.code == 0,
            "clmgr {} ended with {}: {}{}",
            args.join(" "),
            said.code,
            said.out,
            said.err
        );
        Ok(said.out)
    }

    fn json<T: DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<T> {
        let text = self.done(args)?;
        serde_json::from_str(&text).with_context(|| format!("clmgr {} said {text}", args.join(" ")))
    }

    /// Everything about one app.
    pub(crate) fn describe(&self, app: &str) -> anyhow::Result<AppDescription> {
        let reply: DescribeReply = self.json(&["describe", app, "--json"])?;
        reply.apps.into_iter().next().context("no such app")
    }

    /// The pids of an app by slot; 0 where there is none.
    pub(crate) fn pids(&self, app: &str) -> anyhow::Result<Vec<i32>> {
        let instances = self.describe(app)?.status.instances;
        Ok(instances.iter().map(|one| one.pid.unwrap_or(0)).collect())
    }

    /// The pids, once all instances are online.
    pub(crate) fn online(&self, app: &str) -> anyhow::Result<Vec<i32>> {
        let mut pids = Vec::new();
        self.until(&format!("all of {app} online"), || {
            let status = self.describe(app)?.status;
            let settled = status.instances.iter().all(|one| one.state == State::Online);
            pids = status.instances.iter().map(|one| one.pid.unwrap_or(0)).collect();
            Ok(settled && status.instances.len() == status.desired as usize)
        })?;
        Ok(pids)
    }

    /// The port of the first of an app's sockets.
    pub(crate) fn port(&self, app: &str) -> anyhow::Result<u16> {
        let listeners = self.describe(app)?.status.listeners;
        let port = listeners.first().and_then(|listener| listener.port);
        port.with_context(|| format!("{app} has no port"))
    }

    /// Who answers.
    pub(crate) fn ping(&self) -> anyhow::Result<Ping> {
        self.json(&["ping", "--json"])
    }

    /// Waits until a condition holds.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let end = clock::monotonic().after(PATIENCE);
        while !holds()? {
            if clock::monotonic() > end {
                let events = self.cli(&["events", "--limit", "30"])?;
                bail!("{what}: not within {PATIENCE}\n{}", events.out);
            }
            poll::pause(Millis(10));
        }
        Ok(())
    }

    /// Living processes of an app, also those that it does not know of.
    pub(crate) fn processes(&self, app: &str) -> Vec<i32> {
        let mark = format!("CLMGR_APP={app}");
        let mut found = self.all();
        found.retain(|pid| procfs::environ_has(*pid, mark.as_bytes()));
        found
    }

    /// Living processes of this home.
    fn all(&self) -> Vec<i32> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let mut found = procfs::all_pids();
        found.retain(|pid| *pid != own && procfs::environ_has(*pid, &self.mark) && lives(*pid));
        found
    }

    /// Signals a process of this home. False if it is gone already.
    pub(crate) fn signal(&self, pid: i32, signal: i32) -> bool {
        // The descriptor is open before the look: the pid cannot be given to somebody else in between.
        pidfd::open(pid)
            .is_ok_and(|fd| procfs::environ_has(pid, &self.mark) && pidfd::signal(fd, signal, Scope::Process).is_ok())
    }

    /// Ends what `clmgr kill` did not end, and says how many processes that were.
    pub(crate) fn end(&self) -> anyhow::Result<usize> {
        let _gone_already = self.cli(&["kill"])?;
        let until = clock::monotonic().after(GONE);
        while !self.all().is_empty() && clock::monotonic() < until {
            poll::pause(Millis(10));
        }
        let mut left = 0;
        for signal in [19, 9] {
            // All are halted first: keeper and daemon replace each other.
            for pid in self.all() {
                left += usize::from(self.signal(pid, signal) && signal == 9);
            }
        }
        Ok(left)
    }
}

/// True while a process lives (a zombie does not).
pub(crate) fn lives(pid: i32) -> bool {
    procfs::stat(pid).is_some_and(|stat| !stat.is_dead()) && pidfd::open(pid).is_ok_and(pidfd::alive)
}
