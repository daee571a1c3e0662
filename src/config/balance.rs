//! `balance`: how connections are spread over an app's instances.

use crate::config::diagnostic::Diagnostic;
use crate::config::fields::Fields;
use crate::model::balance::{Balance, ExecMode};
use crate::model::spec::AppSpec;

/// As users write them.
pub(super) const BALANCES: &[&str] = &["even", "random", "sticky", "round-robin", "shared"];

/// Reads it.
pub(super) fn balance(fields: &Fields<'_>) -> Option<Balance> {
    let text = fields.choice("balance", BALANCES)?;
    let all = [
        Balance::Even,
        Balance::Random,
        Balance::Sticky,
        Balance::RoundRobin,
        Balance::Shared,
    ];
    all.into_iter().find(|balance| balance.as_str() == text)
}

/// It must have something to spread.
pub(super) fn check(fields: &Fields<'_>, spec: &AppSpec) {
    let (Some(balance), Some(entry)) = (spec.balance, fields.get("balance")) else {
        return;
    };
    if spec.exec_mode == ExecMode::Cluster {
        return;
    }
    let has_network = spec.listen.iter().any(|socket| socket.address.inet().is_some());
    let (message, hint) = if spec.listen.is_empty() {
        // One that is wrong was told of already.
        if fields.get("listen").is_some() {
            return;
        }
        (
            "`balance` has nothing to spread: this app has no `listen`".to_owned(),
            "add `listen`, or remove `balance`",
        )
    } else if balance.has_slots() && !has_network {
        (
            format!("`balance = \"{balance}\"` is for TCP and UDP: a Unix socket has one queue for all instances"),
            "write `balance = \"shared\"`, or remove it",
        )
    } else {
        return;
    };
    fields
        .reader
        .sink
        .push(Diagnostic::error(entry.node.span.clone(), "balance", message).hint(hint));
}
