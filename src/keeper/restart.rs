//! When a dead daemon is started again.

use crate::model::duration::Millis;

const FIRST: Millis = Millis(100);
const MOST: Millis = Millis(1_000);
const STABLE: Millis = Millis(10_000);

/// Counts daemons that died young.
#[derive(Debug, Default)]
pub(super) struct Restart {
    failures: u32,
}

impl Restart {
    /// Goes on with the count of another build.
    pub(super) const fn after(failures: u32) -> Self {
        Self { failures }
    }

    /// The count.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// How long to wait after a daemon that lived this long: nothing at first, then 100 ms, doubling up to
    /// 1 s. Ten seconds of life start the count anew.
    pub(super) fn wait_after(&mut self, lived: Millis) -> Millis {
        if lived >= STABLE {
            self.failures = 0;
        }
        let wait = match self.failures {
            0 => Millis::ZERO,
            count => Millis(FIRST.0 << (count - 1).min(16)).min(MOST),
        };
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::Restart;
    use crate::model::duration::Millis;

    #[test]
    fn law() {
        let mut restart = Restart::default();
        let waits: Vec<u64> = (0..9).map(|_| restart.wait_after(Millis(5)).0).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1000, 1000, 1000, 1000]);
        assert_eq!(restart.wait_after(Millis(10_000)), Millis(0));
        assert_eq!(restart.wait_after(Millis(9_999)), Millis(100));
        restart.failures = u32::MAX;
        assert_eq!(restart.wait_after(Millis(0)), Millis(1_000));
    }
}
