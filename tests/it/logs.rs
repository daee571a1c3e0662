//! What apps say is in the files, whole and in order, and `clmgr logs` shows it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, World};

/// The text of a log with its rotated files, oldest first.
pub fn whole(path: &Path) -> String {
    let mut parts = vec![std::fs::read_to_string(path).unwrap_or_default()];
    for number in 1.. {
        let plain = PathBuf::from(format!("{}.{number}", path.display()));
        let zipped = PathBuf::from(format!("{}.{number}.gz", path.display()));
        let mut text = String::new();
        if let Ok(file) = std::fs::File::open(&zipped) {
            flate2::read::MultiGzDecoder::new(file)
                .read_to_string(&mut text)
                .unwrap();
        } else if let Ok(plain) = std::fs::read_to_string(&plain) {
            text = plain;
        } else {
            break;
        }
        parts.push(text);
    }
    parts.reverse();
    parts.concat()
}

/// A `clmgr logs -f`, its lines as they come; ended with this value.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn new(world: &World, args: &[&str]) -> Self {
        let mut child = world.begin(&[&["logs", "-f"], args].concat());
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Lines up to and with the first that contains this.
    #[track_caller]
    fn up_to(&self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let last = line.contains(text);
                    seen.push(line);
                    if last {
                        return seen;
                    }
                }
                Err(error) => panic!("no {text:?} ({error}) after {} lines: {:?}", seen.len(), seen.last()),
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// An app that writes what is put into the file `say-<slot>` (a line of its own for each slot).
const TALKER: &str = "#!/bin/sh\necho hello from $CLMGR_SLOT\nwhile :; do\n  f=say-$CLMGR_SLOT\n  if [ -e $f ]; then mv $f $f.taken; cat $f.taken; rm $f.taken; fi\n  sleep 0.02\ndone\n";

/// Makes an instance of [`TALKER`] say something.
fn say(world: &World, slot: u32, text: &str) {
    let whole = world.file(&format!("next-{slot}"), text);
    std::fs::rename(whole, world.path().join(format!("say-{slot}"))).unwrap();
}

#[test]
fn two_hundred_thousand_lines_through_rotation() {
    for format in ["", "time = true\n", "log_type = \"json\"\n"] {
        let world = World::new();
        world.file(
            "ecosystem.toml",
            &format!(
                "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"seq 0 199999; exec sleep 1000\"]\nout_file = \"a.log\"\n\
                 log_rotate = {{ size = \"400K\", keep = 1000, total = \"1G\", compress = true }}\n{format}"
            ),
        );
        world.run(&["start"]).ok();
        let path = world.path().join("a.log");
        let last = || whole(&path).contains("199999");
        world.until("the last line", last);
        // Rotated while files are renamed: only what stands still is read as a whole.
        world.until("all is compressed", || {
            !world.path().join("a.log.1").exists()
                && world.path().join("a.log.1.gz").exists()
                && !world.path().join("a.log.gz.tmp").exists()
        });
        let text = whole(&path);
        let mut count = 0;
        for (number, line) in text.lines().enumerate() {
            let said = match format {
                "" => line.to_owned(),
                "time = true\n" => {
                    let (stamp, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                    assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "{line}");
                    rest.to_owned()
                }
                _ => {
                    let record: Value = serde_json::from_str(line).unwrap();
                    assert_eq!((&record["app"], &record["instance"]), (&json!("a"), &json!(0)));
                    assert_eq!(record["stream"], "out");
                    record["message"].as_str().unwrap().to_owned()
                }
            };
            assert_eq!(said, number.to_string(), "{format}");
            count += 1;
        }
        assert_eq!(count, 200_000, "{format}");
    }
}

#[test]
fn merged_instances_never_interleave() {
    let world = World::new();
    // Lines in pieces, as a program with a small buffer writes them.
    world.file(
        "w.py",
        "import os, time\nme = os.environ['CLMGR_SLOT']\nfor n in range(3000):\n    line = ('%s:%d:' % (me, n)) + me * 300 + ':end\\n'\n    for at in range(0, len(line), 97):\n        os.write(1, line[at:at + 97].encode())\nopen('done-' + me, 'w').close()\ntime.sleep(1000)\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"python3 w.py\"\ninstances = 4\nmerge_logs = true\nout_file = \"a.log\"\nlog_rotate = false\n",
    );
    world.run(&["start"]).ok();
    world.until("all lines", || {
        (0..4).all(|slot| world.path().join(format!("done-{slot}")).exists())
            && world.text("a.log").lines().count() >= 12_000
    });
    let mut next = [0_usize; 4];
    for line in world.text("a.log").lines() {
        let me = line.as_bytes()[0];
        let slot = usize::from(me - b'0');
        let me = char::from(me).to_string();
        assert_eq!(line, format!("{me}:{}:{}:end", next[slot], me.repeat(300)));
        next[slot] += 1;
    }
    assert_eq!(next, [3000; 4]);
}

#[test]
fn logs_shows_what_is_asked_for() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"seq 1 50; seq 101 150 >&2; exec sleep 1000\"]\n",
    );
    world.run(&["start"]).ok();
    let shown = |args: &[&str]| {
        let said = world.run(&[&["logs", "a", "--nostream"], args].concat()).ok();
        said.out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    world.until("all lines", || {
        world.text("home/logs/a-0-out.log").ends_with("\n50\n")
            && world.text("home/logs/a-0-err.log").ends_with("\n150\n")
    });
    assert_eq!(shown(&["--raw", "--out", "--lines", "3"]), ["48", "49", "50"]);
    assert_eq!(shown(&["--raw", "--err", "--lines", "2"]), ["149", "150"]);
    assert_eq!(shown(&["--raw", "--lines", "2"]).len(), 4, "of each file");
    assert_eq!(shown(&["--raw", "--out", "--lines", "1000"]).len(), 50);
    assert_eq!(shown(&["--lines", "0"]), Vec::<String>::new());
    let prefixed = shown(&["--err", "--lines", "1"]);
    assert!(
        prefixed[0].starts_with("a:0") && prefixed[0].ends_with("150"),
        "{prefixed:?}"
    );
    for (line, number) in shown(&["--json", "--err", "--lines", "3"]).iter().zip(148..) {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["message"], number.to_string());
        assert_eq!((&record["stream"], &record["instance"]), (&json!("err"), &json!(0)));
    }
    world.run(&["logs", "nobody", "--nostream"]).refused(3, "nobody");
    // Emptied, and gone on with.
    world.run(&["flush", "a"]).ok();
    assert_eq!(shown(&["--raw"]), Vec::<String>::new());
    assert_eq!(world.text("home/logs/a-0-out.log"), "");
    world.run(&["restart", "a"]).ok();
    world.until("the lines of another life", || {
        world.text("home/logs/a-0-out.log").lines().count() == 50
    });
    assert!(
        world.text("home/logs/a-0-out.log").starts_with("1\n2\n"),
        "no hole where the old bytes were"
    );
}

#[test]
fn following_sees_new_lines_rotation_and_new_instances() {
    let world = World::new();
    world.file("talk", TALKER);
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"./talk\"\nlog_rotate = { size = \"20K\", keep = 100, compress = true }\n",
    );
    world.run(&["start"]).ok();
    let follower = Follower::new(&world, &["a", "--raw"]);
    follower.up_to("hello from 0");
    say(&world, 0, "one\n");
    assert_eq!(follower.up_to("one"), ["one"]);
    // 8 times what a file may hold, in pieces.
    for round in 0..4 {
        let lines: String = (0..1000)
            .map(|n| format!("round {round} line {n} {}\n", "x".repeat(20)))
            .collect();
        say(&world, 0, &lines);
        let seen = follower.up_to(&format!("round {round} line 999 "));
        assert_eq!(seen.len(), 1000, "round {round}");
        for (n, line) in seen.iter().enumerate() {
            assert!(line.starts_with(&format!("round {round} line {n} ")), "{line}");
        }
    }
    world.until("rotated files", || world.home().join("logs/a-0-out.log.2.gz").exists());
    world.run(&["scale", "a", "2"]).ok();
    follower.up_to("hello from 1");
    say(&world, 1, "news\n");
    follower.up_to("news");
    world.run(&["flush", "a"]).ok();
    say(&world, 0, "after the flush\n");
    assert_eq!(follower.up_to("after the flush"), ["after the flush"]);
    // It goes on when the daemon does.
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    say(&world, 1, "after the daemon\n");
    assert_eq!(follower.up_to("after the daemon"), ["after the daemon"]);
}

#[test]
fn last_words_are_kept() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"seq 1 5000 >&2; echo out of luck >&2; printf 'no newline' >&2; kill -9 $$$$\"]\nmax_restarts = 1\nbreaker_cooldown = \"1h\"\n",
    );
    let _whatever = world.run(&["start"]);
    world.until("it gave up", || world.states("a") == ["errored"]);
    let text = world.text("home/logs/a-0-err.log");
    assert!(
        text.trim_end().ends_with("4999\n5000\nout of luck\nno newline"),
        "{}",
        &text[text.len() - 60..]
    );
    let crash = world.describe("a")["crashes"][0].clone();
    let stderr: Vec<&str> = crash["stderr"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    assert!(stderr.ends_with(&["5000", "out of luck", "no newline"]), "{stderr:?}");
    assert_eq!(crash["exit"]["status"], json!({"signal": 9}));
}

#[test]
fn strange_bytes_are_kept_as_they_are() {
    let world = World::new();
    world.file(
        "w.py",
        "import os, time\nout = os.fdopen(1, 'wb')\nout.write(bytes(range(256)) * 4 + b'\\n')\nout.write(b'x' * (1 << 20))\nout.flush()\nopen('half', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.02)\nout.write(b'\\n\\xff\\xfe\\x00end\\n')\nout.flush()\ntime.sleep(1000)\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"python3 w.py\"\nout_file = \"a.log\"\n",
    );
    world.run(&["start"]).ok();
    let bytes = || std::fs::read(world.path().join("a.log")).unwrap_or_default();
    let mut expected: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(4);
    expected.push(b'\n');
    expected.extend(std::iter::repeat_n(b'x', 1 << 20));
    world.until("a line without an end", || bytes().len() >= expected.len());
    assert!(bytes() == expected);
    world.file("go", "");
    expected.extend_from_slice(b"\n\xff\xfe\0end\n");
    world.until("the rest", || bytes().len() >= expected.len());
    assert!(bytes() == expected);
    let said = world.run(&["logs", "a", "--nostream", "--json", "--lines", "1"]).ok();
    assert_eq!(said.json()["message"], "\u{fffd}\u{fffd}\0end");
}

/// What `clmgr logs` shows of the history, line by line.
fn shown(world: &World, args: &[&str]) -> Vec<String> {
    let said = world.run(&[&["logs", "--nostream"], args].concat()).ok();
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn history_is_searched_by_time_level_pattern_and_instance() {
    let world = World::new();
    world.file(
        "w.sh",
        "#!/bin/sh\nfor n in 1 2 3; do echo \"INFO step $n\"; echo \"ERROR step $n failed\" >&2; done\nexec sleep 1000\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"sh w.sh\"\ninstances = 2\ntime = true\n\n\
         [[apps]]\nname = \"m\"\ncmd = \"sh w.sh\"\ninstances = 2\nmerge_logs = true\nlog_type = \"json\"\n",
    );
    world.run(&["start"]).ok();
    world.until("all lines", || shown(&world, &["--lines", "all", "--raw"]).len() == 24);
    let count = |args: &[&str]| shown(&world, &[args, &["--raw"]].concat()).len();
    assert_eq!(count(&["--grep", "step 2"]), 8);
    assert_eq!(count(&["a", "--grep", "step 2", "--grep", "step 3"]), 8);
    assert_eq!(count(&["a", "--grep", "STEP 2", "-i", "--invert"]), 8);
    assert_eq!(count(&["--level", "warn"]), 12);
    assert_eq!(count(&["m", "--instance", "1"]), 6);
    assert_eq!(count(&["a", "--instance", "0,1", "--out"]), 6);
    assert_eq!(count(&["--since", "1h"]), 24);
    assert_eq!(count(&["--until", "1h"]), 0);
    assert_eq!(count(&["--since", "1h", "--lines", "1"]), 6, "of each file");
    // By time, whatever the files look like; and every object has the same fields.
    let mut last = String::new();
    for line in shown(&world, &["--json", "--lines", "all"]) {
        let line: Value = serde_json::from_str(&line).unwrap();
        let fields: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            ["app", "instance", "level", "message", "namespace", "stream", "time"]
        );
        let time = line["time"].as_str().unwrap().to_owned();
        assert!(time >= last, "{time} after {last}");
        last = time;
        let is_err = line["stream"] == "err";
        assert_eq!(line["level"], if is_err { "error" } else { "info" });
        assert!(line["instance"].is_u64() && line["message"].as_str().unwrap().contains(" step "));
    }
    let bare = shown(&world, &["m", "--no-prefix", "--out", "--instance", "0"]);
    assert_eq!(bare, ["INFO step 1", "INFO step 2", "INFO step 3"]);
    let timed = shown(
        &world,
        &["m", "--no-prefix", "--timestamps", "--out", "--instance", "0"],
    );
    assert!(
        timed[0].parse::<u32>().is_err() && timed[0].ends_with(" INFO step 1"),
        "{timed:?}"
    );
    let year = timed[0].get(..10).and_then(|day| day.parse::<jiff::civil::Date>().ok());
    assert!(year.is_some(), "{timed:?}");
    for (args, said) in [
        (["--since", "yesterday"], "yesterday"),
        (["--level", "loud"], "loud"),
        (["--grep", "a(b"], "a(b"),
    ] {
        world
            .run(&[&["logs", "--nostream"][..], &args].concat())
            .refused(2, said);
    }
}

#[test]
fn following_shows_only_what_is_asked_for() {
    let world = World::new();
    world.file("talk", TALKER);
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"./talk\"\ninstances = 2\n",
    );
    world.run(&["start"]).ok();
    let follower = Follower::new(
        &world,
        &["a", "--raw", "--grep", "wanted", "--grep", "end", "--level", "warn"],
    );
    let other = Follower::new(&world, &["a", "--json", "--instance", "1"]);
    other.up_to("hello from 1");
    say(&world, 0, "INFO wanted\nERROR other\nWARN wanted too\n");
    assert_eq!(follower.up_to("too"), ["WARN wanted too"]);
    say(&world, 1, "ERROR end\n");
    assert_eq!(follower.up_to("end"), ["ERROR end"]);
    let lines = other.up_to("end");
    let line: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!((&line["level"], &line["instance"]), (&json!("error"), &json!(1)));
}
