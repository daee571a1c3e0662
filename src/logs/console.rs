//! App output on the runtime's standard streams, beside the files or instead of them.
//!
//! Whole lines only. What the reader does not take waits here, one chunk of it; meanwhile the apps' pipes are not
//! read, so a stalled reader slows the apps down and nobody else. A reader that is gone is given up: output goes on
//! into the files.

use std::io;

use memchr::{memchr, memrchr};

use crate::model::duration::Millis;
use crate::os::console::{ATOMIC, Console};

/// What may wait for the reader, in bytes. Reached only by what dead processes leave in their pipes.
const MOST: usize = 1 << 20;
/// Memory that is kept between two chunks, in bytes.
const KEPT: usize = 64 << 10;
/// How long the last words may take, when the program ends.
const FAREWELL: Millis = Millis(1_000);

/// One standard stream.
#[derive(Debug)]
pub struct Outlet {
    console: Console,
    pending: Vec<u8>,
    written: usize,
    gone: bool,
    lost: u64,
    /// It is in the pump's epoll set.
    pub(super) armed: bool,
    /// Streams wait for its reader.
    pub(super) awaited: bool,
    /// For people, not told yet.
    news: Option<String>,
}

impl Outlet {
    /// Writes to this.
    #[must_use]
    pub const fn new(console: Console) -> Self {
        Self {
            console,
            pending: Vec::new(),
            written: 0,
            gone: false,
            lost: 0,
            armed: false,
            awaited: false,
            news: None,
        }
    }

    /// The descriptor to wait for.
    #[must_use]
    pub const fn console(&self) -> &Console {
        &self.console
    }

    /// The reader has not taken everything.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.written < self.pending.len()
    }

    /// What is to be told to people, once.
    pub fn take_news(&mut self) -> Option<String> {
        self.news.take()
    }

    /// Writes lines, each after `prefix`. A last line without its end gets one.
    pub fn push(&mut self, prefix: &[u8], lines: &[u8]) {
        if self.gone {
            return;
        }
        if self.pending.len() - self.written > MOST {
            self.lose(lines.len());
            return;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let end = if prefix.is_empty() {
                rest.len()
            } else {
                memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
            };
            let (line, after) = rest.split_at(end);
            self.pending.extend_from_slice(prefix);
            self.pending.extend_from_slice(line);
            rest = after;
        }
        if self.pending.last().is_some_and(|last| *last != b'\n') {
            self.pending.push(b'\n');
        }
        self.flush();
    }

    /// These lines are not written, because the app is not to wait.
    pub fn lose(&mut self, bytes: usize) {
        self.lost += bytes as u64;
    }

    /// Writes what the reader takes now.
    pub fn flush(&mut self) {
        while self.is_stalled() {
            let rest = self.pending.get(self.written..).unwrap_or_default();
            match self.console.write(piece(rest, self.console.is_pipe())) {
                Ok(0) => return,
                Ok(count) => self.written += count,
                Err(error) => return self.fail(&error),
            }
        }
        self.pending.clear();
        self.pending.shrink_to(KEPT);
        self.written = 0;
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.news = Some(format!("{lost} bytes of output were lost: nobody read them in time"));
        }
    }

    /// Waits a moment for a slow reader.
    pub fn farewell(&mut self) {
        self.flush();
        if self.is_stalled() {
            self.console.wait(FAREWELL);
            self.flush();
        }
    }

    fn fail(&mut self, error: &io::Error) {
        let left = self.pending.len() - self.written;
        self.pending = Vec::new();
        self.written = 0;
        if self.console.is_file() {
            self.lose(left);
            return;
        }
        self.gone = true;
        self.news = Some(format!(
            "a standard stream cannot be written any more ({error}); output goes on into the log files only"
        ));
    }
}

/// What to write at once. To a pipe: whole lines that fit in one indivisible write, so that no line is cut if this
/// program dies, or mixed with another writer's.
fn piece(rest: &[u8], pipe: bool) -> &[u8] {
    if !pipe {
        return rest;
    }
    let Some(head) = rest.get(..ATOMIC) else { return rest };
    let end = memrchr(b'\n', head)
        .or_else(|| memchr(b'\n', rest))
        .map_or(rest.len(), |at| at + 1);
    rest.get(..end).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::{Outlet, piece};
    use crate::os::console::Console;
    use crate::os::fds;
    use std::io::Read;

    #[test]
    fn lines_are_prefixed_and_ended() {
        let (reader, writer) = fds::pipe().unwrap();
        let mut outlet = Outlet::new(Console::new(writer));
        outlet.push(b"a:0 | ", b"one\n\ntwo");
        outlet.push(b"", b"raw\n");
        drop(outlet);
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "a:0 | one\na:0 | \na:0 | two\nraw\n");
    }

    #[test]
    fn a_stalled_reader_keeps_what_fits_and_counts_the_rest() {
        let (reader, writer) = fds::pipe().unwrap();
        let mut outlet = Outlet::new(Console::new(writer));
        let line = format!("{}\n", "x".repeat(999));
        let mut pushed = 0;
        while !outlet.is_stalled() {
            outlet.push(b"", line.as_bytes());
            pushed += 1;
        }
        for _ in 0..2000 {
            outlet.push(b"", line.as_bytes());
        }
        assert!(outlet.lost > 0 && outlet.take_news().is_none());
        let (sender, done) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut text = Vec::new();
            std::fs::File::from(reader).read_to_end(&mut text).unwrap();
            sender.send(()).unwrap();
            text
        });
        while outlet.is_stalled() {
            outlet.farewell();
        }
        let news = outlet.take_news().unwrap();
        let lost = outlet.lost;
        drop(outlet);
        done.recv().unwrap();
        let text = String::from_utf8(thread.join().unwrap()).unwrap();
        assert!(text.lines().all(|line| line.len() == 999));
        let missing = (2000 + pushed - text.lines().count()) * 1000;
        assert!(
            missing > 0 && lost == 0 && news.starts_with(&missing.to_string()),
            "{news}"
        );
    }

    #[test]
    fn a_reader_that_is_gone_is_given_up() {
        let (reader, writer) = fds::pipe().unwrap();
        let mut outlet = Outlet::new(Console::new(writer));
        drop(reader);
        outlet.push(b"", b"x\n");
        assert!(!outlet.is_stalled());
        assert!(outlet.take_news().unwrap().contains("Broken pipe"));
        outlet.push(b"", b"x\n");
        assert!(outlet.take_news().is_none());
    }

    #[test]
    fn pipes_get_whole_lines() {
        let lines = format!("{}\n{}\n{}", "a".repeat(3000), "b".repeat(3000), "c".repeat(3000));
        assert_eq!(piece(lines.as_bytes(), true).len(), 3001);
        assert_eq!(piece(lines.as_bytes(), false).len(), lines.len());
        let long = format!("{}\nx\n", "a".repeat(9000));
        assert_eq!(piece(long.as_bytes(), true).len(), 9001);
        assert_eq!(piece(b"short", true), b"short");
    }
}
