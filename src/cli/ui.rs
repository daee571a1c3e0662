//! The only writer to the terminal.
//!
//! Standard output is buffered and flushed at the end (or by [`Ui::flush`] where somebody watches). A
//! closed pipe comes back as [`Failure::closed_pipe`], which ends the command quietly. Colours are written
//! only to a terminal, and never with `NO_COLOR`.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::cli::failure::Failure;

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

type Sink = AutoStream<Box<dyn Write + Send>>;

/// Standard output and standard error.
pub struct Ui {
    out: BufWriter<Sink>,
    err: Sink,
    colour: bool,
    tty: bool,
    width: Option<usize>,
    /// Lines of [`Ui::progress`] that are on the screen.
    shown: Vec<String>,
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ui")
            .field("colour", &self.colour)
            .field("tty", &self.tty)
            .finish_non_exhaustive()
    }
}

/// Red, for errors.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Cyan, for hints.
pub const HINT: Style = AnsiColor::Cyan.on_default();
/// For what is less important.
pub const DIM: Style = Style::new().dimmed();
/// For headings.
pub const BOLD: Style = Style::new().bold();

impl Ui {
    /// The process's own.
    #[must_use]
    pub fn stdio(colour: Colour) -> Self {
        let stdout = io::stdout();
        let tty = stdout.is_terminal();
        let out = choice(colour, &stdout);
        let err = choice(colour, &io::stderr());
        Self {
            out: BufWriter::new(AutoStream::new(Box::new(stdout), out)),
            err: AutoStream::new(Box::new(io::stderr()), err),
            colour: out != ColorChoice::Never,
            tty,
            width: None,
            shown: Vec::new(),
        }
    }

    /// Two writers without colours, for tests and for what runs inside another program.
    #[must_use]
    pub fn plain(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self {
            out: BufWriter::new(AutoStream::new(out, ColorChoice::Never)),
            err: AutoStream::new(err, ColorChoice::Never),
            colour: false,
            tty: false,
            width: None,
            shown: Vec::new(),
        }
    }

    /// Somebody looks at standard output.
    #[must_use]
    pub const fn is_tty(&self) -> bool {
        self.tty
    }

    /// Colours are shown.
    #[must_use]
    pub const fn is_coloured(&self) -> bool {
        self.colour
    }

    /// Columns of the terminal; `COLUMNS` or 120 where there is none.
    pub fn width(&mut self) -> usize {
        *self.width.get_or_insert_with(|| {
            let told = || std::env::var("COLUMNS").ok()?.parse().ok();
            let asked = || terminal_columns(&io::stdout());
            asked().or_else(told).filter(|columns| *columns > 0).unwrap_or(120)
        })
    }

    /// One line (or several) to standard output.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(Failure::from)
    }

    /// Bytes to standard output as they are.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(Failure::from)
    }

    /// A value as one line of JSON.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        self.bytes(b"\n")
    }

    /// What was written so far reaches the reader.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::from)
    }

    /// Fails if standard output is a pipe that nobody reads any more; for commands that wait for long
    /// before they write again.
    ///
    /// # Errors
    /// [`Failure::closed_pipe`].
    pub fn check_reader(&self) -> Result<(), Failure> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let stdout = io::stdout();
        let mut one = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let polled = poll(&mut one, PollTimeout::ZERO);
        let gone = one[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLERR));
        if polled.is_ok() && gone {
            Err(Failure::closed_pipe())
        } else {
            Ok(())
        }
    }

    /// `error: …` on standard error.
    pub fn error(&mut self, text: &str) {
        self.label(BAD, "error", text);
    }

    /// `warning: …` on standard error.
    pub fn warning(&mut self, text: &str) {
        self.label(AnsiColor::Yellow.on_default().bold(), "warning", text);
    }

    /// `hint: …` on standard error.
    pub fn hint(&mut self, text: &str) {
        self.label(HINT, "hint", text);
    }

    /// A line on standard error. Nobody can be told if that fails.
    pub fn note(&mut self, text: &str) {
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{text}");
    }

    /// Lines at the end of the terminal of standard error, in place of those shown before; for a terminal only. Each is
    /// cut to the width of the screen, so that it is one line there.
    pub fn progress(&mut self, lines: &[String]) {
        if lines == self.shown {
            return;
        }
        let known = terminal_columns(&io::stderr()).filter(|columns| *columns > 1);
        let columns = known.unwrap_or(80) - 1;
        let mut text = String::new();
        if !self.shown.is_empty() {
            // Up to the first of them, and everything from there on away.
            text.push_str(&format!("\x1b[{}A\x1b[J", self.shown.len()));
        }
        for line in lines {
            let plain = anstream::adapter::strip_str(line).to_string();
            let fits = plain.chars().count() <= columns;
            if fits && self.colour {
                text.push_str(line);
            } else {
                text.extend(plain.chars().take(columns));
            }
            text.push('\n');
        }
        self.shown = lines.to_vec();
        // As it is: what moves the cursor is not a colour. Nobody can be told if it fails.
        let _untold = io::stderr().write_all(text.as_bytes());
    }

    fn label(&mut self, style: Style, label: &str, text: &str) {
        self.note(&format!("{style}{label}:{style:#} {text}"));
    }
}

fn choice(colour: Colour, stream: &impl anstream::stream::RawStream) -> ColorChoice {
    match colour {
        Colour::Auto => AutoStream::choice(stream),
        Colour::Always => ColorChoice::Always,
        Colour::Never => ColorChoice::Never,
    }
}

fn terminal_columns(stream: &impl std::os::fd::AsFd) -> Option<usize> {
    rustix::termios::tcgetwinsize(stream.as_fd())
        .ok()
        .map(|size| usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::{BAD, Ui};
    use crate::cli::{exit, failure::Failure};
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_end() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut ui = Ui::plain(Box::new(writer), Box::new(io::sink()));
        let big = "x".repeat(1 << 20);
        let failure = ui.line(big).and_then(|()| ui.flush()).unwrap_err();
        assert_eq!((failure.code, failure.is_silent()), (exit::OK, true));
        let _ = ui.line("again");
        drop(ui);
    }

    #[test]
    fn a_full_disk_is_told() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut ui = Ui::plain(Box::new(full), Box::new(io::sink()));
        let failure: Failure = ui.line("text").and_then(|()| ui.flush()).unwrap_err();
        assert_eq!(failure.code, exit::FAILED);
        assert!(failure.message.contains("cannot write the output"), "{failure}");
    }

    #[test]
    fn colours_never_reach_a_plain_stream() {
        let out = Shared::default();
        let mut ui = Ui::plain(Box::new(out.clone()), Box::new(io::sink()));
        ui.line(format_args!("{BAD}red{BAD:#}")).unwrap();
        ui.flush().unwrap();
        assert_eq!(*out.0.lock().unwrap(), b"red\n");
    }
}
