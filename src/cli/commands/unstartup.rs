//! Removes what `startup` has installed.

use clap::Args;

use crate::cli::boot::{self, Kind, Place};
use crate::cli::commands::startup;
use crate::cli::connect;
use crate::cli::context::Context;
use crate::cli::failure::Failure;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr unstartup
  clmgr unstartup --user ann             # as root

Running apps go on running; they are only not started with the machine any more.";

/// `unstartup`.
#[derive(Clone, Debug, Args)]
pub struct UnstartupArgs {
    /// Of this user's own clmgr (root only)
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

pub(crate) fn run(args: &UnstartupArgs, context: &mut Context) -> Result<(), Failure> {
    let kind = startup::service_manager()?;
    let other = startup::other_user(args.user.as_deref())?;
    match other {
        Some(user) if kind != Kind::Openrc => startup::as_user("unstartup", &user, context.json),
        other => {
            let place = Place::of(kind, other.as_ref().map(|user| user.name.as_str()))?;
            let removed = boot::remove(&place, &connect::home()?)?;
            tell(&place, removed, context)
        }
    }
}

fn tell(place: &Place, removed: bool, context: &mut Context) -> Result<(), Failure> {
    let path = place.path.display();
    if context.json {
        return context
            .ui
            .json(&serde_json::json!({ "file": path.to_string(), "removed": removed }));
    }
    if !removed {
        return context.ui.line(format_args!("there is nothing to remove: no {path}"));
    }
    context
        .ui
        .line(format_args!("removed {path}; the apps go on running"))?;
    if place.kind == Kind::SystemdUser {
        context
            .ui
            .hint("this user still lingers, other services may need that; to end it: loginctl disable-linger");
    }
    Ok(())
}
