//! When what was written.

use super::*;
use crate::logs::query::{Filter, Query, Source};
use crate::logs::rotate::rotated;
use crate::logs::times::Times;

const BEGIN: i64 = 1_795_000_000_000;

fn bench(clock: fn() -> WallTime) -> Bench {
    let mut bench = Bench::new();
    bench.pump = Pump::start(clock, Box::new(|_| {}), None).unwrap();
    bench.pump.keep_times(bench.path("times"));
    bench
}

/// All that is in the pipe is in the file.
fn settle(bench: &Bench, run: u64) {
    bench.pump.drain(RunId(run));
    bench.sync();
}

fn times(bench: &Bench, name: &str) -> Option<Times> {
    Times::open(&bench.path("times"), &File::open(bench.path(name)).unwrap())
}

#[test]
fn lines_have_times_through_rotation_compression_and_restart() {
    static NOW: AtomicI64 = AtomicI64::new(BEGIN);
    let clock = || WallTime(NOW.load(Ordering::Relaxed));
    let mut bench = bench(clock);
    let sink = |bench: &Bench, adopted| Sink {
        adopted,
        rotate: Rotation {
            size: Some(Bytes(1000)),
            compress: true,
            ..Rotation::default()
        },
        ..bench.sink("log")
    };
    let (read, write) = std::io::pipe().unwrap();
    let mut app = File::from(OwnedFd::from(write));
    let key = StreamKey {
        run: RunId(1),
        stream: Stream::Out,
    };
    bench
        .pump
        .attach(key, read.try_clone().unwrap().into(), sink(&bench, false));
    // Twelve lines: the first file gets ten.
    for n in 0..12 {
        writeln!(app, "{n:099}").unwrap();
        settle(&bench, 1);
        NOW.fetch_add(1000, Ordering::Relaxed);
        if n == 4 {
            bench.pump = Pump::start(clock, Box::new(|_| {}), None).unwrap();
            bench.pump.keep_times(bench.path("times"));
            bench
                .pump
                .attach(key, read.try_clone().unwrap().into(), sink(&bench, true));
        }
    }
    // Ends the pump, which writes down what it knows.
    bench.pump = Pump::start(clock, Box::new(|_| {}), None).unwrap();
    let end = std::time::Duration::from_secs(60);
    let packed = rotated(&bench.path("log"), 1, true);
    let mut waited = std::time::Duration::ZERO;
    while !packed.exists() {
        assert!(waited < end, "it was not compressed");
        let (_send, never) = channel::<()>();
        let _passed = never.recv_timeout(Duration::from_millis(5));
        waited += Duration::from_millis(5);
    }
    let old = times(&bench, "log.1.gz").unwrap();
    for n in 0..10 {
        let time = WallTime(BEGIN + 1000 * n);
        let offset = u64::try_from(n * 100).unwrap();
        assert_eq!(old.time_at(offset), Some(time));
        assert_eq!(old.offset_at(WallTime(time.0 - 500)), offset);
    }
    let new = times(&bench, "log").unwrap();
    assert_eq!(new.time_at(99), Some(WallTime(BEGIN + 10_000)));
    assert_eq!(new.time_at(100), Some(WallTime(BEGIN + 11_000)));
    assert_eq!(new.offset_at(WallTime(BEGIN)), 0);
}

#[test]
fn a_flush_forgets_times_and_devices_have_none() {
    static NOW: AtomicI64 = AtomicI64::new(BEGIN);
    let mut bench = bench(|| WallTime(NOW.load(Ordering::Relaxed)));
    let mut app = bench.attach(1, Stream::Out, bench.sink("log"));
    let mut other = bench.attach(
        2,
        Stream::Out,
        Sink {
            path: "/dev/null".into(),
            ..bench.sink("log")
        },
    );
    let mut stamped = Sink {
        format: LogFormat::Stamped("YYYY".into()),
        ..bench.sink("stamped")
    };
    stamped.zone = Some("UTC".into());
    let mut stamped = bench.attach(3, Stream::Out, stamped);
    app.write_all(b"before\n").unwrap();
    settle(&bench, 1);
    bench.pump.flush(vec![bench.path("log")]);
    bench.sync();
    NOW.fetch_add(5000, Ordering::Relaxed);
    app.write_all(b"after\n").unwrap();
    other.write_all(b"nowhere\n").unwrap();
    stamped.write_all(b"in a year\n").unwrap();
    (1..=3).for_each(|run| settle(&bench, run));
    bench.pump = Pump::start(|| WallTime(0), Box::new(|_| {}), None).unwrap();
    for name in ["log", "stamped"] {
        let times = times(&bench, name).unwrap();
        assert_eq!(times.time_at(0), Some(WallTime(BEGIN + 5000)), "{name}");
    }
    let files = fs::read_dir(bench.path("times")).unwrap();
    let indexes = files.filter(|file| !file.as_ref().unwrap().file_name().to_string_lossy().contains("recent"));
    assert_eq!(indexes.count(), 2);
    assert!(Times::open(&bench.path("times"), &File::open("/dev/null").unwrap()).is_none());
}

#[test]
fn times_are_written_down_while_it_runs() {
    let mut bench = Bench::new();
    bench.pump.keep_times(bench.path("times"));
    let mut app = bench.attach(1, Stream::Out, bench.sink("log"));
    app.write_all(b"now\n").unwrap();
    bench.drain(1);
    let (_send, never) = channel::<()>();
    let found = (0..6000).any(|_| {
        let _passed = never.recv_timeout(Duration::from_millis(10));
        times(&bench, "log").is_some_and(|times| times.offset_at(WallTime(i64::MAX)) == 4)
    });
    assert!(found, "nobody wrote it down");
    app.write_all(b"again\n").unwrap();
    bench.drain(1);
    bench.pump = Pump::start(|| WallTime(0), Box::new(|_| {}), None).unwrap();
    assert_eq!(times(&bench, "log").unwrap().offset_at(WallTime(i64::MAX)), 10);
}

#[test]
fn raw_lines_are_found_by_their_times() {
    static NOW: AtomicI64 = AtomicI64::new(BEGIN);
    let mut bench = bench(|| WallTime(NOW.load(Ordering::Relaxed)));
    let sink = Sink {
        rotate: Rotation {
            size: Some(Bytes(100)),
            compress: true,
            ..Rotation::default()
        },
        ..bench.sink("log")
    };
    let mut app = bench.attach(1, Stream::Out, sink);
    // Several in one entry, and entries in several files.
    for n in 0..60 {
        writeln!(app, "line {n}").unwrap();
        settle(&bench, 1);
        NOW.fetch_add(20, Ordering::Relaxed);
    }
    bench.pump = Pump::start(|| WallTime(0), Box::new(|_| {}), None).unwrap();
    let found = |since: i64, until: i64| {
        let source = Source {
            path: bench.path("log"),
            format: LogFormat::Raw,
            zone: None,
            times: Some(bench.path("times")),
        };
        let filter = Filter {
            since: Some(WallTime(BEGIN + since)),
            until: Some(WallTime(BEGIN + until)),
            ..Filter::default()
        };
        let query = Query::open(vec![source], filter, true).unwrap();
        let number = |bytes: &[u8]| String::from_utf8_lossy(bytes)[5..].parse::<i64>().unwrap();
        query.map(|record| number(&record.unwrap().bytes)).collect::<Vec<_>>()
    };
    for (since, until) in [(0, 2000), (30, 2000), (130, 450), (777, 778), (1_190, 2000)] {
        let numbers = found(since, until);
        let wanted: Vec<i64> = (0..60).filter(|n| (since..until).contains(&(20 * n))).collect();
        assert!(
            wanted.iter().all(|n| numbers.contains(n)),
            "{since}..{until}: {numbers:?}"
        );
        // Right to 50 ms.
        let near = |n: &i64| (since - 50..until + 50).contains(&(20 * n));
        assert!(numbers.iter().all(near), "{since}..{until}: {numbers:?}");
        assert!(numbers.is_sorted(), "{since}..{until}: {numbers:?}");
    }
    assert_eq!(found(1_250, 2000), [0; 0]);
}
