//! What the answers of one instance to its probe mean. Pure.
//!
//! ```text
//!              success                     `retries` failures in a row
//!   Starting ──────────▶ Healthy ───────────────────────────────────────▶ Unhealthy
//!      │                    ▲                                                │
//!      │                    └──────────────── success ───────────────────────┘
//!      └── `retries` failures in a row, counted after `start_period` ──▶ Unhealthy
//! ```

use crate::model::health::{Health, Vitality};
use crate::model::time::Moment;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It works, for the first time or again.
    Healthy,
    /// It does not, and why.
    Unhealthy(String),
}

/// The answers so far.
#[derive(Debug)]
pub(crate) struct Record {
    retries: u32,
    lenient_until: Moment,
    state: Vitality,
    failures: u32,
    reason: Option<String>,
}

impl Record {
    /// No answer yet. `ready`: when the instance became ready.
    pub(crate) const fn new(health: &Health, ready: Moment) -> Self {
        Self {
            retries: health.retries,
            lenient_until: ready.after(health.start_period),
            state: Vitality::Starting,
            failures: 0,
            reason: None,
        }
    }

    /// What is known.
    pub(crate) const fn state(&self) -> Vitality {
        self.state
    }

    /// Failures in a row that count.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Why the last question was not answered, if it was not.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Takes an answer, or why there was none.
    pub(crate) fn answered(&mut self, now: Moment, answer: Result<(), String>) -> Option<Change> {
        let Err(why) = answer else {
            self.failures = 0;
            self.reason = None;
            let before = std::mem::replace(&mut self.state, Vitality::Healthy);
            return (before != Vitality::Healthy).then_some(Change::Healthy);
        };
        let lenient = self.state == Vitality::Starting && now < self.lenient_until;
        if !lenient {
            self.failures = self.failures.saturating_add(1);
        }
        let times = match self.retries {
            1 => String::new(),
            many => format!(", {many} times in a row"),
        };
        let change = (self.failures >= self.retries && self.state != Vitality::Unhealthy).then(|| {
            self.state = Vitality::Unhealthy;
            Change::Unhealthy(format!("health: {why}{times}"))
        });
        self.reason = Some(why);
        change
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Record};
    use crate::model::duration::Millis;
    use crate::model::health::{Health, Probe, Vitality};
    use crate::model::time::Moment;

    fn record(retries: u32, start_period: u64) -> Record {
        let health = Health {
            probe: Probe::Tcp("127.0.0.1:1".into()),
            interval: Millis(1),
            timeout: Millis(1),
            retries,
            start_period: Millis(start_period),
        };
        Record::new(&health, Moment(0))
    }

    fn at(millis: u64) -> Moment {
        Moment(0).after(Millis(millis))
    }

    fn refused() -> Result<(), String> {
        Err("GET http://x answered 500".into())
    }

    #[test]
    fn so_many_failures_in_a_row_make_it_unhealthy_once() {
        let mut record = record(3, 0);
        assert_eq!(record.answered(at(0), Ok(())), Some(Change::Healthy));
        assert_eq!(record.answered(at(1), refused()), None);
        assert_eq!(record.answered(at(2), refused()), None);
        assert_eq!((record.answered(at(3), Ok(())), record.failures()), (None, 0));
        assert_eq!(record.answered(at(4), refused()), None);
        assert_eq!(record.answered(at(5), refused()), None);
        assert_eq!((record.state(), record.failures()), (Vitality::Healthy, 2));
        let why = "health: GET http://x answered 500, 3 times in a row";
        assert_eq!(record.answered(at(6), refused()), Some(Change::Unhealthy(why.into())));
        assert_eq!(record.answered(at(7), refused()), None);
        assert_eq!(
            (record.failures(), record.reason()),
            (4, Some("GET http://x answered 500"))
        );
        assert_eq!(record.answered(at(8), Ok(())), Some(Change::Healthy));
        assert_eq!(record.reason(), None);
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_until_the_first_success() {
        let mut patient = record(1, 100);
        assert_eq!(patient.answered(at(99), refused()), None);
        assert_eq!((patient.state(), patient.failures()), (Vitality::Starting, 0));
        assert!(patient.reason().is_some());
        let why = "health: GET http://x answered 500";
        assert_eq!(
            patient.answered(at(100), refused()),
            Some(Change::Unhealthy(why.into()))
        );
        let mut proven = record(1, 100);
        assert_eq!(proven.answered(at(5), Ok(())), Some(Change::Healthy));
        assert!(matches!(proven.answered(at(6), refused()), Some(Change::Unhealthy(_))));
    }
}
