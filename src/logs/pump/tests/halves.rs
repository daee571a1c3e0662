//! A line that is half written when something happens to its log stays whole.

use super::drops::stall;
use super::*;

#[test]
fn a_flush_leaves_the_line_that_is_being_written() {
    for (format, stamp) in [(LogFormat::Raw, ""), (stamped(), "T "), (LogFormat::Json, "")] {
        let bench = Bench::new();
        let json = format == LogFormat::Json;
        let sink = Sink {
            format,
            ..bench.sink("log")
        };
        let mut app = bench.attach(1, Stream::Out, sink);
        app.write_all(b"old\nhalf").unwrap();
        // Commands may overtake what has just been written.
        while rustix::io::ioctl_fionread(&app).unwrap() > 0 {
            bench.sync();
        }
        bench.sync();
        bench.pump.flush(vec![bench.path("log")]);
        bench.sync();
        app.write_all(b" whole\nnew\n").unwrap();
        bench.drain(1);
        let log = String::from_utf8(bench.read("log")).unwrap();
        if json {
            let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
            assert_eq!((&first["message"], log.lines().count()), (&"half whole".into(), 2));
        } else {
            assert_eq!(log, format!("{stamp}half whole\n{stamp}new\n"));
        }
    }
}

#[test]
fn a_flush_leaves_nothing_of_a_writer_that_is_gone() {
    let bench = Bench::new();
    let mut app = bench.attach(1, Stream::Out, bench.sink("log"));
    app.write_all(b"old\nhalf").unwrap();
    let _next = bench.attach(2, Stream::Out, bench.sink("log"));
    bench.pump.detach(RunId(1));
    bench.pump.flush(vec![bench.path("log")]);
    bench.sync();
    assert_eq!(bench.read("log"), b"");
}

#[test]
fn a_second_process_does_not_break_the_line_of_the_first() {
    for (format, stamp) in [(LogFormat::Raw, ""), (stamped(), "T ")] {
        let bench = Bench::new();
        let sink = || Sink {
            format: format.clone(),
            ..bench.sink("log")
        };
        let mut old = bench.attach(1, Stream::Out, sink());
        old.write_all(b"one\nhalf").unwrap();
        while !bench.read("log").ends_with(b"half") {
            bench.sync();
        }
        let mut new = bench.attach(2, Stream::Out, sink());
        new.write_all(b"new\n").unwrap();
        bench.drain(2);
        old.write_all(b" whole\n").unwrap();
        bench.drain(1);
        let expected = format!("{stamp}one\n{stamp}new\n{stamp}half whole\n");
        assert_eq!(String::from_utf8(bench.read("log")).unwrap(), expected);
    }
}

#[test]
fn a_child_that_goes_on_breaks_no_line_and_holds_up_no_exit() {
    for format in [LogFormat::Raw, stamped(), LogFormat::Json] {
        let bench = Bench::new();
        let sink = || Sink {
            format: format.clone(),
            ..bench.sink("log")
        };
        let mut app = bench.attach(1, Stream::Out, sink());
        app.write_all(b"last words\n").unwrap();
        let stalled = stall(&bench);
        // More than a drain reads, as if it came while that goes on.
        if nix::fcntl::fcntl(&app, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20)).is_err() {
            eprintln!("SKIPPED: no pipe is that large here");
            return;
        }
        let line = |number: usize| format!("child:{number}:{}\n", "c".repeat(987));
        for number in 0..900 {
            app.write_all(line(number).as_bytes()).unwrap();
        }
        bench.pump.drain(RunId(1));
        let mut next = bench.attach(2, Stream::Out, sink());
        next.write_all(b"next\n").unwrap();
        drop(stalled);
        bench.drain(2);
        bench.drain(1);
        let log = String::from_utf8(bench.read("log")).unwrap();
        let (mut children, mut others) = (0, Vec::new());
        for written in log.lines() {
            let said = match &format {
                LogFormat::Raw => written.to_owned(),
                LogFormat::Stamped(_) => written.strip_prefix("T ").unwrap().to_owned(),
                LogFormat::Json => {
                    let record: serde_json::Value = serde_json::from_str(written).unwrap();
                    record["message"].as_str().unwrap().to_owned()
                }
            };
            if line(children).trim_end() == said {
                children += 1;
            } else {
                others.push(said);
            }
        }
        assert_eq!(
            (children, others),
            (900, vec!["last words".to_owned(), "next".to_owned()]),
            "{format:?}"
        );
    }
}

#[test]
fn a_line_of_a_mebibyte_is_one_line() {
    let bench = Bench::new();
    let sink = Sink {
        format: LogFormat::Json,
        ..bench.sink("log")
    };
    let mut app = bench.attach(1, Stream::Out, sink);
    let text = "x".repeat(1 << 20);
    for piece in format!("{text}\nend\n").as_bytes().chunks(4096) {
        app.write_all(piece).unwrap();
    }
    bench.drain(1);
    let log = String::from_utf8(bench.read("log")).unwrap();
    let messages: Vec<String> = log
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["message"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(messages, [text, "end".to_owned()]);
}
