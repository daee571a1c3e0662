//! Shows log lines. Reads the files themselves, so that reading costs the daemon and the apps nothing.

mod arrivals;
mod elsewhere;
mod line;
mod shown;
mod wanted;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::api::logs::LogSources;
use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::follow::Tail;
use crate::cli::{complete, targets};
use crate::logs::query::Since;
use crate::model::level::Level;
use crate::model::names::Slot;
use crate::os::clock;
use arrivals::Arrivals;
use shown::Shown;
use wanted::Lines;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr logs                             # all apps; follows on a terminal
  clmgr logs api worker --lines 100
  clmgr logs api:0 --err --nostream
  clmgr logs api --since 10m --grep 'timeout|refused'
  clmgr logs --since '2026-11-21 14:00' --until 14:30 --level warn
  clmgr logs api -f --raw
  clmgr logs --json --nostream --lines all";

/// `logs`.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file; all apps if left out
    #[arg(value_name = "TARGET", add = ArgValueCompleter::new(complete::targets))]
    pub targets: Vec<String>,
    /// Go on with new lines as they are written (the default on a terminal, unless --until is given)
    #[arg(long, short, overrides_with = "nostream")]
    pub follow: bool,
    /// End after the lines that are there (the default elsewhere)
    #[arg(long, overrides_with = "follow")]
    pub nostream: bool,
    /// Begin with so many last lines of each file, or all (default: 15; all with --since or --until)
    #[arg(long, short = 'n', value_name = "N", allow_negative_numbers = true)]
    pub lines: Option<Lines>,
    /// Only what was written at this time or later: 10m (ago), 14:03 (today), or a date and time
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Only what was written before this time, in the same words
    #[arg(long, value_name = "TIME")]
    pub until: Option<Since>,
    /// Only lines that match this regular expression; given several times: any of them
    #[arg(long, short, value_name = "REGEX", allow_hyphen_values = true)]
    pub grep: Vec<String>,
    /// --grep takes capital and small letters for the same
    #[arg(long, short, requires = "grep")]
    pub ignore_case: bool,
    /// Only lines that do not match --grep
    #[arg(long, requires = "grep")]
    pub invert: bool,
    /// Only lines at least this grave: trace, debug, info, warn, error or fatal
    #[arg(long, value_name = "LEVEL", value_parser = wanted::level)]
    pub level: Option<Level>,
    /// Only standard error; a file of both streams must be JSON to tell
    #[arg(long, conflicts_with = "out")]
    pub err: bool,
    /// Only standard output; likewise
    #[arg(long)]
    pub out: bool,
    /// Only of these instances, as 0,2; a file of several must be JSON to tell
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub instance: Vec<Slot>,
    /// The lines as they stand in the files
    #[arg(long, conflicts_with_all = ["json", "no_prefix", "timestamps"])]
    pub raw: bool,
    /// Without the names of the apps
    #[arg(long, conflicts_with = "json")]
    pub no_prefix: bool,
    /// When each line was written, also where the file does not say it
    #[arg(long, short, conflicts_with = "json")]
    pub timestamps: bool,
}

pub(crate) fn run(args: &LogsArgs, context: &mut Context) -> Result<(), Failure> {
    let began = clock::wall();
    let mut shown = Shown::new(args, wanted::filter(args, began)?, context);
    let query = targets::query(&targets::resolve(&args.targets)?);
    let found: LogSources = Daemon::to_be_asked()?.get(routes::LOG_SOURCES, &query)?;
    let elsewhere = found.elsewhere.clone();
    elsewhere::tell(&elsewhere, context);
    shown.add(found, context);
    let follows = args.follow || (context.ui.is_tty() && !args.nostream && args.until.is_none());
    if shown.sources.is_empty() && elsewhere.is_empty() {
        nothing(args, follows, context);
    }
    let (history, files) = shown.open(0, follows)?;
    if !follows {
        return shown.history(0, history, context);
    }
    // First of all: what is followed is held, however long it takes to show what was before.
    let mut tail = Tail::new(files)?;
    let arrivals = Arrivals::listen(query, began);
    shown.history(0, history, context)?;
    while !shown.is_over() {
        if let Some(note) = tail.note() {
            context.ui.warning(note);
        }
        shown.lines(&tail.next()?, context)?;
        if let Some(found) = arrivals.sources() {
            tail.add(shown.join(found, began, context)?)?;
        }
    }
    Ok(())
}

fn nothing(args: &LogsArgs, follows: bool, context: &mut Context) {
    let whose = if args.targets.is_empty() {
        "no apps"
    } else {
        "no log files"
    };
    if follows {
        context
            .ui
            .note(&format!("{whose} yet; waiting for some (Ctrl-C ends it)"));
    } else if !context.json {
        context.ui.note(&format!("{whose}; clmgr status shows what is there"));
    }
}
