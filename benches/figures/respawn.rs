//! From `kill -9` to the replacement executing.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::bed::Bed;
use crate::home::Home;
use crate::stats::{median, now, quantile, to_seconds};
use crate::table::{Limit, Row};

/// How often the process is killed.
const ROUNDS: usize = 200;

/// Measures clmgr and a bare parent in turns.
pub(crate) fn respawn(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let stamp = bed.path("stamp");
    let mut bare_births = Births::open(bed.path("bare.fifo"))?;
    let mut our_births = Births::open(bed.path("ours.fifo"))?;

    let parent = Parent::start(bed, &stamp, &bare_births.path)?;
    let home = Home::start(bed, "respawned")?;
    let app = format!(
        "[[apps]]\nname = \"stamp\"\ncmd = [\"{}\", \"{}\"]\nmin_uptime = \"1ms\"\nmax_restarts = 100000\n",
        stamp.display(),
        our_births.path.display()
    );
    home.run(&["start", &home.ecosystem(&app)?])?;

    let (mut bare_pid, _) = bare_births.next()?;
    let (mut our_pid, _) = our_births.next()?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Longer than `min_uptime`, so that each life was stable and each replacement is immediate.
        std::thread::sleep(Duration::from_millis(10));
        bare.push(bare_births.after_kill(&mut bare_pid)?);
        std::thread::sleep(Duration::from_millis(10));
        ours.push(our_births.after_kill(&mut our_pid)?);
    }
    drop(parent);
    Ok(vec![
        Row::time("kill -9 to replacement, median", median(&ours), Limit::Times(1.5)).against(median(&bare)),
        Row::time(
            "kill -9 to replacement, p99",
            quantile(&ours, 0.99),
            Limit::AtMost(0.008),
        )
        .against(quantile(&bare, 0.99)),
    ])
}

/// The bare parent. Its standard input ends when this is dropped, and with it the parent and its child.
struct Parent(Child);

impl Parent {
    fn start(bed: &Bed, stamp: &Path, fifo: &Path) -> anyhow::Result<Self> {
        let mut command = bed.command(bed.path("respawn"));
        command.arg(stamp).arg(fifo).stdin(Stdio::piped()).process_group(0);
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Where new processes say that they run.
struct Births {
    path: PathBuf,
    fifo: File,
}

impl Births {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Opened for both, so that it never ends while nobody writes.
        let fifo = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self { path, fifo })
    }

    /// The pid of the next process, and when it began to run, in nanoseconds.
    fn next(&mut self) -> anyhow::Result<(i32, i64)> {
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&self.fifo, PollFlags::IN)], Some(&patience))? == 0 {
            bail!("no process was started within 10 s");
        }
        let (mut pid, mut began) = ([0; 8], [0; 8]);
        self.fifo.read_exact(&mut pid)?;
        self.fifo.read_exact(&mut began)?;
        Ok((i32::try_from(i64::from_ne_bytes(pid))?, i64::from_ne_bytes(began)))
    }

    /// Kills the process and returns the seconds until the next one ran; `pid` becomes that one's.
    fn after_kill(&mut self, pid: &mut i32) -> anyhow::Result<f64> {
        let target = Pid::from_raw(*pid).context("a process without a pid")?;
        let process = pidfd_open(target, PidfdFlags::empty())?;
        let killed = now();
        pidfd_send_signal(&process, Signal::KILL)?;
        let (next, began) = self.next()?;
        *pid = next;
        Ok(to_seconds(began - killed))
    }
}
