//! What people read when a file is wrong.

use super::{World, messages};

fn rendered(text: &str) -> String {
    World::new().toml(text).expect_err("it is wrong").render(false)
}

macro_rules! shows {
    ($($name:ident: $text:expr;)*) => { $(
        #[test]
        fn $name() {
            insta::assert_snapshot!(rendered($text));
        }
    )* };
}

shows! {
    several_syntax_errors: "[[apps]]\nname = \nscript = 'server.js\ninstances = 4x\n\n[[apps]\ncmd = 'sleep 1'\ncolour = 'red'\n";
    unknown_keys: "[[apps]]\nscript = 'server.js'\ninstnaces = 2\nkil_timeout = 5\nzzzz = 1\n[apps.rollout]\nparalel = 2\n[apps.backoff]\nstart = 1\n";
    unsupported_keys: "[[apps]]\nscript = 'server.js'\nwatch = true\nexp_backoff_restart_delay = 100\n";
    wrong_types: "[[apps]]\nname = 5\nscript = ['server.js']\nargs = true\nautorestart = 'yes'\nmin_uptime = 1.5\nenv = ['A=1']\nstop_exit_codes = 'x'\nlog_rotate = 3\nrollout = 1\nready = 3\nmax_memory_restart = 1.5\n";
    bad_values: "[[apps]]\nname = 'a/b'\nscript = 'server.js'\ninstances = 1000000\nmin_uptime = -5\nkill_timeout = '5 parsecs'\nrestart = 'allways'\nstop_signal = 'SIGTREM'\nmax_restarts = 0\nstop_exit_codes = [1, 300]\nbackoff = { factor = 0.5, jitter = 2, first = '1m', max = '1s' }\nmax_memory_restart = '-5M'\nenv = { 'A=B' = 1, C = \"x\\u0000\" }\nlog_date_format = '%!'\nready = { log = '(' }\non_event = { circuit_opne = 'x' }\nrequire = { tcp = ['5432'], env = [''] }\n";
    contradictions: "[[apps]]\ncmd = 'sleep 1'\nscript = 'server.js'\nautorestart = false\nrestart = 'always'\nwait_ready = true\nready = 'notify'\ndisable_logs = true\nout_file = 'x.log'\nlog_type = 'json'\ntime = true\nout = 'y.log'\n";
    duplicate_names: "[[apps]]\nscript = 'server.js'\n\n[[apps]]\nname = 'server'\ncmd = 'sleep 1'\n";
    shared_logs: "[[apps]]\nname = 'a'\nscript = 'server.js'\nout_file = 'x.log'\n[[apps]]\nname = 'b'\nscript = 'server.js'\nerror_file = './x.log'\n";
    log_bounds: "[defaults]\nscript = 'server.js'\n[[apps]]\nname = 'a'\nlog_rotate = { max_age = 0, min_free = '200%' }\n[[apps]]\nname = 'b'\nlog_rotate = { max_age = 'old', min_free = 'some', total = true }\n[[apps]]\nname = 'c'\nlog_rotate = { size = 'none', max_age = '7d' }\n[[apps]]\nname = 'd'\nlog_rotate = { maxage = '7d', min_free = 0 }\n";
    missing_things: "[[apps]]\nscript = 'srever.js'\n[[apps]]\nscript = 'notes.txt'\n[[apps]]\nscript = 'tool.rb'\n[[apps]]\nscript = 'server.js'\ninterpreter = 'deno run'\nname = 'd'\n[[apps]]\ncmd = 'PORT=3000 node x'\n[[apps]]\ncmd = 'server.js'\n[[apps]]\nname = 'nothing'\n[[apps]]\nscript = 'sub'\n[[apps]]\nscript = 'server.js'\ncwd = 'subb'\nname = 'e'\n[[apps]]\ncmd = './notes.txt'\n";
    expansion: "[[apps]]\nname = 'x'\ncmd = 'sleep ${NOPE}'\nenv = { A = '${B}', B = '${A}', C = '${D', E = '${F-1}' }\nout_file = '${NOPE}/x'\n";
    env_files: "[[apps]]\nscript = 'server.js'\nenv_file = ['.evn', 'bad.env']\n";
    outside_of_apps: "name = 'x'\n[app]\ncmd = 'sleep 1'\n[apps]\ncmd = 'sleep 1'\n[default]\nmin_uptime = 1\n";
    nothing: "";
    ready_forms: "[defaults]\nscript = 'server.js'\n[[apps]]\nname='a'\nready = 'fd:1'\n[[apps]]\nname='b'\nready = 'listening'\n[[apps]]\nname='c'\nready = { http = '/health' }\n[[apps]]\nname='d'\nready = { tcp = ':80', log = 'x' }\n[[apps]]\nname='e'\nready = { http = 'http://127.0.0.1:{port}/' }\n[[apps]]\nname='f'\nready = { https = 'x' }\n";
    listen_addresses: "[defaults]\nscript = 'server.js'\n[[apps]]\nname = 'a'\nlisten = ['localhost:3000', '0.0.0.0:70000', '127.0.0.1', '::1:80', 'unix:', 3000, { tcp = '0.0.0.0:1', mode = '0660' }, { unix = 's', mode = '888' }, { unix = 's', tcp = '1.1.1.1:1' }, { tpc = '1.1.1.1:1' }, { tcp = '1.1.1.1:2', name = 'a:b' }, true]\n[[apps]]\nname = 'b'\nlisten = ['0.0.0.0:80', '0.0.0.0:80', '127.0.0.1:80', { tcp = '1.1.1.1:1', name = 'x' }, { tcp = '1.1.1.1:2', name = 'x' }]\n";
    balances: "[defaults]\nscript = 'server.js'\n[[apps]]\nname = 'a'\nbalance = 'evenly'\n[[apps]]\nname = 'b'\nbalance = 'even'\n[[apps]]\nname = 'c'\nlisten = 'unix:c.sock'\nbalance = 'sticky'\n";
    listen_owners: "[[apps]]\nname = 'a'\nscript = 'server.js'\nlisten = [{ tcp = '0.0.0.0:1', owner = 'www', stdin = true }, { unix = 's', group = 'a:b', stdin = true }, { unix = 't', owner = '' }, { unix = 'u', stdin = 'yes' }]\n";
    listen_across_apps: "[defaults]\nscript = 'server.js'\n[[apps]]\nname = 'a'\nlisten = '0.0.0.0:80'\n[[apps]]\nname = 'b'\nlisten = ['127.0.0.1:81', '127.0.0.1:80']\n";
    listen_and_readiness: "[defaults]\nscript = 'server.js'\n[[apps]]\nname = 'a'\nlisten = '0.0.0.0:80'\nready = 'listen'\n[[apps]]\nname = 'b'\nlisten = '0.0.0.0:81'\nready = { tcp = '127.0.0.1:{port}' }\n[[apps]]\nname = 'c'\nlisten = '0.0.0.0:82'\nready = 'fd:3'\n[[apps]]\nname = 'd'\nlisten = 'unix:d.sock'\nready = { http = 'http://127.0.0.1:{port}/' }\n";
    listen_placeholders: "[[apps]]\nname = 'a'\nscript = 'server.js'\nlisten = ['0.0.0.0:80', 'unix:a.sock']\nargs = '--fd {fd:http}'\nenv = { A = '{port:a.sock}', B = '{other} {fd}' }\n";
    wide_characters: "[[apps]]\nname = 'größe 日本'\t# ключ\n\u{fc}berraschung = '\u{1f980}'\ncmd = 'sleep 1'\n";
    broken_header: "[[apps]]\ncmd = 'sleep 1'\n[apps.env\nA = 1\n[apps.rollout]\nparalel = 1\n";
    profiles_are_tables: "[[apps]]\ncmd = 'sleep 1'\nenv_production = 'x'\nenv_flie = 'x'\n";
    same_key_twice: "[[apps]]\ncmd = 'sleep 1'\ncmd = 'sleep 2'\n[apps.env]\nA = 1\nA = 2\n";
}

#[test]
fn a_mistake_in_defaults_is_reported_once() {
    let text = "[defaults]\nmin_uptime = -1\n[[apps]]\ncmd = 'sleep 1'\n[[apps]]\ncmd = 'sleep 2'\nname = 'b'";
    assert_eq!(messages(text), ["`min_uptime`: a duration cannot be negative: -1"]);
}

#[test]
fn an_unknown_profile_names_the_known_ones() {
    let mut world = World::new();
    world.profile = Some("prod");
    let text = "[[apps]]\nscript = 'server.js'\nenv_production = {}\nenv_staging = {}";
    insta::assert_snapshot!(world.toml(text).unwrap_err().render(false));
}

#[test]
fn json_errors_have_places() {
    let world = World::new();
    for text in [
        "{\"apps\": [{\"script\": \"server.js\" \"x\": 1}]}",
        "{\"apps\": [{\"script\": \"server.js",
        "{\"apps\": [nope]}",
        "{} x",
        "",
        "{\"apps\": [{\"script\": \"server.js\", \"script\": \"a\"}]}",
        "{\"apps\": 1e999}",
        "/* ",
    ] {
        let problems = world.json(text).expect_err(text);
        assert!(problems.iter().any(|problem| problem.span.is_some()), "{problems}");
    }
    insta::assert_snapshot!(
        world
            .json("{\n  \"apps\": [\n    { \"script\": \"server.js\", \"instnaces\": 2 }\n  ]\n}")
            .unwrap_err()
            .render(false)
    );
}

#[test]
fn programs_get_places_and_hints() {
    let problems = World::new()
        .toml("[[apps]]\nscript = 'server.js'\n  instnaces = 2")
        .unwrap_err();
    assert_eq!(
        problems.to_json(),
        serde_json::json!([{
            "line": 3, "column": 3, "end": { "line": 3, "column": 12 }, "key": "instnaces", "severity": "error",
            "message": "unknown key `instnaces`", "hint": "did you mean `instances`?",
        }])
    );
}

#[test]
fn colour_is_only_there_when_asked_for() {
    let problems = World::new().toml("x = 1").unwrap_err();
    assert!(problems.render(true).contains('\u{1b}'));
    assert!(!problems.render(false).contains('\u{1b}'));
}
