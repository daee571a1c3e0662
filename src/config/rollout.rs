//! `rollout`.

use crate::config::fields::Fields;
use crate::config::tables::ROLLOUT;
use crate::model::duration::Millis;
use crate::model::spec::{MAX_INSTANCES, Order, RolloutSpec};

/// As many as there can be instances.
pub(super) const MOST_CANARIES: f64 = MAX_INSTANCES as f64;

/// Reads `canary`.
fn canary(table: &Fields<'_>) -> Option<u32> {
    let entry = table.get("canary")?;
    let number = table.reader.number("rollout.canary", &entry.node, 0.0, MOST_CANARIES)?;
    if number.fract() != 0.0 {
        let message = format!("`rollout.canary` must be a whole number, not {number}");
        table.reader.bad("rollout.canary", &entry.node.span, message);
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to MAX_INSTANCES"
    )]
    let count = number as u32;
    Some(count)
}

/// Reads it.
pub(super) fn rollout(fields: &Fields<'_>) -> RolloutSpec {
    let default = RolloutSpec::default();
    let Some(table) = fields.table("rollout", ROLLOUT) else {
        return default;
    };
    let min_healthy = table.duration("min_healthy").unwrap_or(default.min_healthy);
    let deadline = table.span_of_time("deadline").unwrap_or(default.deadline);
    let canary = canary(&table).unwrap_or(default.canary);
    let canaries = u64::from(canary > 0);
    let pauses = Millis(min_healthy.0.saturating_mul(1 + canaries));
    if let Some(entry) = table.get("deadline").or_else(|| table.get("min_healthy"))
        && deadline <= pauses
    {
        let twice = if canary > 0 { "twice " } else { "" };
        fields.reader.bad(
            "rollout.deadline",
            &entry.node.span,
            format!(
                "`rollout.deadline` ({deadline}) must be longer than {twice}`rollout.min_healthy` ({min_healthy}){}",
                if canary > 0 {
                    ": the canaries are watched for it once more"
                } else {
                    ""
                }
            ),
        );
    }
    RolloutSpec {
        order: match table.choice("order", &["start-first", "stop-first"]) {
            Some("start-first") => Some(Order::StartFirst),
            Some(_) => Some(Order::StopFirst),
            None => None,
        },
        parallel: table.count("parallel").unwrap_or(default.parallel),
        canary,
        min_healthy,
        deadline,
        rollback: table.choice("on_failure", &["rollback", "keep"]) != Some("keep"),
    }
}
