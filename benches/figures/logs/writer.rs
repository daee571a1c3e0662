//! `lines.c` as an app, and through `cat`.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::bed::Bed;
use crate::logs::verify::LINE;
use crate::stats::{now, to_seconds};

/// Between two looks at a file.
const PAUSE: Duration = Duration::from_millis(2);

/// How long anything here may take, in seconds.
const PATIENCE: i64 = 300;

/// What lines look like in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Raw,
    Stamped,
    Json,
}

impl Format {
    /// The key of the ecosystem file.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Raw => "time = false",
            Self::Stamped => "time = true",
            Self::Json => "log_type = \"json\"",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Stamped => "stamped",
            Self::Json => "JSON",
        })
    }
}

/// How many MiB the apps write in a round, together. `FIGURES_LOG_MIB` says otherwise.
pub(super) fn amount(bed: &Bed) -> anyhow::Result<u64> {
    let usual = if bed.quick() { 256 } else { 1024 };
    std::env::var("FIGURES_LOG_MIB").map_or(Ok(usual), |text| Ok(text.parse()?))
}

/// How often each is done.
pub(super) const fn rounds(bed: &Bed) -> usize {
    if bed.quick() { 3 } else { 5 }
}

/// The lines of this many MiB.
pub(super) const fn lines(mib: u64) -> u64 {
    (mib << 20) / LINE as u64
}

/// A table of an ecosystem file: an app that writes so many lines, once, into this file. `keys` are more lines of
/// the table.
pub(super) fn app(bed: &Bed, name: &str, lines: u64, path: &Path, keys: &str) -> String {
    format!(
        "[[apps]]\nname = \"{name}\"\ncmd = [\"{}\", \"{lines}\"]\nrestart = \"never\"\nout_file = \"{}\"\n{keys}\n",
        bed.path("lines").display(),
        path.display()
    )
}

/// The same; when it has written everything, [`took`] says how long that took it.
pub(super) fn timed_app(bed: &Bed, name: &str, lines: u64, path: &Path, keys: &str) -> String {
    let command = format!("\"{lines}\"]");
    let with = format!("\"{lines}\", \"{}\"]", told(path).display());
    app(bed, name, lines, path, keys).replace(&command, &with)
}

/// Where the app that writes to `path` leaves its time.
fn told(path: &Path) -> PathBuf {
    path.with_extension("took")
}

/// Waits for the end of a [`timed_app`]: how many seconds it was writing.
pub(super) fn took(path: &Path) -> anyhow::Result<f64> {
    let file = told(path);
    until("an app has written everything", || Ok(file.exists()))?;
    let text = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    let nanoseconds: i64 = text.trim().parse().with_context(|| format!("lines.c said {text:?}"))?;
    Ok(to_seconds(nanoseconds))
}

/// Waits for a condition.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = now() + PATIENCE * 1_000_000_000;
    while now() < deadline {
        if holds()? {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    bail!("waited {PATIENCE} s in vain until {what}")
}

/// `writer | cat > file`, running.
#[derive(Debug)]
pub(super) struct Cat {
    writer: Child,
    cat: Child,
}

impl Cat {
    /// Starts both.
    pub(super) fn start(bed: &Bed, lines: u64, path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path)?;
        let mut writer = bed
            .command(bed.path("lines"))
            .arg(lines.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = writer.stdout.take().context("no pipe")?;
        let cat = bed.command("/bin/cat").stdin(output).stdout(file).spawn()?;
        Ok(Self { writer, cat })
    }

    /// Waits for both.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let worked = self.writer.wait()?.success() && self.cat.wait()?.success();
        ensure!(worked, "writer | cat failed");
        Ok(())
    }
}
