//! Prints process ids.

use crate::api::routes;
use crate::api::status::StatusReply;
use crate::cli::args::OptionalTargets;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::targets;
use crate::model::target::Target;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr pid api
  clmgr pid api:0
  clmgr pid --json";

pub(crate) fn run(args: &OptionalTargets, context: &mut Context) -> Result<(), Failure> {
    let Some(mut daemon) = Daemon::running_or_restarting()? else {
        return Err(super::ping::not_running());
    };
    let targets = targets::resolve(&args.targets)?;
    let status: StatusReply = daemon.get(routes::STATUS, &targets::query(&targets))?;
    let pids = pids(&status, &targets);
    if context.json {
        return context.ui.json(&pids);
    }
    for pid in pids {
        context.ui.line(pid)?;
    }
    Ok(())
}

/// The processes of the instances that are meant, by app and slot.
fn pids(status: &StatusReply, targets: &[Target]) -> Vec<i32> {
    let mut pids = Vec::new();
    for app in &status.apps {
        for instance in &app.instances {
            let meant = |target: &Target| {
                target.matches(app.id, &app.name, &app.namespace)
                    && target.slot().is_none_or(|slot| slot == instance.slot)
            };
            if targets.is_empty() || targets.iter().any(meant) {
                pids.extend(instance.pid);
            }
        }
    }
    pids
}

#[cfg(test)]
mod tests {
    use crate::cli::render::sample;

    #[test]
    fn only_the_instances_meant() {
        let status = sample::status();
        let of = |text: &str| super::pids(&status, &[text.parse().unwrap()]);
        assert_eq!(of("api"), [4001, 4002]);
        assert_eq!(of("api:1"), [4002]);
        assert_eq!(of("broken"), [0_i32; 0]);
        assert_eq!(super::pids(&status, &[]).len(), 3);
    }
}
