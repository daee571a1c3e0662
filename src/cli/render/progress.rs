//! What is going on while a command works: one line an app, for a terminal.

use std::collections::BTreeMap;

use crate::api::status::{AppStatus, InstanceStatus};
use crate::cli::render::human::{count, uptime};
use crate::cli::render::results::safe;
use crate::cli::ui::{BOLD, DIM};
use crate::model::names::{AppId, Slot};
use crate::model::progress::{Progress, Waiting};
use crate::model::state::State;

/// Apps that have a line of their own.
const MOST_APPS: usize = 8;
/// Instances that are named.
const MOST_INSTANCES: usize = 3;

/// The processes there were when the command began.
#[derive(Clone, Debug, Default)]
pub struct Before(BTreeMap<(AppId, Slot), i32>);

impl Before {
    /// What runs now.
    #[must_use]
    pub fn of(apps: &[AppStatus]) -> Self {
        let pids = apps.iter().flat_map(|app| {
            let pid = |one: &InstanceStatus| Some(((app.id, one.slot), one.pid?));
            app.instances.iter().filter_map(pid)
        });
        Self(pids.collect())
    }

    fn had(&self, app: &AppStatus, instance: &InstanceStatus) -> bool {
        instance.pid.is_some() && self.0.get(&(app.id, instance.slot)).copied() == instance.pid
    }
}

/// The lines, with styles; none when nothing is going on.
#[must_use]
pub fn lines(before: &Before, apps: &[AppStatus]) -> Vec<String> {
    let mut lines: Vec<String> = apps.iter().filter_map(|app| line(before, app)).collect();
    if lines.len() > MOST_APPS {
        let more = lines.len() - MOST_APPS;
        lines.truncate(MOST_APPS);
        lines.push(format!("{DIM}… and {}{DIM:#}", count(more, "more app")));
    }
    lines
}

fn line(before: &Before, app: &AppStatus) -> Option<String> {
    if let Some(progress) = &app.progress {
        return Some(format!("{BOLD}{}{BOLD:#}  {}", app.name, replacing(app, progress)));
    }
    let moving: Vec<&InstanceStatus> = app.instances.iter().filter(|one| is_moving(one.state)).collect();
    if moving.is_empty() {
        return None;
    }
    let wanted = app.instances.iter().filter(|one| one.slot < app.desired);
    let online: Vec<&InstanceStatus> = wanted.filter(|one| one.state == State::Online).collect();
    let head = if moving.iter().any(|one| one.state == State::Reloading) {
        let replaced = online.iter().filter(|one| !before.had(app, one)).count();
        format!("{replaced}/{} replaced", app.desired)
    } else {
        format!("{}/{} online", online.len(), app.desired)
    };
    let mut details: Vec<String> = moving.iter().take(MOST_INSTANCES).map(|one| detail(app, one)).collect();
    if moving.len() > MOST_INSTANCES {
        details.push(format!("and {} more", moving.len() - MOST_INSTANCES));
    }
    Some(format!("{BOLD}{}{BOLD:#}  {head}, {}", app.name, details.join(", ")))
}

/// `replacing 2/8, api:1 watched for 2s`.
fn replacing(app: &AppStatus, progress: &Progress) -> String {
    let now = (progress.done + 1).min(progress.total);
    let head = if progress.rolling_back {
        let why = progress.failure.as_deref().map(|why| format!(": {}", safe(why)));
        format!("going back{}", why.unwrap_or_default())
    } else {
        format!("replacing {now}/{}", progress.total)
    };
    let mut parts = vec![head];
    for waiting in progress.waiting.iter().take(MOST_INSTANCES) {
        parts.push(match waiting {
            Waiting::Stopping { .. }
            | Waiting::Starting { .. }
            | Waiting::Proving { .. }
            | Waiting::Retiring { .. } => {
                format!("{}:{waiting}", app.name)
            }
            Waiting::Checking | Waiting::Inspecting | Waiting::Canary { .. } | Waiting::Writing => waiting.to_string(),
        });
    }
    if progress.waiting.len() > MOST_INSTANCES {
        parts.push(format!("and {} more", progress.waiting.len() - MOST_INSTANCES));
    }
    parts.join(", ")
}

fn detail(app: &AppStatus, instance: &InstanceStatus) -> String {
    let next = instance
        .next_start_ms
        .filter(|_| instance.state == State::Backoff)
        .map_or_else(String::new, |ms| format!(", next attempt in {}", uptime(ms)));
    format!("{}:{} {}{next}", app.name, instance.slot, instance.state)
}

/// It will be in another state soon.
const fn is_moving(state: State) -> bool {
    match state {
        State::Starting | State::Reloading | State::Stopping | State::Backoff | State::Unhealthy => true,
        State::Waiting | State::Online | State::Stopped | State::Errored | State::Completed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Before, lines};
    use crate::api::status::AppStatus;
    use crate::cli::render::sample;
    use crate::model::progress::{Progress, Waiting};
    use crate::model::state::State;

    fn plain(lines: &[String]) -> Vec<String> {
        let strip = |line: &String| anstream::adapter::strip_str(line).to_string();
        lines.iter().map(strip).collect()
    }

    /// Four instances with these states; their pids are their numbers.
    fn app(states: [(State, i32); 4]) -> AppStatus {
        let mut app = sample::status().apps.remove(0);
        let one = app.instances[0].clone();
        app.instances = (0..)
            .zip(states)
            .map(|(slot, (state, pid))| {
                let mut instance = one.clone();
                (instance.slot, instance.state, instance.pid) = (slot, state, (pid > 0).then_some(pid));
                instance
            })
            .collect();
        app.desired = 4;
        app
    }

    #[test]
    fn a_reload_counts_what_is_replaced() {
        let old = app([1, 2, 3, 4].map(|pid| (State::Online, pid)));
        let before = Before::of(std::slice::from_ref(&old));
        assert!(lines(&before, &[old]).is_empty());
        let now = app([
            (State::Online, 11),
            (State::Reloading, 2),
            (State::Online, 3),
            (State::Online, 4),
        ]);
        assert_eq!(plain(&lines(&before, &[now])), ["api  1/4 replaced, api:1 reloading"]);
    }

    #[test]
    fn a_rollout_says_how_far_it_is() {
        let mut now = app([1, 2, 3, 4].map(|pid| (State::Online, pid)));
        let mut progress = Progress {
            done: 1,
            total: 4,
            rolling_back: false,
            failure: None,
            waiting: vec![
                Waiting::Proving {
                    slot: 1,
                    left_ms: Some(2000),
                },
                Waiting::Starting { slot: 2 },
            ],
        };
        now.progress = Some(progress.clone());
        assert_eq!(
            plain(&lines(&Before::default(), std::slice::from_ref(&now))),
            ["api  replacing 2/4, api:1 watched for 2s, api:2 starting"]
        );
        progress.rolling_back = true;
        progress.failure = Some("exit code 1".into());
        progress.waiting = vec![Waiting::Starting { slot: 0 }];
        now.progress = Some(progress);
        assert_eq!(
            plain(&lines(&Before::default(), &[now])),
            ["api  going back: exit code 1, api:0 starting"]
        );
    }

    #[test]
    fn a_start_counts_what_is_online() {
        let mut now = app([
            (State::Online, 1),
            (State::Backoff, 0),
            (State::Starting, 3),
            (State::Starting, 4),
        ]);
        now.instances[1].next_start_ms = Some(2_400);
        assert_eq!(
            plain(&lines(&Before::default(), &[now])),
            ["api  1/4 online, api:1 backoff, next attempt in 2s, api:2 starting, api:3 starting"]
        );
        let now = app([1, 2, 3, 4].map(|pid| (State::Stopping, pid)));
        assert_eq!(
            plain(&lines(&Before::default(), &[now])),
            ["api  0/4 online, api:0 stopping, api:1 stopping, api:2 stopping, and 1 more"]
        );
    }

    #[test]
    fn many_apps_are_summed_up() {
        let now: Vec<AppStatus> = (0..20).map(|_| app([(State::Starting, 1); 4])).collect();
        let lines = plain(&lines(&Before::default(), &now));
        assert_eq!((lines.len(), lines[8].as_str()), (9, "… and 12 more apps"));
    }
}
