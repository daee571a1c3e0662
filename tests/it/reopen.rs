//! Another program renames logs while apps write, and says so: by `reopen`, by its route, by a signal.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{PATIENCE, World};
use crate::numbered::{check, end, goes_on, install, read};

const APPS: &str = "[defaults]
cmd = \"python3 w.py\"
log_rotate = false

[[apps]]
name = \"a\"
env = { WHO = \"a\" }
out_file = \"a-out.log\"
error_file = \"a-err.log\"

[[apps]]
name = \"m\"
env = { WHO = \"m\" }
instances = 2
merge_logs = true
out_file = \"m.log\"
error_file = \"m.log\"

[[apps]]
name = \"b\"
env = { WHO = \"b\" }
out_file = \"b-out.log\"
error_file = \"b-err.log\"
log_file = \"b-both.log\"
";

const LOGS: [(&str, &[&str]); 6] = [
    ("a-out.log", &["a0o"]),
    ("a-err.log", &["a0e"]),
    ("m.log", &["m0o", "m0e", "m1o", "m1e"]),
    ("b-out.log", &["b0o"]),
    ("b-err.log", &["b0e"]),
    ("b-both.log", &["b0o", "b0e"]),
];

fn moved(path: &Path, number: usize) -> PathBuf {
    PathBuf::from(format!("{}.moved-{number}", path.display()))
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

#[test]
fn a_log_that_another_program_renames_loses_no_line() {
    let world = World::new();
    install(&world);
    world.file("ecosystem.toml", APPS);
    world.run(&["start"]).ok();
    let all: Vec<PathBuf> = LOGS.iter().map(|(log, _)| world.path().join(log)).collect();
    world.until("all logs", || all.iter().all(|log| size(log) > 0));
    let mut number = 0;
    let mut round = |which: &[PathBuf], tell: &dyn Fn(), is_done_then: bool| {
        for log in which {
            std::fs::rename(log, moved(log, number)).unwrap();
        }
        // What comes before anybody says so goes to the file that was renamed.
        goes_on(&world, "a0");
        assert!(which.iter().all(|log| !log.exists()));
        tell();
        let sizes: Vec<u64> = which.iter().map(|log| size(&moved(log, number))).collect();
        world.until("new files", || which.iter().all(|log| size(log) > 0));
        let ended = which.iter().map(|log| read(&moved(log, number)));
        for (log, text) in which.iter().zip(ended) {
            assert!(
                text.is_empty() || text.ends_with('\n'),
                "{}: half a line",
                log.display()
            );
        }
        if is_done_then {
            let now: Vec<u64> = which.iter().map(|log| size(&moved(log, number))).collect();
            assert_eq!(sizes, now, "nothing comes after the answer");
        }
        number += 1;
    };
    let say = |args: &'static [&'static str]| {
        let world = &world;
        move || {
            world.run(args).ok();
        }
    };
    let (daemon, keeper) = world.manager();
    round(&all, &say(&["reopen"]), true);
    round(&all[..3], &say(&["reopen", "m", "a"]), true);
    round(&all[2..3], &say(&["reloadLogs", "m:1"]), true);
    round(&all, &say(&["reloadLogs"]), true);
    round(&all, &|| world.signal(keeper, Signal::USR2), false);
    round(&all, &|| world.signal(daemon, Signal::USR2), false);
    round(
        &all[3..],
        &|| {
            let mut socket = UnixStream::connect(world.home().join("clmgr.sock")).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let body = "{\"targets\": [\"b\"]}";
            write!(
                socket,
                "POST /v1/reopen HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        },
        true,
    );
    assert_eq!(world.manager(), (daemon, keeper));
    // What nobody has renamed goes on as it is.
    world.run(&["reopen"]).ok();
    end(&world, &["a0", "m0", "m1", "b0"]);
    world.run(&["stop", "all"]).ok();
    for (log, writers) in LOGS {
        let path = world.path().join(log);
        let parts = (0..number).filter_map(|number| std::fs::read_to_string(moved(&path, number)).ok());
        let text = parts.chain([read(&path)]).collect::<String>();
        check(&world, log, &text, writers, 0);
    }
}

#[test]
fn a_half_line_moves_as_a_whole() {
    let world = World::new();
    world.file(
        "talk",
        "#!/bin/sh\necho one; printf ha; : > said; until [ -e go ]; do sleep 0.01; done\necho lf; exec sleep 1000\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"./talk\"\nlog_rotate = false\nout_file = \"a.log\"\n",
    );
    world.run(&["start"]).ok();
    world.until("half a line", || world.text("a.log") == "one\nha");
    std::fs::rename(world.path().join("a.log"), world.path().join("old")).unwrap();
    world.run(&["reopen"]).ok();
    assert_eq!((world.text("old"), world.text("a.log")), ("one\n".into(), "ha".into()));
    world.file("go", "");
    world.until("its end", || world.text("a.log") == "half\n");
    assert_eq!(world.text("old"), "one\n");
}

#[test]
fn a_reopen_of_nothing_is_refused_and_changes_nothing() {
    let world = World::new();
    let said = world.run(&["reopen"]);
    assert_eq!(said.code, 5, "{}{}", said.out, said.err);
    assert!(!world.home().join("clmgr.sock").exists(), "it starts no manager");
    install(&world);
    world.file("ecosystem.toml", APPS);
    world.run(&["start"]).ok();
    let log = world.path().join("a-out.log");
    world.until("a log", || size(&log) > 0);
    std::fs::rename(&log, moved(&log, 0)).unwrap();
    for args in [&["reopen", "nobody"][..], &["reloadLogs", "a", "nobody"]] {
        let refused = world.run(args).refused(3, "nobody");
        assert!(refused.err.contains("clmgr status"), "{}", refused.err);
    }
    world.run(&["reopen", "a:7"]).refused(3, "no instance 7");
    world.run(&["reopen", "/(/"]).refused(2, "regular expression");
    let before = size(&moved(&log, 0));
    world.until("it goes on in the file that was renamed", || {
        size(&moved(&log, 0)) > before + 20_000
    });
    assert!(!log.exists());
    // Nor is a file made for an app that says nothing.
    world.run(&["stop", "a"]).ok();
    world.run(&["reopen", "a"]).ok();
    assert!(!log.exists());
}
