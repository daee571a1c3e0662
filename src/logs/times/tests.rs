#![expect(clippy::disallowed_methods, reason = "the tests make files")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use proptest::prelude::*;

use super::index::{Index, id_of, name};
use super::{Book, Times, packed, sweep};
use crate::logs::compress::compress_all;
use crate::logs::moment;
use crate::logs::rotate::{Shelf, rotated};
use crate::model::duration::Millis;
use crate::model::time::{Moment, WallTime};

const BEGIN: i64 = 1_795_000_000_000;

/// A log, its writer, and what was written when.
struct Bench {
    dir: tempfile::TempDir,
    book: Book,
    now: Moment,
    wall: i64,
    size: u64,
    written: Vec<(i64, u64, u64)>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Self {
            dir,
            book: Book::default(),
            now: Moment(7_000_000_000),
            wall: BEGIN,
            size: 0,
            written: Vec::new(),
        };
        bench.restart();
        bench
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("a.log")
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join(".times")
    }

    /// The writer is killed, and another one begins.
    fn restart(&mut self) {
        self.book = Book::default();
        self.book.begin(self.now, self.folder()).unwrap();
    }

    fn wait(&mut self, millis: i64) {
        self.wall += millis;
        self.now = self.now.after(Millis(millis.unsigned_abs()));
        self.book.tick(self.now);
    }

    fn put(&mut self, len: u64) {
        let mut file = File::options().append(true).create(true).open(self.path()).unwrap();
        file.write_all(&vec![b'x'; usize::try_from(len).unwrap()]).unwrap();
    }

    fn write(&mut self, len: u64) {
        self.put(len);
        let file = File::open(self.path()).unwrap();
        let (from, id) = (self.size, id_of(&file.metadata().unwrap()));
        self.size += len;
        self.written.push((self.wall, from, self.size));
        let time = (self.now, WallTime(self.wall));
        let path = self.path();
        self.book.wrote(time, &file, id, &path, from, len);
    }

    /// The log gets another name.
    fn rotate(&mut self) {
        let id = id_of(&self.path().metadata().unwrap());
        fs::rename(self.path(), rotated(&self.path(), 1, false)).unwrap();
        self.book.rotated(self.now, id);
        self.size = 0;
        self.written.clear();
    }

    fn times(&self) -> Option<Times> {
        Times::open(&self.folder(), &File::open(self.path()).unwrap())
    }

    /// Nothing is skipped. `exact`: and times are right.
    fn check(&self, exact: bool) {
        let Some(times) = self.times() else {
            assert!(!exact, "there are no times");
            return;
        };
        for (wall, ..) in &self.written {
            for since in [wall - 1, *wall, wall + 1, wall + 60, wall + 120, wall + 700] {
                let offset = times.offset_at(WallTime(since));
                for (wall, from, to) in &self.written {
                    assert!(
                        *wall < since || offset <= *from,
                        "{wall} at {from} is skipped by {since}: {offset}"
                    );
                    assert!(
                        !exact || *wall >= since - 150 || offset >= *to,
                        "{wall} up to {to} is found by {since}: {offset}"
                    );
                }
            }
        }
        for (wall, from, _) in self.written.iter().filter(|_| exact) {
            let time = times.time_at(*from).unwrap().0;
            assert!((wall - time).abs() < 50, "{wall} at {from}: {time}");
        }
        let index = name(&self.folder(), id_of(&self.path().metadata().unwrap()));
        assert!(index.metadata().unwrap().len() < self.size / 4 + (34 << 10));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64),
    Wait(i64),
    Kill,
    Stranger(u64),
    Cut(u64),
}

fn steps(back: i64) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1u64..200).prop_map(Step::Write),
        4 => (0i64..80).prop_map(Step::Wait),
        2 => (0i64..3000).prop_map(Step::Wait),
        1 => (60_000i64..70_000).prop_map(Step::Wait),
        1 => (-back..=0i64).prop_map(Step::Wait),
        1 => Just(Step::Kill),
        1 => (1u64..50).prop_map(Step::Stranger),
        1 => (1u64..100).prop_map(Step::Cut),
    ];
    proptest::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_no_line_is_skipped(steps in steps(100_000)) {
        let mut bench = Bench::new();
        let mut blind = false;
        for step in steps {
            match step {
                Step::Write(len) => {
                    // A clock that is set back after what nobody knows of cannot be noticed.
                    let latest = bench.written.iter().map(|(wall, ..)| *wall).max().filter(|_| blind);
                    bench.wall = latest.unwrap_or(bench.wall).max(bench.wall);
                    blind = false;
                    bench.write(len);
                }
                Step::Wait(millis) => bench.wait(millis),
                Step::Kill => {
                    blind = true;
                    bench.restart();
                }
                Step::Stranger(len) if bench.size > 0 => {
                    bench.put(len);
                    bench.size += len;
                }
                Step::Cut(len) if bench.size > len && !blind => {
                    bench.size -= len;
                    let (file, size) = (File::options().write(true).open(bench.path()).unwrap(), bench.size);
                    file.set_len(size).unwrap();
                    bench.written.retain_mut(|(_, from, to)| {
                        *to = size.min(*to);
                        *from < size
                    });
                    // The writer that cut it goes on at once. What it had forgotten begins anew.
                    let latest = bench.written.iter().map(|(wall, ..)| *wall).max();
                    bench.wall = latest.unwrap_or(bench.wall).max(bench.wall);
                    bench.write(1);
                }
                Step::Stranger(_) | Step::Cut(_) => {}
            }
            if bench.size > 0 {
                bench.check(false);
            }
        }
    }

    #[test]
    fn as_long_as_nothing_goes_wrong_times_are_right(steps in steps(0)) {
        let mut bench = Bench::new();
        for step in steps {
            match step {
                Step::Write(len) => bench.write(len),
                Step::Wait(millis) => bench.wait(millis),
                Step::Kill if bench.size > 0 => {
                    bench.book.save();
                    bench.restart();
                }
                Step::Kill | Step::Stranger(_) | Step::Cut(_) => {}
            }
        }
        bench.write(1);
        bench.book.save();
        bench.check(true);
    }
}

#[test]
fn small_lines_make_no_large_index() {
    let mut bench = Bench::new();
    for _ in 0..40_000 {
        bench.write(3);
        bench.wait(1000);
    }
    bench.written.drain(..39_900);
    bench.book.save();
    bench.check(false);
    let times = bench.times().unwrap();
    let (wall, from, _) = bench.written[50];
    let time = times.time_at(from).unwrap().0;
    assert!((wall - 60_000..=wall).contains(&time), "{wall}: {time}");
}

#[test]
fn what_was_just_written_has_the_time_of_the_file() {
    let mut bench = Bench::new();
    bench.write(100);
    bench.book.save();
    // So much later that the file's own time is before it.
    let changed = bench.path().metadata().unwrap().mtime() * 1000;
    bench.write(100);
    let time = bench.times().unwrap().time_at(100).unwrap().0;
    assert!(time >= changed.max(BEGIN), "{time}");
    // Nobody looked at what was there before.
    let mut late = Bench::new();
    late.put(500);
    late.size = 500;
    late.write(100);
    late.book.save();
    let times = late.times().unwrap();
    assert_eq!(times.time_at(499), None);
    assert_eq!(times.time_at(500), Some(WallTime(BEGIN)));
    assert_eq!(times.offset_at(WallTime(BEGIN)), 0);
}

/// A log with some entries in its index, and some beside it.
fn filled() -> Bench {
    let mut bench = Bench::new();
    for _ in 0..50 {
        bench.write(100);
        bench.wait(100);
    }
    bench.book.save();
    bench.check(true);
    bench
}

#[test]
fn a_torn_entry_is_none() {
    let mut bench = filled();
    let index = name(&bench.folder(), id_of(&bench.path().metadata().unwrap()));
    let before = index.metadata().unwrap().len();
    let mut file = File::options().append(true).open(&index).unwrap();
    file.write_all(b"torn").unwrap();
    bench.check(true);
    bench.restart();
    for _ in 0..50 {
        bench.write(100);
        bench.wait(100);
    }
    bench.book.save();
    bench.check(true);
    let after = index.metadata().unwrap().len();
    assert!(
        (after - before).is_multiple_of(12) && after > before,
        "{before} {after}"
    );
}

#[test]
fn an_index_is_used_for_its_own_file_only() {
    let bench = filled();
    let own = name(&bench.folder(), id_of(&bench.path().metadata().unwrap()));
    // Another file of the same length, and a copy of the index under its name.
    let other = bench.dir.path().join("b.log");
    fs::copy(bench.path(), &other).unwrap();
    let file = File::open(&other).unwrap();
    fs::copy(&own, name(&bench.folder(), id_of(&file.metadata().unwrap()))).unwrap();
    assert!(Times::open(&bench.folder(), &file).is_none());
    // The log begins with something else, or has become shorter.
    let log = File::options().write(true).open(bench.path()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&log, b"y", 5).unwrap();
    assert!(bench.times().is_none());
    std::os::unix::fs::FileExt::write_all_at(&log, b"x", 5).unwrap();
    bench.check(true);
    log.set_len(300).unwrap();
    assert!(bench.times().is_none());
    // Damaged.
    log.set_len(bench.size).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&log, &vec![b'x'; 5000], 0).unwrap();
    bench.check(true);
    let index = File::options().write(true).open(&own).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&index, b"z", 20).unwrap();
    assert!(bench.times().is_none());
    index.set_len(0).unwrap();
    assert!(bench.times().is_none());
}

#[test]
fn a_log_that_is_emptied_begins_anew() {
    let mut bench = filled();
    File::options()
        .write(true)
        .open(bench.path())
        .unwrap()
        .set_len(0)
        .unwrap();
    assert!(bench.times().is_none());
    (bench.size, bench.written) = (0, Vec::new());
    for _ in 0..3 {
        bench.wait(100_000);
        bench.write(100);
    }
    bench.book.save();
    bench.check(true);
    // And so does one that was emptied while no writer lived.
    File::options()
        .write(true)
        .open(bench.path())
        .unwrap()
        .set_len(0)
        .unwrap();
    (bench.size, bench.written) = (0, Vec::new());
    bench.restart();
    bench.wait(100_000);
    bench.write(10);
    bench.book.save();
    bench.check(true);
}

#[test]
fn a_compressed_log_keeps_its_times() {
    let mut bench = filled();
    let expected = bench.written.clone();
    bench.rotate();
    let shelf = Shelf::default();
    shelf.times.set(bench.folder().into()).unwrap();
    let old = name(
        &bench.folder(),
        id_of(&rotated(&bench.path(), 1, false).metadata().unwrap()),
    );
    compress_all(&bench.path(), &shelf).unwrap();
    assert!(!old.exists());
    let file = File::open(rotated(&bench.path(), 1, true)).unwrap();
    let times = Times::open(&bench.folder(), &file).unwrap();
    for (wall, from, _) in &expected[..49] {
        assert_eq!(times.time_at(*from), Some(WallTime(*wall)));
        assert_eq!(times.offset_at(WallTime(*wall)), from.saturating_sub(100));
        assert_eq!(times.offset_at(WallTime(*wall + 1)), *from);
    }
    // The next log has another inode, or this one's old one.
    bench.write(77);
    bench.book.save();
    bench.check(true);
    sweep::sweep(&bench.folder());
    bench.check(true);
    assert!(Times::open(&bench.folder(), &file).is_some());
    fs::remove_file(rotated(&bench.path(), 1, true)).unwrap();
    sweep::sweep(&bench.folder());
    assert!(Times::open(&bench.folder(), &file).is_none());
    bench.check(true);
    // Not twice.
    let count = |bench: &Bench| fs::read_dir(bench.folder()).unwrap().count();
    let before = count(&bench);
    packed(&bench.folder(), id_of(&file.metadata().unwrap()), &file);
    assert_eq!(count(&bench), before);
}

#[test]
fn a_folder_that_cannot_be_used_disturbs_nobody() {
    let mut bench = filled();
    fs::remove_dir_all(bench.folder()).unwrap();
    for _ in 0..50 {
        bench.write(100);
        bench.wait(100);
    }
    assert!(bench.times().is_none());
    fs::create_dir(bench.folder()).unwrap();
    bench.wait(20_000);
    bench.write(100);
    bench.book.save();
    bench.check(false);
    let (wall, from, _) = *bench.written.last().unwrap();
    assert_eq!(bench.times().unwrap().time_at(from), Some(WallTime(wall)));
}

#[test]
fn a_kill_at_any_moment_skips_nothing() {
    let mut killed_at = 0;
    for at in 0.. {
        let mut bench = Bench::new();
        let life = |bench: &mut Bench| {
            for step in 0..80 {
                bench.wait(if step % 20 == 19 { 61_000 } else { 90 });
                bench.write(if step % 3 == 0 { 5 } else { 200 });
                if step == 40 {
                    bench.rotate();
                }
            }
        };
        moment::end_at(at);
        let killed = catch_unwind(AssertUnwindSafe(|| life(&mut bench))).is_err();
        moment::end_at(at % 3);
        let _killed_again = catch_unwind(AssertUnwindSafe(|| bench.restart()));
        moment::end_at(u64::MAX);
        // A write of which nobody was told.
        bench.put(30);
        bench.size = bench.path().metadata().unwrap().len();
        bench.restart();
        bench.check(false);
        for _ in 0..3 {
            bench.write(50);
            bench.wait(1000);
        }
        bench.book.save();
        bench.check(false);
        let (wall, from, _) = *bench.written.last().unwrap();
        assert_eq!(
            bench.times().unwrap().time_at(from),
            Some(WallTime(wall)),
            "killed at {at}"
        );
        if !killed {
            break;
        }
        killed_at = at;
    }
    assert!(killed_at > 20, "{killed_at}");
}

#[test]
fn reading_on_and_searching_give_the_same() {
    let mut bench = Bench::new();
    for _ in 0..3000 {
        bench.write(60);
        bench.wait(60);
    }
    bench.book.save();
    let times = bench.times().unwrap();
    for (wall, from, _) in &bench.written {
        assert_eq!(times.time_at(*from), Some(WallTime(*wall)));
    }
    for (wall, from, _) in bench
        .written
        .iter()
        .step_by(37)
        .chain(bench.written.iter().rev().step_by(911))
    {
        assert_eq!(times.time_at(*from), Some(WallTime(*wall)));
        assert_eq!(times.offset_at(WallTime(*wall + 1)), *from);
    }
    assert_eq!(times.offset_at(WallTime(i64::MAX)), bench.size);
    assert_eq!(times.offset_at(WallTime(0)), 0);
    let index = Index::open(&bench.folder(), id_of(&bench.path().metadata().unwrap()), false).unwrap();
    assert!(index.count > 2900, "{}", index.count);
}
