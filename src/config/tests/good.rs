//! What good files become.

use std::sync::Arc;

use super::{World, app, argv};
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::logspec::{LogFormat, MinFree, Overflow};
use crate::model::size::Bytes;
use crate::model::spec::{MAX_INSTANCES, Order, Ready, RestartMode, RestartSpec, RolloutSpec, StopSpec};

#[test]
fn the_shortest_file_has_the_documented_defaults() {
    let spec = app("[[apps]]\nscript = 'server.js'");
    assert_eq!(spec.name.as_str(), "server");
    assert_eq!(argv(&spec), ["node", "/srv/app/server.js"]);
    assert_eq!(spec.cwd, "/srv/app".into());
    assert_eq!(spec.instances, 1);
    assert_eq!(spec.instance_var, "NODE_APP_INSTANCE");
    assert_eq!(spec.restart, RestartSpec::default());
    assert_eq!(spec.stop, StopSpec::default());
    assert_eq!(spec.rollout, RolloutSpec::default());
    assert_eq!(spec.ready, Ready::Spawn);
    assert_eq!(spec.listen_timeout, Millis::from_secs(30));
    assert_eq!(spec.source, Some("ecosystem.toml".into()));
    assert!(spec.env.is_empty());
    assert_eq!(spec.env_base.get("SECRET"), Some(&"s3cret".into()));
    assert_eq!(spec.env_base.get("CLMGR_APP"), None, "belongs to another process");
}

#[test]
fn commands_are_split_like_a_shell_would() {
    let spec = app(
        "[[apps]]\ncmd = \"node 'a b' \\\"c d\\\" ${X:-e f}x $$1 --port=${N}\"\nenv = { N = 1 }"
            .replace("${X:-e f}x", "x")
            .as_str(),
    );
    assert_eq!(argv(&spec), ["node", "a b", "c d", "x", "$1", "--port=1"]);
    assert_eq!(spec.name.as_str(), "node");
    let spec = app("[[apps]]\ncmd = ['sleep', 5, '${SECRET} x']\nname = 'z'");
    assert_eq!(argv(&spec), ["sleep", "5", "s3cret x"]);
    let spec = app("[[apps]]\ncmd = '~/tool -x'");
    assert_eq!(argv(&spec), ["/home/me/tool", "-x"]);
}

#[test]
fn scripts_find_their_interpreter() {
    for (text, expected) in [
        ("script = 'sub/worker.py'", vec!["python3", "/srv/app/sub/worker.py"]),
        (
            "script = './worker.py'\ncwd = 'sub'",
            vec!["python3", "/srv/app/sub/worker.py"],
        ),
        ("script = 'run.sh'", vec!["/srv/app/run.sh"]),
        ("script = 'plain.sh'", vec!["sh", "/srv/app/plain.sh"]),
        ("script = 'binary'", vec!["/srv/app/binary"]),
        ("script = 'main.ts'", vec!["node", "/srv/app/main.ts"]),
        (
            "script = 'notes.txt'\ninterpreter = 'sh'",
            vec!["sh", "/srv/app/notes.txt"],
        ),
        ("script = 'run.sh'\ninterpreter = 'none'", vec!["/srv/app/run.sh"]),
        (
            "script = 'tool.rb'\nexec_interpreter = '~/tool'",
            vec!["/home/me/tool", "/srv/app/tool.rb"],
        ),
        (
            "script = 'server.js'\nargs = '--a \"b c\"'\nnode_args = ['--inspect']",
            vec!["node", "--inspect", "/srv/app/server.js", "--a", "b c"],
        ),
    ] {
        assert_eq!(argv(&app(&format!("[[apps]]\nname = 'x'\n{text}"))), expected, "{text}");
    }
    let mut world = World::new();
    world.programs = vec!["bun"];
    let parsed = world.toml("[[apps]]\nscript = 'main.ts'").unwrap();
    assert_eq!(argv(&parsed.apps[0])[0], "bun");
}

#[test]
fn instances_mean_what_pm2_means() {
    for (text, expected) in [
        ("1", 1),
        ("4096", MAX_INSTANCES),
        ("0", 4),
        ("-1", 3),
        ("-3", 1),
        ("-100", 1),
        ("-9223372036854775808", 1),
        ("'max'", 4),
        ("'50%'", 2),
        ("'1%'", 1),
        ("'200%'", 8),
        ("'3'", 3),
    ] {
        let spec = app(&format!("[[apps]]\nscript = 'server.js'\ninstances = {text}"));
        assert_eq!(spec.instances, expected, "{text}");
    }
}

#[test]
fn environments_come_in_layers() {
    let text = "
[defaults]
env = { A = 'default', SHARED = 1 }
env_production = { A = 'prod', MODE = true }
[[apps]]
name = 'one'
script = 'server.js'
env_file = '.env'
env = { B = '${FROM_FILE}-${C}', C = '${D:-d}', PATH = '/opt:${PATH}', PORT = 2.5, NL = \"a\\nb\" }
[[apps]]
name = 'two'
script = 'server.js'
env = { A = 'own' }
[[apps]]
name = 'three'
script = 'server.js'
env_inherit = ['HOME', 'ABSENT']
[[apps]]
name = 'four'
script = 'server.js'
env_inherit = false
";
    let mut world = World::new();
    world.programs.push("node");
    world.files.insert("/opt/node", ("", crate::config::FileKind::Program));
    let parsed = world.toml(text).unwrap();
    let get = |n: usize, name: &str| parsed.apps[n].variable(name).map(|v| v.to_text().into_owned());
    assert_eq!(get(0, "A").as_deref(), Some("default"));
    assert_eq!(get(0, "B").as_deref(), Some("f-d"));
    assert_eq!(get(0, "PATH").as_deref(), Some("/opt:/bin"));
    assert_eq!(get(0, "QUOTED").as_deref(), Some("a b"));
    assert_eq!(get(0, "PORT").as_deref(), Some("2.5"));
    assert_eq!(get(0, "NL").as_deref(), Some("a\nb"));
    assert_eq!(get(1, "A").as_deref(), Some("own"));
    assert_eq!(get(1, "SHARED").as_deref(), Some("1"));
    assert_eq!(get(1, "MODE"), None);
    assert!(Arc::ptr_eq(&parsed.apps[0].env_base, &parsed.apps[1].env_base));
    assert_eq!(parsed.apps[2].env_base.len(), 1);
    assert_eq!(
        parsed.apps[3].env_base.keys().map(String::as_str).collect::<Vec<_>>(),
        ["HOME", "LANG", "PATH"]
    );
    world.profile = Some("production");
    let parsed = world.toml(text).unwrap();
    assert_eq!(parsed.apps[1].variable("A"), Some(&"prod".into()));
    assert_eq!(parsed.apps[1].variable("MODE"), Some(&"true".into()));
}

#[test]
fn every_key_reaches_the_spec() {
    let spec = app(r#"
[[apps]]
name = "api"
script = "server.js"
namespace = "web"
exec_mode = "fork"
instances = 2
instance_var = "SLOT"
increment_var = "PORT"
env = { PORT = 3000 }
restart = "on-failure"
stop_exit_codes = [0, 42]
min_uptime = 1000
restart_delay = "100ms"
backoff = { first = "2s", factor = 3, max = "1m", jitter = 0 }
max_restarts = 7
restart_window = "1m"
breaker_cooldown = "never"
ready = { http = "http://127.0.0.1:{port}/health" }
listen_timeout = "5s"
on_listen_timeout = "ready"
stop_signal = "INT"
kill_timeout = 1600
treekill = false
pre_stop = "sh drain.sh"
rollout = { order = "stop-first", parallel = 2, min_healthy = 0, deadline = "1m", on_failure = "keep" }
max_memory_restart = "1.5G"
out = "logs/out.log"
err_file = "/dev/null"
merge_logs = true
time = true
log_rotate = { size = "none", every = "1d", keep = 3, total = "2G", compress = false }
log_overflow = "drop"
[apps.require]
env = "DATABASE_URL"
files = ["conf/x"]
tcp = ["127.0.0.1:5432", "[::1]:1"]
[apps.on_event]
circuit_open = ["sh", "alert.sh"]
"#);
    assert_eq!(spec.namespace.as_str(), "web");
    assert_eq!((spec.instances, spec.instance_var.as_str()), (2, "SLOT"));
    assert_eq!(spec.restart.mode, RestartMode::OnFailure);
    assert_eq!(spec.restart.stop_exit_codes, [0, 42]);
    assert_eq!(spec.restart.backoff.max, Millis::from_secs(60));
    assert_eq!((spec.restart.max_restarts, spec.restart.cooldown), (7, None));
    assert_eq!(spec.ready, Ready::Http("http://127.0.0.1:{port}/health".into()));
    assert!(spec.ready_on_timeout);
    assert_eq!(
        (spec.stop.signal, spec.stop.kill_timeout, spec.stop.treekill),
        (2, Millis(1600), false)
    );
    assert_eq!(spec.rollout.order, Some(Order::StopFirst));
    assert!(!spec.rollout.rollback);
    assert_eq!(spec.max_memory_restart, Some(Bytes(3 << 29)));
    assert_eq!(spec.logs.out_file, Some("/srv/app/logs/out.log".into()));
    assert_eq!(spec.logs.error_file, Some("/dev/null".into()));
    assert_eq!(spec.logs.format, LogFormat::Stamped("%Y-%m-%dT%H:%M:%S%.3f%:z".into()));
    assert_eq!((spec.logs.rotate.size, spec.logs.rotate.keep), (None, 3));
    assert_eq!(spec.logs.overflow, Overflow::Drop);
    assert_eq!(spec.require.files, ["/srv/app/conf/x".into()]);
    assert_eq!(spec.on_event[&EventKind::CircuitOpen].len(), 2);
}

#[test]
fn space_for_logs_is_bounded_in_many_ways() {
    let rotate = |text: &str| {
        app(&format!("[[apps]]\nscript = 'server.js'\nlog_rotate = {text}"))
            .logs
            .rotate
    };
    let aged = rotate("{ max_age = '7d' }");
    assert_eq!(
        (aged.max_age, aged.min_free),
        (Some(Millis(604_800_000)), MinFree::Auto)
    );
    for (text, expected) in [
        ("'auto'", MinFree::Auto),
        ("'none'", MinFree::Off),
        ("'2G'", MinFree::Bytes(Bytes(2 << 30))),
        ("1000", MinFree::Bytes(Bytes(1000))),
        ("'5%'", MinFree::Percent(5)),
    ] {
        assert_eq!(rotate(&format!("{{ min_free = {text} }}")).min_free, expected, "{text}");
    }
    assert_eq!(rotate("false").min_free, MinFree::Off);
    assert_eq!(MinFree::Auto.floor(100 << 30), 1 << 30);
    assert_eq!(MinFree::Auto.floor(2000), 100);
    assert_eq!(MinFree::Percent(5).floor(2000), 100);
}

#[test]
fn readiness_has_many_forms() {
    for (text, expected) in [
        ("ready = 'listen'", Ready::Listen),
        ("ready = 'notify'", Ready::Notify),
        ("ready = 'fd:3'", Ready::Fd(3)),
        ("wait_ready = true", Ready::Ipc),
        ("wait_ready = true\nready = 'ipc'", Ready::Ipc),
        ("wait_ready = false\nready = 'notify'", Ready::Notify),
        ("ready = { tcp = '127.0.0.1:80' }", Ready::Tcp("127.0.0.1:80".into())),
        (
            "ready = { exec = 'test -f x' }",
            Ready::Exec(vec!["test".into(), "-f".into(), "x".into()]),
        ),
        (
            "ready = { log = 'up (on|at) \\d+' }",
            Ready::Log("up (on|at) \\d+".into()),
        ),
    ] {
        assert_eq!(
            app(&format!("[[apps]]\nscript = 'server.js'\n{text}")).ready,
            expected,
            "{text}"
        );
    }
}

#[test]
fn an_app_displaces_defaults_that_would_contradict_it() {
    let text = "[defaults]\nscript = 'server.js'\ninterpreter = 'node'\nautorestart = false\nwait_ready = true\ntime = true\n\
                [[apps]]\ncmd = 'sleep 1'\nrestart = 'always'\nready = 'listen'\nlog_type = 'json'";
    let spec = app(text);
    assert_eq!(argv(&spec), ["sleep", "1"]);
    assert_eq!(spec.restart.mode, RestartMode::Always);
    assert_eq!(spec.ready, Ready::Listen);
    assert_eq!(spec.logs.format, LogFormat::Json);
}

#[test]
fn json_with_the_same_keys_is_the_same() {
    let world = World::new();
    let toml = world
        .toml("[[apps]]\nname='a'\nscript='server.js'\ninstances=2\nenv={X=1}\nerror='e.log'")
        .unwrap();
    for json in [
        r#"{"apps":[{"name":"a","script":"server.js","instances":2,"env":{"X":1},"error_file":"e.log"}]}"#,
        "// PM2\n[ {\"name\": \"a\", /* x */ \"script\": \"./server.js\", \"instances\": 2, \"env\": {\"X\": \"1\",}, \"err_file\": \"e.log\"}, ]\n",
    ] {
        let parsed = world.json(json).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(parsed.apps, toml.apps);
    }
}

#[test]
fn warns_about_what_is_probably_not_meant() {
    let text = "[[apps]]\ncmd = 'sleep 1 && sleep 2'\nmax_memory_restart = 200\nshutdown_with_message = true\nstop_signal = 'SIGINT'\nincrement_var = 'PORT'";
    let parsed = World::new().toml(text).unwrap();
    insta::assert_snapshot!(parsed.warnings.render(false));
}

/// A table of documented defaults, as TOML.
fn documented(keys: &[crate::config::schema::Key], separator: &str) -> String {
    use crate::config::schema::Kind;
    let one = |key: &crate::config::schema::Key| {
        let default = if let Kind::Table(inner) | Kind::TableOrBool(inner) = key.kind {
            format!("{{ {} }}", documented(inner, ", "))
        } else if format!("x = {}", key.default).parse::<toml::Table>().is_ok() {
            key.default.to_owned()
        } else {
            return None;
        };
        Some(format!("{} = {default}", key.name))
    };
    keys.iter().filter_map(one).collect::<Vec<_>>().join(separator)
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let all: Vec<String> = crate::config::schema::GROUPS
        .iter()
        .map(|(_, keys)| documented(keys, "\n"))
        .collect();
    let text = format!("[[apps]]\nscript = 'server.js'\n{}", all.join("\n"));
    assert!(
        text.contains("kill_timeout = \"10s\"") && text.contains("jitter = 0.1"),
        "{text}"
    );
    assert_eq!(app(&text), app("[[apps]]\nscript = 'server.js'"));
}

#[test]
fn sockets_are_read_in_every_form() {
    let spec = app(
        "[[apps]]\nscript = 'server.js'\nlisten = ['0.0.0.0:${P:-3000}', '[::]:3000', 'udp:127.0.0.1:0', 'unix:run/a.sock', { unix = '@name' }, { unix = '/b', name = 'admin', mode = '0660', backlog = 5 }]\nargs = ['{fd:admin}', '{x}']\nready = { http = 'http://[::1]:3000/' }",
    );
    let texts: Vec<String> = spec.listen.iter().map(|one| one.address.to_string()).collect();
    assert_eq!(
        texts,
        [
            "0.0.0.0:3000",
            "[::]:3000",
            "udp:127.0.0.1:0",
            "unix:/srv/app/run/a.sock",
            "unix:@name",
            "unix:/b"
        ]
    );
    let names: Vec<&str> = spec.listen.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["3000", "3000", "udp", "a.sock", "name", "admin"]);
    assert!(spec.listen[1].v6_only && spec.listen[0].mode.is_none());
    assert_eq!((spec.listen[5].mode, spec.listen[5].backlog), (Some(0o660), 5));
    assert_eq!(argv(&spec)[2], "{fd:admin}", "filled when it is started");
    let spec = app("[[apps]]\nscript = 'server.js'\nlisten = '[::]:80'\nready = { http = 'http://[::1]:{port}/' }");
    assert!(!spec.listen[0].v6_only);
    assert!(app("[[apps]]\nscript = 'server.js'").listen.is_empty());
}
