//! The folder everything runs in, the compiled baselines, and how all of it is taken away again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::proc;

/// The program that is measured.
const CLMGR: &str = env!("CARGO_BIN_EXE_clmgr");

/// Where the sources of the baselines are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baseline");

/// Where `npm install --prefix target/tools` puts programs.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/node_modules/.bin");

/// The variable that marks every process of a run, and that all of them inherit.
const MARK: &str = "CLMGR_FIGURES";

/// A folder of its own below `/tmp`, short enough for the path of a socket.
#[derive(Debug)]
pub(crate) struct Bed {
    root: PathBuf,
    quick: bool,
}

impl Bed {
    /// Makes the folder, compiles the baselines, and sees to Ctrl-C.
    pub(crate) fn new(quick: bool) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("cf").tempdir_in("/tmp")?.keep();
        let bed = Self {
            root: root.clone(),
            quick,
        };
        clean_up_on_signals(root)?;
        for source in ["spawn_loop", "respawn", "stamp", "lines", "ticks", "group"] {
            bed.compile(source)?;
        }
        Ok(bed)
    }

    fn compile(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("gcc")
            .args(["-O2", "-Wall", "-Wextra", "-o"])
            .arg(self.path(name))
            .arg(format!("{SOURCES}/{name}.c"))
            .status()
            .context("cannot run gcc")?;
        if !status.success() {
            bail!("gcc cannot compile {SOURCES}/{name}.c");
        }
        Ok(())
    }

    /// A file in the folder; the baselines have their source's name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A command that carries the mark of this run, and reads and writes nothing.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env(MARK, &self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// `clmgr` with this state folder.
    pub(crate) fn clmgr(&self, home: &Path) -> Command {
        let mut command = self.command(CLMGR);
        command.env("CLMGR_HOME", home);
        command
    }

    /// Whether fewer and shorter rounds are wanted.
    pub(crate) const fn quick(&self) -> bool {
        self.quick
    }

    /// How many rounds of load there are, and how long each is.
    pub(crate) const fn rounds(&self) -> (usize, Duration) {
        if self.quick {
            (5, Duration::from_millis(400))
        } else {
            (15, Duration::from_secs(1))
        }
    }

    /// A program that npm installed in `target/tools`, or else one of PATH.
    pub(crate) fn tool(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::iter::once(PathBuf::from(TOOLS))
            .chain(std::env::split_paths(&path))
            .map(|folder| folder.join(name))
            .find(|file| file.exists())
    }

    /// The program that is measured.
    pub(crate) fn binary() -> &'static Path {
        Path::new(CLMGR)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        take_away(&self.root);
    }
}

/// Ends what carries this run's mark, and removes the folder.
fn take_away(root: &Path) {
    for home in fs::read_dir(root).into_iter().flatten().flatten() {
        if home.path().join("clmgr.sock").exists() {
            let _ = Command::new(CLMGR)
                .arg("kill")
                .env("CLMGR_HOME", home.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status();
        }
    }
    // What `clmgr kill` could not end, and the baselines: only processes that carry the mark.
    let ended = proc::end_marked(MARK, root);
    if ended > 0 {
        eprintln!("{ended} processes of this run had to be killed");
    }
    if let Err(error) = fs::remove_dir_all(root) {
        eprintln!("cannot remove {}: {error}", root.display());
    }
}

#[expect(clippy::exit, reason = "the measuring thread may be waiting for anything")]
fn clean_up_on_signals(root: PathBuf) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        take_away(&root);
        std::process::exit(130);
    });
    Ok(())
}
