//! Random numbers with a printed seed, and the apps of the fake world.

use crate::model::spec::{AppSpec, Ready};

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// One in `n`.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// An app that behaves as its program's name says; see [`super::programs::Behaviour`].
pub(super) fn spec(name: &str, program: &str, instances: u32) -> AppSpec {
    AppSpec {
        instances,
        ready: Ready::Notify,
        ..AppSpec::new(name.parse().unwrap(), vec![program.into()], "/".into())
    }
}
