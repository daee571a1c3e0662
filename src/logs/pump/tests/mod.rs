#![expect(clippy::disallowed_methods, reason = "the tests make and read files")]

mod bounds;
mod console;
mod drops;
mod follow;
mod full;
mod halves;
mod remote;
mod rotation;
mod times;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regex::bytes::Regex;

use crate::logs::journal::Journal;
use crate::logs::pump::Pump;
use crate::logs::pump::stream::Stream as PumpStream;
use crate::logs::rotate::existing;
use crate::logs::sink::{Notice, Origin, Sink, StreamKey};
use crate::logs::tail::{Follower, From};
use crate::logs::target::Wanted;
use crate::model::duration::Millis;
use crate::model::logspec::{LogFormat, Overflow, Rotation, Stream};
use crate::model::names::RunId;
use crate::model::size::Bytes;
use crate::model::time::WallTime;

const DEADLINE: Duration = Duration::from_secs(60);

struct Bench {
    dir: tempfile::TempDir,
    pump: Pump,
    journal: tempfile::TempDir,
    notices: Receiver<Notice>,
}

impl Bench {
    fn new() -> Self {
        let (send, notices) = channel();
        let send = Mutex::new(send);
        let notify = move |notice| {
            let _gone = send.lock().unwrap().send(notice);
        };
        let journal = tempfile::tempdir().unwrap();
        let open = Journal::open(journal.path()).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            pump: Pump::start(|| WallTime(1_000_000_000_000), Box::new(notify), Some(open)).unwrap(),
            journal,
            notices,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sink(&self, name: &str) -> Sink {
        Sink {
            path: self.path(name),
            log_file: None,
            shared: false,
            adopted: false,
            format: LogFormat::Raw,
            zone: None,
            rotate: Rotation::default(),
            overflow: Overflow::Block,
            disabled: false,
            targets: Wanted::default(),
            private_folder: true,
            console: None,
            origin: Arc::new(Origin {
                app: "api".parse().unwrap(),
                namespace: "default".parse().unwrap(),
                slot: 0,
                pid: 7,
            }),
        }
    }

    fn attach(&self, run: u64, stream: Stream, sink: Sink) -> File {
        let (read, write) = std::io::pipe().unwrap();
        let key = StreamKey {
            run: RunId(run),
            stream,
        };
        self.pump.attach(key, OwnedFd::from(read), sink);
        File::from(OwnedFd::from(write))
    }

    /// Everything else that is reported until then.
    fn drain(&self, run: u64) -> (Vec<String>, Vec<Notice>) {
        self.pump.drain(RunId(run));
        let mut others = Vec::new();
        loop {
            let notice = self.notices.recv_timeout(DEADLINE).unwrap();
            if let Notice::Drained { run: found, stderr } = &notice
                && *found == RunId(run)
            {
                return (stderr.clone(), others);
            }
            others.push(notice);
        }
    }

    fn sync(&self) {
        let (send, done) = channel();
        self.pump.sync(Box::new(move || send.send(()).unwrap()));
        done.recv_timeout(DEADLINE).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }
}

/// The whole history of a log, oldest first.
fn history(path: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for number in (1..10_000).rev() {
        if let Some((name, gzip, _)) = existing(path, number) {
            let mut file = File::open(name).unwrap();
            if gzip {
                flate2::read::MultiGzDecoder::new(file).read_to_end(&mut all).unwrap();
            } else {
                file.read_to_end(&mut all).unwrap();
            }
            assert_eq!(all.last(), Some(&b'\n'), "rotation cuts no line");
        }
    }
    all.extend(fs::read(path).unwrap_or_default());
    all
}

fn stamped() -> LogFormat {
    LogFormat::Stamped("[T]".into())
}

#[test]
fn an_idle_stream_is_small() {
    let size = size_of::<PumpStream>() + size_of::<crate::logs::file::LogFile>();
    assert!(size + 16 < 500 - 2 * 24, "{size}");
}

#[test]
fn keeps_any_bytes_as_they_are() {
    let bench = Bench::new();
    let mut all: Vec<u8> = (0..=255).collect();
    all.extend(b"\n\nx\r\ry\r\n");
    all.extend(vec![b'z'; 1 << 20]);
    all.extend(b"\nno end");
    for (run, stream) in [(1, Stream::Out), (2, Stream::Err)] {
        let name = stream.as_str();
        let mut app = bench.attach(run, stream, bench.sink(name));
        app.write_all(&all).unwrap();
        let (stderr, _) = bench.drain(run);
        assert_eq!(bench.read(name), all);
        let last = (stream == Stream::Err).then_some("no end");
        assert_eq!(stderr.last().map(String::as_str), last);
        app.write_all(b" after the exit\n").unwrap();
        bench.drain(run);
        assert!(bench.read(name).ends_with(b"no end after the exit\n"));
        bench.pump.detach(RunId(run));
        bench.sync();
        assert_eq!(bench.pump.stats().streams, 0);
        assert!(app.write_all(b"x").is_err(), "this side is closed");
    }
    assert_eq!(bench.drain(99).0, Vec::<String>::new());
}

#[test]
fn makes_no_file_for_silence_and_none_when_disabled() {
    let bench = Bench::new();
    let _app = bench.attach(1, Stream::Out, bench.sink("deep/silent"));
    let disabled = Sink {
        disabled: true,
        ..bench.sink("disabled")
    };
    let mut noisy = bench.attach(1, Stream::Err, disabled);
    noisy.write_all(&vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(bench.drain(1).0.len(), 1);
    assert_eq!(fs::read_dir(bench.dir.path()).unwrap().count(), 0);
}

#[test]
fn many_streams_lose_nothing_through_rotation_and_gzip() {
    const LINES: usize = 3000;
    let bench = Bench::new();
    let formats = [LogFormat::Raw, stamped(), LogFormat::Json];
    let mut writers = Vec::new();
    for run in 0..50u64 {
        let sink = Sink {
            format: formats[usize::try_from(run).unwrap() % 3].clone(),
            rotate: Rotation {
                size: Some(Bytes(50_000 + 7 * run)),
                keep: 1000,
                total: None,
                ..Rotation::default()
            },
            ..bench.sink(&format!("{run}.log"))
        };
        let stream = if run % 2 == 0 { Stream::Out } else { Stream::Err };
        let mut app = bench.attach(run, stream, sink);
        writers.push(std::thread::spawn(move || {
            let text: String = (0..LINES)
                .map(|n| format!("{run} {n} {}\n", "x".repeat(n % 97)))
                .collect();
            // Pieces that end anywhere.
            for piece in text.as_bytes().chunks(1013) {
                app.write_all(piece).unwrap();
            }
        }));
    }
    for writer in writers {
        writer.join().unwrap();
    }
    for run in 0..50u64 {
        bench.drain(run);
        let path = bench.path(&format!("{run}.log"));
        // The gzip thread renames while we read: let it finish.
        let busy = || (1..1000).any(|n| existing(&path, n).is_some_and(|(_, gzip, _)| !gzip));
        for _ in 0..6000 {
            if !busy() {
                break;
            }
            let _waited = nix::poll::poll(&mut [], 10u16);
        }
        let history = history(&path);
        let text = String::from_utf8(history).unwrap();
        let mut count = 0;
        for (n, line) in text.lines().enumerate() {
            let expected = format!("{run} {n} {}", "x".repeat(n % 97));
            match run % 3 {
                0 => assert_eq!(line, expected),
                1 => assert_eq!(line, format!("T {expected}")),
                _ => {
                    let value: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert_eq!(value["message"], expected);
                }
            }
            count += 1;
        }
        assert_eq!(count, LINES, "run {run}");
        assert!(existing(&path, 2).is_some(), "it was rotated");
    }
}

#[test]
fn streams_on_one_file_never_interleave() {
    for format in [LogFormat::Raw, stamped(), LogFormat::Json] {
        let bench = Bench::new();
        let mut writers = Vec::new();
        for (name, run, stream) in [("a", 1, Stream::Out), ("b", 1, Stream::Err), ("c", 2, Stream::Out)] {
            let sink = Sink {
                shared: true,
                format: format.clone(),
                log_file: Some(bench.path("both")),
                ..bench.sink("one")
            };
            let mut app = bench.attach(run, stream, sink);
            writers.push(std::thread::spawn(move || {
                let text: String = (0..2000).map(|n| format!("{name}{n}{name}\n")).collect();
                for piece in text.as_bytes().chunks(7) {
                    app.write_all(piece).unwrap();
                }
                app.write_all(format!("{name}2000{name}").as_bytes()).unwrap();
            }));
        }
        for writer in writers {
            writer.join().unwrap();
        }
        bench.drain(1);
        bench.drain(2);
        for file in ["one", "both"] {
            let text = String::from_utf8(bench.read(file)).unwrap();
            let mut next = [0; 3];
            for line in text.lines() {
                let message = match format {
                    LogFormat::Raw => line.to_owned(),
                    LogFormat::Stamped(_) => line.strip_prefix("T ").unwrap().to_owned(),
                    LogFormat::Json => {
                        let value: serde_json::Value = serde_json::from_str(line).unwrap();
                        value["message"].as_str().unwrap().to_owned()
                    }
                };
                let which = usize::from(message.as_bytes()[0] - b'a');
                let name = &message[..1];
                assert_eq!(message, format!("{name}{}{name}", next[which]));
                next[which] += 1;
            }
            assert_eq!(next, [2001; 3]);
        }
    }
}

#[test]
fn huge_lines_on_a_shared_file_are_bounded_and_whole() {
    let bench = Bench::new();
    let sink = || Sink {
        shared: true,
        ..bench.sink("one")
    };
    let mut app = bench.attach(1, Stream::Out, sink());
    let mut other = bench.attach(1, Stream::Err, sink());
    let long = vec![b'y'; 3 << 20];
    app.write_all(&long).unwrap();
    bench.drain(1);
    other.write_all(b"other\n").unwrap();
    app.write_all(b"tail\n").unwrap();
    bench.drain(1);
    let text = bench.read("one");
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    assert_eq!(lines[0], long);
    assert_eq!(lines.len(), 4);
    assert!(lines.contains(&&b"other"[..]) && lines.contains(&&b"tail"[..]));
}

#[test]
fn a_new_run_begins_a_line_and_an_adopted_one_goes_on() {
    let bench = Bench::new();
    for (run, adopted, text) in [(1, false, "died her"), (2, false, "second ru"), (3, true, "n\nthird\n")] {
        let sink = Sink {
            adopted,
            ..bench.sink("log")
        };
        let mut app = bench.attach(run, Stream::Out, sink);
        app.write_all(text.as_bytes()).unwrap();
        bench.drain(run);
        bench.pump.detach(RunId(run));
    }
    bench.sync();
    assert_eq!(bench.read("log"), b"died her\nsecond run\nthird\n");
}

#[test]
fn sharing_that_shows_late_still_keeps_lines_apart() {
    let bench = Bench::new();
    let mut first = bench.attach(1, Stream::Out, bench.sink("log"));
    first.write_all(b"half").unwrap();
    bench.drain(1);
    let mut second = bench.attach(2, Stream::Out, bench.sink("log"));
    second.write_all(b"x").unwrap();
    bench.pump.detach(RunId(2));
    bench.sync();
    first.write_all(b"rest\n").unwrap();
    bench.drain(1);
    assert_eq!(bench.read("log"), b"half\nx\nrest\n");
}

#[test]
fn stamped_fragments_are_written_at_once_and_ended_once() {
    let bench = Bench::new();
    let sink = Sink {
        format: stamped(),
        ..bench.sink("log")
    };
    let mut app = bench.attach(1, Stream::Out, sink);
    for (piece, file) in [
        ("pro", "T pro"),
        ("mpt", "T prompt"),
        ("\n\nnext", "T prompt\nT \nT next"),
    ] {
        app.write_all(piece.as_bytes()).unwrap();
        for _ in 0..6000 {
            if bench.read("log") == file.as_bytes() {
                break;
            }
            let _waited = nix::poll::poll(&mut [], 10u16);
        }
        assert_eq!(String::from_utf8(bench.read("log")).unwrap(), file);
    }
    bench.drain(1);
    bench.drain(1);
    assert_eq!(bench.read("log"), b"T prompt\nT \nT next\n");
}

#[test]
fn finds_the_readiness_line_once() {
    let bench = Bench::new();
    bench.pump.watch_line(RunId(1), Regex::new("^ready$").unwrap());
    let mut app = bench.attach(1, Stream::Out, bench.sink("log"));
    app.write_all(b"not ready\nrea").unwrap();
    app.write_all(b"dy\nready\n").unwrap();
    assert_eq!(bench.drain(1).1, [Notice::LineMatched { run: RunId(1) }]);
    assert_eq!(bench.read("log"), b"not ready\nready\nready\n");
}

#[test]
fn a_held_line_goes_on_with_the_next_process() {
    let bench = Bench::new();
    let sink = |adopted| Sink {
        adopted,
        format: LogFormat::Json,
        ..bench.sink("log")
    };
    let (read, write) = std::io::pipe().unwrap();
    let mut app = File::from(OwnedFd::from(write));
    let pipe = || OwnedFd::from(read.try_clone().unwrap());
    let key = StreamKey {
        run: RunId(1),
        stream: Stream::Err,
    };
    let tail = |pump: &Pump| {
        let (send, reply) = channel();
        pump.tail(RunId(1), Box::new(move |lines| send.send(lines).unwrap()));
        reply.recv_timeout(DEADLINE).unwrap()
    };
    bench.pump.attach(key, pipe(), sink(false));
    app.write_all(b"one\nhalf").unwrap();
    while tail(&bench.pump) != ["one", "half"] {
        bench.sync();
    }
    let path = bench.path("log");
    let text = || fs::read_to_string(&path).unwrap();
    assert_eq!(text().lines().count(), 1);
    let adopted = sink(true);
    let Bench {
        dir: _dir,
        pump,
        journal,
        ..
    } = bench;
    drop(pump);
    assert_eq!(text().lines().count(), 1);
    let next = || {
        let journal = Journal::open(journal.path()).unwrap();
        Pump::start(|| WallTime(0), Box::new(|_| {}), Some(journal)).unwrap()
    };
    let pump = next();
    pump.attach(key, pipe(), adopted);
    assert_eq!(tail(&pump), ["one", "half"]);
    app.write_all(b" and half\n").unwrap();
    pump.detach(RunId(1));
    drop(pump);
    assert_eq!(text().lines().count(), 2);
    assert!(text().contains("\"message\":\"half and half\"}"));
    drop(next());
    assert_eq!(fs::read_dir(journal.path()).unwrap().count(), 3, "nothing is held");
}

#[test]
fn without_a_journal_dropping_the_handle_writes_what_is_held() {
    let mut bench = Bench::new();
    bench.pump = Pump::start(|| WallTime(0), Box::new(|_| {}), None).unwrap();
    let sink = Sink {
        format: LogFormat::Json,
        ..bench.sink("log")
    };
    let mut app = bench.attach(1, Stream::Err, sink);
    app.write_all(b"half").unwrap();
    let mut found = false;
    for _ in 0..6000 {
        let (send, reply) = channel();
        bench
            .pump
            .tail(RunId(1), Box::new(move |lines| send.send(lines).unwrap()));
        found = reply.recv_timeout(DEADLINE).unwrap() == ["half"];
        if found {
            break;
        }
    }
    assert!(found);
    let Bench { dir, pump, .. } = bench;
    drop(pump);
    let text = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(text.ends_with("\"message\":\"half\"}\n"), "{text}");
}
