//! When an instance that does not work is replaced again, though its last replacements were no better.
//!
//! ```text
//!   the k-th replacement in a row that was no better:   k < max_restarts    the next one waits by the back-off
//!                                                       k ≥ max_restarts    … breaker_cooldown, doubling to its cap
//! ```
//!
//! No better is one that never was in service, or that became unhealthy without ever having been seen to work. In
//! between the unhealthy instance stays in service: something that half works is better than nothing. That is why the
//! circuit, which starts nothing, has no part in this.

use crate::model::duration::Millis;
use crate::model::spec::{AppSpec, RestartSpec};
use crate::model::time::Moment;
use crate::supervise::policy::backoff;
use crate::supervise::run::Run;

/// How long nothing is replaced after `futile` replacements in a row; `None`: until somebody acts.
#[must_use]
pub fn rest(futile: u32, law: &RestartSpec, seed: u64) -> Option<Millis> {
    if futile == 0 {
        return Some(Millis::ZERO);
    }
    let Some(beyond) = futile.checked_sub(law.max_restarts) else {
        return Some(backoff::wait(futile, &law.backoff, seed));
    };
    let first = law.cooldown?;
    let grown = first.0.saturating_mul(1 << beyond.min(20));
    Some(Millis(grown.min(law.cooldown_max.0).max(first.0)))
}

/// True if this run has ever worked: it was seen to, or, where nobody looks for that, nothing was said against it for
/// `restart_window` and twice the time after which silence counts.
#[must_use]
pub fn has_worked(run: &Run, spec: &AppSpec, now: Moment) -> bool {
    if run.worked || spec.health.is_some() {
        return run.worked;
    }
    let silence = spec
        .watchdog
        .unwrap_or_default()
        .max(spec.hang_timeout.unwrap_or_default());
    let enough = spec.restart.window.max(Millis(silence.0.saturating_mul(2)));
    run.ready.is_some_and(|ready| ready.after(enough) <= now)
}

/// When a run has reached its `max_age`; it varies from run to run, earlier only.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a time is not negative and no longer than it"
)]
pub fn expires(run: &Run, spec: &AppSpec, seed: u64) -> Option<Moment> {
    let age = spec.max_age?;
    let early = age.after.0 as f64 * age.jitter.clamp(0.0, 1.0) * backoff::unit(seed);
    Some(run.ready?.after(Millis(age.after.0.saturating_sub(early as u64))))
}

#[cfg(test)]
mod tests {
    use super::{expires, rest};
    use crate::model::duration::Millis;
    use crate::model::health::MaxAge;
    use crate::model::names::RunId;
    use crate::model::spec::{AppSpec, Backoff, RestartSpec};
    use crate::model::time::Moment;
    use crate::supervise::run::Run;

    #[test]
    fn waits_longer_each_time_and_then_as_long_as_a_circuit_is_open() {
        let law = RestartSpec {
            backoff: Backoff {
                jitter: 0.0,
                ..Backoff::default()
            },
            ..RestartSpec::default()
        };
        let rests: Vec<u64> = (0..11).map(|k| rest(k, &law, 1).unwrap().0 / 1000).collect();
        assert_eq!(rests, [0, 1, 2, 4, 8, 60, 120, 240, 480, 600, 600]);
        let never = RestartSpec { cooldown: None, ..law };
        assert_eq!(rest(5, &never, 1), None);
        assert_eq!(rest(4, &never, 1), Some(Millis(8000)));
    }

    #[test]
    fn ages_differ_and_none_is_longer_than_said() {
        let mut spec = AppSpec::new("api".parse().unwrap(), Vec::new(), "/".into());
        let mut run = Run::new(RunId(1), 0, 0);
        run.ready = Some(Moment(5_000_000));
        assert_eq!(expires(&run, &spec, 1), None);
        spec.max_age = Some(MaxAge {
            after: Millis(1000),
            jitter: 0.25,
        });
        let ends: Vec<u64> = (0..100)
            .map(|seed| expires(&run, &spec, seed).unwrap().since(Moment(5_000_000)).0)
            .collect();
        assert!(ends.iter().all(|end| (750..=1000).contains(end)), "{ends:?}");
        assert!(ends.iter().max().unwrap() - ends.iter().min().unwrap() > 200);
    }
}
