//! Shows what happened.

use std::ops::ControlFlow;

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::render::event;
use crate::cli::{complete, targets};
use crate::config::closest;
use crate::logs::query::Since;
use crate::model::event::{Event, EventKind};
use crate::os::clock;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr events
  clmgr events -f --app api
  clmgr events --since 5m --kind exited --kind circuit_open
  clmgr events --since 2026-11-21T08:00:00Z --limit 20 --json";

/// `events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// Go on with new ones as they happen
    #[arg(long, short)]
    pub follow: bool,
    /// Only of these apps
    #[arg(long, short, value_name = "TARGET", value_delimiter = ',', add = ArgValueCompleter::new(complete::targets))]
    pub app: Vec<String>,
    /// Only of these kinds
    #[arg(long, short, value_name = "KIND", value_delimiter = ',', value_parser = read_kind, add = ArgValueCandidates::new(complete::kinds))]
    pub kind: Vec<EventKind>,
    /// Only after this: 5m ago, or a date and time
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// At most so many of the newest
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<u32>,
}

fn read_kind(text: &str) -> Result<EventKind, String> {
    text.parse().map_err(|error: String| {
        let kinds = EventKind::ALL.iter().map(|kind| kind.as_str());
        match closest(text, kinds.clone()) {
            Some(kind) => format!("{error}; did you mean {kind}?"),
            None => format!("{error}; there are {}", kinds.collect::<Vec<_>>().join(", ")),
        }
    })
}

/// Events shown if neither `--since` nor `--limit` is given.
const SHOWN: u32 = 50;

pub(crate) fn run(args: &EventsArgs, context: &mut Context) -> Result<(), Failure> {
    let mut query = targets::query(&targets::resolve(&args.app)?);
    query.extend(args.kind.iter().map(|kind| ("kind", kind.to_string())));
    if let Some(since) = args.since {
        query.push(("since", since.from(clock::wall()).0.max(0).to_string()));
    }
    if let Some(limit) = args.limit.or(args.since.is_none().then_some(SHOWN)) {
        query.push(("limit", limit.to_string()));
    }
    if args.follow {
        query.push(("follow", "true".to_owned()));
    }
    let mut newest = None;
    loop {
        let mut written = Ok(());
        let ended = Daemon::to_be_asked()?.stream(routes::EVENTS, &query, |line| {
            written = show(line, args.follow, &mut newest, context);
            if written.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        written?;
        if ended || !args.follow {
            return Ok(());
        }
        // The daemon was replaced: go on with the next event of the new one.
        query.retain(|(name, _)| !matches!(*name, "after" | "since" | "limit"));
        query.extend(newest.map(|seq| ("after", seq.to_string())));
    }
}

fn show(line: &[u8], follow: bool, newest: &mut Option<u64>, context: &mut Context) -> Result<(), Failure> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(());
    }
    // A daemon of another version may know kinds that we do not.
    let event = serde_json::from_slice::<Event>(line).ok();
    *newest = event.as_ref().map(|event| event.seq).or(*newest);
    match event {
        Some(event) if !context.json => context.ui.line(event::line(&event))?,
        Some(_) | None => {
            context.ui.bytes(line)?;
            context.ui.bytes(b"\n")?;
        }
    }
    if follow { context.ui.flush() } else { Ok(()) }
}
