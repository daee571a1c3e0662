//! Fifty apps write numbered lines of every kind while everything that can happen to a log happens to it: rotation,
//! compression, `flush`, `reopen`, restarts, deaths of the daemon, of the keeper and of both, upgrades. Afterwards
//! every line is there once, whole and in order. The table says what was looked at.
//!
//! `CLMGR_FLOODS=10` makes it ten times as long.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{World, rest};
use crate::survival::{daemon, kill_daemon};

/// Bursts and trickles on both streams, in pieces that end anywhere. Told to end, it says its last words without a
/// newline and leaves a child that goes on writing.
const WRITER: &str = r#"
import os, random, signal, sys, time
who = os.environ['WHO'] + os.environ['CLMGR_SLOT']
marks = os.environ['MARKS'].split(',')[int(os.environ['CLMGR_SLOT'])]
big = 'BIG' in os.environ
ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(1))

def line(stream, n):
    if n % 97 == 5:
        return marks['oe'.index(stream)].encode()
    begin = ('%s%s:%d:' % (who, stream, n)).encode()
    if big and n % 4001 == 300:
        rest = b'L' * ((1 << 20) - len(begin) - 4)
    elif n % 89 == 7:
        rest = b''.join(b'%d%%\r' % k for k in range(0, 101, 10))
    elif n % 83 == 3:
        rest = b'\x00\xff\xfe\xc3(\xf0\x9f "\\'
    elif n % 79 == 11:
        rest = b'm' * 9000
    else:
        rest = b'x' * (n % 97)
    return begin + rest + b':end'

def put(fd, data):
    cut = random.randrange(len(data) + 1) if random.random() < 0.3 else len(data)
    for piece in (data[:cut], data[cut:]):
        while piece:
            piece = piece[os.write(fd, piece):]

def keep(name, text):
    with open(name + '.tmp', 'w') as f:
        f.write(text)
    os.rename(name + '.tmp', name)

try:
    n, life = map(int, open('at-' + who).read().split())
except FileNotFoundError:
    n, life = 0, 0
random.seed(who)
while not ending and not os.path.exists('enough'):
    burst = random.choice((1, 1, 5, 40, 40, 200, 800))
    keep('at-' + who, '%d %d' % (n + burst, life))
    for fd, stream in ((1, 'o'), (2, 'e')):
        put(fd, b''.join(line(stream, k) + b'\n' for k in range(n, n + burst)))
    n += burst
    time.sleep(random.choice((0.05, 0.1, 0.5)))
# The last words.
for fd, stream in ((1, 'o'), (2, 'e')):
    put(fd, line(stream, n))
n += 1
keep('at-' + who, '%d %d' % (n, life + 1))
if ending and os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    child = '%sg%d' % (who, life)
    # It begins after the end of the last words, as everything in one pipe that wants to be a line must.
    os.write(1, b'\n')
    for k in range(100):
        os.write(1, b'%s:%d:%s:end\n' % (child.encode(), k, b'y' * (k % 97)))
        keep('count-' + child, str(k + 1))
        time.sleep(0.005)
    os._exit(0)
if not ending:
    keep('done-' + who, str(n))
    while not ending:
        time.sleep(1)
os._exit(0)
"#;

/// A group of apps that are written alike.
struct Group {
    name: &'static str,
    apps: u32,
    instances: u32,
    settings: &'static str,
    framing: Framing,
    files: Files,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Raw,
    Stamped,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    /// One for each stream of each instance.
    Own,
    /// One for all instances and both streams.
    One,
    /// One for both streams of each instance, besides their own.
    Besides,
}

const GROUPS: [Group; 11] = [
    group("raw", 10, 1, "", Framing::Raw, Files::Own),
    group(
        "timed",
        4,
        1,
        "log_rotate = { size = \"1G\", every = \"2s\", keep = 10000, total = \"100G\", compress = true }",
        Framing::Raw,
        Files::Own,
    ),
    group("stamped", 7, 1, "time = true", Framing::Stamped, Files::Own),
    group("json", 7, 1, "log_type = \"json\"", Framing::Json, Files::Own),
    group(
        "merged",
        3,
        2,
        "merge_logs = true\nlog_date_format = \"HH:mm:ss\"",
        Framing::Stamped,
        Files::One,
    ),
    group("mixed", 2, 2, "merge_logs = true", Framing::Raw, Files::One),
    group("both", 4, 1, "", Framing::Raw, Files::Besides),
    group("flushed", 2, 1, "", Framing::Raw, Files::Own),
    group(
        "moved",
        2,
        1,
        "log_rotate = { size = \"1G\" }",
        Framing::Raw,
        Files::Own,
    ),
    group("restarted", 2, 1, "", Framing::Raw, Files::Own),
    group("replaced", 2, 1, "log_type = \"json\"", Framing::Json, Files::Own),
];

const fn group(
    name: &'static str,
    apps: u32,
    instances: u32,
    settings: &'static str,
    framing: Framing,
    files: Files,
) -> Group {
    Group {
        name,
        apps,
        instances,
        settings,
        framing,
        files,
    }
}

impl Group {
    fn apps(&self) -> impl Iterator<Item = String> {
        (0..self.apps).map(|number| format!("{}{number}x", self.name))
    }

    /// Its part of the ecosystem file.
    fn config(&self) -> String {
        let mut text = String::new();
        for (number, app) in self.apps().enumerate() {
            let big = if number == 0 { ", BIG = \"1\"" } else { "" };
            let marks = "oe,ab,cd";
            let _ = writeln!(
                text,
                "[[apps]]\nname = \"{app}\"\nenv = {{ WHO = \"{app}\", MARKS = \"{marks}\"{big} }}\ninstances = {}\n{}",
                self.instances, self.settings
            );
            match self.files {
                Files::Own => {}
                Files::One => text.push_str(&format!("out_file = \"{app}.log\"\nerror_file = \"{app}.log\"\n")),
                Files::Besides => text.push_str(&format!("log_file = \"{app}.log\"\n")),
            }
        }
        text
    }

    /// The logs of one app, each with those who write to it.
    fn logs(&self, app: &str) -> Vec<(String, Vec<String>)> {
        let slots = || 0..self.instances;
        let own = |slot: u32| {
            ["out", "err"].map(|stream| {
                let who = format!("{app}{slot}{}", &stream[..1]);
                (format!("home/logs/{app}-{slot}-{stream}.log"), vec![who])
            })
        };
        let all = slots()
            .flat_map(|slot| ["o", "e"].map(|stream| format!("{app}{slot}{stream}")))
            .collect();
        let one = (format!("{app}.log"), all);
        match self.files {
            Files::Own => slots().flat_map(own).collect(),
            Files::One => vec![one],
            Files::Besides => slots().flat_map(own).chain([one]).collect(),
        }
    }
}

/// What `line` of the program above says.
fn expected(who: &str, stream: char, slot: usize, number: u64, big: bool) -> Vec<u8> {
    if number % 97 == 5 {
        let marks = ["oe", "ab", "cd"][slot];
        return vec![marks.as_bytes()[usize::from(stream == 'e')]];
    }
    let begin = format!("{who}{stream}:{number}:");
    let rest = if big && number % 4001 == 300 {
        vec![b'L'; (1 << 20) - begin.len() - 4]
    } else if number % 89 == 7 {
        (0..=100)
            .step_by(10)
            .map(|part| format!("{part}%\r"))
            .collect::<String>()
            .into_bytes()
    } else if number % 83 == 3 {
        b"\x00\xff\xfe\xc3(\xf0\x9f \"\\".to_vec()
    } else if number % 79 == 11 {
        vec![b'm'; 9000]
    } else {
        vec![b'x'; usize::try_from(number % 97).unwrap()]
    };
    [begin.as_bytes(), &rest, b":end"].concat()
}

/// What was found of one writer, or of a group.
#[derive(Clone, Debug, Default)]
struct Found {
    written: u64,
    found: u64,
    lost: u64,
    doubled: u64,
    torn: u64,
}

impl Found {
    fn add(&mut self, other: &Self) {
        self.written += other.written;
        self.found += other.found;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.torn += other.torn;
    }
}

/// Reads one log with its rotated files.
struct Reader<'a> {
    world: &'a World,
    framing: Framing,
    big: bool,
    /// Lines before this may have been emptied away.
    flushed: u64,
    next: BTreeMap<String, u64>,
    sum: Found,
    told: Vec<String>,
}

impl Reader<'_> {
    fn wrong(&mut self, what: &str, line: &[u8]) {
        if self.told.len() < 5 {
            let shown = line.get(..200).unwrap_or(line);
            self.told.push(format!(
                "{what}: {} bytes, {:?}",
                line.len(),
                String::from_utf8_lossy(shown)
            ));
        }
    }

    fn line(&mut self, line: &[u8]) {
        let said = match self.framing {
            Framing::Raw => line.to_vec(),
            Framing::Stamped => match memchr::memchr(b' ', line) {
                Some(at) => line[at + 1..].to_vec(),
                None => {
                    self.sum.torn += 1;
                    return self.wrong("no stamp", line);
                }
            },
            Framing::Json => match serde_json::from_slice::<Value>(line) {
                Ok(record) => record["message"].as_str().unwrap_or_default().as_bytes().to_vec(),
                Err(_) => {
                    self.sum.torn += 1;
                    return self.wrong("no record", line);
                }
            },
        };
        // The child's newline after the last words.
        if said.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&said).into_owned();
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        if let [who, number, rest] = parts[..]
            && let Ok(number) = number.parse::<u64>()
        {
            if who.contains("x0g") {
                let good = format!("{}:end", "y".repeat(usize::try_from(number % 97).unwrap()));
                let next = *self.next.entry(who.to_owned()).or_default();
                return self.judge(who, number, next, rest == good, &said);
            }
            if let Some(next) = self.next.get(who).copied() {
                let next = if next == 0 && number <= self.flushed {
                    number
                } else {
                    next
                };
                let good = self.says(who, number);
                return self.judge(who, number, next, good == said, &said);
            }
        }
        // One byte: it is whose mark it is.
        let whose = self.next.iter().find(|(who, next)| {
            let near = (**next..).find(|number| number % 97 == 5).unwrap_or_default();
            said.len() == 1 && !who.contains("x0g") && self.says(who, near) == said
        });
        let Some((who, next)) = whose.map(|(who, next)| (who.clone(), *next)) else {
            self.sum.torn += 1;
            return self.wrong("nobody's", &said);
        };
        if next == 0 && self.flushed > 0 {
            // Whichever it is: the next one tells.
            return;
        }
        let number = if next % 97 == 6 {
            next - 1
        } else {
            (next..).find(|number| number % 97 == 5).unwrap_or_default()
        };
        self.judge(&who, number, next, true, &said);
    }

    /// As it stands in the log.
    fn says(&self, who: &str, number: u64) -> Vec<u8> {
        let (rest, stream) = who.split_at(who.len() - 1);
        let slot = usize::from(rest.as_bytes()[rest.len() - 1] - b'0');
        let bytes = expected(rest, stream.chars().next().unwrap(), slot, number, self.big);
        match self.framing {
            Framing::Json => String::from_utf8_lossy(&bytes).into_owned().into_bytes(),
            Framing::Raw | Framing::Stamped => bytes,
        }
    }

    fn judge(&mut self, who: &str, number: u64, next: u64, whole: bool, said: &[u8]) {
        if !whole {
            self.sum.torn += 1;
            self.wrong("torn", said);
        } else if number < next {
            self.sum.doubled += 1;
            self.wrong(&format!("after {next}, again"), said);
            return;
        } else {
            self.sum.found += 1;
        }
        if number > next {
            self.sum.lost += number - next;
            self.wrong(&format!("instead of {next}"), said);
        }
        self.next.insert(who.to_owned(), number + 1);
    }

    fn end(&mut self) {
        for (who, next) in self.next.clone() {
            let name = match who.split_once("x0g") {
                Some(_) => format!("count-{who}"),
                None => format!("at-{}", &who[..who.len() - 1]),
            };
            let text = self.world.text(&name);
            let count: u64 = text
                .split(' ')
                .next()
                .and_then(|count| count.parse().ok())
                .unwrap_or_default();
            self.sum.written += count;
            if count > next {
                self.sum.lost += count - next;
                self.wrong(
                    &format!("{who}: {count} were written, the last one found is {next} - 1"),
                    b"",
                );
            }
        }
    }
}

/// The bytes of a log with its rotated files, or those that another program renamed, oldest first.
fn history(path: &Path) -> Vec<u8> {
    let mut parts = vec![std::fs::read(path).unwrap_or_default()];
    for number in 1.. {
        let name = |end: &str| format!("{}.{number}{end}", path.display());
        let mut bytes = Vec::new();
        if let Ok(plain) = std::fs::read(name("")) {
            bytes = plain;
        } else if let Ok(file) = std::fs::File::open(name(".gz")) {
            flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        } else {
            break;
        }
        parts.push(bytes);
    }
    parts.reverse();
    let moved = (0..).map_while(|number| std::fs::read(moved(path, number)).ok());
    moved.chain(parts).collect::<Vec<_>>().concat()
}

/// The name that another program gives to a log.
fn moved(path: &Path, number: usize) -> PathBuf {
    PathBuf::from(format!("{}.moved-{number}", path.display()))
}

/// Reads all logs; the table, and what is wrong.
fn table(world: &World, flushed: &BTreeMap<String, u64>) -> (String, Vec<String>) {
    let mut text = format!(
        "{:<12} {:>6} {:>10} {:>10} {:>6} {:>8} {:>6}\n",
        "group", "logs", "written", "found", "lost", "doubled", "torn"
    );
    let mut wrong = Vec::new();
    for group in &GROUPS {
        let mut sum = Found::default();
        let mut count = 0;
        for (number, app) in group.apps().enumerate() {
            for (log, writers) in group.logs(&app) {
                let mut reader = Reader {
                    world,
                    framing: group.framing,
                    big: number == 0,
                    flushed: flushed.get(&app).copied().unwrap_or_default(),
                    next: writers.into_iter().map(|who| (who, 0)).collect(),
                    sum: Found::default(),
                    told: Vec::new(),
                };
                let all = history(&world.path().join(&log));
                let mut lines: Vec<&[u8]> = all.split(|byte| *byte == b'\n').collect();
                if lines.last().is_some_and(|last| last.is_empty()) {
                    lines.pop();
                }
                lines.iter().for_each(|line| reader.line(line));
                reader.end();
                sum.add(&reader.sum);
                count += 1;
                wrong.extend(reader.told.iter().map(|told| format!("{log}: {told}")));
            }
        }
        let _ = writeln!(
            text,
            "{:<12} {count:>6} {:>10} {:>10} {:>6} {:>8} {:>6}",
            group.name, sum.written, sum.found, sum.lost, sum.doubled, sum.torn
        );
        if sum.lost + sum.doubled + sum.torn > 0 || sum.found == 0 {
            wrong.push(format!("{}: {sum:?}", group.name));
        }
    }
    (text, wrong)
}

/// How far a writer is, at least; more than a burst later nothing from before is left to be written.
fn at(world: &World, app: &str) -> u64 {
    let text = world.text(&format!("at-{app}0"));
    text.split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

#[test]
fn every_line_of_fifty_apps_is_there_once_whatever_happens() {
    let times: usize = std::env::var("CLMGR_FLOODS")
        .ok()
        .and_then(|times| times.parse().ok())
        .unwrap_or(1);
    let world = World::new();
    world.file("w.py", WRITER);
    let mut text = String::from(
        "[defaults]\ncmd = \"python3 w.py\"\nkill_timeout = \"60s\"\nmin_uptime = \"10ms\"\n\
         log_rotate = { size = \"300K\", keep = 10000, total = \"100G\", compress = true }\n",
    );
    GROUPS.iter().for_each(|group| text.push_str(&group.config()));
    world.file("ecosystem.toml", &text);
    world.run(&["start"]).ok();
    let build = crate::upgrade::other(&world);
    let builds = [build.to_str().unwrap(), env!("CARGO_BIN_EXE_clmgr")];
    let back = |what: &str| world.until(what, || world.run(&["status"]).code == 0);
    let mut flushed = BTreeMap::new();
    let reopens = world.run(&["reopen", "--help"]).code == 0;
    let mut random = u64::from(std::process::id()) * 0x9e37_79b9;
    let mut pause = |most: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        rest((random >> 33) % most);
    };
    for round in 0..4 * times {
        for _ in 0..5 {
            world.until("a daemon", || daemon(&world).is_some());
            pause(300);
            daemon(&world).into_iter().for_each(|pid| {
                kill_daemon(&world, pid);
            });
        }
        back("the next daemon");
        for group in GROUPS
            .iter()
            .filter(|group| ["restarted", "replaced"].contains(&group.name))
        {
            for app in group.apps() {
                world.run(&["restart", &app]).ok();
            }
        }
        for app in ["flushed0x", "flushed1x"] {
            world.run(&["flush", app]).ok();
            // A burst that is under way was counted before it began.
            flushed.insert(app.to_owned(), at(&world, app));
        }
        if reopens {
            for (log, _) in GROUPS
                .iter()
                .filter(|group| group.name == "moved")
                .flat_map(|group| group.apps().flat_map(|app| group.logs(&app)))
            {
                let path = world.path().join(log);
                let number = (0..).find(|number| !moved(&path, *number).exists()).unwrap();
                std::fs::rename(&path, moved(&path, number)).unwrap();
            }
            world.run(&["reopen"]).ok();
        }
        let (manager, keeper) = world.manager();
        match round % 4 {
            0 => {
                world.kill9(keeper);
                world.until("another keeper", || {
                    let ping = world.run(&["ping", "--json"]);
                    ping.code == 0 && ping.json()["keeper_pid"] != keeper
                });
            }
            1 | 3 => {
                for build in builds {
                    world.run(&["upgrade", "--to", build]).ok();
                }
            }
            _ => {
                world.kill_manager((manager, keeper));
                back("the next manager");
            }
        }
        pause(500);
    }
    world.file("enough", "");
    let instances = |group: &Group| {
        group
            .apps()
            .flat_map(|app| (0..group.instances).map(move |slot| format!("{app}{slot}")))
            .collect::<Vec<_>>()
    };
    let all: Vec<String> = GROUPS.iter().flat_map(instances).collect();
    assert_eq!(all.len(), 50);
    world.until("all writers are done", || {
        all.iter().all(|who| world.path().join(format!("done-{who}")).exists())
    });
    world.run(&["stop", "all"]).ok();
    world.run(&["kill"]).ok();
    let (table, wrong) = table(&world, &flushed);
    let _shown = write!(std::io::stderr(), "{table}");
    assert!(wrong.is_empty(), "{table}{}", wrong.join("\n"));
}
