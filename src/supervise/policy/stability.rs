//! What counts as a stable life.

use crate::model::duration::Millis;
use crate::model::time::Moment;

/// A life is stable if the instance became ready and lived at least `min_uptime`.
#[must_use]
pub fn is_stable(began: Moment, ready: Option<Moment>, now: Moment, min_uptime: Millis) -> bool {
    ready.is_some() && now >= began.after(min_uptime)
}
