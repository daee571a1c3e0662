//! One home with its keeper, daemon and apps: asking it, finding its processes, and killing them. Only processes
//! that carry this home in their environment are ever signalled.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use clmgr::api::routes::{self, Route};
use clmgr::api::status::{Ping, StatusReply};
use clmgr::client::{Client, launch};
use clmgr::model::duration::Millis;
use clmgr::os::home::Home;
use clmgr::os::pidfd::Scope;
use clmgr::os::{clock, pidfd, poll, procfs};
use serde::de::DeserializeOwned;

/// The program that is tested.
const CLMGR: &str = env!("CARGO_BIN_EXE_clmgr");

/// The name of its copy in the folder of a run.
const COPY: &str = "clmgr";

/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Millis = Millis(60_000);

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code; -1 if a signal ended it.
    pub(crate) code: i32,
    /// Standard error.
    pub(crate) err: String,
}

/// The home and the folder around it.
#[derive(Debug)]
pub(crate) struct World {
    root: PathBuf,
    home: Home,
    mark: Vec<u8>,
}

impl World {
    /// A new folder below `/tmp`, with a path short enough for a socket.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("cf").tempdir_in("/tmp")?.keep();
        let path = root.join("home");
        let mark = [b"CLMGR_HOME=", path.as_os_str().as_bytes()].concat();
        let home = Home::under(&path)?;
        Ok(Self { root, home, mark })
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The state folder.
    pub(crate) fn home(&self) -> &Path {
        &self.home.state
    }

    /// Runs a command to its end.
    pub(crate) fn cli(&self, args: &[&str]) -> anyhow::Result<Said> {
        let output = Command::new(CLMGR)
            .args(args)
            .current_dir(&self.root)
            .env_clear()
            .env("CLMGR_HOME", &self.home.state)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.root)
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .context("clmgr cannot be run")?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Connects as the CLI does, waiting for a daemon that is being started, but never starts one.
    pub(crate) fn connect(&self) -> anyhow::Result<Client> {
        let nobody = || Err(io::Error::other("nobody is to be started"));
        Ok(launch::ensure_running(&self.home.socket(), &nobody, &|| true)?)
    }

    /// Asks on a new connection until somebody answers.
    pub(crate) fn get<T: DeserializeOwned>(&self, route: Route, query: &[(&str, String)]) -> anyhow::Result<T> {
        let until = clock::monotonic().after(PATIENCE);
        loop {
            let answer = self
                .connect()
                .and_then(|mut client| Ok(client.call::<(), T>(route, query, None)?));
            if answer.is_ok() || clock::monotonic() > until {
                return answer.with_context(|| format!("{} was not answered", route.path));
            }
        }
    }

    /// What is going on with one app, or all.
    pub(crate) fn status(&self, app: Option<&str>) -> anyhow::Result<StatusReply> {
        let query: Vec<_> = app.iter().map(|app| ("target", (*app).to_owned())).collect();
        self.get(routes::STATUS, &query)
    }

    /// Who answers.
    pub(crate) fn ping(&self) -> anyhow::Result<Ping> {
        self.get(routes::PING, &[])
    }

    /// Waits until a condition holds.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let end = clock::monotonic().after(PATIENCE);
        while !holds()? {
            if clock::monotonic() > end {
                bail!("{what}: not within {PATIENCE}");
            }
            poll::pause(Millis(2));
        }
        Ok(())
    }

    /// Programs that replace each other: the tested one and a copy of it.
    pub(crate) fn builds(&self) -> anyhow::Result<[String; 2]> {
        let copy = self.root.join(COPY);
        if !copy.exists() {
            std::fs::copy(CLMGR, &copy)?;
        }
        Ok([CLMGR.to_owned(), copy.to_str().context("a strange path")?.to_owned()])
    }

    /// The daemon among a keeper's children; none while there is none.
    pub(crate) fn daemon_of(&self, keeper: i32) -> Option<i32> {
        procfs::children(keeper)
            .into_iter()
            .find(|pid| self.plays(*pid, b"daemon"))
    }

    /// All keepers and all daemons of this home.
    pub(crate) fn managers(&self) -> (Vec<i32>, Vec<i32>) {
        let all = |role: &[u8]| {
            let mut pids = procfs::all_pids();
            pids.retain(|pid| self.plays(*pid, role));
            pids
        };
        (all(b"keeper"), all(b"daemon"))
    }

    fn plays(&self, pid: i32, role: &[u8]) -> bool {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(role)
            && (line.starts_with(CLMGR.as_bytes()) || line.starts_with(self.root.join(COPY).as_os_str().as_bytes()))
            && procfs::environ_has(pid, &self.mark)
    }

    /// Signals a keeper or daemon of this home. False if it is gone already.
    pub(crate) fn signal_manager(&self, pid: i32, signal: i32) -> bool {
        // The descriptor is open before the look: the pid cannot be given to somebody else in between.
        pidfd::open(pid).is_ok_and(|fd| {
            (self.plays(pid, b"keeper") || self.plays(pid, b"daemon"))
                && pidfd::signal(fd, signal, Scope::Process).is_ok()
        })
    }

    /// Living app processes of this home, by app.
    pub(crate) fn apps(&self) -> BTreeMap<String, Vec<i32>> {
        let mut found = BTreeMap::<String, Vec<i32>>::new();
        for pid in procfs::all_pids() {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            if words.nth(1) != Some(b"app") || words.nth(1) != Some(self.root.as_os_str().as_bytes()) {
                continue;
            }
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let name = environ
                .split(|byte| *byte == 0)
                .find_map(|entry| entry.strip_prefix(b"CLMGR_APP="));
            if let Some(name) = name {
                let name = String::from_utf8_lossy(name).into_owned();
                found.entry(name).or_default().push(pid);
            }
        }
        found
    }

    /// Ends what `clmgr kill` did not end, and says how many processes that were.
    pub(crate) fn end(&self) -> anyhow::Result<usize> {
        let _gone_already = self.cli(&["kill"])?;
        let mut left = 0;
        for signal in [19, 9] {
            // All are halted first: keeper and daemon replace each other.
            let (keepers, daemons) = self.managers();
            for pid in keepers.into_iter().chain(daemons) {
                left += usize::from(signal == 9 && self.signal_manager(pid, signal));
            }
        }
        for pid in self.apps().into_values().flatten() {
            if let Ok(fd) = pidfd::open(pid)
                && self.apps().values().flatten().any(|known| *known == pid)
            {
                left += usize::from(pidfd::signal(fd, 9, Scope::Process).is_ok());
            }
        }
        Ok(left)
    }
}

/// True while a process lives (a zombie does not).
pub(crate) fn lives(pid: i32) -> bool {
    pidfd::open(pid).is_ok_and(pidfd::alive)
}
