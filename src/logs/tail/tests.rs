//! Followers whose files change between any two looks.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::logs::compress::compress_all;
use crate::logs::moment;
use crate::logs::rotate::{Shelf, rotated, shift};
use crate::logs::tail::{Follower, From};
use crate::model::logspec::Rotation;

/// A log that is written, rotated and compressed while it is read.
struct Writer {
    path: PathBuf,
    keep: u32,
    state: u64,
    /// The next line.
    number: Rc<Cell<u64>>,
    /// Lines to write, before the last one.
    most: u64,
    ended: bool,
}

impl Writer {
    fn random(&mut self, below: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    /// Does something or nothing.
    fn act(&mut self) {
        if self.number.get() >= self.most {
            // The last one stays.
            if !self.ended {
                self.ended = true;
                self.write();
            }
            return;
        }
        match self.random(9) {
            0..=2 => self.write(),
            3 => self.rotate(),
            4 => {
                // Two rotations between two looks.
                self.write();
                self.rotate();
                self.write();
                self.rotate();
            }
            5 => compress_all(&self.path, &Shelf::default()).unwrap(),
            _ => {}
        }
    }

    fn write(&self) {
        let mut file = File::options().append(true).create(true).open(&self.path).unwrap();
        let number = self.number.get();
        writeln!(file, "{number}").unwrap();
        self.number.set(number + 1);
    }

    fn rotate(&self) {
        let rotation = Rotation {
            keep: self.keep,
            ..Rotation::default()
        };
        if self.path.exists() {
            shift(&self.path, &rotation).unwrap();
        }
        File::options().append(true).create(true).open(&self.path).unwrap();
    }
}

/// Follows such a log to its end: the numbers, and nothing where there was a notice.
fn followed(path: &Path, keep: u32, seed: u64, most: u64) -> Vec<Option<u64>> {
    let number = Rc::new(Cell::new(0));
    let mut writer = Writer {
        path: path.to_owned(),
        keep,
        state: seed,
        number: Rc::clone(&number),
        most,
        ended: false,
    };
    writer.write();
    let mut follower = Follower::new(vec![(path.to_owned(), From::Beginning)]).unwrap();
    moment::at_each_look(Some(Box::new(move || writer.act())));
    let mut found = Vec::new();
    for _ in 0..100_000 {
        moment::look();
        for line in follower.next(Some(Duration::ZERO)).unwrap() {
            let text = String::from_utf8(line.bytes).unwrap();
            found.push((!line.notice).then(|| text.parse().unwrap()));
        }
        if number.get() > most && found.last() == Some(&Some(number.get() - 1)) {
            moment::at_each_look(None);
            return found;
        }
    }
    panic!("no end after {:?} of {}", found.last(), number.get());
}

#[test]
fn every_line_comes_once_and_in_order_whatever_happens_between_two_looks() {
    for seed in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let found = followed(&dir.path().join("a.log"), 10_000, seed, 60);
        let all: Vec<_> = (0..).map(Some).take(found.len()).collect();
        assert_eq!(found, all, "seed {seed}");
        assert!(found.len() > 60, "seed {seed}: {}", found.len());
    }
}

#[test]
fn what_was_removed_before_it_was_read_is_told() {
    let mut gaps = 0;
    for seed in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let keep = u32::try_from(seed % 4).unwrap();
        let found = followed(&dir.path().join("a.log"), keep, seed, 60);
        let mut last = None;
        let mut told = false;
        for line in found {
            match line {
                None => told = true,
                Some(number) => {
                    let expected = last.map_or(0, |last| last + 1);
                    assert!(number >= expected, "seed {seed}: {number} comes again");
                    assert!(
                        number == expected || told,
                        "seed {seed}: {expected} to {number} are missing"
                    );
                    gaps += u64::from(number > expected);
                    last = Some(number);
                    told = false;
                }
            }
        }
        assert!(last >= Some(60), "seed {seed}");
    }
    assert!(gaps > 10, "{gaps}");
}

#[test]
fn a_stalled_reader_goes_on_in_a_compressed_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let number = Rc::new(Cell::new(0));
    let writer = Writer {
        path: path.clone(),
        keep: 100,
        state: 0,
        number,
        most: 0,
        ended: false,
    };
    writer.write();
    let mut follower = Follower::new(vec![(path.clone(), From::Beginning)]).unwrap();
    for _ in 0..20 {
        writer.write();
        writer.rotate();
        writer.write();
    }
    compress_all(&path, &Shelf::default()).unwrap();
    assert!(rotated(&path, 20, true).exists());
    let mut found = Vec::new();
    while found.len() < 41 {
        found.extend(
            follower
                .next(Some(Duration::ZERO))
                .unwrap()
                .into_iter()
                .map(|line| line.bytes),
        );
    }
    let all: Vec<_> = (0..41).map(|number: u64| number.to_string().into_bytes()).collect();
    assert_eq!(found, all);
}

#[test]
fn without_inotify_files_are_looked_at_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let writer = Writer {
        path: path.clone(),
        keep: 100,
        state: 0,
        number: Rc::new(Cell::new(0)),
        most: 0,
        ended: false,
    };
    let mut follower = Follower::new(vec![(path, From::Beginning)]).unwrap();
    assert!(!follower.is_polling());
    follower.poll().unwrap();
    assert!(follower.is_polling());
    let mut found = 0;
    for _ in 0..3 {
        writer.write();
        writer.rotate();
        writer.write();
        while found < writer.number.get() {
            found += follower.next(None).unwrap().len() as u64;
        }
    }
    assert_eq!(found, 6);
}
