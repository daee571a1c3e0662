//! What the kernel says about processes.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Proportional set size in bytes.
pub(crate) fn pss(pid: i32) -> anyhow::Result<f64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// The highest resident set size so far, in bytes.
pub(crate) fn peak(pid: i32) -> anyhow::Result<f64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// A field in kB of a file in `/proc`, in bytes.
fn field(path: &str, name: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("no {name} in {path}"))?;
    let kib: f64 = value.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

/// CPU time used so far by all threads, in seconds, in steps of a clock tick.
pub(crate) fn cpu(pid: i32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let (_, fields) = text.rsplit_once(')').context("no command in stat")?;
    // After the command come the fields from the third on; 14 and 15 are user and system time.
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    #[expect(clippy::cast_precision_loss, reason = "100 on every Linux")]
    let hertz = rustix::param::clock_ticks_per_second() as f64;
    Ok(ticks.iter().sum::<f64>() / hertz)
}

/// A process and all that descend from it.
pub(crate) fn tree(root: i32) -> anyhow::Result<Vec<i32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the command: state, then the parent.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == next)
                .map(|(pid, _)| *pid),
        );
        at += 1;
    }
    Ok(found)
}

/// Kills every process whose environment has `name` set to `value`, until there is none. Returns how many.
pub(crate) fn end_marked(name: &str, value: &Path) -> usize {
    let mark = [name.as_bytes(), b"=", value.as_os_str().as_bytes()].concat();
    let mut ended = 0;
    for _round in 0..20 {
        let found = marked(&mark);
        if found.is_empty() {
            break;
        }
        for pid in found {
            // The descriptor pins the process; its mark is read again before it is signalled.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            if has_mark(pid, &mark) && pidfd_send_signal(&process, Signal::KILL).is_ok() {
                ended += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    ended
}

fn marked(mark: &[u8]) -> Vec<Pid> {
    let this = rustix::process::getpid();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != this && has_mark(*pid, mark))
        .collect()
}

fn has_mark(pid: Pid, mark: &[u8]) -> bool {
    fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|variable| variable == mark))
}
