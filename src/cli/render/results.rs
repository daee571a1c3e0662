//! What a command did: `api  4 started`, failures with their reason and the app's own last words.

use std::collections::BTreeMap;

use crate::api::operation::{InstanceResult, Outcome};
use crate::cli::render::human::{count, value};
use crate::cli::ui::{BAD, BOLD, DIM};
use crate::model::names::AppName;
use crate::model::state::State;

/// More apps than this are summed up.
const MANY: usize = 10;

/// What became of an instance, in one word.
#[derive(Clone, Copy, PartialEq)]
enum Done {
    As(Outcome),
    /// It is in order, and nothing of it runs: the first connection starts it.
    Waits,
}

impl Done {
    fn of(result: &InstanceResult) -> Self {
        match result.outcome {
            Outcome::Started | Outcome::Restarted | Outcome::Reloaded | Outcome::Unchanged
                if result.state == Some(State::Waiting) =>
            {
                Self::Waits
            }
            outcome => Self::As(outcome),
        }
    }
}

/// One app's results.
struct Group<'r> {
    name: &'r AppName,
    outcomes: Vec<(Done, usize)>,
    failed: Vec<&'r InstanceResult>,
}

/// The lines to show, with styles.
#[must_use]
pub fn lines(results: &[InstanceResult]) -> Vec<String> {
    let groups = group(results);
    let mut lines = Vec::new();
    if groups.len() > MANY {
        lines.push(sum(&groups));
    } else {
        let width = groups
            .iter()
            .map(|group| group.name.as_str().chars().count())
            .max()
            .unwrap_or(0);
        lines.extend(groups.iter().map(|group| {
            let pad = " ".repeat(width.saturating_sub(group.name.as_str().chars().count()));
            format!("{BOLD}{}{BOLD:#}{pad}  {}", group.name, words(&group.outcomes))
        }));
    }
    let failed: Vec<&InstanceResult> = groups.iter().flat_map(|group| group.failed.iter().copied()).collect();
    for result in failed.iter().take(MANY) {
        lines.extend(why(result));
    }
    if failed.len() > MANY {
        lines.push(format!("… and {} more failed", failed.len() - MANY));
    }
    lines.extend(notes(results));
    lines.extend(results.iter().filter_map(answer));
    lines
}

/// The name of the first app that failed, for a hint.
#[must_use]
pub fn first_failed(results: &[InstanceResult]) -> Option<&AppName> {
    results
        .iter()
        .find(|result| result.outcome == Outcome::Failed)
        .map(|result| &result.app)
}

fn group(results: &[InstanceResult]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for result in results {
        let group = groups.entry(result.id).or_insert_with(|| Group {
            name: &result.app,
            outcomes: Vec::new(),
            failed: Vec::new(),
        });
        let done = Done::of(result);
        match group.outcomes.iter_mut().find(|(known, _)| *known == done) {
            Some((_, number)) => *number += 1,
            None => group.outcomes.push((done, 1)),
        }
        if result.outcome == Outcome::Failed {
            group.failed.push(result);
        }
    }
    groups.into_values().collect()
}

fn sum(groups: &[Group<'_>]) -> String {
    let mut total: Vec<(Done, usize)> = Vec::new();
    for (outcome, number) in groups.iter().flat_map(|group| &group.outcomes) {
        match total.iter_mut().find(|(known, _)| known == outcome) {
            Some((_, sum)) => *sum += number,
            None => total.push((*outcome, *number)),
        }
    }
    format!("{}: {}", count(groups.len(), "app"), words(&total))
}

fn words(outcomes: &[(Done, usize)]) -> String {
    let one = |(done, number): &(Done, usize)| match done {
        Done::Waits => format!("{number} waiting"),
        Done::As(Outcome::Started) => format!("{number} started"),
        Done::As(Outcome::Stopped) => format!("{number} stopped"),
        Done::As(Outcome::Restarted) => format!("{number} restarted"),
        Done::As(Outcome::Reloaded) => format!("{number} reloaded"),
        Done::As(Outcome::Deleted) => "deleted".to_owned(),
        Done::As(Outcome::Scaled) => "scaled".to_owned(),
        Done::As(Outcome::Reset) => "reset".to_owned(),
        Done::As(Outcome::Done) => "done".to_owned(),
        Done::As(Outcome::Unchanged) => format!("{number} unchanged"),
        Done::As(Outcome::Failed) => format!("{BAD}{number} failed{BAD:#}"),
    };
    outcomes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What there is to say of what did not fail, once for each app.
fn notes(results: &[InstanceResult]) -> Vec<String> {
    let mut notes = Vec::new();
    for result in results.iter().filter(|result| result.outcome != Outcome::Failed) {
        if let Some(message) = &result.message {
            let note = format!("{}: {}", result.app, safe(message));
            if !notes.contains(&note) && notes.len() < MANY {
                notes.push(note);
            }
        }
    }
    notes
}

/// `api:0: {"users":3}`; a text as it is.
fn answer(result: &InstanceResult) -> Option<String> {
    let text = value(result.reply.as_ref()?);
    Some(format!("{}: {}", target(result), safe(&text)))
}

fn target(result: &InstanceResult) -> String {
    match result.slot {
        Some(slot) => format!("{}:{slot}", result.app),
        None => result.app.to_string(),
    }
}

fn why(result: &InstanceResult) -> Vec<String> {
    let target = target(result);
    let reason = result.message.as_deref().unwrap_or("it gave no reason");
    let mut lines = vec![format!("{target}: {reason}")];
    lines.extend(
        result
            .stderr
            .iter()
            .map(|line| format!("{DIM}  │ {}{DIM:#}", safe(line))),
    );
    lines
}

/// A line of an app's output without control characters, so that it cannot play with the terminal.
#[must_use]
pub fn safe(line: &str) -> String {
    let visible = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    line.chars().map(visible).collect()
}
