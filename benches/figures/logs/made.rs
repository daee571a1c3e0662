//! A long history, made up: stamped lines of 100 bytes at even intervals over ten days.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use crate::logs::verify::LINE;
use crate::logs::writer::lines;

/// The time from the first line to the last.
const SPAN: i64 = 10 * 24 * 3_600_000;

/// What the lines that are looked for have in common, and no other has.
pub(super) const RARE: &str = "status=503";

/// One line in so many is one of them.
const EVERY: u64 = 1000;

/// Lines of one rotated file: 10 MiB.
const FILE: u64 = lines(10);

/// A line with zeros for what changes.
const TEMPLATE: &[u8; LINE] =
    b"0000-00-00T00:00:00.000+00:00 0000000000 GET /api/orders/00000000 status=200 bytes=00000 took=000ms\n";

/// Which line was written when.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    /// Milliseconds since 1970.
    begin: i64,
    lines: u64,
}

impl History {
    /// So many MiB that end now.
    pub(super) fn new(mib: u64) -> Self {
        let begin = Timestamp::now().as_millisecond() - SPAN;
        let lines = lines(mib);
        Self { begin, lines }
    }

    /// When a line was written.
    fn time(&self, line: u64) -> i64 {
        let share = i128::from(line) * i128::from(SPAN) / i128::from(self.lines.max(1));
        self.begin + i64::try_from(share).unwrap_or(SPAN)
    }

    /// The time when this share of the history had been written.
    pub(super) fn at(&self, percent: u8) -> i64 {
        self.begin + SPAN / 100 * i64::from(percent)
    }

    /// The number of the first [`RARE`] line from then on.
    pub(super) fn first_rare(&self, since: i64) -> u64 {
        let (mut low, mut high) = (0, self.lines);
        while low < high {
            let middle = low.midpoint(high);
            if self.time(middle) < since {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.next_multiple_of(EVERY)
    }

    /// All lines in one file.
    pub(super) fn plain(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        self.write(0..self.lines, &mut file)?;
        file.flush()?;
        Ok(())
    }

    /// All lines in files of 10 MiB that were rotated and compressed, and an empty current one. Returns how many.
    pub(super) fn rotated(&self, path: &Path) -> anyhow::Result<u64> {
        let files = self.lines.div_ceil(FILE);
        let workers = thread::available_parallelism()?.get() as u64;
        thread::scope(|scope| {
            let running: Vec<_> = (0..workers)
                .map(|worker| {
                    scope.spawn(move || {
                        let mine = (worker..files).step_by(usize::try_from(workers)?);
                        mine.into_iter().try_for_each(|file| self.compress(path, file, files))
                    })
                })
                .collect();
            let mut ended = running.into_iter().map(|worker| worker.join().ok());
            ended.try_for_each(|result| result.context("a thread panicked")?)
        })?;
        File::create(path)?;
        Ok(files)
    }

    /// Writes one file, the oldest being number 0, with the time of its last line.
    fn compress(&self, path: &Path, file: u64, files: u64) -> anyhow::Result<()> {
        let range = file * FILE..((file + 1) * FILE).min(self.lines);
        let last = u64::try_from(self.time(range.end - 1))?;
        let made = File::create(format!("{}.{}.gz", path.display(), files - file))?;
        // The encoder is slow with single lines.
        let mut text = BufWriter::with_capacity(1 << 18, GzEncoder::new(made, Compression::fast()));
        self.write(range, &mut text)?;
        let made = text.into_inner()?.finish()?;
        made.set_modified(UNIX_EPOCH + Duration::from_millis(last))?;
        Ok(())
    }

    fn write(&self, range: Range<u64>, to: &mut dyn Write) -> io::Result<()> {
        let mut line = *TEMPLATE;
        let mut second = i64::MIN;
        for number in range {
            let time = self.time(number);
            if time.div_euclid(1000) != second {
                second = time.div_euclid(1000);
                let moment = Timestamp::from_second(second).map_err(io::Error::other)?;
                line[..19].copy_from_slice(moment.strftime("%Y-%m-%dT%H:%M:%S").to_string().as_bytes());
            }
            digits(&mut line[20..23], time.rem_euclid(1000).unsigned_abs(), 10);
            digits(&mut line[30..40], number, 10);
            let noise = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
            digits(&mut line[57..65], noise, 16);
            let status = if number.is_multiple_of(EVERY) { b'5' } else { b'2' };
            line[73] = status;
            line[75] = if status == b'5' { b'3' } else { b'0' };
            digits(&mut line[83..88], noise >> 32, 10);
            digits(&mut line[94..97], noise >> 40, 10);
            to.write_all(&line)?;
        }
        Ok(())
    }
}

/// Takes the files of a folder out of the page cache.
pub(super) fn forget(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let file = File::open(entry?.path())?;
        // Only what is on the disk can be forgotten.
        file.sync_data()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// Writes the last digits of a number.
fn digits(to: &mut [u8], mut value: u64, base: u64) {
    for place in to.iter_mut().rev() {
        let digit = usize::try_from(value % base).unwrap_or_default();
        *place = b"0123456789abcdef"[digit];
        value /= base;
    }
}
