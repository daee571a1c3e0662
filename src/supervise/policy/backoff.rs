//! How long to wait after the k-th unstable exit in a row.

use crate::model::duration::Millis;
use crate::model::spec::Backoff;

/// `first × factor^(k−1)`, at most `max`, varied by ± `jitter` of itself.
///
/// `k` counts from 1. `seed` decides the variation: the same seed gives the same wait, so that a restarted
/// daemon comes to the same decision as its predecessor.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "bounded by `max` and non-negative before the cast"
)]
pub fn wait(k: u32, backoff: &Backoff, seed: u64) -> Millis {
    let exponent = i32::try_from(k.saturating_sub(1)).unwrap_or(i32::MAX);
    let grown = backoff.first.0 as f64 * backoff.factor.max(1.0).powi(exponent);
    let capped = grown.min(backoff.max.0 as f64).max(0.0);
    let unit = unit(seed);
    let varied = capped * (1.0 + backoff.jitter.clamp(0.0, 1.0) * (2.0 * unit - 1.0));
    Millis(varied as u64)
}

/// A number from 0 to below 1 that looks random and is always the same for the same seed.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
pub fn unit(seed: u64) -> f64 {
    (mix(seed) >> 11) as f64 / (1u64 << 53) as f64
}

/// SplitMix64's finaliser: spreads consecutive numbers over the whole range.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::wait;
    use crate::model::duration::Millis;
    use crate::model::spec::Backoff;

    #[test]
    fn doubles_up_to_the_cap() {
        let law = Backoff {
            jitter: 0.0,
            ..Backoff::default()
        };
        let waits: Vec<u64> = (1..=7).map(|k| wait(k, &law, 7).0).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    }

    proptest! {
        #[test]
        fn stays_within_the_jitter(k in 1u32..10_000, first in 0u64..100_000, factor in 1.0f64..10.0, max in 0u64..1_000_000, jitter in 0.0f64..1.0, seed: u64) {
            let law = Backoff { first: Millis(first), factor, max: Millis(max), jitter };
            let exact = (first as f64 * factor.powi(i32::try_from(k).unwrap() - 1)).min(max as f64);
            let got = wait(k, &law, seed).0 as f64;
            prop_assert!(got >= (exact * (1.0 - jitter)).floor() - 1.0 && got <= exact * (1.0 + jitter) + 1.0);
        }
    }
}
