//! One state folder with its own keeper and daemon.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::bed::Bed;

/// A running clmgr. It is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Home<'b> {
    bed: &'b Bed,
    path: PathBuf,
    /// The two processes that are clmgr.
    pub(crate) daemon: i32,
    /// The other one.
    pub(crate) keeper: i32,
}

impl<'b> Home<'b> {
    /// Starts a keeper and a daemon without apps.
    pub(crate) fn start(bed: &'b Bed, name: &str) -> anyhow::Result<Self> {
        let mut home = Self {
            bed,
            path: bed.path(name),
            daemon: 0,
            keeper: 0,
        };
        fs::create_dir(&home.path)?;
        home.run(&["resurrect"])?; // starts them
        let ping: Value = serde_json::from_str(&home.output(&["ping", "--json"])?)?;
        let pid = |key: &str| ping[key].as_i64().and_then(|pid| i32::try_from(pid).ok());
        home.daemon = pid("pid").context("ping gives no pid")?;
        home.keeper = pid("keeper_pid").context("ping gives no keeper_pid")?;
        Ok(home)
    }

    /// A file in the state folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes an ecosystem file and returns its path.
    pub(crate) fn ecosystem(&self, text: &str) -> anyhow::Result<String> {
        let path = self.file("ecosystem.toml");
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// An ecosystem file with so many different apps that sleep.
    pub(crate) fn sleepers(&self, count: usize) -> anyhow::Result<String> {
        let mut text = String::new();
        for number in 0..count {
            writeln!(text, "[[apps]]\nname = \"s{number}\"\ncmd = \"/bin/sleep 2147483647\"")?;
        }
        self.ecosystem(&text)
    }

    /// The command, silent.
    pub(crate) fn clmgr(&self, args: &[&str]) -> Command {
        let mut command = self.bed.clmgr(&self.path);
        command.args(args);
        command
    }

    /// Runs a command that must work.
    pub(crate) fn run(&self, args: &[&str]) -> anyhow::Result<()> {
        let status = self.clmgr(args).status()?;
        if !status.success() {
            bail!("`clmgr {}` failed: {status}", args.join(" "));
        }
        Ok(())
    }

    /// Runs a command that must work, and returns what it prints.
    pub(crate) fn output(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self
            .clmgr(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`clmgr {}` failed: {}: {said}", args.join(" "), output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// How many instances have a living process.
    pub(crate) fn alive(&self) -> anyhow::Result<usize> {
        let pids: Vec<i32> = serde_json::from_str(&self.output(&["pid", "--json"])?)?;
        Ok(pids
            .into_iter()
            .filter(|pid| PathBuf::from(format!("/proc/{pid}")).exists())
            .count())
    }
}

impl Drop for Home<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["kill"]) {
            eprintln!("{error:#}");
        }
    }
}
