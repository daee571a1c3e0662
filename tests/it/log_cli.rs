//! `clmgr logs` in the hands of a user: into a pipe that closes, ended by Ctrl-C, for a program that reads JSON, with
//! words that mean nothing, of a hundred apps.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::harness::{PATIENCE, World, finish};

/// Lines up to and with the first for which this holds.
#[track_caller]
fn up_to(lines: &mut impl Iterator<Item = String>, holds: impl Fn(&str) -> bool) -> Vec<String> {
    let mut seen = Vec::new();
    for line in lines {
        let is_last = holds(&line);
        seen.push(line);
        if is_last {
            return seen;
        }
    }
    panic!("the end came after {} lines: {:?}", seen.len(), seen.last());
}

/// A command under way and its output. Ended with this value, so that a test that fails does not hang.
struct Reader {
    child: Child,
    out: Option<BufReader<ChildStdout>>,
    /// Dropped with the rest; until then the command is killed when it hangs.
    _guard: Sender<()>,
}

impl Reader {
    fn new(world: &World, args: &[&str]) -> Self {
        let mut child = world.begin(args);
        let out = child.stdout.take().map(BufReader::new);
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let (guard, over) = channel();
        std::thread::spawn(move || {
            if over.recv_timeout(2 * PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _gone = pidfd_send_signal(process, Signal::KILL);
            }
        });
        Self {
            child,
            out,
            _guard: guard,
        }
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + '_ {
        self.out.as_mut().unwrap().lines().map_while(Result::ok)
    }

    /// How it ended, and what it said about that.
    #[track_caller]
    fn ended(mut self, world: &World) -> (ExitStatus, String) {
        let mut status = None;
        world.until("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.unwrap(), said)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn one_app(world: &World, script: &str) {
    let text = format!("[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", '''{script}''']\nout_file = \"a.log\"\n");
    world.file("ecosystem.toml", &text);
    world.run(&["start"]).ok();
}

#[test]
fn a_pipe_that_closes_is_no_failure() {
    let world = World::new();
    one_app(&world, "seq 1 100000; read go; echo went; exec sleep 1000");
    world.until("all lines", || world.text("a.log").ends_with("\n100000\n"));
    for args in [
        &["logs", "--nostream", "--lines", "all"][..],
        &["logs", "--nostream", "--lines", "all", "--json"],
        &["logs", "a", "--nostream", "--raw", "--lines", "all"],
        // What follows is still read of when nobody reads any more, though no line comes.
        &["logs", "-f"],
        &["logs", "-f", "--json"],
    ] {
        let mut reader = Reader::new(&world, args);
        assert!(reader.lines().next().is_some(), "{args:?}");
        reader.out = None;
        let (status, said) = reader.ended(&world);
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn ctrl_c_ends_it_without_a_word() {
    // A shell without job control starts what is in the background so, and it is inherited.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = own.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    if u64::from_str_radix(ignored.trim(), 16).unwrap() & 2 != 0 {
        let _untold = writeln!(std::io::stderr(), "SKIPPED: SIGINT is ignored here");
        return;
    }
    let world = World::new();
    one_app(&world, "echo hello; exec sleep 1000");
    let pids = world.pids("a");
    for args in [&["logs", "-f"][..], &["logs", "a", "-f", "--json", "--grep", "hello"]] {
        let mut reader = Reader::new(&world, args);
        assert!(
            up_to(&mut reader.lines(), |line| line.contains("hello")).len() == 1,
            "{args:?}"
        );
        let pid = Pid::from_child(&reader.child);
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        let mut rest = String::new();
        reader.out.as_mut().unwrap().read_to_string(&mut rest).unwrap();
        let (status, said) = reader.ended(&world);
        assert!(
            status.signal() == Some(2) || status.code() == Some(130),
            "{args:?}: {status}"
        );
        assert_eq!((rest.as_str(), said.as_str()), ("", ""), "{args:?}");
    }
    assert_eq!(world.pids("a"), pids);
}

#[test]
fn each_line_of_json_is_an_object_whatever_the_app_says() {
    let world = World::new();
    world.file(
        "w.py",
        "import os, sys\nout = os.fdopen(1, 'wb')\nout.write(b'plain\\n\"quoted\" \\\\ back\\n\\n\\x1b[31mred\\x1b[0m\\n\\xff\\xfe\\x00bytes\\n{\"level\":\"warn\",\"msg\":\"json\"}\\n{half\\ntab\\there\\rthere\\nlong ' + b'y' * 300000 + b'\\n\\xe2\\x80\\xa8separator\\nend\\n')\nout.flush()\nsys.stdin.readline()\nout.write(b'\\xf0\\x9f\\x98\\x80 later\\nfinish\\n')\nout.flush()\nsys.stdin.readline()\n",
    );
    let mut config = String::from("[defaults]\ncmd = \"python3 w.py\"\n");
    let formats = [
        "",
        "time = true",
        "log_type = \"json\"",
        "log_date_format = \"YYYY-MM-DD HH:mm:ss\"",
    ];
    for (number, keys) in formats.iter().enumerate() {
        config.push_str(&format!("[[apps]]\nname = \"a{number}\"\n{keys}\n"));
    }
    world.file("ecosystem.toml", &config);
    world.run(&["start"]).ok();
    let logs = || (0..4).map(|number| world.text_lossy(&format!("home/logs/a{number}-0-out.log")));
    world.until("all lines", || logs().all(|text| text.contains("end")));
    let check = |lines: &[String]| {
        let mut messages: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in lines {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let fields: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
            let expected = ["app", "instance", "level", "message", "namespace", "stream", "time"];
            assert_eq!(fields, expected);
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            messages.entry(text("app")).or_default().push(text("message"));
        }
        messages
    };
    let said = world.run(&["logs", "--json", "--nostream", "--lines", "all"]).ok();
    let lines: Vec<String> = said.out.lines().map(str::to_owned).collect();
    let messages = check(&lines);
    let expected = [
        "plain",
        "\"quoted\" \\ back",
        "",
        "\u{1b}[31mred\u{1b}[0m",
        "\u{fffd}\u{fffd}\0bytes",
        "{\"level\":\"warn\",\"msg\":\"json\"}",
        "{half",
        "tab\there\rthere",
        &format!("long {}", "y".repeat(300_000)),
        "\u{2028}separator",
        "end",
    ];
    assert_eq!(messages.len(), 4);
    for (app, messages) in &messages {
        for (message, expected) in messages.iter().zip(expected) {
            assert!(
                message == expected,
                "{app}: {:?}",
                message.get(..100).unwrap_or(message)
            );
        }
        assert_eq!(messages.len(), expected.len(), "{app}");
    }
    // Those who follow get the same.
    let mut reader = Reader::new(&world, &["logs", "-f", "--json", "--lines", "0"]);
    let mut done = 0;
    world.run(&["logs", "--nostream"]).ok();
    let sent = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            crate::harness::rest(200);
            world.run(&["send", "all", "go"])
        });
        let lines = up_to_count(&mut reader.lines(), "finish", 4, &mut done);
        (asked.join().unwrap(), lines)
    });
    sent.0.ok();
    for (app, messages) in check(&sent.1) {
        assert_eq!(messages, ["\u{1f600} later", "finish"], "{app}");
    }
}

/// Lines until this was said so often.
fn up_to_count(lines: &mut impl Iterator<Item = String>, text: &str, count: usize, done: &mut usize) -> Vec<String> {
    let mut seen = Vec::new();
    while *done < count {
        let line = lines.next().unwrap_or_else(|| panic!("the end came after {seen:?}"));
        *done += usize::from(line.contains(text));
        seen.push(line);
    }
    seen
}

#[test]
fn words_that_mean_nothing_are_told_with_their_flag() {
    let world = World::new();
    one_app(&world, "echo hello; exec sleep 1000");
    for (args, parts) in [
        (
            &["--since", "yesterday"][..],
            &["--since", "yesterday", "5m", "14:03"][..],
        ),
        (&["--until", "25:99"], &["--until", "25:99"]),
        (&["--since", ""], &["--since"]),
        (&["--since", "5m", "--until", "10m"], &["--since", "--until"]),
        (&["--grep", "a(b"], &["--grep", "a(b", "unclosed group"]),
        (&["--grep", "ok", "--grep", "*"], &["--grep", "\"*\""]),
        (&["--level", "loud"], &["--level", "loud", "warn"]),
        (&["--lines", "many"], &["--lines", "many", "all"]),
        (&["--lines=-1"], &["--lines", "-1"]),
        (&["--instance", "x"], &["--instance"]),
        (&["--out", "--err"], &["--out", "--err"]),
        (&["--invert"], &["--grep"]),
        (&["--raw", "--json"], &["--raw", "--json"]),
        (&["a b"], &["a b"]),
        (&["/(/"], &["regular expression"]),
        (&["dir/file"], &["no file"]),
    ] {
        let said = world.run(&[&["logs", "--nostream"][..], args].concat());
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}: {}", said.err);
        for part in parts {
            assert!(said.err.contains(part), "{args:?}: no {part:?} in {}", said.err);
        }
    }
    for target in ["nobody", "a:3", "77"] {
        let said = world.run(&["logs", target, "--nostream"]).refused(3, "");
        assert!(
            said.err.contains("clmgr status") || said.err.contains("numbered from 0"),
            "{}",
            said.err
        );
        world.run(&["logs", target, "-f", "--json"]).refused(3, "");
    }
}

#[test]
fn a_hundred_apps_are_followed_at_once() {
    const APPS: usize = 100;
    let world = World::new();
    let mut config = String::from(
        "[defaults]\ncmd = [\"sh\", \"-c\", \"echo hello; read news; echo $$news; exec sleep 1000\"]\nerror_file = \"/dev/null\"\n",
    );
    (0..APPS).for_each(|number| config.push_str(&format!("[[apps]]\nname = \"a{number}\"\n")));
    world.file("ecosystem.toml", &config);
    world.run(&["start"]).ok();
    let mut reader = Reader::new(&world, &["logs", "-f", "--json"]);
    let collect = |reader: &mut Reader, text: &str| {
        let mut apps = std::collections::BTreeSet::new();
        while apps.len() < APPS {
            let line = reader.lines().next().unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line["message"], text);
            assert!(apps.insert(line["app"].to_string()), "{line} again");
        }
    };
    collect(&mut reader, "hello");
    let sender = world.begin(&["send", "all", "news"]);
    collect(&mut reader, "news");
    finish(sender, &["send"]).ok();
}
