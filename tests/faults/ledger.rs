//! What the apps say about themselves, in one file: each record is appended by a single write, so the order of the
//! lines is the order of what happened.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use clmgr::os::{clock, procfs};

/// The file's name in the folder of the run.
pub(crate) const LEDGER: &str = "ledger";

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// It runs.
    Born,
    /// It is about to exit with this code.
    Code(i32),
    /// It is about to be ended by this signal.
    Signal(i32),
    /// It wrote this many lines, and will write no more.
    Wrote(u64),
}

/// The end of the ledger that an app holds.
#[derive(Debug)]
pub(crate) struct Pen {
    file: File,
    who: String,
}

impl Pen {
    /// Who writes is told by the environment that clmgr gives every instance.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(folder.join(LEDGER))?;
        let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
        let pid = i32::try_from(std::process::id())?;
        let ticks = procfs::identity(pid).context("no /proc")?.start_ticks;
        let version = std::env::var("VERSION").unwrap_or_else(|_| "-".to_owned());
        Ok(Self {
            file,
            who: format!(
                "{} {} {pid} {ticks} {version}",
                variable("CLMGR_APP")?,
                variable("CLMGR_SLOT")?
            ),
        })
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, record: Record) -> anyhow::Result<()> {
        let (what, number) = match record {
            Record::Born => ("born", 0),
            Record::Code(code) => ("code", i64::from(code)),
            Record::Signal(signal) => ("signal", i64::from(signal)),
            Record::Wrote(lines) => ("wrote", i64::try_from(lines)?),
        };
        let line = format!("{} {} {what} {number}\n", clock::monotonic().0, self.who);
        Ok(self.file.write_all(line.as_bytes())?)
    }
}

/// A line of the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// When, by the monotonic clock, in nanoseconds.
    pub(crate) at: u64,
    /// Whose app.
    pub(crate) app: String,
    /// Which instance.
    pub(crate) slot: u32,
    /// Its process.
    pub(crate) pid: i32,
    /// Its `VERSION`, `-` without one.
    pub(crate) version: String,
    /// What it said.
    pub(crate) record: Record,
}

/// Everything that was said so far.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(folder.join(LEDGER)).context("no app has ever said anything")?;
    text.lines()
        .map(|line| entry(line).with_context(|| format!("the ledger says {line:?}")))
        .collect()
}

fn entry(line: &str) -> anyhow::Result<Entry> {
    let mut words = line.split(' ');
    let mut next = || words.next().context("too short");
    let at = next()?.parse()?;
    let app = next()?.to_owned();
    let slot = next()?.parse()?;
    let pid = next()?.parse()?;
    next()?;
    let version = next()?.to_owned();
    let record = match (next()?, next()?) {
        ("born", _) => Record::Born,
        ("code", number) => Record::Code(number.parse()?),
        ("signal", number) => Record::Signal(number.parse()?),
        ("wrote", number) => Record::Wrote(number.parse()?),
        (other, _) => anyhow::bail!("{other} is no record"),
    };
    Ok(Entry {
        at,
        app,
        slot,
        pid,
        version,
        record,
    })
}
