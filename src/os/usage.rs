//! What process trees use, sampled cheaply.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};

use crate::model::names::RunId;
use crate::model::process::Usage;
use crate::model::time::Moment;
use crate::os::procfs::{self, Stat, each_child, parse_stat};

/// One tree at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Which run.
    pub run: RunId,
    /// What it uses. The CPU share is that since the sample before.
    pub usage: Usage,
    /// There was a sample before; otherwise the CPU share is 0 and means nothing.
    pub cpu_known: bool,
}

/// Samples many trees again and again. Keeps the `/proc` files of the roots open in between, so a root
/// that dies is never mistaken for another process with its pid.
#[derive(Debug)]
pub struct Sampler {
    roots: BTreeMap<RunId, Root>,
    queue: Vec<i32>,
    round: u64,
    page: u64,
    ticks: u64,
}

#[derive(Debug)]
struct Root {
    pid: i32,
    stat: OwnedFd,
    tasks: OwnedFd,
    /// `children` of the main thread: all there is to read for a process with one thread.
    children: Option<OwnedFd>,
    /// Ticks used up to the last sample, and when that was.
    last: Option<(u64, Moment)>,
    round: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler {
    /// A sampler that holds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: both calls take a number and return one.
        let (page, ticks) = unsafe { (libc::sysconf(libc::_SC_PAGESIZE), libc::sysconf(libc::_SC_CLK_TCK)) };
        Self {
            roots: BTreeMap::new(),
            queue: Vec::new(),
            round: 0,
            page: u64::try_from(page).unwrap_or(4096),
            ticks: u64::try_from(ticks).unwrap_or(100).max(1),
        }
    }

    /// Samples the trees below these roots; `into` is emptied first. Roots that are gone are left out, and
    /// the files of roots that are not named any more are closed.
    pub fn sample(&mut self, now: Moment, roots: &[(RunId, i32)], into: &mut Vec<Sample>) {
        into.clear();
        self.round += 1;
        for (run, pid) in roots {
            if let Some(sample) = self.one(*run, *pid, now) {
                into.push(sample);
            }
        }
        let round = self.round;
        self.roots.retain(|_, root| root.round == round);
    }

    /// Closes all files. The next sample starts afresh.
    pub fn release(&mut self) {
        self.roots = BTreeMap::new();
        self.queue = Vec::new();
    }

    fn one(&mut self, run: RunId, pid: i32, now: Moment) -> Option<Sample> {
        if self.roots.get(&run).is_none_or(|root| root.pid != pid) {
            self.roots.insert(run, Root::open(pid)?);
        }
        let root = self.roots.get_mut(&run)?;
        let mut buffer = [0_u8; 1024];
        let length = rustix::io::pread(&root.stat, &mut buffer, 0).ok()?;
        let stat = parse_stat(buffer.get(..length)?)?;
        root.round = self.round;
        let mut ticks = spent(&stat);
        let mut pages = stat.rss_pages;
        self.queue.clear();
        match &root.children {
            Some(file) if stat.threads <= 1 => procfs::read_pids(file, &mut |child| self.queue.push(child)),
            Some(_) | None => each_child(&root.tasks, &mut |child| self.queue.push(child)),
        }
        while let Some(child) = self.queue.pop() {
            if let Some(stat) = descend(child, &mut self.queue, &mut buffer) {
                ticks += spent(&stat);
                pages += stat.rss_pages;
            }
        }
        let cpu = root
            .last
            .and_then(|(before, at)| percent(ticks.saturating_sub(before), self.ticks, now.0.saturating_sub(at.0)));
        // A sample at the same moment says nothing about a period: keep the older one.
        if root.last.is_none() || cpu.is_some() {
            root.last = Some((ticks, now));
        }
        Some(Sample {
            run,
            usage: Usage {
                memory: pages * self.page,
                cpu_percent: cpu.unwrap_or(0.0),
            },
            cpu_known: cpu.is_some(),
        })
    }
}

impl Root {
    fn open(pid: i32) -> Option<Self> {
        let file = |name: &str, flags| open(format!("/proc/{pid}/{name}"), flags | OFlags::CLOEXEC, Mode::empty());
        Some(Self {
            pid,
            stat: file("stat", OFlags::RDONLY).ok()?,
            tasks: file("task", OFlags::RDONLY | OFlags::DIRECTORY).ok()?,
            children: file(&format!("task/{pid}/children"), OFlags::RDONLY).ok(),
            last: None,
            round: 0,
        })
    }
}

/// CPU time of a process and of the children it has collected, so that a tree's total does not drop when
/// one of them ends.
const fn spent(stat: &Stat) -> u64 {
    stat.utime + stat.stime + stat.cutime + stat.cstime
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a percentage needs no more digits than it has"
)]
fn percent(ticks: u64, per_second: u64, nanoseconds: u64) -> Option<f32> {
    if nanoseconds == 0 {
        return None;
    }
    let seconds = nanoseconds as f64 / 1e9;
    #[expect(clippy::cast_possible_truncation, reason = "as above")]
    Some((ticks as f64 / per_second as f64 / seconds * 100.0) as f32)
}

/// Reads one descendant and appends its children. `buffer` is scratch.
fn descend(pid: i32, queue: &mut Vec<i32>, buffer: &mut [u8]) -> Option<Stat> {
    let length = procfs::read_small(Path::new(pid, "/stat").as_str(), buffer)?;
    let stat = parse_stat(buffer.get(..length)?)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(tasks) = open(Path::new(pid, "/task").as_str(), flags, Mode::empty()) {
        each_child(&tasks, &mut |child| queue.push(child));
    }
    Some(stat)
}

/// `/proc/PID/…` without an allocation.
struct Path {
    bytes: [u8; 32],
    length: usize,
}

impl Path {
    fn new(pid: i32, suffix: &str) -> Self {
        use std::io::Write;
        let mut path = Self {
            bytes: [0; 32],
            length: 0,
        };
        let mut rest = path.bytes.as_mut_slice();
        if write!(rest, "/proc/{pid}{suffix}").is_ok() {
            path.length = 32 - rest.len();
        }
        path
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.bytes.get(..self.length).unwrap_or_default()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Path, Sampler, percent};
    use crate::model::duration::Millis;
    use crate::model::names::RunId;
    use crate::model::time::Moment;
    use crate::os::clock;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn counts_the_whole_tree_and_forgets_the_dead() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 & a=$!; sleep 1000 & b=$!; echo; read x; kill $a $b"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut String::new())
            .unwrap();
        // A process that is just being executed has no memory.
        let asleep = || {
            let all = procfs::process::all_processes().unwrap();
            let stats = all.filter_map(|process| process.ok()?.stat().ok());
            stats
                .filter(|stat| stat.ppid == pid && stat.comm == "sleep" && stat.rss > 0)
                .count()
        };
        let end = clock::monotonic().after(Millis::from_secs(60));
        while asleep() < 2 {
            assert!(clock::monotonic() < end, "the children do not begin");
        }
        let mut sampler = Sampler::new();
        let mut samples = Vec::new();
        let run = RunId(1);
        let now = clock::monotonic();
        sampler.sample(now, &[(run, pid), (RunId(2), i32::MAX)], &mut samples);
        assert_eq!(samples.len(), 1);
        assert!(!samples[0].cpu_known);
        let alone = procfs::process::Process::new(pid).unwrap().stat().unwrap().rss * 4096;
        assert!(samples[0].usage.memory > alone, "{samples:?} {alone}");
        sampler.sample(Moment(now.0 + 1_000_000_000), &[(run, pid)], &mut samples);
        assert!(samples[0].cpu_known && samples[0].usage.cpu_percent < 100.0);
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        child.wait().unwrap();
        sampler.sample(Moment(now.0 + 2_000_000_000), &[(run, pid)], &mut samples);
        assert!(samples.is_empty() && sampler.roots.is_empty());
        sampler.release();
    }

    #[test]
    fn percentages() {
        assert_eq!(percent(250, 100, 1_000_000_000), Some(250.0));
        assert_eq!(percent(1, 100, 0), None);
        assert_eq!(Path::new(i32::MAX, "/stat").as_str(), "/proc/2147483647/stat");
    }
}
