//! The pump's thread is ended at each of its steps, as `kill -9` would end it: every line is there once, in order.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::logs::journal::Journal;
use crate::logs::moment;
use crate::logs::pump::Pump;
use crate::logs::rotate::existing;
use crate::logs::sink::{Origin, Sink, StreamKey};
use crate::logs::target::{Sockets, Wanted};
use crate::model::logspec::{LogFormat, Overflow, Rotation, Stream};
use crate::model::names::RunId;
use crate::model::size::Bytes;
use crate::model::time::WallTime;

const DEADLINE: Duration = Duration::from_secs(60);
const NEVER: u64 = u64::MAX;

/// How two streams of one run are written.
#[derive(Clone)]
struct Mode {
    name: &'static str,
    format: LogFormat,
    /// Both into one file.
    shared: bool,
    /// And into another.
    log_file: bool,
    limit: u64,
    /// Whether the journal is in memory, in the first life and in those that follow.
    mapped: [bool; 2],
    /// And to journald; whose socket is read at once, or at the end.
    target: Option<Reads>,
    /// Into files.
    files: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Reads {
    AtOnce,
    AtTheEnd,
}

/// An app: its ends of two pipes, and what the keeper holds of them.
struct App {
    write: [File; 2],
    read: [File; 2],
}

impl App {
    fn new() -> Self {
        let [(r1, w1), (r2, w2)] = [(); 2].map(|()| std::io::pipe().unwrap());
        let file = |fd: OwnedFd| File::from(fd);
        Self {
            write: [file(w1.into()), file(w2.into())],
            read: [file(r1.into()), file(r2.into())],
        }
    }
}

fn sink(dir: &Path, mode: &Mode, stream: Stream, adopted: bool) -> Sink {
    Sink {
        path: dir.join(if mode.shared { "one" } else { stream.as_str() }),
        log_file: mode.log_file.then(|| dir.join("both")),
        shared: mode.shared,
        adopted,
        format: mode.format.clone(),
        zone: None,
        rotate: Rotation {
            size: Some(Bytes(mode.limit)),
            every: None,
            keep: 10_000,
            total: None,
            compress: false,
            ..Rotation::default()
        },
        overflow: Overflow::Block,
        console: None,
        disabled: !mode.files,
        targets: Wanted {
            journald: mode.target.is_some(),
            syslog: None,
        },
        private_folder: true,
        origin: Arc::new(Origin {
            app: "api".parse().unwrap(),
            namespace: "default".parse().unwrap(),
            slot: 0,
            pid: 7,
        }),
    }
}

fn open_journal(dir: &Path, mapped: bool) -> std::io::Result<Journal> {
    // Small, so that a turn does not find room for all it reads.
    Journal::open_as(&dir.join("journal"), mapped.then_some(120))
}

/// One life of the pump. Its thread ends at this moment; true if it did.
struct Life(Pump);

impl Life {
    fn begin(dir: &Path, app: &App, mode: &Mode, adopted: bool, end: u64) -> Self {
        let journal = open_journal(dir, mode.mapped[usize::from(adopted)]).unwrap();
        let pump = Pump::start(|| WallTime(0), Box::new(|_| {}), Some(journal)).unwrap();
        pump.sync(Box::new(move || moment::end_at(end)));
        if mode.target.is_some() {
            pump.targets(Sockets {
                journald: dir.join("socket"),
                ..Sockets::default()
            });
        }
        for (read, stream) in app.read.iter().zip([Stream::Out, Stream::Err]) {
            let pipe = OwnedFd::from(read.try_clone().unwrap());
            let key = StreamKey { run: RunId(1), stream };
            pump.attach(key, pipe, sink(dir, mode, stream, adopted));
        }
        Self(pump)
    }

    /// All that is in the pipes has been dealt with; false if the thread has ended instead.
    fn deals_with_all(&self, app: &App) -> bool {
        // Commands may overtake what has just been written.
        while self.lives() {
            if app
                .read
                .iter()
                .all(|pipe| rustix::io::ioctl_fionread(pipe).unwrap() == 0)
            {
                return self.lives();
            }
        }
        false
    }

    fn lives(&self) -> bool {
        let (send, done) = channel();
        self.0.sync(Box::new(move || send.send(()).unwrap()));
        match done.recv_timeout(DEADLINE) {
            Ok(()) => true,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => false,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        }
    }
}

/// What the two streams write, piece by piece.
fn script() -> Vec<(usize, String)> {
    let lines = |from: usize, to: usize| (from..to).map(|n| format!("line {n}\n")).collect::<String>();
    vec![
        (0, format!("{}line 2", lines(0, 2))),
        (1, "li".into()),
        (0, format!("\n{}li", lines(3, 6))),
        (1, "ne ".into()),
        (0, "ne 6".into()),
        (1, format!("0\n{}", lines(1, 4))),
        (0, format!("\n{}", lines(7, 60))),
        (1, format!("{}line", lines(4, 40))),
        (0, lines(60, 62)),
        (1, format!(" 40\n{}", lines(41, 44))),
        (0, lines(62, 63)),
    ]
}

/// The lines of a log with its rotated files, as the app said them; those of `stream` only, where it tells.
fn said(path: &Path) -> Vec<String> {
    let mut text = String::new();
    for number in (1..1000).rev() {
        if let Some((name, ..)) = existing(path, number) {
            text += &fs::read_to_string(name).unwrap();
            assert!(text.ends_with('\n'), "rotation cuts no line");
        }
    }
    text += &fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "an unfinished line: {text:?}");
    let strip = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
        Ok(value) => value["message"].as_str().unwrap().to_owned(),
        Err(_) => line.strip_prefix("T ").unwrap_or(line).to_owned(),
    };
    text.lines().map(strip).collect()
}

/// Runs the script with a kill at this moment, and another one at that moment of the next life; false if the script
/// was over before the first. Checks that every line is there once.
fn killed_at(mode: &Mode, first: u64, second: u64, recovery: u64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut app = App::new();
    let mut script = script().into_iter();
    let mut socket = mode
        .target
        .map(|_| UnixDatagram::bind(dir.path().join("socket")).unwrap());
    let at_once = mode.target == Some(Reads::AtOnce);
    let mut heard = socket.take_if(|_| at_once).map(listen);
    let mut life = Some(Life::begin(dir.path(), &app, mode, false, first));
    let mut kills = 0;
    let mut play = |life: &Life, app: &mut App| {
        while life.deals_with_all(app) {
            let Some((stream, text)) = script.next() else {
                return true;
            };
            app.write[stream].write_all(text.as_bytes()).unwrap();
        }
        false
    };
    while !play(life.as_ref().unwrap(), &mut app) {
        drop(life.take());
        kills += 1;
        // Killed again while it recovers.
        moment::end_at(recovery);
        let _killed = catch_unwind(AssertUnwindSafe(|| open_journal(dir.path(), mode.mapped[1]).map(drop)));
        moment::end_at(NEVER);
        let next = if kills == 1 { second } else { NEVER };
        life = Some(Life::begin(dir.path(), &app, mode, true, next));
    }
    let mut life = life.unwrap();
    life.0.detach(RunId(1));
    // What waits for a target goes on after that.
    life.0.sync(Box::new(|| moment::end_at(NEVER)));
    if !life.lives() {
        // Killed by the last words.
        drop(life);
        life = Life::begin(dir.path(), &app, mode, true, NEVER);
        life.0.detach(RunId(1));
        assert!(life.lives());
        kills += 1;
    }
    let context = format!(
        "{}, {:?}: killed at {first}, {second} and {recovery}",
        mode.name, mode.mapped
    );
    let counts = [63, 44];
    let expected = |count: usize| (0..count).map(|n| format!("line {n}")).collect::<Vec<_>>();
    let merged = |path: &Path| {
        // Both streams say the same numbers.
        let mut all = said(path);
        let mut both = [expected(63), expected(44)].concat();
        all.sort();
        both.sort();
        assert_eq!(all, both, "{context}");
    };
    heard = heard.or_else(|| socket.map(listen));
    if let Some(heard) = heard {
        check_heard(&heard, counts, &context);
    }
    if mode.files && mode.shared {
        merged(&dir.path().join("one"));
    } else if mode.files {
        for (stream, count) in [Stream::Out, Stream::Err].into_iter().zip(counts) {
            assert_eq!(said(&dir.path().join(stream.as_str())), expected(count), "{context}");
        }
    }
    if mode.log_file {
        merged(&dir.path().join("both"));
    }
    let left = fs::read_dir(dir.path().join("journal")).unwrap().count();
    assert_eq!(
        left,
        2 + usize::from(mode.target.is_some()) + usize::from(mode.mapped[usize::from(kills > 0)]),
        "{context}: no held file is left"
    );
    kills > 0
}

/// The texts that arrive at a socket, each with its stream.
fn listen(socket: UnixDatagram) -> Receiver<(usize, String)> {
    let (send, heard) = channel();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count) = socket.recv(&mut bytes) {
            let entry = String::from_utf8_lossy(&bytes[..count]).into_owned();
            let stream = usize::from(entry.contains("CLMGR_STREAM=err\n"));
            let text = entry.rsplit('\0').next().unwrap().trim_end().to_owned();
            if send.send((stream, text)).is_err() {
                break;
            }
        }
    });
    heard
}

/// Every line was heard at least once, in order.
fn check_heard(heard: &Receiver<(usize, String)>, counts: [usize; 2], context: &str) {
    let mut next = [0; 2];
    while next != counts {
        let heard = heard.recv_timeout(DEADLINE);
        let (stream, text) = heard.unwrap_or_else(|_| panic!("{context}: {next:?}"));
        let number = text.strip_prefix("line ").and_then(|n| n.parse().ok());
        let number: usize = number.unwrap_or_else(|| panic!("{context}: {text}"));
        assert!(number <= next[stream], "{context}: {text} after {next:?}");
        next[stream] = next[stream].max(number + 1);
    }
}

fn kill_everywhere(mode: &Mode) {
    // The last two: a journal that the next process finds in the other form.
    let forms = [[true; 2], [false; 2], [true, false], [false, true]];
    let count = match mode.name {
        "stamped" => forms.len(),
        // Its peer takes its time.
        "target" => 1,
        _ => 2,
    };
    for mapped in forms.into_iter().take(count) {
        let mode = &Mode { mapped, ..mode.clone() };
        let mut first = 0;
        while killed_at(mode, first, NEVER, NEVER) {
            killed_at(mode, first, first % 11, first % 5);
            first += 1;
        }
        assert!(first > 20, "{}: {first} moments only", mode.name);
    }
}

fn stamped() -> LogFormat {
    LogFormat::Stamped("[T]".into())
}

#[test]
fn stamped_lines_survive_a_kill_at_any_moment() {
    kill_everywhere(&Mode {
        name: "stamped",
        format: stamped(),
        shared: false,
        log_file: false,
        limit: 150,
        target: None,
        files: true,
        mapped: [true; 2],
    });
}

#[test]
fn json_records_survive_a_kill_at_any_moment() {
    kill_everywhere(&Mode {
        name: "json",
        format: LogFormat::Json,
        shared: false,
        log_file: false,
        limit: 3000,
        target: None,
        files: true,
        mapped: [true; 2],
    });
}

#[test]
fn merged_streams_survive_a_kill_at_any_moment() {
    for (format, log_file) in [(LogFormat::Raw, false), (stamped(), true), (LogFormat::Json, true)] {
        kill_everywhere(&Mode {
            name: "merged",
            format,
            shared: true,
            log_file,
            limit: 2000,
            target: None,
            files: true,
            mapped: [true; 2],
        });
    }
}

#[test]
fn raw_lines_survive_a_kill_at_any_moment() {
    kill_everywhere(&Mode {
        name: "raw",
        format: LogFormat::Raw,
        shared: false,
        log_file: false,
        limit: 150,
        target: None,
        files: true,
        mapped: [true; 2],
    });
}

#[test]
fn lines_for_a_target_survive_a_kill_at_any_moment() {
    for (target, files) in [
        (Reads::AtOnce, false),
        (Reads::AtTheEnd, false),
        (Reads::AtTheEnd, true),
    ] {
        kill_everywhere(&Mode {
            name: "target",
            format: stamped(),
            shared: false,
            log_file: false,
            limit: 2000,
            target: Some(target),
            files,
            mapped: [true; 2],
        });
    }
}
