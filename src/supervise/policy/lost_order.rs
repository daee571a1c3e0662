//! An end that says nothing about the app, because the daemon before may have ordered it.
//!
//! What a daemon decides is written while it is already being done. If it dies in between, the next one finds an
//! instance that nobody wanted to stop, and that ends, or has ended, as one does that was told to. Such an end is no
//! crash: many of them at once, of young instances, would open the circuit of an app that works.
//!
//! Only runs of the daemon before are meant, and only for as long as one of them may take to obey.

use crate::model::duration::Millis;
use crate::model::exit::ExitStatus;
use crate::model::names::RunId;
use crate::model::spec::StopSpec;
use crate::model::time::Moment;
use crate::supervise::run::Run;

/// How much later than its end the exit of a process may be heard of: its pipes are read to the end before.
const HEARING: Millis = Millis::from_secs(5);

/// What a daemon knows of the one before it: that orders of it may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inheritance {
    /// The first run that is not of the daemon before.
    pub first_own: RunId,
    /// When this daemon took over.
    pub since: Moment,
}

impl Inheritance {
    /// True if the end of this run, which is known, may have been ordered.
    #[must_use]
    pub fn excuses(self, run: &Run, stop: &StopSpec) -> bool {
        let Some((ended, exit)) = run.exit else { return false };
        let limit = self.since.after(stop.kill_timeout).after(HEARING);
        run.id < self.first_own
            && run.cause.is_none()
            && ended <= limit
            && match exit.status {
                ExitStatus::Signal(signal) => signal == stop.signal,
                // Of its own accord when it was told, as a shell says it, or nobody can tell.
                ExitStatus::Code(code) => code == 0 || code == 128 + stop.signal,
                ExitStatus::Unknown => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::Inheritance;
    use crate::model::duration::Millis;
    use crate::model::exit::{Exit, ExitStatus};
    use crate::model::names::RunId;
    use crate::model::spec::StopSpec;
    use crate::model::time::Moment;
    use crate::supervise::run::{Cause, Run};

    #[test]
    fn excuses_what_an_order_could_have_done_and_nothing_else() {
        use ExitStatus::{Code, Signal, Unknown};
        let since = Moment(1_000_000_000);
        let inheritance = Inheritance {
            first_own: RunId(7),
            since,
        };
        let stop = StopSpec {
            signal: 2,
            kill_timeout: Millis(3_000),
            ..StopSpec::default()
        };
        let excused = |id: u64, millis: u64, status: ExitStatus, cause: Option<Cause>| {
            let mut run = Run::new(RunId(id), 0, 0);
            run.exit = Some((since.after(Millis(millis)), Exit::bare(status)));
            run.cause = cause;
            inheritance.excuses(&run, &stop)
        };
        for status in [Signal(2), Code(0), Code(130), Unknown] {
            assert!(excused(6, 0, status, None), "{status:?}");
            assert!(excused(6, 8_000, status, None), "{status:?}");
            assert!(!excused(6, 8_001, status, None), "too late: {status:?}");
            assert!(!excused(7, 0, status, None), "started here: {status:?}");
            assert!(
                !excused(6, 0, status, Some(Cause::NotReady)),
                "judged already: {status:?}"
            );
        }
        for status in [Signal(15), Signal(9), Signal(11), Code(1), Code(143)] {
            assert!(!excused(6, 0, status, None), "{status:?}");
        }
        assert!(
            !inheritance.excuses(&Run::new(RunId(6), 0, 0), &stop),
            "it has not ended"
        );
    }
}
