//! Whether a server accepts nothing. Pure: it is shown what was seen and says what that proves.
//!
//! ```text
//!   (nothing waits) ──somebody waits──▶ window ──nothing was accepted for `patience`──▶ stalled
//!          ▲                              │ ▲                                             │
//!          └────────── queue empty ───────┘ └──── any sign that something was accepted ───┘
//! ```
//!
//! The kernel counts who waits, not who was accepted. So a window begins with somebody waiting and lasts as long as
//! everything that was seen fits a server that accepts nothing:
//!
//! * somebody who waited at its beginning still waits. A queue is served in order, but whoever waits here may wait in
//!   another queue of the same port, or far behind in a long one: this alone proves nothing;
//! * the processes have not got one new socket, for whatever purpose. A server under load has one at almost every
//!   look; a server that could not take one since the beginning has none at any;
//! * where no other process serves the queue: it has not become shorter. Only accepting takes anything from it;
//! * where nobody else has a queue of this port either: those who are gone from the list are still in the queue (their
//!   clients have reset them). Others must have been accepted and closed again between two looks.
//!
//! Any doubt begins a new window, so a slow server is never taken for a hung one as long as it accepts something
//! within `patience`. A gap between two looks (a machine that slept, a manager that got no CPU) is a doubt, too.

use std::collections::BTreeSet;

use crate::model::duration::Millis;
use crate::model::time::Moment;
use crate::os::queue::Queue;

/// Who else has to do with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Company {
    /// Other instances accept from the same socket.
    SameSocket,
    /// Other instances have sockets of their own on the same port.
    SamePort,
    /// Nobody.
    Alone,
}

/// One look.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// The queue.
    pub queue: Queue,
    /// Inodes of the sockets that the instance's processes hold.
    pub held: BTreeSet<u64>,
    /// Who else has to do with it.
    pub company: Company,
}

impl Look {
    /// Those who wait in the queue and are on no list: their clients have reset them.
    fn reset(&self) -> usize {
        (self.queue.depth as usize).saturating_sub(self.queue.waiting.len())
    }
}

/// What is known of one queue.
#[derive(Debug)]
pub(crate) struct Stall {
    patience: Millis,
    window: Option<Window>,
}

#[derive(Debug)]
struct Window {
    since: Moment,
    seen: Moment,
    last_depth: u32,
    first_reset: usize,
    first_waiting: usize,
    /// Of those who waited at the beginning.
    waiting: BTreeSet<u64>,
    held: BTreeSet<u64>,
}

impl Stall {
    /// A queue that was not looked at yet.
    pub(crate) const fn new(patience: Millis) -> Self {
        Self { patience, window: None }
    }

    /// Nobody waits, or nothing could be seen.
    pub(crate) fn clear(&mut self) {
        self.window = None;
    }

    /// Somebody has waited at the last look: it is worth looking again soon.
    pub(crate) const fn is_suspicious(&self) -> bool {
        self.window.is_some()
    }

    /// Takes a look; true when nothing was accepted for `patience`.
    pub(crate) fn see(&mut self, now: Moment, look: &Look) -> bool {
        if look.queue.depth == 0 {
            self.clear();
            return false;
        }
        if let Some(window) = &mut self.window
            && now.since(window.seen).0 <= self.patience.0 / 2
            && window.goes_on(look)
        {
            window.seen = now;
            return now.since(window.since) >= self.patience;
        }
        self.window = Some(Window::new(now, look));
        false
    }
}

impl Window {
    fn new(now: Moment, look: &Look) -> Self {
        Self {
            since: now,
            seen: now,
            last_depth: look.queue.depth,
            first_reset: look.reset(),
            first_waiting: look.queue.waiting.len(),
            waiting: look.queue.waiting.clone(),
            held: look.held.clone(),
        }
    }

    /// Everything fits a server that accepts nothing.
    fn goes_on(&mut self, look: &Look) -> bool {
        self.waiting.retain(|one| look.queue.waiting.contains(one));
        let gone = self.first_waiting - self.waiting.len();
        let explained = look.reset().saturating_sub(self.first_reset);
        let shorter = look.queue.depth < self.last_depth;
        self.last_depth = look.queue.depth;
        let accepted = match look.company {
            Company::SameSocket => false,
            Company::SamePort => shorter,
            Company::Alone => shorter || gone > explained,
        };
        !accepted && !self.waiting.is_empty() && look.held.is_subset(&self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::{Company, Look, Stall};
    use crate::model::duration::Millis;
    use crate::model::time::Moment;
    use crate::os::queue::Queue;
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_oneof, proptest};
    use std::collections::{BTreeSet, VecDeque};

    const PATIENCE: Millis = Millis(1000);
    const STEP: Millis = Millis(125);

    fn look(depth: u32, waiting: &[u64], held: &[u64], company: Company) -> Look {
        Look {
            queue: Queue {
                depth,
                waiting: waiting.iter().copied().collect(),
            },
            held: held.iter().copied().collect(),
            company,
        }
    }

    /// How many looks like this, one by one, until it counts as stalled; `None`: never.
    fn looks(all: impl IntoIterator<Item = Look>) -> Option<usize> {
        let (mut stall, mut now) = (Stall::new(PATIENCE), Moment(5));
        all.into_iter().position(|look| {
            now = now.after(STEP);
            stall.see(now, &look)
        })
    }

    #[test]
    fn who_waits_the_whole_time_proves_it() {
        for company in [Company::Alone, Company::SamePort, Company::SameSocket] {
            let same = || look(1, &[7], &[1], company);
            assert_eq!(looks(std::iter::repeat_with(same).take(9)), Some(8), "{company:?}");
            // More and more come, and sockets are closed.
            let growing = (1..20).map(|count| {
                let waiting: Vec<u64> = (0..u64::from(count)).collect();
                look(count, &waiting, if count > 3 { &[] } else { &[1] }, company)
            });
            assert_eq!(looks(growing), Some(8), "{company:?}");
        }
    }

    #[test]
    fn one_sign_of_life_is_enough() {
        let at = |sign: Look| {
            let company = sign.company;
            let quiet = move || look(2, &[7, 8], &[1], company);
            let signs = (0..100).map(move |count| {
                let mut sign = sign.clone();
                if sign.held.len() > 1 {
                    // Each is another one.
                    sign.held.insert(100 + count);
                }
                if count % 8 == 7 { sign } else { quiet() }
            });
            looks(signs)
        };
        for company in [Company::Alone, Company::SamePort, Company::SameSocket] {
            assert_eq!(at(look(2, &[7, 8], &[1, 2], company)), None, "a new socket");
            assert_eq!(at(look(2, &[9, 10], &[1], company)), None, "nobody waits any more");
            assert_eq!(at(look(0, &[], &[1], company)), None, "nobody waits at all");
        }
        assert_eq!(at(look(1, &[7], &[1], Company::SamePort)), None, "a shorter queue");
        assert_eq!(at(look(2, &[8, 9], &[1], Company::Alone)), None, "one for another");
        // Another instance may have done that.
        assert!(at(look(1, &[7], &[1], Company::SameSocket)).is_some());
        assert!(at(look(2, &[8, 9], &[1], Company::SamePort)).is_some());
        // A client that has given up is gone from the list, and stays in the queue.
        let reset = (0..9).map(|count| look(2, if count < 4 { &[7, 8] } else { &[7] }, &[1], Company::Alone));
        assert_eq!(looks(reset), Some(8));
    }

    #[test]
    fn a_gap_between_looks_proves_nothing() {
        let mut stall = Stall::new(PATIENCE);
        let same = look(1, &[7], &[], Company::Alone);
        assert!(!stall.see(Moment(0), &same));
        assert!(!stall.see(Moment(0).after(Millis(5000)), &same));
        assert!(stall.is_suspicious());
        assert!(!stall.see(Moment(0).after(Millis(5500)), &same));
        assert!(stall.see(Moment(0).after(Millis(6000)), &same));
        stall.clear();
        assert!(!stall.is_suspicious() && !stall.see(Moment(0).after(Millis(6100)), &same));
    }

    /// What happens between two looks.
    #[derive(Clone, Debug)]
    struct Round {
        arrive: u32,
        give_up: bool,
        /// Accepted, and closed again when the next is accepted.
        accept: u32,
    }

    fn rounds(accepting: bool) -> impl Strategy<Value = Vec<Round>> {
        let accept = if accepting { (0..4_u32).boxed() } else { Just(0).boxed() };
        let round =
            (prop_oneof![Just(0), 0..6_u32], any::<bool>(), accept).prop_map(|(arrive, give_up, accept)| Round {
                arrive,
                give_up: give_up && arrive == 0,
                accept,
            });
        prop::collection::vec(round, 1..80)
    }

    /// A server that holds what it accepted last; the looks at it, and for how many rounds it had accepted nothing at
    /// each while somebody waited.
    fn play(rounds: &[Round], company: Company) -> Vec<(Look, u32)> {
        let (mut queue, mut gone, mut held) = (VecDeque::from([1_u64, 2]), BTreeSet::new(), BTreeSet::from([1_u64]));
        let (mut next, mut idle, mut seen) = (3_u64, 0, Vec::new());
        for round in rounds {
            for _ in 0..round.arrive {
                queue.push_back(next);
                next += 1;
            }
            if round.give_up && queue.len() > 3 {
                gone.insert(queue[queue.len() - 2]);
            }
            idle += 1;
            for _ in 0..round.accept {
                if let Some(one) = queue.pop_front() {
                    held = BTreeSet::from([1, 1000 + one]);
                    idle = 0;
                }
            }
            if queue.is_empty() {
                idle = 0;
            }
            let waiting: Vec<u64> = queue.iter().copied().filter(|one| !gone.contains(one)).collect();
            let held: Vec<u64> = held.iter().copied().collect();
            seen.push((
                look(u32::try_from(queue.len()).unwrap(), &waiting, &held, company),
                idle,
            ));
        }
        seen
    }

    proptest! {
        #[test]
        fn who_accepts_is_never_taken_for_hung(rounds in rounds(true), company in 0..3_usize) {
            let company = [Company::Alone, Company::SamePort, Company::SameSocket][company];
            let (mut stall, mut now) = (Stall::new(PATIENCE), Moment(0));
            for (look, idle) in play(&rounds, company) {
                now = now.after(STEP);
                let stalled = stall.see(now, &look);
                prop_assert!(!stalled || idle >= 8, "{idle} rounds");
            }
        }

        #[test]
        fn who_accepts_nothing_is_found_in_time(rounds in rounds(false), company in 0..3_usize) {
            let company = [Company::Alone, Company::SamePort, Company::SameSocket][company];
            let (mut stall, mut now) = (Stall::new(PATIENCE), Moment(0));
            for (at, (look, _)) in play(&rounds, company).into_iter().enumerate() {
                now = now.after(STEP);
                prop_assert!(stall.see(now, &look) == (at >= 8), "look {at}");
            }
        }
    }
}
