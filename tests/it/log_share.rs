//! A log file has one writer: whoever else would write to it is refused, under whatever name, unless both share it on
//! purpose. What was accepted before comes back.

use crate::harness::{World, lives};
use crate::numbered::{check, end, install, read};

fn app(name: &str, keys: &str) -> String {
    format!("[[apps]]\nname = \"{name}\"\ncmd = \"sleep 1000\"\n{keys}\n")
}

#[test]
fn a_second_writer_is_refused_under_any_name() {
    let world = World::new();
    world.file(
        "a.toml",
        &app("a", "out_file = \"real/a.log\"\nerror_file = \"later/err.log\""),
    );
    world.run(&["start", "a.toml"]).ok();
    world.file("real/a.log", "");
    let path = |name: &str| world.path().join(name);
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, path(name)).unwrap();
    link("real", "folder");
    link("real/a.log", "soft.log");
    link("later", "early");
    link("../early/err.log", "real/dangling.log");
    std::fs::hard_link(path("real/a.log"), path("hard.log")).unwrap();
    std::fs::create_dir(path("real/deep")).unwrap();
    let absolute = path("real/a.log").display().to_string();
    let pids = world.pids("a");
    for name in [
        "real/a.log",
        "./real/../real/a.log",
        &absolute,
        "folder/a.log",
        "folder/deep/../a.log",
        "soft.log",
        "hard.log",
        "later/err.log",
        "early/err.log",
        "folder/dangling.log",
        "home/logs/../../real/a.log",
    ] {
        for key in ["out_file", "error_file", "log_file"] {
            world.file("b.toml", &app("b", &format!("{key} = \"{name}\"")));
            let refused = world.run(&["start", "b.toml"]).refused(2, "the same log");
            assert!(
                refused.err.contains("apps a and b") && refused.err.contains("its own file"),
                "{name}: {}",
                refused.err
            );
        }
    }
    // Another instance would have the name.
    world.file(
        "b.toml",
        &app(
            "b",
            "instances = 3\nout_file = \"real/b.log\"\nerror_file = \"/dev/null\"",
        ),
    );
    world.run(&["start", "b.toml"]).ok();
    world.file("c.toml", &app("c", "out_file = \"real/b-2.log\""));
    world.run(&["start", "c.toml"]).refused(2, "b-2.log");
    // So has an app that is started without a file.
    world.file("c.toml", &app("c", "out_file = \"home/logs/quick-0-out.log\""));
    world.run(&["start", "c.toml"]).ok();
    world
        .run(&["start", "sleep 1000", "--name", "quick"])
        .refused(2, "quick-0-out.log");
    // The other way round; and by more instances.
    world.file(
        "c.toml",
        &app(
            "g",
            "out_file = \"home/logs/a-1-out.log\"\nerror_file = \"home/logs/c-0-err.log\"",
        ),
    );
    world.run(&["start", "c.toml"]).refused(2, "apps c and g");
    world.file("c.toml", &app("c", "out_file = \"real/b-3.log\""));
    world.run(&["start", "c.toml"]).ok();
    let refused = world.run(&["scale", "b", "+1"]).refused(2, "real/b-3.log");
    assert!(
        refused.err.contains("apps c and b") && refused.err.contains("its own file"),
        "{}",
        refused.err
    );
    // Both in one file; and one of them alone.
    world.file(
        "d.toml",
        &[app("d", "out_file = \"d.log\""), app("e", "error_file = \"d.log\"")].concat(),
    );
    world.run(&["start", "d.toml"]).refused(2, "the same log");
    world.file(
        "d.toml",
        &[
            app("d", "out_file = \"d.log\"\nmerge_logs = true"),
            app("e", "error_file = \"d.log\""),
        ]
        .concat(),
    );
    world.run(&["start", "d.toml"]).refused(2, "merge_logs = true");
    let names: Vec<String> = world.status()["apps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|app| app["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["a", "b", "c"], "nothing of what was refused is there");
    assert_eq!(world.pids("a"), pids);
    // The app itself may be started from its file again, and another one has the file when it is gone.
    world.run(&["start", "a.toml"]).ok();
    world.run(&["delete", "a"]).ok();
    world.file("b.toml", &app("f", "out_file = \"folder/a.log\""));
    world.run(&["start", "b.toml"]).ok();
}

#[test]
fn what_everybody_may_write_to_is_no_log_of_anybody() {
    let world = World::new();
    let made = std::process::Command::new("mkfifo")
        .arg(world.path().join("fifo"))
        .status()
        .unwrap();
    assert!(made.success());
    for (name, file) in [("a", "/dev/null"), ("b", "/dev/null"), ("c", "fifo"), ("d", "fifo")] {
        let file_name = format!("{name}.toml");
        let keys = format!("out_file = \"{file}\"\nerror_file = \"/dev/null\"");
        world.file(&file_name, &app(name, &keys));
        world.run(&["start", &file_name]).ok();
    }
    world.file(
        "e.toml",
        &[
            app("e", "log_file = \"/dev/null\""),
            app("f", "instances = 2\nout_file = \"/dev/null\""),
        ]
        .concat(),
    );
    world.run(&["start", "e.toml"]).ok();
}

#[test]
fn those_who_share_on_purpose_do_and_under_one_name() {
    let world = World::new();
    install(&world);
    std::fs::create_dir(world.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", world.path().join("link")).unwrap();
    let app = |name: &str, file: &str| {
        let keys = format!("env = {{ WHO = \"{name}\" }}\nmerge_logs = true\nlog_rotate = false\ninstances = 2");
        let text = format!(
            "[[apps]]\nname = \"{name}\"\ncmd = \"python3 w.py\"\nout_file = \"{file}\"\nerror_file = \"{file}\"\n{keys}\n"
        );
        world.file(&format!("{name}.toml"), &text);
        world.run(&["start", &format!("{name}.toml")])
    };
    app("a", "real/one.log").ok();
    // Two writers that know nothing of each other.
    let refused = app("b", "link/one.log").refused(2, "which is also");
    assert!(refused.err.contains("in the same way"), "{}", refused.err);
    app("b", "real/one.log").ok();
    world.file(
        "c.toml",
        "[[apps]]\nname = \"c\"\ncmd = \"sleep 1000\"\nout_file = \"real/c.log\"\nerror_file = \"link/c.log\"\n",
    );
    world
        .run(&["start", "c.toml"])
        .refused(2, "the app c writes to the same log");
    world.until("all write", || {
        ["a0", "a1", "b0", "b1"]
            .iter()
            .all(|who| crate::numbered::noted(&world, "at", who) > 400)
    });
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.run(&["flush", "nobody"]);
    end(&world, &["a0", "a1", "b0", "b1"]);
    world.run(&["stop", "all"]).ok();
    let writers = ["a0o", "a0e", "a1o", "a1e", "b0o", "b0e", "b1o", "b1e"];
    check(
        &world,
        "one.log",
        &read(&world.path().join("real/one.log")),
        &writers,
        0,
    );
}

#[test]
fn what_was_accepted_before_comes_back() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        &[
            app("a", "out_file = \"one/x.log\"\nerror_file = \"one/y.log\""),
            app(
                "b",
                "out_file = \"two/x.log\"\nerror_file = \"one/z.log\"\ninstances = 2",
            ),
        ]
        .concat(),
    );
    for folder in ["one", "two"] {
        std::fs::create_dir(world.path().join(folder)).unwrap();
    }
    world.run(&["start"]).ok();
    world.run(&["save"]).ok();
    // From now on they are one file, which would be refused.
    std::fs::remove_dir_all(world.path().join("two")).unwrap();
    std::os::unix::fs::symlink("one", world.path().join("two")).unwrap();
    let online = || world.states("a") == ["online"] && world.states("b") == ["online", "online"];
    let pids = (world.pids("a"), world.pids("b"));
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("another daemon", || {
        world.run(&["ping"]).code == 0 && world.manager().0 != daemon
    });
    assert!(online());
    assert_eq!((world.pids("a"), world.pids("b")), pids, "they go on");
    for args in [
        &["restart", "a"][..],
        &["reload", "b"],
        &["stop", "all"],
        &["start", "a", "b"],
        &["scale", "b", "3"],
        &["scale", "b", "2"],
        &["reset", "all"],
    ] {
        world.run(args).ok();
    }
    world.until("all run", online);
    world.run(&["kill"]).ok();
    world.run(&["resurrect"]).ok();
    world.until("all are back", online);
    let manager = world.manager();
    world.kill_manager(manager);
    world.until("all are back", || world.run(&["status"]).code == 0 && online());
    assert!(world.pids("a").into_iter().all(lives));
    // Only who brings it anew is told.
    world.run(&["start", "ecosystem.toml"]).refused(2, "which is also");
    world.until("they still run", online);
}

#[test]
fn each_line_of_a_shared_json_file_is_of_the_app_that_wrote_it() {
    let world = World::new();
    for name in ["a", "b"] {
        let keys = "out_file = \"one.json\"\nmerge_logs = true\nlog_type = \"json\"";
        let text = format!(
            "[[apps]]\nname = \"{name}\"\ncmd = [\"sh\", \"-c\", \"echo from-{name}; exec sleep 1000\"]\n{keys}\n"
        );
        world.file(&format!("{name}.toml"), &text);
        world.run(&["start", &format!("{name}.toml")]).ok();
    }
    let said = |args: &[&str]| {
        let out = world.run(&[&["logs", "--nostream", "--json"], args].concat()).out;
        let line = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {}",
                line["app"].as_str().unwrap(),
                line["message"].as_str().unwrap()
            )
        };
        out.lines().map(line).collect::<std::collections::BTreeSet<_>>()
    };
    let both = ["a from-a".to_owned(), "b from-b".to_owned()];
    world.until("both have written", || said(&[]).len() == 2);
    assert_eq!(said(&[]), both.clone().into());
    assert_eq!(said(&["a", "b"]), both.clone().into());
    assert_eq!(said(&["b"]), [both[1].clone()].into());
    let shown = world.run(&["logs", "--nostream", "a"]).out;
    assert!(shown.contains("from-a") && !shown.contains("from-b"), "{shown}");
}
