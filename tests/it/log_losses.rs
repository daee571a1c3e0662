//! What is lost of a log is counted to the line and to the byte, where it would have been: on a full disk, and in
//! `drop` mode on a disk that stands still while the app goes on.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::World;

/// Writes numbered lines: some now and then, many when the file `flood` is there, the last ones after that. Says how
/// many there were, and when the flood is over.
const WRITER: &str = "import os, sys, time
who = os.environ['WHO']
n = 0
def write(count):
    global n
    for _ in range(count // 100):
        for fd, stream in ((1, 'o'), (2, 'e')):
            text = b''.join(b'%s%s:%d:%s:end\\n' % (who.encode(), stream.encode(), k, b'x' * (k % 397)) for k in range(n, n + 100))
            # Pieces that end anywhere.
            cut = n % 4000
            for piece in (text[:cut], text[cut:]):
                while piece:
                    piece = piece[os.write(fd, piece):]
        n += 100
def say(name):
    with open(name + '.tmp-' + who, 'w') as f:
        f.write(str(n))
    os.rename(name + '.tmp-' + who, name + '-' + who)
while not os.path.exists('flood'):
    write(100)
    say('begun')
    time.sleep(0.05)
write(int(os.environ['FLOOD']))
say('flooded')
while not os.path.exists('enough'):
    write(100)
    time.sleep(0.05)
say('done')
time.sleep(1000)
";

/// One log of an app.
struct Log {
    file: String,
    /// In the order of the streams.
    writers: Vec<String>,
    /// Before each line.
    stamp: usize,
    json: bool,
}

fn log(file: &str, writers: &[&str], stamp: usize, json: bool) -> Log {
    Log {
        file: file.to_owned(),
        writers: writers.iter().map(|who| (*who).to_owned()).collect(),
        stamp,
        json,
    }
}

fn text(who: &str, number: u64) -> String {
    format!(
        "{who}:{number}:{}:end\n",
        "x".repeat(usize::try_from(number % 397).unwrap())
    )
}

/// Whole lines in order; the lines and bytes of each marker are those that are missing there. Returns how many lines
/// were lost. Of the bytes before each line, so many count as lost with it at most.
fn check(world: &World, log: &Log, why: &str, counted: usize) -> u64 {
    let all = std::fs::read_to_string(world.path().join(&log.file)).unwrap();
    let mut next = vec![0; log.writers.len()];
    // Lines and bytes that are missing, those that markers tell of.
    let (mut missing, mut told) = ((0, 0), (0, 0));
    let mut lines = 0;
    let name = &log.file;
    for line in all.split_inclusive('\n') {
        let said = if log.json {
            let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line:?}"));
            format!("{}\n", record["message"].as_str().unwrap())
        } else {
            line[log.stamp..].to_owned()
        };
        if let Some(marker) = said.strip_prefix("[clmgr: ") {
            assert!(marker.contains(why), "{name}: {marker}");
            let numbers: Vec<u64> = marker.split([' ', '(']).filter_map(|word| word.parse().ok()).collect();
            told = (told.0 + numbers[0], told.1 + numbers[1]);
            lines += numbers[0];
            continue;
        }
        let (who, rest) = said.split_once(':').unwrap_or_else(|| panic!("{name}: {said:?}"));
        let at = log.writers.iter().position(|writer| writer == who);
        let at = at.unwrap_or_else(|| panic!("{name}: nobody's: {said:?}"));
        let number: u64 = rest.split_once(':').unwrap().0.parse().unwrap();
        assert_eq!(said, text(who, number), "{name}: whole");
        assert!(
            number >= next[at],
            "{name}: in order and once: {number} after {}",
            next[at]
        );
        for lost in next[at]..number {
            missing = (
                missing.0 + 1,
                missing.1 + (log.stamp.min(counted) + text(who, lost).len()) as u64,
            );
        }
        next[at] = number + 1;
        if log.writers.len() == 1 {
            assert_eq!(missing.0, told.0, "{name}: lines before {number}");
            assert!(
                log.json || missing.1 == told.1,
                "{name}: bytes before {number}: {missing:?}, {told:?}"
            );
        }
    }
    let count: u64 = world.text(&format!("done-{}", &log.writers[0][..1])).parse().unwrap();
    for (who, next) in log.writers.iter().zip(next) {
        for lost in next..count {
            missing = (
                missing.0 + 1,
                missing.1 + (log.stamp.min(counted) + text(who, lost).len()) as u64,
            );
        }
    }
    assert_eq!(missing.0, told.0, "{name}: lines in all");
    assert!(
        log.json || missing.1 == told.1,
        "{name}: bytes in all: {missing:?}, {told:?}"
    );
    lines
}

fn done(world: &World, what: &str, apps: &str) {
    world.until(what, || {
        apps.chars()
            .all(|who| world.path().join(format!("{what}-{who}")).exists())
    });
}

#[test]
fn a_full_disk_loses_what_its_markers_say() {
    let world = World::new();
    let disk = world.path().join("disk");
    if !world.disk(&disk, 512) {
        return;
    }
    world.file("w.py", WRITER);
    world.file(
        "ecosystem.toml",
        "[defaults]\ncmd = \"python3 w.py\"\nlog_rotate = { size = \"1G\" }\n\
         [[apps]]\nname = \"a\"\nenv = { WHO = \"a\", FLOOD = \"3000\" }\nout_file = \"disk/a-out\"\nerror_file = \"disk/a-err\"\n\
         [[apps]]\nname = \"b\"\nenv = { WHO = \"b\", FLOOD = \"3000\" }\nout_file = \"disk/b-out\"\nerror_file = \"disk/b-err\"\nlog_date_format = \"HH:mm:ss\"\n\
         [[apps]]\nname = \"c\"\nenv = { WHO = \"c\", FLOOD = \"3000\" }\nout_file = \"disk/c\"\nerror_file = \"disk/c\"\nlog_date_format = \"HH:mm:ss\"\n\
         [[apps]]\nname = \"d\"\nenv = { WHO = \"d\", FLOOD = \"3000\" }\nout_file = \"disk/d-out\"\nerror_file = \"disk/d-err\"\nlog_type = \"json\"\n",
    );
    world.run(&["start"]).ok();
    done(&world, "begun", "abcd");
    world.file("flood", "");
    done(&world, "flooded", "abcd");
    world.until("a loss", || {
        world.events().iter().any(|event| event["kind"] == "log_lost")
    });
    world.redisk(&disk, 200 << 10, true);
    let failing = || {
        let count = |kind: &str| world.events().iter().filter(|event| event["kind"] == kind).count();
        count("log_lost") - count("log_resumed")
    };
    world.until("all to be written again", || failing() == 0);
    world.file("enough", "");
    done(&world, "done", "abcd");
    world.run(&["stop", "all"]).ok();
    let logs = [
        log("disk/a-out", &["ao"], 0, false),
        log("disk/a-err", &["ae"], 0, false),
        log("disk/b-out", &["bo"], 9, false),
        log("disk/b-err", &["be"], 9, false),
        log("disk/c", &["co", "ce"], 9, false),
        log("disk/d-out", &["do"], 0, true),
        log("disk/d-err", &["de"], 0, true),
    ];
    let lost: Vec<u64> = logs
        .iter()
        .map(|log| check(&world, log, "No space left on device", usize::MAX))
        .collect();
    assert!(lost.iter().all(|lost| *lost > 0), "{lost:?}");
}

/// A file system in a file, which can be made to stand still. Thawed and gone when dropped.
struct Disk {
    path: PathBuf,
}

fn tool(name: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(name)
        .args(args)
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(format!("{name}: {said}"))
}

impl Disk {
    fn new(world: &World, name: &str) -> Result<Self, String> {
        let image = world.path().join(format!("{name}.img"));
        let path = world.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        let image = image.to_str().unwrap();
        tool("mkfs.ext4", &["-q", image])?;
        tool("mount", &["-o", "loop", image, path.to_str().unwrap()])?;
        Ok(Self { path })
    }

    fn freeze(&self) -> Result<(), String> {
        tool("fsfreeze", &["-f", self.path.to_str().unwrap()])
    }

    fn thaw(&self) -> Result<(), String> {
        tool("fsfreeze", &["-u", self.path.to_str().unwrap()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _thawed = self.thaw();
        let _gone = tool("umount", &["-l", self.path.to_str().unwrap()]);
    }
}

#[test]
fn in_drop_mode_apps_go_on_while_the_disk_stands_still_and_the_loss_is_counted() {
    let world = World::new();
    world.file("w.py", WRITER);
    let disk = match Disk::new(&world, "disk").and_then(|disk| disk.freeze().and_then(|()| disk.thaw()).map(|()| disk))
    {
        Ok(disk) => disk,
        Err(why) => {
            let _untold = writeln!(
                std::io::stderr(),
                "SKIPPED: no file system that stands still here: {why}"
            );
            return;
        }
    };
    let mut config =
        String::from("[defaults]\ncmd = \"python3 w.py\"\nlog_overflow = \"drop\"\nlog_rotate = { size = \"1G\" }\n");
    for (who, more) in [
        ("a", ""),
        ("b", "log_date_format = \"HH:mm:ss\""),
        ("d", "log_type = \"json\""),
        ("e", "log_file = \"disk/e-both\""),
    ] {
        config.push_str(&format!(
            "[[apps]]\nname = \"{who}\"\nenv = {{ WHO = \"{who}\", FLOOD = \"30000\" }}\nout_file = \"disk/{who}-out\"\nerror_file = \"disk/{who}-err\"\n{more}\n"
        ));
    }
    world.file("ecosystem.toml", &config);
    world.run(&["start"]).ok();
    done(&world, "begun", "abde");
    disk.freeze().unwrap();
    world.file("flood", "");
    // Six megabytes of each stream, which no pipe holds.
    done(&world, "flooded", "abde");
    // Only the writing of logs stands still.
    world.run(&["status"]).ok();
    disk.thaw().unwrap();
    world.file("enough", "");
    done(&world, "done", "abde");
    world.run(&["stop", "all"]).ok();
    let logs = [
        log("disk/a-out", &["ao"], 0, false),
        log("disk/a-err", &["ae"], 0, false),
        log("disk/b-out", &["bo"], 9, false),
        log("disk/b-err", &["be"], 9, false),
        log("disk/d-out", &["do"], 0, true),
        log("disk/d-err", &["de"], 0, true),
        log("disk/e-out", &["eo"], 0, false),
        log("disk/e-err", &["ee"], 0, false),
        log("disk/e-both", &["eo", "ee"], 0, false),
    ];
    let dropped = "dropped: the log could not be written fast enough]";
    let lost: Vec<u64> = logs.iter().map(|log| check(&world, log, dropped, 0)).collect();
    assert!(lost.iter().all(|lost| *lost > 0), "{lost:?}");
    let told = world.events();
    let told = told
        .iter()
        .filter(|event| event["kind"] == "log_lost" && event["message"].to_string().contains("dropped"));
    assert!(told.count() > 0);
}
