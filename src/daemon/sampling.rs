//! Memory and CPU of process trees: measured while somebody looks, and for apps with a memory limit.

use std::time::Duration;

use crate::daemon::Daemon;
use crate::model::duration::Millis;
use crate::model::names::RunId;
use crate::model::size::Bytes;
use crate::model::spec::AppSpec;
use crate::model::time::Moment;
use crate::os::clock;
use crate::os::usage::{Sample, Sampler};
use crate::supervise::Input;

/// Samples are taken this often while they are needed.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);
/// Somebody who asked is taken to look for this long.
const INTEREST: Millis = Millis(5000);
/// A sample younger than this is as good as a new one.
const FRESH: Millis = Millis(900);

/// When to measure.
#[derive(Debug, Default)]
pub(crate) struct Sampling {
    sampler: Sampler,
    looked: Option<Moment>,
    taken: Option<Moment>,
    limits: bool,
    buffer: Vec<Sample>,
}

impl Sampling {
    /// A process was started from this spec.
    pub(crate) fn started(&mut self, spec: &AppSpec) {
        self.limits |= spec.max_memory_restart.is_some();
    }

    /// Somebody wants to know for some more seconds.
    fn interested(&self, now: Moment) -> bool {
        self.looked.is_some_and(|at| now.since(at) < INTEREST)
    }

    /// The clock has to tick.
    pub(crate) fn is_needed(&self) -> bool {
        self.limits || self.looked.is_some()
    }
}

impl Daemon {
    /// Somebody looks: makes sure that the samples are fresh.
    pub(crate) fn look(&mut self) {
        let now = clock::monotonic();
        self.sampling.looked = Some(now);
        if self.sampling.taken.is_none_or(|at| now.since(at) >= FRESH) {
            self.measure(now, true);
        }
    }

    /// A period is over.
    pub(crate) fn sample(&mut self) {
        let now = clock::monotonic();
        let everyone = self.sampling.interested(now);
        if !everyone && self.sampling.looked.take().is_some() && !self.sampling.limits {
            self.sampling.sampler.release();
            self.sampling.taken = None;
            self.samples.clear();
            return;
        }
        self.measure(now, everyone);
    }

    fn measure(&mut self, now: Moment, everyone: bool) {
        let limited = |run: RunId, daemon: &Self| {
            daemon
                .spec_of(run)
                .is_some_and(|spec| spec.max_memory_restart.is_some())
        };
        let roots: Vec<(RunId, i32)> = self
            .handles
            .iter()
            .filter(|(run, handle)| handle.exit.is_none() && (everyone || limited(**run, self)))
            .map(|(run, handle)| (*run, handle.pid))
            .collect();
        if !everyone && roots.is_empty() {
            // Nothing with a limit runs any more; the next one that is started says so.
            self.sampling.limits = false;
            self.sampling.sampler.release();
            return;
        }
        let mut buffer = std::mem::take(&mut self.sampling.buffer);
        self.sampling.sampler.sample(now, &roots, &mut buffer);
        self.sampling.taken = everyone.then_some(now);
        if everyone {
            self.samples.clear();
        }
        for sample in &buffer {
            self.samples.insert(sample.run, *sample);
            if self.sampling.limits && limited(sample.run, self) {
                self.input(Input::Memory(sample.run, Bytes(sample.usage.memory)));
            }
        }
        self.sampling.buffer = buffer;
    }
}
