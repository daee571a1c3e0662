//! `exec_mode` and what it changes.

use crate::config::tests::{World, app, messages};
use crate::model::balance::ExecMode;
use crate::model::spec::Ready;

#[test]
fn a_node_script_with_instances_is_a_cluster_unless_something_else_is_said() {
    for (text, cluster) in [
        ("script = 'server.js'", false),
        ("script = 'server.js'\ninstances = 1", true),
        ("script = 'server.js'\ninstances = 'max'", true),
        ("script = 'server.js'\ninstances = 2\nexec_mode = 'fork'", false),
        ("script = 'server.js'\ninstances = 2\nexec_mode = 'fork_mode'", false),
        ("script = 'server.js'\ninstances = 2\nlisten = ['0.0.0.0:80']", false),
        (
            "script = 'server.js'\ninstances = 2\nincrement_var = 'PORT'\nenv = { PORT = 1 }",
            false,
        ),
        ("script = 'server.js'\ninstances = 2\ninterpreter = 'bun'", false),
        ("cmd = 'sleep 1'\ninstances = 2", false),
        ("cmd = 'node server.js'\ninstances = 2", false),
        ("cmd = 'node server.js'\nexec_mode = 'cluster_mode'", true),
        (
            "script = 'server.js'\nexec_mode = 'cluster'\nlisten = ['0.0.0.0:80']",
            true,
        ),
    ] {
        let spec = app(&format!("[[apps]]\n{text}\n"));
        let expected = if cluster {
            (ExecMode::Cluster, Ready::Listen)
        } else {
            (ExecMode::Fork, Ready::Spawn)
        };
        assert_eq!((spec.exec_mode, spec.ready), expected, "{text}");
        assert!(spec.preload);
    }
}

#[test]
fn readiness_can_be_another() {
    for (text, ready) in [
        ("ready = 'spawn'", Ready::Spawn),
        ("wait_ready = true", Ready::Ipc),
        ("wait_ready = false", Ready::Listen),
        ("ready = 'listen'\nlisten = ['0.0.0.0:80']", Ready::Listen),
    ] {
        let spec = app(&format!(
            "[[apps]]\nscript = 'server.js'\nexec_mode = 'cluster'\n{text}\n"
        ));
        assert_eq!(spec.ready, ready, "{text}");
    }
    let spec = app("[[apps]]\nscript = 'server.js'\ninstances = 2\nmax_requests = 1000\n");
    assert_eq!(spec.max_requests, Some(1000));
    assert!(!app("[[apps]]\nscript = 'server.js'\ninstances = 2\nnode_preload = false\n").preload);
}

#[test]
fn nonsense_is_refused() {
    for (text, message) in [
        ("cmd = 'sleep 1'\nexec_mode = 'cluster'", "not for `sleep`"),
        (
            "script = 'server.js'\ninterpreter = 'bun'\nexec_mode = 'cluster'",
            "not for `bun`",
        ),
        (
            "script = 'server.js'\nexec_mode = 'clutser'",
            "`exec_mode` must be \"fork\" or \"cluster\", not \"clutser\"",
        ),
        (
            "script = 'server.js'\nmax_requests = 5",
            "`max_requests` is for apps with `exec_mode = \"cluster\"`",
        ),
        ("script = 'server.js'\ninstances = 2\nmax_requests = 0", "max_requests"),
        (
            "script = 'server.js'\ninstances = 2\nmax_requests = 5\nnode_preload = false",
            "`max_requests` needs the preload",
        ),
    ] {
        let found = messages(&format!("[[apps]]\n{text}\n"));
        assert!(found.len() == 1 && found[0].contains(message), "{text}: {found:?}");
    }
    let hint = World::new()
        .toml("[[apps]]\ncmd = 'sleep 1'\nexec_mode = 'cluster'\n")
        .unwrap_err()
        .render(false);
    assert!(hint.contains("bun and deno") && hint.contains("{fd}"), "{hint}");
}
