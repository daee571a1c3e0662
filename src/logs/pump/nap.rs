//! When the pump lets lines gather: waking up costs more than writing a line does.
//!
//! Many quiet apps together wake the pump hundreds of times a second, each time for one line. Then it sleeps a
//! little before it looks again, and deals with all that has come meanwhile in one round. An app that is alone, or
//! one that writes much, is served at once: a full pipe would make it wait.

use crate::model::duration::Millis;
use crate::model::time::Moment;

/// How long lines may wait.
const NAP: Millis = Millis(15);
/// Rounds that come further apart than this are not worth a nap.
const CLOSE: Millis = Millis(30);
/// So many quiet rounds in a row come before the first nap.
const CALM: u8 = 8;

/// Looks at the rounds.
#[derive(Debug, Default)]
pub(super) struct Nap {
    calm: u8,
    last: Moment,
}

impl Nap {
    /// How long to sleep after the round that began at `now`; `busy`: something large was moved in it.
    pub(super) fn after(&mut self, now: Moment, busy: bool) -> Option<Millis> {
        let close = now < self.last.after(CLOSE);
        self.last = now;
        self.calm = if busy || !close { 0 } else { self.calm.saturating_add(1) };
        (self.calm >= CALM).then_some(NAP)
    }
}

#[cfg(test)]
mod tests {
    use super::{CALM, CLOSE, NAP, Nap};
    use crate::model::duration::Millis;
    use crate::model::time::Moment;

    /// How many of 100 rounds this far apart are followed by a nap.
    fn naps(apart: Millis, busy: impl Fn(u32) -> bool) -> usize {
        let mut nap = Nap::default();
        let mut now = Moment(7_000_000_000);
        let rounds = (0..100).filter(|round| {
            now = now.after(apart);
            nap.after(now, busy(*round)).is_some()
        });
        rounds.count()
    }

    #[test]
    fn sleeps_only_while_many_are_quiet() {
        assert_eq!(naps(Millis(2), |_| false), 100 - usize::from(CALM));
        assert_eq!(
            naps(NAP, |_| false),
            100 - usize::from(CALM),
            "a nap is followed by a nap"
        );
        assert_eq!(naps(CLOSE, |_| false), 0, "one app alone");
        assert_eq!(naps(Millis(0), |_| true), 0);
        assert_eq!(naps(Millis(2), |round| round % 5 == 0), 0, "bursts among quiet ones");
    }
}
