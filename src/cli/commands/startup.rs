//! Has clmgr and its apps started with the machine.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use clap::Args;
use nix::unistd::User;

use crate::api::routes;
use crate::api::status::DescribeReply;
use crate::cli::boot::{self, Kind, Place};
use crate::cli::connect::{self, Daemon};
use crate::cli::context::Context;
use crate::cli::exit;
use crate::cli::failure::Failure;
use crate::model::duration::Millis;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr startup                          # as root: for the machine; else for this user
  clmgr startup --user ann               # as root: ann's own clmgr, also while ann is not logged in
  clmgr startup --print                  # show what would be installed, change nothing
  clmgr startup --print openrc

`systemctl restart clmgr` does not touch the apps; `systemctl stop clmgr` stops them gracefully.";

/// `startup`.
#[derive(Clone, Debug, Args)]
pub struct StartupArgs {
    /// For this user's own clmgr (root only)
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Print the unit or script instead of installing it
    #[arg(long, value_name = "KIND", num_args = 0..=1)]
    pub print: Option<Option<Kind>>,
}

/// The shortest time to stop in, and what is added to that of the slowest app.
const STOP_LEAST: Millis = Millis(90_000);
const STOP_MARGIN: Millis = Millis(15_000);

pub(crate) fn run(args: &StartupArgs, context: &mut Context) -> Result<(), Failure> {
    let other = other_user(args.user.as_deref())?;
    if let Some(kind) = args.print {
        let found = boot::detect().unwrap_or(Kind::Systemd);
        let kind = kind.unwrap_or(if other.is_some() && found == Kind::Systemd {
            Kind::SystemdUser
        } else {
            found
        });
        let place = Place::of(kind, other.as_ref().map(|user| user.name.as_str()))?;
        return context.ui.bytes(boot::render(&place, stop_timeout()).as_bytes());
    }
    let kind = service_manager()?;
    match other {
        Some(user) if kind != Kind::Openrc => for_other(&user, context.json),
        other => {
            let place = Place::of(kind, other.as_ref().map(|user| user.name.as_str()))?;
            let took_over = boot::install(&place, &boot::render(&place, stop_timeout()), &connect::home()?)?;
            tell(&place, took_over, context)
        }
    }
}

fn tell(place: &Place, took_over: bool, context: &mut Context) -> Result<(), Failure> {
    if context.json {
        let path = place.path.display().to_string();
        return context
            .ui
            .json(&serde_json::json!({ "file": path, "took_over": took_over }));
    }
    context
        .ui
        .line(format_args!("wrote and enabled {}", place.path.display()))?;
    if took_over {
        context
            .ui
            .line("it has taken over the clmgr that was running; no app was restarted")?;
    }
    context
        .ui
        .line("what runs now comes back after a reboot; what is stopped stays stopped")
}

/// The service manager of this machine, if this user may have something installed there.
pub(crate) fn service_manager() -> Result<Kind, Failure> {
    let kind = boot::detect().ok_or_else(|| {
        Failure::failed("this machine runs neither systemd nor OpenRC, as far as can be seen")
            .hint("clmgr startup --print systemd (or openrc) shows what to start: `clmgr keeper`, in the foreground")
    })?;
    if kind == Kind::Openrc && !rustix::process::geteuid().is_root() {
        return Err(Failure::forbidden("only root can change what OpenRC starts")
            .hint("as root: clmgr startup --user NAME")
            .hint("clmgr startup --print openrc shows the script"));
    }
    Ok(kind)
}

/// The user meant, if it is not the one who asks.
pub(crate) fn other_user(name: Option<&str>) -> Result<Option<User>, Failure> {
    let Some(name) = name else { return Ok(None) };
    let user = User::from_name(name).ok().flatten();
    let user = user.ok_or_else(|| Failure::not_found(format!("there is no user {name}")))?;
    let own = nix::unistd::geteuid();
    if user.uid == own {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(
            Failure::forbidden(format!("only root can do this for {name}")).hint("without --user it is done for you")
        );
    }
    Ok(Some(user))
}

/// The same for another user, who is allowed to linger first.
fn for_other(user: &User, json: bool) -> Result<(), Failure> {
    let name = user.name.as_str();
    let lingered = Path::new("/var/lib/systemd/linger").join(name).exists();
    boot::enable_linger(name)?;
    let result = as_user("startup", user, json);
    if result.is_err() && !lingered {
        boot::disable_linger(name);
    }
    result
}

/// Runs `verb` as that user: files in a user's folders are not written by root, who would follow any link there.
pub(crate) fn as_user(verb: &str, user: &User, json: bool) -> Result<(), Failure> {
    let name = user.name.as_str();
    boot::start_manager(user.uid.as_raw())?;
    let exe = std::env::current_exe().map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
    let mut command = Command::new(exe);
    command
        .arg(verb)
        .args(json.then_some("--json"))
        .env_clear()
        .env("HOME", &user.dir)
        .env("USER", name)
        .env("LOGNAME", name)
        .env("SHELL", &user.shell)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("XDG_RUNTIME_DIR", format!("/run/user/{}", user.uid))
        .current_dir("/")
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw());
    let status = command
        .status()
        .map_err(|error| Failure::failed(format!("cannot run clmgr as {name}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    // It has said why itself.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Err(Failure::said(code.unwrap_or(exit::FAILED)))
}

/// What the apps that are known now may take to stop.
fn stop_timeout() -> Millis {
    let query = [("target", "all".to_owned())];
    let daemon = Daemon::running().ok().flatten();
    let reply = daemon.and_then(|mut daemon| daemon.get::<DescribeReply>(routes::DESCRIBE, &query).ok());
    let longest = reply.into_iter().flat_map(|reply| reply.apps).map(|app| {
        let stop = app.spec.stop;
        let twice = u64::from(!stop.pre_stop.is_empty()) + 1;
        stop.kill_timeout.0.saturating_mul(twice)
    });
    Millis(longest.max().unwrap_or(0).saturating_add(STOP_MARGIN.0)).max(STOP_LEAST)
}
