//! Shows log lines. Reads the files themselves, so that reading costs the daemon and the apps nothing.

mod arrivals;
mod line;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::api::logs::{LogSource, LogSources};
use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{complete, follow, targets};
use crate::logs::tail::Line;
use crate::model::logspec::Stream;
use crate::os::clock;
use arrivals::Arrivals;
use line::Printer;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr logs                             # all apps; follows on a terminal
  clmgr logs api worker --lines 100
  clmgr logs api:0 --err --nostream
  clmgr logs api -f --raw
  clmgr logs --json --nostream";

/// `logs`.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file; all apps if left out
    #[arg(value_name = "TARGET", add = ArgValueCompleter::new(complete::targets))]
    pub targets: Vec<String>,
    /// Go on with new lines as they are written (the default on a terminal)
    #[arg(long, short, overrides_with = "nostream")]
    pub follow: bool,
    /// End after the lines that are there (the default elsewhere)
    #[arg(long, overrides_with = "follow")]
    pub nostream: bool,
    /// Lines of each file to begin with
    #[arg(long, short = 'n', value_name = "N", default_value_t = 15)]
    pub lines: usize,
    /// Only standard error
    #[arg(long, conflicts_with = "out")]
    pub err: bool,
    /// Only standard output
    #[arg(long)]
    pub out: bool,
    /// The lines as they are, without prefixes
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
}

pub(crate) fn run(args: &LogsArgs, context: &mut Context) -> Result<(), Failure> {
    let began = clock::wall();
    let query = targets::query(&targets::resolve(&args.targets)?);
    let LogSources { sources, .. } = Daemon::to_be_asked()?.get(routes::LOG_SOURCES, &query)?;
    let mut shown = Shown {
        printer: Printer::new(&[], args.raw, context.json),
        sources: Vec::new(),
    };
    shown.add(chosen(sources, args));
    let follows = args.follow || (context.ui.is_tty() && !args.nostream);
    if shown.sources.is_empty() {
        nothing(args, follows, context);
    }
    let mut tail = follow::tail(&shown.sources, args.lines, follows)?;
    shown.print(&std::mem::take(&mut tail.lines), context)?;
    if !follows {
        return Ok(());
    }
    let arrivals = Arrivals::listen(query, began);
    tail.follow(|lines| {
        shown.print(&lines, context)?;
        let first = shown.sources.len();
        let Some(new) = shown.add(chosen(arrivals.sources().unwrap_or_default(), args)) else {
            return Ok(Vec::new());
        };
        let (lines, files) = follow::tail_later(new, args.lines, first, began)?;
        shown.print(&lines, context)?;
        Ok(files)
    })
}

/// The files that are read, and how their lines look.
struct Shown {
    printer: Printer,
    sources: Vec<LogSource>,
}

impl Shown {
    /// Adds the files that are not there yet, and returns those.
    fn add(&mut self, found: Vec<LogSource>) -> Option<&[LogSource]> {
        let first = self.sources.len();
        for source in found {
            if self.sources.iter().all(|known| known.path != source.path) {
                self.sources.push(source);
            }
        }
        let new = self.sources.get(first..).filter(|new| !new.is_empty())?;
        self.printer.make_room(new);
        Some(new)
    }

    fn print(&self, lines: &[Line], context: &mut Context) -> Result<(), Failure> {
        context.ui.check_reader()?;
        for line in lines {
            if let Some(source) = self.sources.get(line.source) {
                self.printer.print(source, &line.bytes, &mut context.ui)?;
            }
        }
        context.ui.flush()
    }
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

/// The files to read: of the streams asked for, and no line twice where a third file gets both.
fn chosen(sources: Vec<LogSource>, args: &LogsArgs) -> Vec<LogSource> {
    let wanted = |stream: Option<Stream>| match stream {
        Some(Stream::Out) => !args.err,
        Some(Stream::Err) => !args.out,
        None => true,
    };
    let separate: Vec<_> = sources
        .iter()
        .filter(|source| source.stream.is_some())
        .map(|source| source.id)
        .collect();
    let mut chosen: Vec<LogSource> = sources
        .into_iter()
        .filter(|source| wanted(source.stream) && (source.stream.is_some() || !separate.contains(&source.id)))
        .collect();
    let mut seen = Vec::new();
    chosen.retain(|source| {
        let new = !seen.contains(&source.path);
        seen.push(source.path.clone());
        new
    });
    chosen
}

#[cfg(test)]
mod tests {
    use super::{LogsArgs, chosen};
    use crate::api::logs::LogSource;
    use crate::model::logspec::{LogFormat, Stream};
    use crate::model::names::AppId;

    fn source(id: u32, stream: Option<Stream>, path: &str) -> LogSource {
        LogSource {
            id: AppId(id),
            app: "api".parse().unwrap(),
            namespace: "default".parse().unwrap(),
            slot: None,
            stream,
            format: LogFormat::Raw,
            zone: None,
            path: path.into(),
        }
    }

    #[test]
    fn no_line_is_read_twice() {
        let paths = |err: bool, out: bool| {
            let args = LogsArgs {
                targets: Vec::new(),
                follow: false,
                nostream: false,
                lines: 15,
                err,
                out,
                raw: false,
            };
            let sources = vec![
                source(1, Some(Stream::Out), "/1-out"),
                source(1, Some(Stream::Err), "/1-err"),
                source(1, None, "/1-both"),
                source(2, None, "/2-both"),
                source(3, Some(Stream::Out), "/3"),
                source(3, Some(Stream::Err), "/3"),
            ];
            let chosen = chosen(sources, &args);
            chosen
                .iter()
                .map(|source| source.path.to_text().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(paths(false, false), ["/1-out", "/1-err", "/2-both", "/3"]);
        assert_eq!(paths(true, false), ["/1-err", "/2-both", "/3"]);
        assert_eq!(paths(false, true), ["/1-out", "/2-both", "/3"]);
    }
}
