//! `rollout`.

use crate::config::fields::Fields;
use crate::config::tables::ROLLOUT;
use crate::model::spec::{Order, RolloutSpec};

/// Reads it.
pub(super) fn rollout(fields: &Fields<'_>) -> RolloutSpec {
    let default = RolloutSpec::default();
    let Some(table) = fields.table("rollout", ROLLOUT) else {
        return default;
    };
    let min_healthy = table.duration("min_healthy").unwrap_or(default.min_healthy);
    let deadline = table.span_of_time("deadline").unwrap_or(default.deadline);
    if let Some(entry) = table.get("deadline").or_else(|| table.get("min_healthy"))
        && deadline <= min_healthy
    {
        fields.reader.bad(
            "rollout.deadline",
            &entry.node.span,
            format!("`rollout.deadline` ({deadline}) must be longer than `rollout.min_healthy` ({min_healthy})"),
        );
    }
    RolloutSpec {
        order: match table.choice("order", &["start-first", "stop-first"]) {
            Some("start-first") => Some(Order::StartFirst),
            Some(_) => Some(Order::StopFirst),
            None => None,
        },
        parallel: table.count("parallel").unwrap_or(default.parallel),
        canary: default.canary,
        min_healthy,
        deadline,
        rollback: table.choice("on_failure", &["rollback", "keep"]) != Some("keep"),
    }
}
