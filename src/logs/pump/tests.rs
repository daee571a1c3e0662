#![expect(clippy::disallowed_methods, reason = "the tests make and read files")]

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
            rotate: Rotation::default(),
            overflow: Overflow::Block,
            disabled: false,
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
fn a_full_disk_loses_whole_lines_and_says_how_many() {
    // One is spliced, one is read.
    fill_a_disk(Stream::Out);
    fill_a_disk(Stream::Err);
}

fn fill_a_disk(stream: Stream) {
    let bench = Bench::new();
    let disk = bench.path("disk");
    fs::create_dir(&disk).unwrap();
    let flags = nix::mount::MsFlags::empty();
    if nix::mount::mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some("size=64k")).is_err() {
        eprintln!("not root: nothing to fill");
        return;
    }
    let mut app = bench.attach(1, stream, bench.sink("disk/log"));
    let line = |n: usize| format!("{n:06}\n");
    let text: String = (0..20_000).map(line).collect();
    app.write_all(text.as_bytes()).unwrap();
    let (_, notices) = bench.drain(1);
    let kept = bench.read("disk/log");
    assert!(matches!(&notices[..], [Notice::Lost(loss)] if loss.error == "No space left on device"));
    assert_eq!(kept.len() % 7, 0, "no half line");
    assert!(kept.len() >= 48 << 10);
    bench.pump.flush(vec![bench.path("disk/log")]);
    let resumed = bench.notices.recv_timeout(DEADLINE).unwrap();
    let Notice::Resumed(loss) = resumed else {
        panic!("{resumed:?}")
    };
    assert_eq!(usize::try_from(loss.bytes).unwrap(), text.len() - kept.len());
    assert_eq!(usize::try_from(loss.lines).unwrap(), 20_000 - kept.len() / 7);
    app.write_all(b"again\n").unwrap();
    bench.drain(1);
    let expected = format!(
        "[clmgr: {} lines ({} bytes) lost: No space left on device]\nagain\n",
        loss.lines, loss.bytes
    );
    assert_eq!(String::from_utf8(bench.read("disk/log")).unwrap(), expected);
    let stats = bench.pump.stats();
    assert_eq!((stats.outages, stats.lost_lines), (0, loss.lines));
    bench.pump.detach(RunId(1));
    bench.sync();
    nix::mount::umount(&disk).unwrap();
}

#[test]
fn a_target_that_never_works_blocks_nobody() {
    let bench = Bench::new();
    let full = Sink {
        path: "/dev/full".into(),
        ..bench.sink("x")
    };
    let mut app = bench.attach(1, Stream::Out, full);
    fs::write(bench.path("file"), "").unwrap();
    let mut other = bench.attach(1, Stream::Err, bench.sink("file/below/log"));
    for file in [&mut app, &mut other] {
        file.write_all(&vec![b'x'; 4 << 20]).unwrap();
    }
    let (_, notices) = bench.drain(1);
    assert_eq!(notices.len(), 2, "once per outage: {notices:?}");
    assert!(notices.iter().all(|notice| matches!(notice, Notice::Lost(_))));
}

#[test]
fn rotates_by_time_between_lines_also_after_a_restart() {
    static NOW: AtomicI64 = AtomicI64::new(3_600_000);
    let (send, notices) = channel();
    let send = Mutex::new(send);
    let pump = Pump::start(
        || WallTime(NOW.load(Ordering::Relaxed)),
        Box::new(move |notice| send.lock().unwrap().send(notice).unwrap()),
        None,
    );
    let bench = Bench {
        journal: tempfile::tempdir().unwrap(),
        dir: tempfile::tempdir().unwrap(),
        pump: pump.unwrap(),
        notices,
    };
    let sink = || Sink {
        rotate: Rotation {
            every: Some(Millis::from_secs(3600)),
            compress: false,
            ..Rotation::default()
        },
        ..bench.sink("log")
    };
    let mut app = bench.attach(1, Stream::Out, sink());
    let mut say = |text: &str| {
        app.write_all(text.as_bytes()).unwrap();
        bench.drain(1);
    };
    say("one\nunfinish");
    NOW.fetch_add(3_600_000, Ordering::Relaxed);
    say("ed\ntwo\n");
    assert_eq!(bench.read("log.1"), b"one\nunfinished\n");
    assert_eq!(bench.read("log"), b"two\n");
    let mut next = bench.attach(2, Stream::Out, sink());
    NOW.fetch_add(3_600_000, Ordering::Relaxed);
    next.write_all(b"three\n").unwrap();
    bench.drain(2);
    assert_eq!(bench.read("log.1"), b"two\n");
    assert_eq!(bench.read("log"), b"three\n");
    assert_eq!(bench.pump.stats().rotations, 2);
}

#[test]
fn a_clock_that_was_set_back_does_not_put_rotation_off() {
    static NOW: AtomicI64 = AtomicI64::new(360_000_000);
    let (send, notices) = channel();
    let send = Mutex::new(send);
    let pump = Pump::start(
        || WallTime(NOW.load(Ordering::Relaxed)),
        Box::new(move |notice| send.lock().unwrap().send(notice).unwrap()),
    );
    let bench = Bench {
        dir: tempfile::tempdir().unwrap(),
        pump: pump.unwrap(),
        notices,
    };
    let mut app = bench.attach(
        1,
        Stream::Out,
        Sink {
            rotate: Rotation {
                every: Some(Millis::from_secs(3600)),
                compress: false,
                ..Rotation::default()
            },
            ..bench.sink("log")
        },
    );
    let mut say = || {
        app.write_all(b"line\n").unwrap();
        bench.drain(1);
    };
    say();
    // A day back. Files are looked at once a second.
    NOW.fetch_sub(86_400_000, Ordering::Relaxed);
    for _ in 0..5 {
        let (_keep, quiet) = channel::<()>();
        let _nothing = quiet.recv_timeout(Duration::from_millis(1100));
        say();
        NOW.fetch_add(3_600_000, Ordering::Relaxed);
        say();
    }
    assert!(bench.pump.stats().rotations >= 3, "{}", bench.pump.stats().rotations);
}

#[test]
fn a_follower_sees_every_line_through_rotations() {
    let bench = Bench::new();
    let sink = Sink {
        rotate: Rotation {
            size: Some(Bytes(30_000)),
            keep: 10_000,
            total: None,
            compress: false,
            ..Rotation::default()
        },
        ..bench.sink("log")
    };
    let mut follower = Follower::new(vec![(bench.path("log"), From::Beginning)]).unwrap();
    let mut app = bench.attach(1, Stream::Out, sink);
    let writer = std::thread::spawn(move || {
        for n in 0..60 {
            let text: String = (n * 1000..(n + 1) * 1000).map(|n| format!("line {n}\n")).collect();
            app.write_all(text.as_bytes()).unwrap();
        }
    });
    let mut next = 0;
    while next < 60_000 {
        let lines = follower.next(Some(DEADLINE)).unwrap();
        for line in lines {
            assert_eq!(String::from_utf8(line.bytes).unwrap(), format!("line {next}"));
            next += 1;
        }
    }
    writer.join().unwrap();
    bench.drain(1);
    assert!(bench.pump.stats().rotations > 15);
}

#[test]
fn flush_reopen_and_strangers() {
    let bench = Bench::new();
    let path = bench.path("log");
    let mut app = bench.attach(1, Stream::Out, bench.sink("log"));
    let mut say = |text: &str| {
        app.write_all(text.as_bytes()).unwrap();
        bench.drain(1);
    };
    say("one\n");
    fs::write(bench.path("log.1.gz"), "old").unwrap();
    bench.pump.flush(vec![path.clone(), bench.path("other")]);
    bench.sync();
    say("two\n");
    assert_eq!(bench.read("log"), b"two\n");
    assert!(!bench.path("log.1.gz").exists());
    fs::rename(&path, bench.path("away")).unwrap();
    say("three\n");
    assert_eq!(bench.read("away"), b"two\nthree\n");
    bench.pump.reopen();
    bench.sync();
    say("four\n");
    assert_eq!(bench.read("log"), b"four\n");
    // Copytruncate: noticed within a second, without a hole.
    let wait_a_second = || {
        let _waited = nix::poll::poll(&mut [], 1100u16);
    };
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    wait_a_second();
    say("five\n");
    assert_eq!(bench.read("log"), b"five\n");
    fs::remove_file(&path).unwrap();
    wait_a_second();
    say("six\n");
    assert_eq!(bench.read("log"), b"six\n");
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
    assert_eq!(tail(&pump), ["half"]);
    app.write_all(b" and half\n").unwrap();
    pump.detach(RunId(1));
    drop(pump);
    assert_eq!(text().lines().count(), 2);
    assert!(text().contains("\"message\":\"half and half\"}"));
    drop(next());
    assert_eq!(fs::read_dir(journal.path()).unwrap().count(), 2, "nothing is held");
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

fn read_some(reader: &mut File, until: &str) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(until) {
        let count = reader.read(&mut chunk).unwrap();
        assert!(count > 0, "the end came before {until}");
        text.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_console_gets_whole_lines_beside_the_file() {
    let bench = Bench::new();
    let (out_reader, out_writer) = std::io::pipe().unwrap();
    let (err_reader, err_writer) = std::io::pipe().unwrap();
    let console = |writer: std::io::PipeWriter| crate::os::console::Console::new(OwnedFd::from(writer));
    bench.pump.console(Stream::Out, console(out_writer));
    bench.pump.console(Stream::Err, console(err_writer));
    let sink = |name: &str, prefix: &[u8], json| Sink {
        console: Some(crate::logs::sink::ConsoleSink {
            prefix: prefix.to_vec(),
            json,
        }),
        ..bench.sink(name)
    };
    let mut first = bench.attach(1, Stream::Out, sink("a", b"a:0 | ", false));
    let mut second = bench.attach(2, Stream::Out, sink("b", b"", true));
    let mut third = bench.attach(3, Stream::Err, sink("c", b"", false));
    first.write_all(b"half ").unwrap();
    second.write_all(b"\"quoted\"\n").unwrap();
    let mut out = File::from(OwnedFd::from(out_reader));
    let json = read_some(&mut out, "\n");
    assert!(
        json.starts_with('{') && json.contains("\\\"quoted\\\"") && json.ends_with("}\n"),
        "{json}"
    );
    first.write_all(b"a line\nlast").unwrap();
    assert_eq!(read_some(&mut out, "\n"), "a:0 | half a line\n");
    drop(first);
    assert_eq!(read_some(&mut out, "\n"), "a:0 | last\n");
    third.write_all(b"oops\n").unwrap();
    let mut err = File::from(OwnedFd::from(err_reader));
    assert_eq!(read_some(&mut err, "\n"), "oops\n");
    bench.pump.say(b"clmgr: hello\n".to_vec());
    assert_eq!(read_some(&mut err, "\n"), "clmgr: hello\n");
    let (sender, done) = channel();
    bench.pump.sync(Box::new(move || sender.send(()).unwrap()));
    done.recv_timeout(DEADLINE).unwrap();
    assert_eq!(fs::read_to_string(bench.path("a")).unwrap(), "half a line\nlast\n");
}

#[test]
fn a_stalled_console_slows_its_writers_down_and_loses_nothing() {
    let bench = Bench::new();
    let (reader, writer) = std::io::pipe().unwrap();
    bench
        .pump
        .console(Stream::Out, crate::os::console::Console::new(OwnedFd::from(writer)));
    let sink = |name: &str| Sink {
        console: Some(crate::logs::sink::ConsoleSink::default()),
        disabled: true,
        ..bench.sink(name)
    };
    const LINES: usize = 40_000;
    let writers: Vec<_> = (1..=2)
        .map(|run: u64| {
            let mut pipe = bench.attach(run, Stream::Out, sink("x"));
            std::thread::spawn(move || {
                for number in 0..LINES {
                    pipe.write_all(format!("{run} {number:08} {}\n", "x".repeat(50)).as_bytes())
                        .unwrap();
                }
            })
        })
        .collect();
    // Nobody reads: what the writers have written stays within the pipes and one chunk.
    let (sender, done) = channel();
    bench.pump.sync(Box::new(move || sender.send(()).unwrap()));
    done.recv_timeout(DEADLINE).unwrap();
    assert!(writers.iter().all(|writer| !writer.is_finished()));
    let mut next = [0; 2];
    let lines = std::io::BufRead::lines(std::io::BufReader::new(File::from(OwnedFd::from(reader))));
    for line in lines {
        let line = line.unwrap();
        let mut words = line.split(' ');
        let run: usize = words.next().unwrap().parse().unwrap();
        let number: usize = words.next().unwrap().parse().unwrap();
        assert_eq!((number, words.next().unwrap().len()), (next[run - 1], 50), "{line}");
        next[run - 1] += 1;
        if next == [LINES, LINES] {
            break;
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
}

#[test]
fn a_closed_console_harms_nobody() {
    let bench = Bench::new();
    let (reader, writer) = std::io::pipe().unwrap();
    bench
        .pump
        .console(Stream::Out, crate::os::console::Console::new(OwnedFd::from(writer)));
    drop(reader);
    let sink = Sink {
        console: Some(crate::logs::sink::ConsoleSink::default()),
        ..bench.sink("f")
    };
    let mut pipe = bench.attach(1, Stream::Out, sink);
    for _ in 0..1000 {
        pipe.write_all(&[b'y'; 999]).unwrap();
        pipe.write_all(b"\n").unwrap();
    }
    let notice = bench.notices.recv_timeout(DEADLINE).unwrap();
    assert!(matches!(notice, Notice::Console(text) if text.contains("log files")));
    drop(pipe);
    let (sender, done) = channel();
    bench.pump.drain(RunId(1));
    bench.pump.sync(Box::new(move || sender.send(()).unwrap()));
    done.recv_timeout(DEADLINE).unwrap();
    assert_eq!(fs::metadata(bench.path("f")).unwrap().len(), 1_000_000);
}
