//! `flush` empties logs while apps write and after they have stopped, those that are meant and no others.

use crate::harness::World;
use crate::numbered::{check, end, goes_on, install, noted, read};

#[test]
fn what_is_written_after_a_flush_is_there_and_whole() {
    let world = World::new();
    install(&world);
    let rotation = "log_rotate = { size = \"30K\", keep = 10000, total = \"100G\", min_free = \"none\" }";
    world.file(
        "ecosystem.toml",
        &format!(
            "[defaults]\ncmd = \"python3 w.py\"\nlog_rotate = false\n\
             [[apps]]\nname = \"a\"\nenv = {{ WHO = \"a\" }}\n\
             [[apps]]\nname = \"m\"\nenv = {{ WHO = \"m\" }}\ninstances = 2\nmerge_logs = true\nout_file = \"m.log\"\nerror_file = \"m.log\"\n\
             [[apps]]\nname = \"r\"\nenv = {{ WHO = \"r\" }}\n{rotation}\n\
             [[apps]]\nname = \"kept\"\nenv = {{ WHO = \"kept\" }}\nlog_file = \"kept.log\"\n"
        ),
    );
    world.run(&["start"]).ok();
    let mut emptied = [0; 4];
    let all = ["a0", "m0", "m1", "r0"];
    for targets in [
        &["flush", "a", "m", "r"][..],
        &["flush", "a:0", "m:1", "r"],
        &["flush", "/^[amr]$/"],
        &["flush", "a", "m", "r"],
    ] {
        all.iter().for_each(|who| goes_on(&world, who));
        let before = noted(&world, "at", "a0");
        world.run(targets).ok();
        // A burst that is under way was noted before it began.
        emptied = all.map(|who| noted(&world, "at", who));
        assert!(before > 0);
    }
    all.iter().for_each(|who| goes_on(&world, who));
    end(&world, &["a0", "m0", "m1", "r0", "kept0"]);
    world.run(&["stop", "all"]).ok();
    let logs = world.home().join("logs");
    for stream in ["out", "err"] {
        let who = |app: &str| format!("{app}0{}", &stream[..1]);
        let name = |app: &str| format!("{app}-0-{stream}.log");
        check(
            &world,
            &name("a"),
            &read(&logs.join(name("a"))),
            &[&who("a")],
            emptied[0],
        );
        let rotated = crate::logs::whole(&logs.join(name("r")));
        check(&world, &name("r"), &rotated, &[&who("r")], emptied[3]);
        check(
            &world,
            &name("kept"),
            &read(&logs.join(name("kept"))),
            &[&who("kept")],
            0,
        );
    }
    let both = read(&world.path().join("m.log"));
    let most = emptied[1].max(emptied[2]);
    check(&world, "m.log", &both, &["m0o", "m0e", "m1o", "m1e"], most);
    check(
        &world,
        "kept.log",
        &read(&world.path().join("kept.log")),
        &["kept0o", "kept0e"],
        0,
    );
}

#[test]
fn a_line_that_is_being_written_stays_whole() {
    let world = World::new();
    world.file(
        "talk",
        "#!/bin/sh\necho one; printf ha; until [ -e go ]; do sleep 0.01; done\necho lf; exec sleep 1000\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"./talk\"\nout_file = \"a.log\"\n\
         [[apps]]\nname = \"b\"\ncmd = \"./talk\"\nout_file = \"b.log\"\nlog_file = \"both.log\"\n",
    );
    world.run(&["start"]).ok();
    // Where lines of several meet there are only whole ones.
    let logs = || ["a.log", "b.log", "both.log"].map(|log| world.text(log));
    world.until("half a line", || logs() == ["one\nha", "one\n", "one\n"]);
    world.run(&["flush"]).ok();
    assert_eq!(logs(), ["ha", "", ""]);
    world.file("go", "");
    world.until("its end", || logs() == ["half\n"; 3]);
}

#[test]
fn only_those_that_are_meant_are_emptied_and_stopped_ones_too() {
    let world = World::new();
    let script = "['sh', '-c', 'echo hello; echo oops >&2; exec sleep 1000']";
    world.file(
        "ecosystem.toml",
        &format!(
            "[[apps]]\nname = \"a\"\ncmd = {script}\ninstances = 3\nlog_file = \"a.log\"\n\
             [[apps]]\nname = \"b\"\ncmd = {script}\n"
        ),
    );
    world.run(&["start"]).ok();
    let files = [
        "home/logs/a-0-out.log",
        "home/logs/a-0-err.log",
        "a.log",
        "home/logs/a-1-out.log",
        "home/logs/a-1-err.log",
        "a-1.log",
        "home/logs/a-2-out.log",
        "home/logs/b-0-out.log",
    ];
    let full = || files.map(|file| !world.text(file).is_empty());
    world.until("all lines", || full() == [true; 8]);
    world.run(&["stop", "all"]).ok();
    for file in files {
        world.file(&format!("{file}.1"), "old\n");
        world.file(&format!("{file}.2.gz"), "older");
    }
    let rotated = || files.map(|file| [".1", ".2.gz"].map(|end| world.path().join(format!("{file}{end}")).exists()));
    for args in [&["flush", "nobody"][..], &["flush", "a", "nobody"], &["flush", "a:3"]] {
        world.run(args).refused(3, "");
    }
    assert_eq!(
        (full(), rotated()),
        ([true; 8], [[true; 2]; 8]),
        "what is refused does nothing"
    );
    let said = world.run(&["flush", "a:1", "--json"]).ok().json();
    assert_eq!(
        (&said["results"][0]["slot"], &said["results"][1]),
        (&1.into(), &serde_json::Value::Null)
    );
    let left = [true, true, true, false, false, false, true, true];
    assert_eq!(
        (full(), rotated()),
        (left, left.map(|left| [left; 2])),
        "only instance 1"
    );
    world.run(&["flush", "a"]).ok();
    let left = files.map(|file| file.contains("b-0"));
    assert_eq!((full(), rotated()), (left, left.map(|left| [left; 2])), "all of a");
    world.run(&["start", "a"]).ok();
    world.until("lines from the beginning of the file", || {
        world.text("home/logs/a-0-out.log") == "hello\n" && world.text("a.log").len() == 11
    });
    world.run(&["flush"]).ok();
    assert_eq!((full(), rotated()), ([false; 8], [[false; 2]; 8]));
}
