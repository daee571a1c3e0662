#![expect(clippy::disallowed_methods, reason = "the tests make files")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use regex::bytes::Regex;

use crate::logs::compress::compress_all;
use crate::logs::query::{Filter, Limit, Query, Record, Source};
use crate::logs::rotate::{Shelf, rotated};
use crate::logs::stamp::Stamper;
use crate::model::level::Level;
use crate::model::logspec::{LogFormat, Stream};
use crate::model::time::WallTime;
use jiff::tz::TimeZone;

const START: i64 = 1_795_000_000_000;

/// A line of a history: its time if it has one of its own, and what is said.
#[derive(Clone, Debug)]
struct Said {
    own: Option<WallTime>,
    text: String,
}

fn source(path: &Path, format: &LogFormat) -> Source {
    Source {
        path: path.to_owned(),
        format: format.clone(),
        zone: Some("UTC".to_owned()),
        times: None,
    }
}

fn written(said: &Said, format: &LogFormat, stamper: &mut Stamper) -> Vec<u8> {
    match (said.own, format) {
        (None, _) | (_, LogFormat::Raw) => said.text.clone().into_bytes(),
        (Some(time), LogFormat::Stamped(_)) => [stamper.text(time), b" ", said.text.as_bytes()].concat(),
        (Some(time), LogFormat::Json) => format!("{{\"time\":\"{time}\",\"message\":{:?}}}", said.text).into_bytes(),
    }
}

/// A random number below this.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Lines with gaps, bursts, lines of no time, and a clock that goes back now and then.
fn history(count: usize, seed: &mut u64) -> Vec<Said> {
    let (mut now, mut highest) = (START, START);
    (0..count)
        .map(|number| {
            now += match random(seed, 20) {
                0 => i64::try_from(random(seed, 400_000)).unwrap(),
                1 => -i64::try_from(random(seed, 30_000)).unwrap(),
                _ => i64::try_from(random(seed, 40)).unwrap(),
            };
            now = now.max(highest - 50_000);
            highest = highest.max(now);
            let own = (number == 0 || random(seed, 12) > 0).then_some(WallTime(now));
            let level = ["INFO", "ERROR", "nothing", "[warn]"][usize::try_from(random(seed, 4)).unwrap()];
            let filler = "x".repeat(usize::try_from(random(seed, 200)).unwrap());
            let text = format!("{level} line {number} {filler}");
            Said { own, text }
        })
        .collect()
}

/// Writes the history into so many files; the mtime of a file is the time of its last line.
fn put(path: &Path, history: &[Said], format: &LogFormat, files: u32, gzip: bool) {
    let zone = TimeZone::UTC;
    let pattern = match format {
        LogFormat::Stamped(pattern) => pattern.as_str(),
        LogFormat::Raw | LogFormat::Json => "",
    };
    let mut stamper = Stamper::in_zone(pattern, zone);
    let each = history.len().div_ceil(files as usize);
    for (chunk, number) in history.chunks(each).zip((0..files).rev()) {
        let name = if number == 0 {
            path.to_owned()
        } else {
            rotated(path, number, false)
        };
        let mut file = File::create(name).unwrap();
        let mut last = WallTime(START);
        for said in chunk {
            last = said.own.unwrap_or(last);
            let mut line = written(said, format, &mut stamper);
            line.push(b'\n');
            file.write_all(&line).unwrap();
        }
        let millis = Duration::from_millis(u64::try_from(last.0).unwrap());
        file.set_modified(UNIX_EPOCH + millis).unwrap();
    }
    if gzip {
        compress_all(path, &Shelf::default()).unwrap();
    }
}

fn run(sources: Vec<Source>, filter: &Filter) -> Vec<Record> {
    let query = Query::open(sources, filter.clone(), true).unwrap();
    query.map(Result::unwrap).collect()
}

/// What a reader of everything would give.
fn expected(history: &[Said], filter: &Filter) -> Vec<String> {
    let mut time = None;
    let mut found = Vec::new();
    for said in history {
        time = said.own.or(time);
        let level = ["ERROR", "[warn]", "INFO"]
            .iter()
            .position(|level| said.text.starts_with(level));
        let level = level.map(|at| [Level::Error, Level::Warn, Level::Info][at]);
        let greps = filter.grep.is_empty()
            || filter.grep.iter().any(|grep| grep.is_match(said.text.as_bytes())) != filter.invert;
        if filter.is_in_time(time, true) && greps && filter.level.is_none_or(|least| level >= Some(least)) {
            found.push(said.text.clone());
        }
    }
    match filter.limit {
        Limit::None => found,
        Limit::Each(most) | Limit::Total(most) => found.split_off(found.len().saturating_sub(most)),
    }
}

fn filters(seed: &mut u64, end: i64) -> Vec<Filter> {
    let mut found = vec![Filter::default()];
    let sevens = Regex::new("line \\d*7 ").unwrap();
    for limit in [
        Limit::None,
        Limit::Each(0),
        Limit::Each(1),
        Limit::Each(37),
        Limit::Each(100_000),
    ] {
        for round in 0..6 {
            let mut at = || {
                WallTime(
                    START - 5_000 + i64::try_from(random(seed, u64::try_from(end - START + 10_000).unwrap())).unwrap(),
                )
            };
            let (one, other) = (at(), at());
            found.push(Filter {
                since: (round % 3 > 0).then_some(one.min(other)),
                until: (round % 3 != 1).then_some(one.max(other)),
                grep: if round % 4 == 0 {
                    vec![sevens.clone()]
                } else {
                    Vec::new()
                },
                invert: round % 8 == 0,
                level: (round % 5 == 0).then_some(Level::Warn),
                limit,
                ..Filter::default()
            });
        }
    }
    found
}

#[test]
fn finds_what_a_reader_of_everything_would() {
    let mut seed = 7;
    let formats = [
        LogFormat::Stamped(String::new()),
        LogFormat::Stamped("YYYY-MM-DD HH:mm:ss.SSS".to_owned()),
        LogFormat::Json,
    ];
    for (files, gzip, count) in [(1, false, 300), (7, false, 200), (7, true, 200), (40, true, 200)] {
        for format in &formats {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.log");
            let history = history(count, &mut seed);
            put(&path, &history, format, files, gzip);
            let end = history.iter().filter_map(|said| said.own).max().unwrap();
            for filter in filters(&mut seed, end.0) {
                let found = run(vec![source(&path, format)], &filter);
                let lines: Vec<String> = found
                    .iter()
                    .map(|record| {
                        let parser = super::Parser::new(format, Some("UTC"));
                        String::from_utf8(parser.parse(&record.bytes).message.into_owned()).unwrap()
                    })
                    .collect();
                let expected = expected(&history, &filter);
                assert!(
                    lines == expected,
                    "{format:?} in {files} files, {filter:?}: {} lines instead of {}",
                    lines.len(),
                    expected.len()
                );
            }
        }
    }
}

#[test]
fn merges_by_time_and_keeps_order_where_times_are_equal() {
    let dir = tempfile::tempdir().unwrap();
    let said = |millis: i64, text: &str| Said {
        own: (millis >= 0).then_some(WallTime(START + millis)),
        text: text.to_owned(),
    };
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let stamped = LogFormat::Stamped(String::new());
    put(
        &one,
        &[said(0, "a"), said(-1, "of a"), said(5, "d"), said(5, "e"), said(9, "g")],
        &stamped,
        2,
        true,
    );
    put(
        &two,
        &[said(1, "b"), said(2, "c"), said(5, "f"), said(9, "h")],
        &LogFormat::Json,
        3,
        false,
    );
    let sources = vec![source(&one, &stamped), source(&two, &LogFormat::Json)];
    let text = |filter: &Filter| {
        let found = run(sources.clone(), filter);
        let message = |record: &Record| {
            let parser = super::Parser::new(&sources[record.source].format, None);
            String::from_utf8(parser.parse(&record.bytes).message.into_owned()).unwrap()
        };
        found.iter().map(message).collect::<Vec<_>>().concat()
    };
    assert_eq!(text(&Filter::default()), "aof abcdefgh");
    let limit = |limit| Filter {
        limit,
        ..Filter::default()
    };
    assert_eq!(text(&limit(Limit::Total(3))), "fgh");
    assert_eq!(text(&limit(Limit::Total(0))), "");
    assert_eq!(text(&limit(Limit::Total(99))), "aof abcdefgh");
    assert_eq!(text(&limit(Limit::Each(2))), "efgh");
}

#[test]
fn raw_lines_are_found_by_the_times_of_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let history: Vec<Said> = (0..40)
        .map(|number| Said {
            own: Some(WallTime(START + number * 600_000)),
            text: format!("line {number}"),
        })
        .collect();
    put(&path, &history, &LogFormat::Raw, 4, true);
    let of = |since: i64, until: i64| {
        let filter = Filter {
            since: Some(WallTime(START + since * 600_000)),
            until: Some(WallTime(START + until * 600_000)),
            ..Filter::default()
        };
        let found = run(vec![source(&path, &LogFormat::Raw)], &filter);
        assert!(found.iter().all(|record| record.time.is_none()));
        found.len()
    };
    // Ten in a file; what cannot be told apart is shown.
    assert_eq!(of(32, 35), 10);
    assert_eq!(of(15, 25), 20);
    assert_eq!(of(100, 200), 0);
    assert_eq!(of(0, 40), 40);
}

#[test]
fn an_unfinished_line_is_left_for_the_follower() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    fs::write(&path, "one\ntwo\nthr").unwrap();
    let lines = |unfinished| {
        let query = Query::open(vec![source(&path, &LogFormat::Raw)], Filter::default(), unfinished).unwrap();
        let end = query.ends()[0].unwrap().offset;
        // What comes later is not of it.
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"x")
            .unwrap();
        (query.map(|record| record.unwrap().bytes).collect::<Vec<_>>(), end)
    };
    assert_eq!(
        lines(true),
        (vec![b"one".to_vec(), b"two".to_vec(), b"thr".to_vec()], 11)
    );
    assert_eq!(lines(false), (vec![b"one".to_vec(), b"two".to_vec()], 8));
    let nothing = Query::open(
        vec![source(&dir.path().join("b"), &LogFormat::Raw)],
        Filter::default(),
        true,
    );
    assert_eq!(nothing.unwrap().count(), 0);
}

#[test]
fn goes_on_while_files_are_rotated_and_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let format = LogFormat::Stamped(String::new());
    let mut seed = 3;
    let history = history(600, &mut seed);
    put(&path, &history, &format, 6, false);
    let mut query = Query::open(vec![source(&path, &format)], Filter::default(), true).unwrap();
    let mut count = query.by_ref().take(50).count();
    for number in (0..6).rev() {
        let name = if number == 0 {
            path.clone()
        } else {
            rotated(&path, number, false)
        };
        fs::rename(name, rotated(&path, number + 1, false)).unwrap();
    }
    fs::write(&path, "2026-11-21T00:00:00.000Z new\n").unwrap();
    compress_all(&path, &Shelf::default()).unwrap();
    count += query.map(Result::unwrap).count();
    assert_eq!(count, 600);
}

#[test]
fn a_merged_file_tells_streams_and_instances_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let line = |n: u32, stream: &str, instance: u32| {
        format!(
            "{{\"time\":\"2026-11-21T10:00:0{n}Z\",\"stream\":\"{stream}\",\"instance\":{instance},\"message\":\"{n}\"}}\n"
        )
    };
    fs::write(
        &path,
        [
            line(1, "out", 0),
            line(2, "err", 0),
            line(3, "err", 1),
            line(4, "err", 2),
        ]
        .concat(),
    )
    .unwrap();
    let filter = Filter {
        stream: Some(Stream::Err),
        instances: vec![0, 2],
        ..Filter::default()
    };
    let found = run(vec![source(&path, &LogFormat::Json)], &filter);
    let times: Vec<i64> = found
        .iter()
        .map(|record| record.time.unwrap().0 % 10_000 / 1000)
        .collect();
    assert_eq!(times, [2, 4]);
}

#[test]
fn a_cut_compressed_file_has_the_lines_before_the_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let text: String = (0..50_000).map(|n| format!("line {n} {}\n", n * 7919 % 1000)).collect();
    fs::write(rotated(&path, 1, false), text).unwrap();
    compress_all(&path, &Shelf::default()).unwrap();
    let zipped = rotated(&path, 1, true);
    let size = zipped.metadata().unwrap().len();
    File::options()
        .write(true)
        .open(&zipped)
        .unwrap()
        .set_len(size / 2)
        .unwrap();
    fs::write(&path, "end\n").unwrap();
    let found = run(vec![source(&path, &LogFormat::Raw)], &Filter::default());
    assert!((10_000..50_000).contains(&found.len()));
    assert_eq!(found.last().unwrap().bytes, b"end");
}
