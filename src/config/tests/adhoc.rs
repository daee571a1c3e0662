//! Apps from the command line.

use super::{World, argv};
use crate::config::adhoc::{AdHoc, adhoc};
use crate::config::diagnostic::Diagnostics;
use crate::model::spec::AppSpec;

fn start(given: &AdHoc) -> Result<AppSpec, Diagnostics> {
    let mut parsed = World::new().with(|cx| adhoc(given, cx))?;
    assert_eq!(parsed.apps.len(), 1);
    Ok(parsed.apps.remove(0))
}

#[test]
fn decides_what_the_target_is() {
    for (target, args, expected) in [
        (
            "server.js",
            vec!["--port", "3000"],
            vec!["node", "/srv/app/server.js", "--port", "3000"],
        ),
        ("python3 worker.py", vec![], vec!["python3", "worker.py"]),
        ("sleep", vec!["10"], vec!["sleep", "10"]),
        ("two words.js", vec![], vec!["node", "/srv/app/two words.js"]),
        (
            "./binary",
            vec!["a b", "$HOME", "${X}"],
            vec!["/srv/app/binary", "a b", "$HOME", "${X}"],
        ),
    ] {
        let given = AdHoc::new(target).args(args).set("--name", "name", "x");
        assert_eq!(
            argv(&start(&given).unwrap_or_else(|problems| panic!("{problems}"))),
            expected
        );
    }
}

#[test]
fn flags_are_keys() {
    let given = AdHoc::new("server.js")
        .set("-i", "instances", "max")
        .set("--name", "name", "api")
        .set("--cwd", "cwd", "/srv/app")
        .set("--kill-timeout", "kill_timeout", "3000")
        .set("--no-autorestart", "autorestart", "false")
        .set("-e", "env", "A=b=$c")
        .set("-e", "env", "B=");
    let spec = start(&given).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((spec.name.as_str(), spec.instances), ("api", 4));
    assert_eq!(spec.env.get("A"), Some(&"b=$c".into()));
    assert_eq!(spec.env.get("B"), Some(&"".into()));
    assert_eq!(spec.stop.kill_timeout.0, 3000);
}

#[test]
fn problems_are_shown_in_the_command_line() {
    let given = AdHoc::new("srever.js")
        .args(["--port", "3000"])
        .set("-i", "instances", "lots")
        .set("--name", "name", "all")
        .set("-e", "env", "X");
    insta::assert_snapshot!(start(&given).unwrap_err().render(false));
}
