//! `start`, `idle_timeout` and `ipc`.

use super::{app, messages};
use crate::model::balance::OnDemand;
use crate::model::duration::Millis;

const LISTEN: &str = "[[apps]]\nscript = 'server.js'\nlisten = '0.0.0.0:3000'\n";

#[test]
fn an_app_starts_at_once_unless_it_says_otherwise() {
    for text in ["", "start = 'always'"] {
        assert_eq!(app(&format!("{LISTEN}{text}")).on_demand, None);
    }
    let never = Some(OnDemand { idle_timeout: None });
    for text in ["", "idle_timeout = 'never'"] {
        assert_eq!(app(&format!("{LISTEN}start = 'on-demand'\n{text}")).on_demand, never);
    }
    let timeout = Some(OnDemand {
        idle_timeout: Some(Millis::from_secs(90)),
    });
    assert_eq!(
        app(&format!("{LISTEN}start = 'on-demand'\nidle_timeout = '1m30s'")).on_demand,
        timeout
    );
}

#[test]
fn an_ipc_channel_is_given_to_any_app() {
    assert!(!app("[[apps]]\nscript = 'server.js'").ipc);
    assert!(app("[[apps]]\ncmd = './binary'\nipc = true").ipc);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, part) in [
        (
            "[[apps]]\nscript = 'server.js'\nstart = 'on-demand'",
            "nobody could connect",
        ),
        (
            &format!("{LISTEN}idle_timeout = '1m'"),
            "is for apps that a connection starts",
        ),
        (
            &format!("{LISTEN}start = 'always'\nidle_timeout = '1m'"),
            "is for apps that a connection starts",
        ),
        (
            &format!("{LISTEN}start = 'on-demand'\nidle_timeout = 0"),
            "must be longer than 0",
        ),
        (
            &format!("{LISTEN}start = 'on-request'\nidle_timeout = '1m'"),
            "on-demand",
        ),
        (&format!("{LISTEN}start = true"), "start"),
        (&format!("{LISTEN}ipc = 'yes'"), "ipc"),
    ] {
        let said = messages(text);
        assert_eq!(said.len(), 1, "{text}: {said:?}");
        assert!(said[0].contains(part), "{text}: {said:?}");
    }
}

#[test]
fn pmx_is_told_what_replaces_it() {
    let text = "[[apps]]\nscript = 'server.js'\npmx = true";
    let problems = super::World::new().toml(text).unwrap_err().render(false);
    assert!(problems.contains("ipc = true"), "{problems}");
}
