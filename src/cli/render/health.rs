//! How an app's instances are watched, and what is known of each.

use std::fmt::Write as _;

use crate::api::status::HealthStatus;
use crate::cli::render::describe::command;
use crate::cli::render::human::{count, local_time};
use crate::cli::render::results::safe;
use crate::cli::ui::{BAD, DIM};
use crate::model::health::{Probe, Vitality};
use crate::model::spec::AppSpec;

/// How it is seen that it goes on to work.
pub(super) fn facts(spec: &AppSpec) -> Vec<(&'static str, String)> {
    let health = spec.health.as_ref().map(|health| {
        let what = match &health.probe {
            Probe::Http(url) => format!("GET {url}"),
            Probe::Tcp(address) => format!("connect to {address}"),
            Probe::Unix(path) => format!("connect to {path}"),
            Probe::Exec(argv) => command(argv),
        };
        let times = match health.retries {
            1 => "once".to_owned(),
            many => format!("{many} times in a row"),
        };
        format!("{what} every {}; unhealthy when it fails {times}", health.interval)
    });
    let watchdog = spec.watchdog.map(|period| format!("says WATCHDOG=1 every {period}"));
    let hang = spec
        .hang_timeout
        .map(|time| format!("hung when it accepts nothing for {time} while connections wait"));
    let age = spec.max_age.map(|age| format!("replaced after {}", age.after));
    let all = [("health", health), ("watchdog", watchdog), ("hang", hang), ("age", age)];
    all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

/// `instance 2 is unhealthy: health: GET http://… answered 500, 3 times in a row (3 failures in a row, last asked …)`.
pub(super) fn line(slot: u32, health: &HealthStatus) -> String {
    let style = match health.state {
        Vitality::Healthy | Vitality::Starting => DIM,
        Vitality::Unhealthy => BAD,
    };
    let mut text = match (health.state, &health.reason) {
        (Vitality::Healthy, None) => format!("instance {slot} is healthy"),
        (Vitality::Healthy, Some(why)) => format!("instance {slot} is healthy, but failed just now: {}", safe(why)),
        (Vitality::Starting, None) => format!("instance {slot} was not asked yet"),
        (Vitality::Starting, Some(why)) => format!("instance {slot} has not answered yet: {}", safe(why)),
        (Vitality::Unhealthy, why) => {
            let why = why.as_deref().unwrap_or("it does not say why");
            format!("instance {slot} is unhealthy: {}", safe(why))
        }
    };
    let mut notes = Vec::new();
    if health.failures > 0 {
        notes.push(format!("{} in a row", count(health.failures as usize, "failure")));
    }
    if let Some(at) = health.answered {
        notes.push(format!("last heard {}", local_time(at)));
    }
    if !notes.is_empty() {
        let _written = write!(text, " ({})", notes.join(", "));
    }
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::{facts, line};
    use crate::api::status::HealthStatus;
    use crate::model::duration::Millis;
    use crate::model::health::{Health, MaxAge, Probe, Vitality};
    use crate::model::spec::AppSpec;

    fn shown(state: Vitality, failures: u32, reason: Option<&str>) -> String {
        let health = HealthStatus {
            state,
            answered: None,
            failures,
            reason: reason.map(str::to_owned),
        };
        anstream::adapter::strip_str(&line(2, &health)).to_string()
    }

    #[test]
    fn every_state_has_a_line() {
        assert_eq!(shown(Vitality::Healthy, 0, None), "instance 2 is healthy");
        assert_eq!(
            shown(Vitality::Healthy, 1, Some("refused")),
            "instance 2 is healthy, but failed just now: refused (1 failure in a row)"
        );
        assert_eq!(shown(Vitality::Starting, 0, None), "instance 2 was not asked yet");
        assert_eq!(
            shown(Vitality::Starting, 0, Some("refused")),
            "instance 2 has not answered yet: refused"
        );
        assert_eq!(
            shown(Vitality::Unhealthy, 3, Some("no \u{1b}answer")),
            "instance 2 is unhealthy: no \u{fffd}answer (3 failures in a row)"
        );
    }

    #[test]
    fn everything_that_is_watched_is_listed() {
        let mut spec = AppSpec::new("a".parse().unwrap(), vec!["x".into()], "/".into());
        assert!(facts(&spec).is_empty());
        spec.health = Some(Health {
            probe: Probe::Exec(vec!["check".into(), "a b".into()]),
            interval: Millis(10_000),
            timeout: Millis(2000),
            retries: 3,
            start_period: Millis::ZERO,
        });
        spec.watchdog = Some(Millis(30_000));
        spec.hang_timeout = Some(Millis(5000));
        spec.max_age = Some(MaxAge {
            after: Millis(86_400_000),
            jitter: 0.1,
        });
        let lines: Vec<String> = facts(&spec)
            .iter()
            .map(|(name, text)| format!("{name}: {text}"))
            .collect();
        assert_eq!(
            lines,
            [
                "health: check 'a b' every 10s; unhealthy when it fails 3 times in a row",
                "watchdog: says WATCHDOG=1 every 30s",
                "hang: hung when it accepts nothing for 5s while connections wait",
                "age: replaced after 1d",
            ]
        );
    }
}
