//! Files and command lines that make no sense, and programs that cannot be run: each is refused with what, where
//! and the next step, and nothing changes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::harness::{Said, World};

/// A home with one app, which nothing that is refused may touch.
struct Calm {
    world: World,
    before: Value,
}

impl Calm {
    fn new() -> Self {
        let world = World::new();
        world.run(&["start", "sleep 1000", "--name", "calm"]).ok();
        let before = picture(&world);
        Self { world, before }
    }

    /// Runs a command that has to be refused with this exit code and these words, and looks that nothing changed.
    #[track_caller]
    fn refuses(&self, args: &[&str], code: i32, words: &[&str]) -> Said {
        let said = self.world.run(args);
        self.is_refusal(said, code, words)
    }

    #[track_caller]
    fn is_refusal(&self, said: Said, code: i32, words: &[&str]) -> Said {
        assert_eq!(said.code, code, "out: {}\nerr: {}", said.out, said.err);
        for word in words {
            assert!(said.err.contains(word), "no {word:?} in: {}", said.err);
        }
        assert_eq!(said.out, "", "a refusal has nothing for standard output");
        assert_eq!(picture(&self.world), self.before);
        said
    }

    /// The same for a file of this content, with `validate` and with `start`.
    #[track_caller]
    fn refuses_file(&self, text: &str, words: &[&str]) {
        self.world.file("bad.toml", text);
        self.refuses(&["validate", "bad.toml"], 2, words);
        self.refuses(&["start", "bad.toml"], 2, words);
    }

    /// The same for one app with one more line.
    #[track_caller]
    fn refuses_key(&self, line: &str, words: &[&str]) {
        self.refuses_file(
            &format!("[[apps]]\nname = \"bad\"\ncmd = \"sleep 1000\"\n{line}\n"),
            words,
        );
    }
}

/// Every app with its pids, states and restarts.
fn picture(world: &World) -> Value {
    let mut status = world.status();
    for app in status["apps"].as_array_mut().unwrap() {
        for instance in app["instances"].as_array_mut().unwrap() {
            for volatile in ["uptime_ms", "cpu_percent", "memory_bytes"] {
                instance.as_object_mut().unwrap().remove(volatile);
            }
        }
    }
    status
}

#[test]
fn a_file_that_is_missing_is_named_with_the_next_step() {
    let calm = Calm::new();
    calm.refuses(
        &["start", "nope.toml"],
        2,
        &["there is no file nope.toml", "clmgr init"],
    );
    calm.refuses(&["validate", "nope.toml"], 2, &["nope.toml"]);
    calm.refuses(&["start"], 2, &["ecosystem.toml", "clmgr init"]);
    calm.refuses(&["start", "no/such/folder/x.toml"], 2, &["no/such/folder/x.toml"]);
}

#[test]
fn a_refused_first_command_starts_nothing() {
    let world = World::new();
    world.file("bad.toml", "[[apps]]\nname = 1\n");
    for args in [
        &["start", "nope.toml"][..],
        &["start", "bad.toml"],
        &["validate", "bad.toml"],
        &["start", "./nope"],
    ] {
        assert_eq!(world.run(args).code, 2, "{args:?}");
        assert!(world.processes().is_empty(), "{args:?}");
        assert!(!world.home().exists(), "{args:?} made a home");
    }
}

#[test]
fn a_folder_in_place_of_a_file_is_told() {
    let calm = Calm::new();
    std::fs::create_dir(calm.world.path().join("d.toml")).unwrap();
    std::fs::create_dir(calm.world.path().join("d")).unwrap();
    calm.refuses(
        &["start", "d.toml"],
        2,
        &["d.toml is a folder", "d.toml/ecosystem.toml"],
    );
    calm.refuses(&["start", "d"], 3, &["d is a folder", "d/ecosystem.toml"]);
    calm.refuses(&["validate", "d.toml"], 2, &["d.toml", "folder"]);
}

#[test]
fn every_syntax_error_is_reported_at_once_with_its_place() {
    let calm = Calm::new();
    let text = "[[apps]]\nname = \"a\ncmd = 3\n[[apps]\nname = \"b\"\nx = = 1\n";
    calm.refuses_file(
        text,
        &[
            "bad.toml:2:",
            "bad.toml:3:",
            "bad.toml:4:",
            "bad.toml:6:",
            "`cmd` must be a string",
        ],
    );
}

#[test]
fn standard_input_is_judged_like_a_file() {
    let calm = Calm::new();
    let input = |text: &str| calm.world.run_with_input(&["start", "-"], text);
    calm.is_refusal(input(""), 2, &["no app"]);
    calm.is_refusal(input("[[apps]]\nname = \"a\ncmd = 3\n"), 2, &[":2:", ":3:"]);
    calm.is_refusal(input("{\"apps\": [{\"name\": \"a\", \"cmd\": 3}"), 2, &[":1:"]);
    calm.is_refusal(input(&"[".repeat(100_000)), 2, &[":1:"]);
    calm.is_refusal(input(&"# much\n".repeat(300_000)), 2, &["larger than 1 MiB"]);
    input("[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\n").ok();
    assert_eq!(calm.world.states("a"), ["online"]);
}

#[test]
fn a_file_that_is_no_text_is_refused() {
    let calm = Calm::new();
    std::fs::write(
        calm.world.path().join("bad.toml"),
        b"[[apps]]\nname = \"\xff\xfe\"\n\0\0",
    )
    .unwrap();
    calm.refuses(&["start", "bad.toml"], 2, &["bad.toml", "UTF-8"]);
    calm.refuses_file("", &["bad.toml"]);
}

#[test]
fn unknown_keys_come_with_a_suggestion() {
    let calm = Calm::new();
    calm.refuses_key(
        "instnces = 2\nkill_timout = \"3s\"",
        &[
            "unknown key `instnces`",
            "did you mean `instances`?",
            "unknown key `kill_timout`",
            "did you mean `kill_timeout`?",
            "bad.toml:4:1",
            "bad.toml:5:1",
        ],
    );
    calm.refuses_key("zzz = 1", &["unknown key `zzz`", "keys this version supports:"]);
    calm.refuses_key(
        "cron_restart = \"* * * * *\"",
        &["cron_restart", "not supported by this version"],
    );
}

#[test]
fn two_apps_of_one_name_are_refused() {
    let calm = Calm::new();
    let app = "[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\n";
    calm.refuses_file(
        &format!("{app}{app}"),
        &["two apps are named `a`", "first used here", "bad.toml:5:8"],
    );
}

#[test]
fn numbers_of_instances_are_bounded_and_zero_means_every_cpu() {
    let calm = Calm::new();
    calm.refuses_key("instances = 1000000", &["1000000", "4096", "bad.toml:4:13"]);
    calm.refuses_key("instances = 1.5", &["`instances`", "bad.toml:4:13"]);
    calm.refuses_key("instances = \"lots\"", &["\"lots\"", "\"max\""]);
    calm.refuses(
        &["start", "sleep 1000", "--name", "bad", "-i", "1000000"],
        2,
        &["1000000", "4096"],
    );
    calm.refuses(&["scale", "calm", "1000000"], 2, &["1000000", "4096"]);
    calm.refuses(&["scale", "calm", "+1000000"], 2, &["4096"]);
    calm.refuses(&["scale", "calm", "0"], 2, &["0 instances", "clmgr stop calm"]);
    calm.refuses(&["scale", "calm", "-7"], 2, &["-6 instances", "clmgr stop calm"]);

    // As PM2 reads them: 0 is one for every CPU, -1 one less, and never less than one.
    let Calm { world, .. } = calm;
    let cpus = std::thread::available_parallelism().unwrap().get();
    for (number, count) in [("0", cpus), ("-1", cpus.saturating_sub(1).max(1)), ("-99999", 1)] {
        world.file(
            "few.toml",
            &format!("[[apps]]\nname = \"few\"\ncmd = \"sleep 1000\"\ninstances = {number}\n"),
        );
        world.run(&["start", "few.toml"]).ok();
        assert_eq!(world.instances("few").len(), count, "instances = {number}");
        world.run(&["delete", "few"]).ok();
    }
}

#[test]
fn durations_are_never_negative() {
    let calm = Calm::new();
    for (key, value) in [
        ("kill_timeout", "-1"),
        ("kill_timeout", "\"-5s\""),
        ("min_uptime", "-1"),
        ("restart_delay", "\"-250ms\""),
        ("restart_window", "-1"),
        ("listen_timeout", "-3000"),
        ("backoff", "{ first = -1 }"),
        ("breaker_cooldown", "\"-1m\""),
        ("rollout", "{ min_healthy = -1 }"),
    ] {
        calm.refuses_key(&format!("{key} = {value}"), &[key, "cannot be negative", "bad.toml:4:"]);
    }
    calm.refuses_key(
        "kill_timeout = \"5 parsecs\"",
        &["kill_timeout", "\"5 parsecs\"", "\"5s\""],
    );
    calm.refuses_key(
        "kill_timeout = \"99999999999999999999h\"",
        &["kill_timeout", "bad.toml:4:"],
    );
}

#[test]
fn programs_that_cannot_be_run_are_refused_before_anything_starts() {
    let calm = Calm::new();
    let world = &calm.world;
    world.file("plain", "echo hi\n");
    calm.refuses(
        &["start", "srever.js"],
        2,
        &["srever.js", "does not exist", "command line:1:13"],
    );
    calm.refuses(&["start", "./srever"], 2, &["srever", "does not exist"]);
    calm.refuses(
        &["start", "./plain", "--name", "plain"],
        2,
        &["plain` is not executable", "chmod +x"],
    );
    let app = |name: &str, rest: &str| format!("[[apps]]\nname = \"{name}\"\n{rest}\n");
    // All in one go, each at its place.
    let text = [
        app("a", "script = \"srever.js\""),
        app("b", "cmd = [\"./nope\", \"x\"]"),
        app("c", "cmd = \"./plain\""),
        app("d", "script = \"plain\"\ninterpreter = \"/nonexistent/python\""),
        app("e", "cmd = \"no-such-program-anywhere\""),
        app("f", "cmd = \"sleep 1000\"\ncwd = \"gone\""),
        app("g", "cmd = \"./bad.toml/x\""),
        app("fine", "cmd = \"sleep 1000\""),
    ]
    .concat();
    calm.refuses_file(
        &text,
        &[
            "srever.js` does not exist",
            "bad.toml:3:",
            "nope` does not exist",
            "bad.toml:6:",
            "plain` is not executable",
            "chmod +x",
            "bad.toml:9:",
            "/nonexistent/python",
            "bad.toml:13:",
            "no-such-program-anywhere",
            "bad.toml:16:",
            "gone` does not exist",
            "bad.toml:20:",
            "bad.toml:23:",
        ],
    );
}

#[test]
fn a_script_whose_first_line_names_no_interpreter_tells_so() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "calm"]).ok();
    let calm = world.pids("calm");
    world.file("lost", "#!/nonexistent/python\nprint()\n");
    let said = world
        .run(&["start", "./lost", "--name", "lost"])
        .refused(1, "lost:0: cannot start");
    for word in [
        "/lost",
        "interpreter that the script's first line names",
        "clmgr describe lost",
    ] {
        assert!(said.err.contains(word), "{}", said.err);
    }
    let described = world.run(&["describe", "lost"]).ok();
    assert!(described.out.contains("interpreter"), "{}", described.out);
    assert_eq!(world.pids("lost"), [0]);
    // Tried again by the restart law, and given up.
    world.until("the circuit opens", || world.states("lost") == ["errored"]);
    assert!(
        world
            .events()
            .iter()
            .any(|event| event["kind"] == "spawn_failed" && event["app"] == "lost")
    );
    assert_eq!(world.pids("calm"), calm);
    // Once it is repaired, one command is enough.
    world.file("lost", "#!/bin/sh\nexec sleep 1000\n");
    world.run(&["restart", "lost"]).ok();
    assert_eq!(world.states("lost"), ["online"]);
}

#[test]
fn a_folder_that_is_gone_is_named_and_does_not_end_what_runs() {
    let world = World::new();
    let folder = world.path().join("soon gone");
    std::fs::create_dir(&folder).unwrap();
    world.file(
        "a.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\ncwd = \"soon gone\"\n",
    );
    world.run(&["start", "a.toml"]).ok();
    let before = world.pids("a");
    std::fs::remove_dir(&folder).unwrap();
    // A reload proves the new one first.
    let said = world.run(&["reload", "a"]).refused(1, "cannot enter the folder");
    assert!(
        said.err.contains("soon gone: no such file or directory") && said.err.contains("keeps serving"),
        "{}",
        said.err
    );
    assert_eq!(
        (world.pids("a"), world.states("a")),
        (before, vec!["online".to_owned()])
    );
    // The file is refused as it stands, and nothing is touched.
    world.run(&["start", "a.toml"]).refused(2, "soon gone` does not exist");
    assert_eq!(world.states("a"), ["online"]);
    // A restart stops first, as told, and says why nothing follows.
    world.run(&["restart", "a"]).refused(1, "a:0: cannot enter the folder");
    assert_eq!(world.pids("a"), [0]);
    std::fs::create_dir(&folder).unwrap();
    world.run(&["restart", "a"]).ok();
    assert_eq!(world.states("a"), ["online"]);
    // A folder that is no folder.
    std::fs::remove_dir(&folder).unwrap();
    world.file("soon gone", "");
    world.run(&["restart", "a"]).refused(1, "not a directory");
}

#[test]
fn a_caller_whose_own_folder_is_gone_is_told() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "calm"]).ok();
    let folder = world.path().join("gone");
    std::fs::create_dir(&folder).unwrap();
    let in_gone = |args: &[&str]| {
        let plain = world.command(&[]);
        let env = plain.get_envs().filter_map(|(key, value)| Some((key, value?)));
        let mut command = std::process::Command::new("sh");
        command
            .args([
                "-c",
                "cd gone && rmdir ../gone && exec \"$0\" \"$@\"",
                env!("CARGO_BIN_EXE_clmgr"),
            ])
            .args(args);
        command
            .current_dir(world.path())
            .env_clear()
            .envs(env)
            .stdin(std::process::Stdio::null());
        crate::harness::said(command)
    };
    in_gone(&["status"]).ok();
    std::fs::create_dir(&folder).unwrap();
    let said = in_gone(&["start", "sleep 1000", "--name", "nowhere"]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(
        said.err.contains("current folder cannot be found") && said.err.contains("cd to a folder"),
        "{}",
        said.err
    );
    assert_eq!(world.instances("nowhere").len(), 0);
}

#[test]
fn values_with_newlines_and_large_environments_arrive_unchanged() {
    let world = World::new();
    let large = "x".repeat(100 << 10);
    let odd = "one\ntwo\r\n\tthree \"four\" $FIVE";
    let script = "#!/bin/sh\nprintf '%s' \"$ODD\" > odd.out\nprintf '%s%s%s' \"$L0\" \"$L1\" \"$L2\" > large.out\nenv -0 > env.out\nexec sleep 1000\n";
    world.file("app", script);
    let mut command = world.command(&["start", "./app", "--name", "app"]);
    command.env("ODD", odd);
    for number in 0..3 {
        command.env(format!("L{number}"), &large);
    }
    command.env(OsStr::from_bytes(b"NOT_TEXT"), OsStr::from_bytes(b"\xff\xfe"));
    crate::harness::said(command).ok();
    let read = |name: &str| std::fs::read(world.path().join(name)).unwrap_or_default();
    let has = |text: &[u8], entry: &[u8]| text.split(|byte| *byte == 0).any(|one| one == entry);
    world.until("the app has written", || {
        !read("env.out").is_empty() && has(&read("env.out"), b"NOT_TEXT=\xff\xfe")
    });
    assert_eq!(read("odd.out"), odd.as_bytes());
    assert_eq!(read("large.out").len(), 300 << 10);
    // And again after everything was down: the environment is part of what is kept.
    world.run(&["kill"]).ok();
    for name in ["odd.out", "large.out", "env.out"] {
        std::fs::remove_file(world.path().join(name)).unwrap();
    }
    world.run(&["resurrect"]).ok();
    world.until("the app has written again", || {
        has(&read("env.out"), b"NOT_TEXT=\xff\xfe")
    });
    assert_eq!(read("odd.out"), odd.as_bytes());
    assert_eq!(read("large.out").len(), 300 << 10);
    let shown = world.run(&["env", "app:0", "--json"]).ok();
    assert!(!shown.out.contains("three"), "values are masked");
}

#[test]
fn an_environment_that_no_program_can_have_is_refused_with_the_reason() {
    let world = World::new();
    // A single string may have 128 KiB; the file is fine, the kernel is not.
    let large = "x".repeat(200 << 10);
    world.file(
        "a.toml",
        &format!("[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\nenv = {{ LARGE = \"{large}\" }}\n"),
    );
    let said = world.run(&["start", "a.toml"]);
    assert_ne!(said.code, 0);
    assert!(
        said.err.contains("too long") || said.err.contains("LARGE"),
        "{}",
        said.err
    );
    assert!(
        said.err.len() < 4000,
        "the value itself does not belong there: {} bytes",
        said.err.len()
    );
    // A NUL cannot be passed on at all.
    world.file(
        "b.toml",
        "[[apps]]\nname = \"b\"\ncmd = \"sleep 1000\"\nenv = { NUL = \"a\\u0000b\" }\n",
    );
    world.run(&["start", "b.toml"]).refused(2, "NUL");
    assert_eq!(world.instances("b").len(), 0);
}

#[test]
fn names_that_are_no_utf8_work_as_folder_script_and_log() {
    let world = World::new();
    let folder = world.path().join(OsStr::from_bytes(b"f\xff o"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(OsStr::from_bytes(b"data \xfe")), "").unwrap();
    let script = folder.join("run");
    std::fs::write(
        &script,
        "#!/bin/sh\npwd > where.out\nls >> where.out\necho said\nexec sleep 1000\n",
    )
    .unwrap();
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let mut command = world.command(&["start", "./run", "--name", "odd"]);
    command.current_dir(&folder);
    crate::harness::said(command).ok();
    // On the command line only text is taken, and that is said.
    let mut command = world.command(&["start"]);
    command.arg(OsStr::from_bytes(b"./run\xfd"));
    crate::harness::said(command).refused(2, "UTF-8");
    let expected = [folder.as_os_str().as_bytes(), b"\n"].concat();
    let read = || std::fs::read(folder.join("where.out")).unwrap_or_default();
    world.until("it runs in that folder", || read().starts_with(&expected));
    world.until("and sees its files", || {
        read().windows(6).any(|part| part == b"data \xfe")
    });
    for args in [
        &["status"][..],
        &["describe", "odd"],
        &["describe", "odd", "--json"],
        &["status", "--json"],
        &["env", "odd"],
        &["restart", "odd"],
        &["reload", "odd"],
    ] {
        world.run(args).ok();
    }
    // A file in such a folder, found by default.
    std::fs::write(
        folder.join("ecosystem.toml"),
        "[[apps]]\nname = \"file\"\ncmd = \"sleep 1000\"\n",
    )
    .unwrap();
    let mut command = world.command(&["start"]);
    command.current_dir(&folder);
    crate::harness::said(command).ok();
    assert_eq!(world.states("file"), ["online"]);
    let mut command = world.command(&["validate"]);
    command.current_dir(&folder);
    crate::harness::said(command).ok();
    // And everything is there again after a start from disk.
    world.run(&["kill"]).ok();
    world.run(&["resurrect"]).ok();
    world.until("both are back", || {
        world.states("odd") == ["online"] && world.states("file") == ["online"]
    });
}
