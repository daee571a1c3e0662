//! Nothing a text holds may make the reader panic, loop or lose its way.

use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::World;
use crate::config::{Found, init};

const VALID: &str = r#"
[defaults]
env = { A = "x", B = "${A}" }
backoff = { first = "1s", factor = 2 }
[[apps]]
name = "api"
script = "server.js"
args = ["--x", 5]
instances = "50%"
env_file = ".env"
ready = { http = "http://127.0.0.1:${PORT:-3000}/" }
log_rotate = { size = "10M", every = "1d" }
rollout = { order = "start-first", deadline = "5m" }
on_event = { circuit_open = "sh alert.sh" }
require = { env = ["A"], tcp = ["127.0.0.1:1"] }
[[apps]]
name = "worker"
cmd = 'sleep "1 0"'
min_uptime = "1m30s"
stop_exit_codes = [1]
stop_signal = "SIGINT"
"#;

/// Both languages, and what is said about them is shown.
fn survives(text: &str) {
    let world = World::new();
    for result in [world.toml(text), world.json(text)] {
        match result {
            Ok(parsed) => drop(parsed.warnings.render(false)),
            Err(problems) => {
                assert!(!problems.is_empty());
                drop(problems.render(true));
                drop(problems.to_json());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn any_tokens(words in prop::collection::vec(prop::sample::select(vec![
        "[[apps]]", "[", "]", "{", "}", "\"", "'", "=", ":", ",", "\n", " ", "name", "env", "env_x", "cmd", "ready",
        "${", "$$", "1", "-1", "1e9", "true", "null", "\u{0}", "\u{1f980}", "\\", "\\u12", "'''", "#", "é", "\r", "\t",
    ]), 0..60)) {
        survives(&words.concat());
    }

    #[test]
    fn mutations_of_a_valid_file(cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, ".{0,4}"), 1..5)) {
        let mut text: Vec<char> = VALID.chars().collect();
        for (at, length, insert) in cuts {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_folder_is_initialised(name in any::<String>(), procfile in any::<String>(), package in any::<String>()) {
        let found = Found { folder_name: name, procfile: Some(procfile), package_json: Some(package), ..Found::default() };
        survives(&init(&found));
    }
}

#[test]
fn the_valid_file_is_valid() {
    let parsed = World::new().toml(VALID);
    assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
}

#[test]
fn bombs_do_not_go_off() {
    survives(&"[".repeat(100_000));
    survives(&"{\"a\":".repeat(100_000));
    survives(&format!("x = {}", "[".repeat(100_000)));
    survives(&format!("{} = 1", vec!["a"; 5_000].join(".")));
    let doubling = (0..60).fold(String::new(), |text, n| {
        format!("{text}V{n} = '${{V{0}}}${{V{0}}}'\n", n + 1)
    });
    survives(&format!("[[apps]]\ncmd = 'sleep 1'\n[apps.env]\n{doubling}V60 = 'x'"));
    let chain = (0..2_000).fold(String::new(), |text, n| format!("{text}W{n} = '${{W{}}}'\n", n + 1));
    survives(&format!("[[apps]]\ncmd = 'sleep 1'\n[apps.env]\n{chain}W2000 = 'x'"));
    let unknown = (0..20_000).fold(String::new(), |text, n| format!("{text}k{n} = 1\n"));
    survives(&format!("[[apps]]\n{unknown}"));
    survives(&" ".repeat(5 << 20));
}
