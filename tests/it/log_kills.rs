//! Every line is in the log once, whole and in order, however often those who write it are killed.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{World, rest};
use crate::logs::whole;
use crate::survival::{daemon, kill_daemon};

/// Writes numbered lines to both streams as fast as it can, in pieces that end anywhere, until the file `enough` is
/// there. Then a last line, and a file that says how many there were.
const WRITER: &str = "import os, sys
me = os.environ['WHO'] + os.environ['CLMGR_SLOT']
n = 0
while not os.path.exists('enough'):
    for fd, stream in ((1, 'o'), (2, 'e')):
        text = b''.join(b'%s%s:%d:%s:end\\n' % (me.encode(), stream.encode(), k, b'x' * (k % 97)) for k in range(n, n + 100))
        cut = n % 4000
        for piece in (text[:cut], text[cut:]):
            while piece:
                piece = piece[os.write(fd, piece):]
    n += 100
with open('done.tmp-' + me, 'w') as f:
    f.write(str(n))
os.rename('done.tmp-' + me, 'done-' + me)
import time
time.sleep(1000)
";

const APPS: &str = "[defaults]
cmd = \"python3 w.py\"
log_rotate = { size = \"3M\", keep = 10000, total = \"100G\", compress = true }

[[apps]]
name = \"raw\"
env = { WHO = \"raw\" }

[[apps]]
name = \"stamped\"
env = { WHO = \"stamped\" }
time = true

[[apps]]
name = \"json\"
env = { WHO = \"json\" }
log_type = \"json\"

[[apps]]
name = \"merged\"
env = { WHO = \"merged\" }
instances = 2
merge_logs = true
out_file = \"merged.log\"
error_file = \"merged.log\"
log_date_format = \"HH:mm:ss\"

[[apps]]
name = \"both\"
env = { WHO = \"both\" }
log_file = \"both.log\"
";

/// The logs, and whose lines are in them.
const LOGS: [(&str, &[&str]); 8] = [
    ("home/logs/raw-0-out.log", &["raw0o"]),
    ("home/logs/raw-0-err.log", &["raw0e"]),
    ("home/logs/stamped-0-out.log", &["stamped0o"]),
    ("home/logs/stamped-0-err.log", &["stamped0e"]),
    ("home/logs/json-0-out.log", &["json0o"]),
    ("home/logs/json-0-err.log", &["json0e"]),
    ("merged.log", &["merged0o", "merged0e", "merged1o", "merged1e"]),
    ("both.log", &["both0o", "both0e"]),
];

const WRITERS: [&str; 6] = ["raw0", "stamped0", "json0", "merged0", "merged1", "both0"];

/// Reads a log with its rotated files and checks that each writer's lines are there.
fn check(world: &World, log: &str, writers: &[&str], kills: usize) {
    let count = |writer: &str| -> usize {
        let name = format!("done-{}", &writer[..writer.len() - 1]);
        world.text(&name).parse().unwrap()
    };
    let mut next: BTreeMap<String, usize> = writers.iter().map(|writer| ((*writer).to_owned(), 0)).collect();
    let text = whole(&world.path().join(log));
    for line in text.lines() {
        let mut line = line.to_owned();
        if log.contains("json") {
            let record: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{log}: {error}: {line}"));
            line = record["message"].as_str().unwrap().to_owned();
        }
        let said = if log.contains("stamped") || log.contains("merged") {
            line.split_once(' ').map_or("", |(_, said)| said)
        } else {
            &line
        };
        let who = said.split(':').next().unwrap();
        let Some(number) = next.get_mut(who) else {
            panic!("{log}, after {kills} kills: no line of a writer: {line:?}")
        };
        let expected = format!("{who}:{number}:{}:end", "x".repeat(*number % 97));
        assert_eq!(said, expected, "{log}, after {kills} kills");
        *number += 1;
    }
    for (writer, found) in next {
        assert_eq!(found, count(&writer), "{log}, after {kills} kills: lines of {writer}");
    }
}

fn every_line_once(kills: usize, mut kill: impl FnMut(&World)) {
    let world = World::new();
    world.file("w.py", WRITER);
    world.file("ecosystem.toml", APPS);
    world.run(&["start"]).ok();
    let pids: Vec<_> = ["raw", "stamped", "json", "merged", "both"]
        .map(|app| world.pids(app))
        .into();
    let size = || -> u64 {
        let files =
            [world.home().join("logs"), world.path().to_owned()].map(|folder| std::fs::read_dir(folder).unwrap());
        let sizes = files
            .into_iter()
            .flatten()
            .filter_map(|file| file.ok()?.metadata().ok());
        sizes.map(|meta| meta.len()).sum()
    };
    let mut random = u64::from(std::process::id()) * 0x9e37_79b9;
    for _ in 0..kills {
        let before = size();
        world.until("a daemon that writes", || daemon(&world).is_some() && size() > before);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        rest((random >> 33) % 60);
        kill(&world);
    }
    world.file("enough", "");
    world.until("all writers are done", || {
        WRITERS
            .iter()
            .all(|writer| world.path().join(format!("done-{writer}")).exists())
    });
    let last = |writer: &str| {
        let count: usize = world
            .text(&format!("done-{}", &writer[..writer.len() - 1]))
            .parse()
            .unwrap();
        format!("{writer}:{}:", count - 1)
    };
    for (log, writers) in LOGS {
        world.until("the last lines", || {
            let text = whole(&world.path().join(log));
            writers.iter().all(|writer| text.contains(&last(writer)))
        });
        let path = |end: &str| world.path().join(format!("{log}{end}"));
        let plain = || (1..100).filter(|n| path(&format!(".{n}")).exists()).count();
        // With the lowest priority, on a machine that is busy: as long as there is progress there is hope.
        let mut left = plain();
        while left > 0 {
            world.until("one more file to be compressed", || plain() < left);
            left = plain();
        }
        world.until("the last one to be complete", || !path(".gz.tmp").exists());
        check(&world, log, writers, kills);
    }
    let now: Vec<_> = ["raw", "stamped", "json", "merged", "both"]
        .map(|app| world.pids(app))
        .into();
    assert_eq!(now, pids, "the same processes");
}

#[test]
fn every_line_is_there_once_after_thirty_deaths_of_the_daemon() {
    every_line_once(30, |world| {
        if let Some(pid) = daemon(world) {
            kill_daemon(world, pid);
        }
    });
}

#[test]
fn every_line_is_there_once_after_five_deaths_of_both() {
    every_line_once(5, |world| {
        world.kill_both();
        // The first one may still reach the door of a daemon whose threads are about to end.
        world.until("the next manager", || world.run(&["status"]).code == 0);
    });
}
