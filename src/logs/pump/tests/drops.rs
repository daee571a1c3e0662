//! Apps that rather lose lines than wait, while the pump's thread is held up as by a slow disk.

use std::sync::mpsc::Sender;

use super::*;

/// The pump's thread does nothing until this is dropped.
pub(super) struct Stalled(#[expect(dead_code, reason = "its end is the signal")] Sender<()>);

pub(super) fn stall(bench: &Bench) -> Stalled {
    let (go, wait) = channel::<()>();
    let (said, begun) = channel();
    bench.pump.sync(Box::new(move || {
        said.send(()).unwrap();
        let _dropped = wait.recv();
    }));
    begun.recv_timeout(DEADLINE).unwrap();
    Stalled(go)
}

fn lossy(bench: &Bench, name: &str, format: LogFormat) -> Sink {
    Sink {
        overflow: Overflow::Drop,
        format,
        ..bench.sink(name)
    }
}

/// Writes all of it, which takes no pump; fails if it does.
fn flood(mut app: File, text: Vec<u8>) -> File {
    let (send, done) = channel();
    std::thread::spawn(move || {
        app.write_all(&text).unwrap();
        send.send(app).unwrap();
    });
    done.recv_timeout(DEADLINE).unwrap()
}

fn numbered(from: usize, to: usize) -> Vec<u8> {
    (from..to)
        .flat_map(|n| format!("{n}:{}\n", "x".repeat(n % 300)).into_bytes())
        .collect()
}

/// What the app said, as it stands in the log, and what the markers count.
fn said(log: &[u8], format: &LogFormat) -> (Vec<u8>, u64, u64, usize) {
    let (mut text, mut lines, mut bytes, mut markers) = (Vec::new(), 0, 0, 0);
    for line in String::from_utf8(log.to_vec()).unwrap().split_inclusive('\n') {
        let line = match format {
            LogFormat::Raw => line.to_owned(),
            LogFormat::Stamped(_) => line.strip_prefix("T ").unwrap().to_owned(),
            LogFormat::Json => {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                format!("{}\n", record["message"].as_str().unwrap())
            }
        };
        if let Some(marker) = line.strip_prefix("[clmgr: ") {
            let numbers: Vec<u64> = marker.split([' ', '(']).filter_map(|word| word.parse().ok()).collect();
            assert!(
                marker.ends_with("dropped: the log could not be written fast enough]\n"),
                "{marker}"
            );
            lines += numbers[0];
            bytes += numbers[1];
            markers += 1;
        } else {
            text.extend(line.as_bytes());
        }
    }
    (text, lines, bytes, markers)
}

/// Whole lines of `all`, in order; what is missing is what was counted.
fn check(log: &[u8], format: &LogFormat, all: &[u8]) {
    let (text, lines, bytes, markers) = said(log, format);
    let whole: Vec<&[u8]> = all.split_inclusive(|byte| *byte == b'\n').collect();
    let kept: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut rest = whole.iter();
    assert!(
        kept.iter().all(|line| rest.any(|other| other == line)),
        "{format:?}: whole lines in order"
    );
    assert_eq!(kept.len() as u64 + lines, whole.len() as u64, "{format:?}");
    assert_eq!(text.len() as u64 + bytes, all.len() as u64, "{format:?}");
    assert!(markers > 0, "{format:?}");
}

#[test]
fn an_app_goes_on_while_its_log_cannot_be_written() {
    for format in [LogFormat::Raw, stamped(), LogFormat::Json] {
        for stream in [Stream::Out, Stream::Err] {
            let bench = Bench::new();
            let mut app = bench.attach(1, stream, lossy(&bench, "log", format.clone()));
            app.write_all(&numbered(0, 10)).unwrap();
            bench.drain(1);
            // It ends inside a line, and so does what comes while the pump is away.
            app.write_all(b"10:").unwrap();
            bench.sync();
            let stalled = stall(&bench);
            let all = numbered(0, 20_000);
            let begin = numbered(0, 10).len() + 3;
            let cut = all.len() - 500;
            let app = flood(app, all[begin..cut].to_vec());
            drop(stalled);
            bench.sync();
            let _app = flood(app, all[cut..].to_vec());
            let (_, notices) = bench.drain(1);
            check(&bench.read("log"), &format, &all);
            let Some(Notice::Dropped(loss)) = notices.first() else {
                panic!("{notices:?}")
            };
            assert!(loss.lines > 0 && bench.pump.stats().lost_lines >= loss.lines);
            // Nothing is lost of what was there before, and the line that was under way is ended.
            let (text, ..) = said(&bench.read("log"), &format);
            assert!(text.starts_with(&numbered(0, 11)));
        }
    }
}

#[test]
fn a_line_that_is_too_long_to_be_kept_is_lost_as_a_whole() {
    for format in [LogFormat::Raw, stamped(), LogFormat::Json] {
        let bench = Bench::new();
        let mut app = bench.attach(1, Stream::Out, lossy(&bench, "log", format.clone()));
        let long = |end: &str| [b"long".repeat(100_000), end.as_bytes().to_vec()].concat();
        let all = [b"first\n".to_vec(), long("\n"), long("\n"), b"last\n".to_vec()].concat();
        app.write_all(&all[..300_000]).unwrap();
        bench.drain(99);
        let stalled = stall(&bench);
        let app = flood(app, all[300_000..700_000].to_vec());
        drop(stalled);
        bench.sync();
        let _app = flood(app, all[700_000..].to_vec());
        bench.drain(1);
        let log = bench.read("log");
        check(&log, &format, &all);
        let (text, lines, ..) = said(&log, &format);
        assert_eq!((text, lines), (b"first\nlast\n".to_vec(), 2), "{format:?}");
    }
}

#[test]
fn a_long_line_that_a_child_of_an_ended_process_goes_on_with_is_lost_as_a_whole() {
    // Of the stamped ones the end of the process ends the line.
    let bench = Bench::new();
    let mut app = bench.attach(1, Stream::Out, lossy(&bench, "log", LogFormat::Raw));
    let all = [b"first\n".to_vec(), b"long".repeat(100_000), b"\nlast\n".to_vec()].concat();
    app.write_all(&all[..20_000]).unwrap();
    bench.drain(1);
    assert_eq!(bench.read("log"), all[..20_000]);
    let stalled = stall(&bench);
    let _app = flood(app, all[20_000..].to_vec());
    drop(stalled);
    bench.drain(1);
    let log = bench.read("log");
    check(&log, &LogFormat::Raw, &all);
    assert_eq!(said(&log, &LogFormat::Raw).0, b"first\nlast\n");
}

#[test]
fn the_rest_of_a_lost_line_is_lost_although_it_comes_after_the_exit() {
    for format in [LogFormat::Raw, stamped(), LogFormat::Json] {
        let bench = Bench::new();
        let mut app = bench.attach(1, Stream::Out, lossy(&bench, "log", format.clone()));
        let all = [b"first\n".to_vec(), b"long".repeat(100_000), b"\nlast\n".to_vec()].concat();
        app.write_all(&all[..6]).unwrap();
        bench.drain(99);
        let stalled = stall(&bench);
        let mut app = flood(app, all[6..399_000].to_vec());
        drop(stalled);
        bench.drain(1);
        let (text, lines, bytes, _) = said(&bench.read("log"), &format);
        assert_eq!((text, lines), (b"first\n".to_vec(), 1), "{format:?}");
        assert_eq!(bytes, 399_000 - 6, "{format:?}");
        app.write_all(&all[399_000..400_000]).unwrap();
        bench.drain(1);
        app.write_all(&all[400_000..]).unwrap();
        bench.drain(1);
        let log = bench.read("log");
        check(&log, &format, &all);
        assert_eq!(said(&log, &format).0, b"first\nlast\n", "{format:?}");
    }
}

#[test]
fn what_was_lost_is_said_although_nothing_follows() {
    // The pipe ends; it is given up; the pump ends.
    for way in 0..3 {
        let bench = Bench::new();
        let app = bench.attach(1, Stream::Out, lossy(&bench, "log", LogFormat::Raw));
        let all = numbered(0, 20_000);
        let stalled = stall(&bench);
        let app = flood(app, all.clone());
        match way {
            0 => drop(app),
            1 => bench.pump.detach(RunId(1)),
            _ => {
                let path = bench.path("log");
                let Bench { dir, pump, journal, .. } = bench;
                let read = std::thread::spawn(move || drop(pump));
                drop(stalled);
                read.join().unwrap();
                // What is in the pipe is for the next one.
                let (text, lines, bytes, _) = said(&fs::read(path).unwrap(), &LogFormat::Raw);
                assert!(lines > 0 && text.len() as u64 + bytes <= all.len() as u64);
                drop((dir, journal, app));
                continue;
            }
        }
        drop(stalled);
        bench.drain(1);
        check(&bench.read("log"), &LogFormat::Raw, &all);
    }
}

#[test]
fn nothing_is_lost_while_the_pump_works_and_the_thread_ends_with_its_last_stream() {
    let bench = Bench::new();
    let app = bench.attach(1, Stream::Out, lossy(&bench, "log", LogFormat::Raw));
    let app = flood(app, numbered(0, 100));
    bench.drain(1);
    assert_eq!(bench.read("log"), numbered(0, 100));
    bench.pump.detach(RunId(1));
    bench.sync();
    drop(app);
    let mut app = bench.attach(2, Stream::Out, lossy(&bench, "other", LogFormat::Raw));
    app.write_all(b"x\n").unwrap();
    bench.drain(2);
    assert_eq!(bench.read("other"), b"x\n");
}
