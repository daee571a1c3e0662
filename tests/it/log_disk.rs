//! What logs may take of a disk, and what happens when there is no room: files over the bounds go, lines wait, folders
//! that cannot be written cost nothing but lines.

use std::fs::FileTimes;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::disk::fill;
use crate::harness::{World, rest, said};
use crate::numbered::{end, install, noted, read};
use crate::survival::kill_daemon;

fn events(world: &World, kind: &str) -> Vec<Value> {
    let events = world.events().into_iter();
    events.filter(|event| event["kind"] == kind).collect()
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", path.display()))
}

/// The sizes of a log's files, the current one first; no number is left out.
fn sizes(path: &Path) -> Vec<u64> {
    let size = |path: &Path| std::fs::metadata(path).ok().map(|file| file.len());
    let first = size(path).into_iter();
    first
        .chain((1..).map_while(|number| size(&rotated(path, number))))
        .collect()
}

/// Makes a rotated file that was written so long ago.
fn make_rotated(path: &Path, number: u32, size: usize, ago: Duration) {
    let path = rotated(path, number);
    std::fs::write(&path, vec![b'\n'; size]).unwrap();
    let times = FileTimes::new().set_modified(SystemTime::now() - ago);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_times(times)
        .unwrap();
}

/// Another daemon looks at all logs once.
fn another_daemon(world: &World) {
    let (daemon, _) = world.manager();
    kill_daemon(world, daemon);
    world.until("another daemon", || world.run(&["ping"]).code == 0);
}

#[test]
fn an_apps_files_stay_within_its_total_and_end_with_its_last_lines() {
    const TOTAL: u64 = 400_000;
    let world = World::new();
    install(&world);
    world.file(
        "ecosystem.toml",
        "[defaults]\nlog_rotate = { size = \"20000\", keep = 10000, total = \"400000\", compress = false, min_free = \"none\" }\n\
         [[apps]]\nname = \"a\"\ncmd = \"python3 w.py\"\ninstances = 2\nenv = { WHO = \"a\" }\nlog_file = \"both.log\"\n\
         [[apps]]\nname = \"calm\"\ncmd = \"sleep 1000\"\nout_file = \"calm.log\"\n",
    );
    let calm = world.file("calm.log", "calm\n");
    (1..=3).for_each(|number| make_rotated(&calm, number, 100_000, Duration::from_secs(1000)));
    world.run(&["start"]).ok();
    world.until("much more than the total", || {
        noted(&world, "at", "a0") > 4000 && noted(&world, "at", "a1") > 4000
    });
    end(&world, &["a0", "a1"]);
    world.run(&["stop", "a"]).ok();
    let log = |name: &str| world.path().join(name);
    let logs = [
        ("home/logs/a-0-out.log", "a0o"),
        ("home/logs/a-0-err.log", "a0e"),
        ("home/logs/a-1-out.log", "a1o"),
        ("home/logs/a-1-err.log", "a1e"),
        ("both.log", "a0"),
        ("both-1.log", "a1"),
    ];
    let sum = || logs.iter().flat_map(|(name, _)| sizes(&log(name))).sum::<u64>();
    // It is looked at when a file is full; what the others grow by meanwhile goes with the next look at all.
    world.until("the total is kept", || sum() <= TOTAL + 6 * 20_000);
    another_daemon(&world);
    world.until("the total is kept to the byte", || sum() <= TOTAL);
    assert!(
        sum() > TOTAL - 6 * 20_000 - 40_000,
        "no more goes than has to: {}",
        sum()
    );
    for (name, who) in logs {
        let path = log(name);
        assert!(path.exists(), "{name}");
        let text = crate::logs::whole(&path);
        // The oldest went; what is left ends with the last line, and misses none.
        let last = noted(&world, "done", &who[..2]) - 1;
        for who in [format!("{who}:"), format!("{who}o:"), format!("{who}e:")] {
            let own = text.lines().filter_map(|line| line.strip_prefix(&who));
            let numbers: Vec<u64> = own
                .map(|rest| rest.split(':').next().unwrap().parse().unwrap())
                .collect();
            assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{name}");
            assert!(numbers.last().is_none_or(|number| *number == last), "{name}");
        }
        assert!(text.contains(&format!(":{last}:")) || text.is_empty(), "{name}");
        // Nothing is left behind a number that is missing.
        let folder = path.parent().unwrap().read_dir().unwrap();
        let prefix = format!("{}.", path.file_name().unwrap().display());
        let count = folder.filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .display()
                .to_string()
                .starts_with(&prefix)
        });
        assert_eq!(count.count() + 1, sizes(&path).len(), "{name}");
    }
    assert_eq!(
        sizes(&calm),
        [5, 100_000, 100_000, 100_000],
        "another app's are its own"
    );
    assert!(
        events(&world, "log_removed").is_empty(),
        "that is the user's rule, and no news"
    );
}

#[test]
fn the_files_of_stopped_apps_are_kept_within_bounds_too() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        "[defaults]\ncmd = \"sleep 1000\"\nerror_file = \"/dev/null\"\n\
         [[apps]]\nname = \"old\"\nout_file = \"old.log\"\nlog_rotate = { max_age = \"1d\", min_free = \"none\" }\n\
         [[apps]]\nname = \"large\"\nout_file = \"large.log\"\ninstances = 2\nlog_rotate = { total = \"250K\", min_free = \"none\" }\n\
         [[apps]]\nname = \"free\"\nout_file = \"free.log\"\nlog_rotate = false\n",
    );
    world.run(&["start"]).ok();
    world.run(&["stop", "all"]).ok();
    let day = Duration::from_secs(24 * 3600);
    let logs = ["old.log", "large.log", "large-1.log", "free.log"].map(|name| world.file(name, "the current one\n"));
    for log in &logs {
        // The current file is old, too.
        let times = FileTimes::new().set_modified(SystemTime::now() - 9 * day);
        std::fs::File::options()
            .write(true)
            .open(log)
            .unwrap()
            .set_times(times)
            .unwrap();
    }
    let [old, large, other, free] = &logs;
    for (number, age) in [(1, day / 2), (2, 2 * day), (3, 3 * day)] {
        make_rotated(old, number, 10, age);
        make_rotated(free, number, 1 << 20, 30 * day);
    }
    for number in 1..=3 {
        make_rotated(large, number, 100 << 10, number * day);
        make_rotated(other, number, 100 << 10, number * day + day / 2);
    }
    another_daemon(&world);
    world.until("the bounds", || {
        sizes(old) == [16, 10] && sizes(large) == [16, 100 << 10] && sizes(other) == [16, 100 << 10]
    });
    assert_eq!(sizes(free), [16, 1 << 20, 1 << 20, 1 << 20], "somebody else rotates it");
    assert!(world.states("old") == ["stopped"] && world.states("large") == ["stopped"; 2]);
}

#[test]
fn the_oldest_files_of_all_apps_make_room_and_that_is_told() {
    let world = World::new();
    let disk = world.path().join("disk");
    if !world.disk(&disk, 4 << 10) {
        return;
    }
    world.file(
        "ecosystem.toml",
        "[defaults]\ncmd = \"sleep 1000\"\nerror_file = \"/dev/null\"\nlog_rotate = { min_free = \"1M\", compress = false }\n\
         [[apps]]\nname = \"a\"\nout_file = \"disk/a.log\"\n\
         [[apps]]\nname = \"b\"\nout_file = \"disk/b.log\"\n\
         [[apps]]\nname = \"c\"\nout_file = \"disk/c.log\"\nlog_rotate = { min_free = \"none\", compress = false }\n",
    );
    world.run(&["start"]).ok();
    world.run(&["stop", "a", "c"]).ok();
    let logs = ["a.log", "b.log", "c.log"].map(|name| world.file(&format!("disk/{name}"), "the current one\n"));
    let hour = Duration::from_secs(3600);
    for (log, extra) in logs.iter().zip([0, 1, 2]) {
        for number in 1..=3 {
            make_rotated(log, number, 64 << 10, hour * (number * 10 + extra));
        }
    }
    // 100 KiB lack, which are two files.
    let free = || {
        let space = rustix::fs::statvfs(&disk).unwrap();
        space.f_bavail * space.f_frsize
    };
    let ballast = free() - (1 << 20) + (100 << 10);
    std::fs::write(disk.join("ballast"), vec![1; usize::try_from(ballast).unwrap()]).unwrap();
    assert_eq!(free(), (1 << 20) - (100 << 10));
    another_daemon(&world);
    world.until("it is told", || !events(&world, "log_removed").is_empty());
    let told = events(&world, "log_removed");
    let message = told[0]["message"].as_str().unwrap();
    assert_eq!(told.len(), 1);
    assert!(
        message.contains("disk: 2 rotated log files (128K) of a, b were removed"),
        "{message}"
    );
    let left = logs.each_ref().map(|log| sizes(log).len());
    assert_eq!(left, [3, 3, 4], "the oldest of each; c did not ask for it");
    assert!(world.run(&["events"]).ok().out.contains("log_rotate.min_free"));
}

/// Numbered lines of 1000 bytes as fast as they go, on standard output.
const FLOOD: &str = "import os, time
who = os.environ['WHO']
open('begun-' + who, 'w').close()
for n in range(400):
    line = b'%s:%d:%s:end\\n' % (who.encode(), n, b'x' * 1000)
    while line:
        line = line[os.write(1, line):]
open('done-' + who, 'w').close()
time.sleep(1000)
";

const FLOODS: [&str; 4] = ["raw", "stamped", "json", "both"];

/// Lines wait for 10 s. What took longer than this is no proof of anything.
const SOON: Duration = Duration::from_secs(7);

/// Starts the floods on a full disk, does something meanwhile, and makes room. Each line is there once and whole;
/// none is lost if it all was done while they wait.
fn on_a_full_disk(meanwhile: impl FnOnce(&World)) {
    let world = World::new();
    let disk = world.path().join("disk");
    if !world.disk(&disk, 512) {
        return;
    }
    world.file("flood.py", FLOOD);
    let mut config =
        String::from("[defaults]\ncmd = \"python3 flood.py\"\nerror_file = \"/dev/null\"\nlog_rotate = false\n");
    for (who, keys) in FLOODS
        .iter()
        .zip(["", "time = true", "log_type = \"json\"", "log_file = \"disk/log-both\""])
    {
        config.push_str(&format!(
            "[[apps]]\nname = \"{who}\"\nenv = {{ WHO = \"{who}\" }}\nout_file = \"disk/{who}.log\"\n{keys}\n"
        ));
    }
    world.file("ecosystem.toml", &config);
    // The manager is there already.
    world.run(&["start", "sleep 1000", "--name", "first"]).ok();
    fill(&disk);
    let began = Instant::now();
    world.run(&["start"]).ok();
    let there = |what: &str| {
        let there = |who: &&&str| world.path().join(format!("{what}-{who}")).exists();
        FLOODS.iter().filter(there).count()
    };
    world.until("all write", || there("begun") == 4);
    // Tried again more than once: the first second is for everybody.
    rest(2500);
    let waited = (there("done"), began.elapsed() < SOON);
    if waited.1 {
        assert_eq!(waited.0, 0, "nobody goes on while there is no room");
    }
    let pids = FLOODS.map(|who| world.pids(who));
    let first = began.elapsed();
    let middle = Instant::now();
    meanwhile(&world);
    world.redisk(&disk, 64 << 10, true);
    let soon = first < SOON && middle.elapsed() < SOON;
    world.until("all are done", || there("done") == 4);
    assert_eq!(FLOODS.map(|who| world.pids(who)), pids);
    world.run(&["stop", "all"]).ok();
    for name in ["raw.log", "stamped.log", "json.log", "both.log", "log-both"] {
        let who = name.split('.').next().unwrap().trim_start_matches("log-");
        let mut next = 0;
        let text = read(&disk.join(name));
        assert!(text.is_empty() || text.ends_with('\n'), "{name}: half a line");
        for line in text.lines().filter(|line| !line.contains("[clmgr: ")) {
            let (_, line) = line
                .split_once(&format!("{who}:"))
                .unwrap_or_else(|| panic!("{name}: {line}"));
            let (number, rest) = line.split_once(':').unwrap();
            let number: u64 = number.parse().unwrap();
            assert!(
                rest.starts_with(&format!("{}:end", "x".repeat(1000))),
                "{name}: not whole: {line}"
            );
            assert!(number >= next, "{name}: {number} after {next}");
            assert!(number == next || !soon, "{name}: {number} instead of {next}");
            next = number + 1;
        }
        assert!(next == 400 || !soon, "{name}: {next} is missing");
    }
    if soon {
        assert_eq!(events(&world, "log_lost"), Vec::<Value>::new());
    } else {
        let _untold = writeln!(
            std::io::stderr(),
            "SKIPPED: this machine is too slow to do it while lines wait; only order was looked at"
        );
    }
}

#[test]
fn lines_wait_for_room_on_a_full_disk() {
    on_a_full_disk(|_| {});
}

#[test]
fn lines_that_wait_survive_the_daemon() {
    on_a_full_disk(|world| {
        let daemon = crate::survival::daemon(world).unwrap();
        kill_daemon(world, daemon);
        world.until("another daemon", || world.run(&["ping"]).code == 0);
        rest(1500);
    });
}

#[test]
fn lines_that_wait_survive_daemon_and_keeper() {
    on_a_full_disk(|world| {
        world.kill_both();
        world.until("both again", || world.run(&["status"]).code == 0);
        rest(1500);
    });
}

#[test]
fn an_app_runs_without_the_folder_of_its_log_and_the_loss_is_told() {
    let world = World::new();
    // Not even root can make a folder in a file.
    let wall = world.file("wall", "no folder\n");
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"seq 1 500; until [ -e go ]; do sleep 0.02; done; seq 501 600; exec sleep 1000\"]\n\
         out_file = \"wall/deep/a.log\"\nerror_file = \"wall/deep/a-err.log\"\n",
    );
    world.run(&["start"]).ok();
    world.until("the loss is told", || !events(&world, "log_lost").is_empty());
    let told = events(&world, "log_lost").remove(0);
    let message = told["message"].as_str().unwrap();
    assert_eq!(told["app"], "a");
    assert!(
        message.contains("wall/deep/a.log") && message.contains("Not a directory"),
        "{message}"
    );
    assert_eq!(world.states("a"), ["online"]);
    assert!(world.run(&["describe", "a"]).ok().out.contains("Not a directory"));
    assert!(world.run(&["events"]).ok().out.contains("wall/deep/a.log"));
    let pids = world.pids("a");
    for args in [&["flush"][..], &["reopen", "a"], &["logs", "a", "--nostream"]] {
        let said = world.run(args);
        assert!(said.code <= 1, "{args:?}: {}", said.err);
    }
    std::fs::remove_file(wall).unwrap();
    world.until("it resumes", || !events(&world, "log_resumed").is_empty());
    world.file("go", "");
    world.until("what follows", || world.text("wall/deep/a.log").contains("\n600\n"));
    let text = world.text("wall/deep/a.log");
    let mut lines = text.lines();
    let marker = lines.next().unwrap();
    assert!(
        marker.starts_with("[clmgr: 500 lines (1892 bytes) lost: Not a directory"),
        "{marker}"
    );
    assert_eq!(lines.next(), Some("501"));
    assert_eq!(world.pids("a"), pids);
}

/// Somebody who may nothing.
const NOBODY: u32 = 65534;

#[test]
fn folders_and_files_are_the_users() {
    use std::os::unix::process::CommandExt;
    let world = World::new();
    let root = rustix::process::geteuid().is_root();
    let user = if root {
        NOBODY
    } else {
        rustix::process::geteuid().as_raw()
    };
    world.program_for_all();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"echo hello; exec sleep 1000\"]\nout_file = \"deep/er/a.log\"\nerror_file = \"/dev/null\"\n\
         [[apps]]\nname = \"b\"\ncmd = [\"sh\", \"-c\", \"echo hello; exec sleep 1000\"]\nout_file = \"/proc/nowhere/b.log\"\n",
    );
    if root {
        std::os::unix::fs::chown(world.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "umask 027; exec ./clmgr-for-all start"])
        .current_dir(world.path())
        .env_clear()
        .stdin(std::process::Stdio::null());
    let plain = world.command(&[]);
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    said(command).ok();
    world.until("a line", || world.text("deep/er/a.log") == "hello\n");
    let is = |name: &str| {
        let meta = std::fs::metadata(world.path().join(name)).unwrap();
        (meta.uid(), meta.mode() & 0o777)
    };
    assert_eq!(is("deep"), (user, 0o750));
    assert_eq!(is("deep/er"), (user, 0o750));
    assert_eq!(is("deep/er/a.log"), (user, 0o640));
    assert_eq!(is("home/logs"), (user, 0o700));
    world.until("the loss is told", || {
        let lost = events(&world, "log_lost");
        lost.iter().any(|event| event["app"] == "b")
    });
    assert_eq!(world.states("b"), ["online"]);
}
