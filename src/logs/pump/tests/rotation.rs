//! Files that are replaced while they are written.

use super::*;

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
        None,
    );
    let bench = Bench {
        dir: tempfile::tempdir().unwrap(),
        pump: pump.unwrap(),
        journal: tempfile::tempdir().unwrap(),
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
    bench.pump.reopen(None);
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
fn a_line_that_is_not_complete_moves_when_its_file_is_renamed() {
    let bench = Bench::new();
    let mut app = bench.attach(1, Stream::Out, bench.sink("log"));
    app.write_all(b"one\nunfin").unwrap();
    bench.drain(1);
    fs::rename(bench.path("log"), bench.path("old")).unwrap();
    bench.pump.reopen(Some(vec![bench.path("other")]));
    bench.sync();
    assert_eq!(bench.read("old"), b"one\nunfin");
    bench.pump.reopen(Some(vec![bench.path("log")]));
    bench.sync();
    assert_eq!(bench.read("old"), b"one\n");
    app.write_all(b"ished\ntwo\n").unwrap();
    bench.drain(1);
    assert_eq!(bench.read("log"), b"unfinished\ntwo\n");
    // Emptied inside a line: that line is whole.
    app.write_all(b"begin").unwrap();
    bench.drain(1);
    bench.pump.flush(vec![bench.path("log")]);
    bench.sync();
    app.write_all(b"ning\nunfinished\ntwo\n").unwrap();
    bench.drain(1);
    assert_eq!(bench.read("log"), b"beginning\nunfinished\ntwo\n");
    // Nobody renamed it: nothing changes.
    app.write_all(b"thr").unwrap();
    bench.drain(1);
    bench.pump.reopen(None);
    app.write_all(b"ee\n").unwrap();
    bench.drain(1);
    assert_eq!(bench.read("log"), b"beginning\nunfinished\ntwo\nthree\n");
    assert_eq!(bench.read("old"), b"one\n");
}
