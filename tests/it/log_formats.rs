//! What log lines look like, and in which files they are.

use serde_json::{Value, json};

use crate::harness::World;

fn one_app(world: &World, script: &str, keys: &str) {
    let text = format!("[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", '''{script}; exec sleep 1000''']\n{keys}");
    world.file("ecosystem.toml", &text);
    world.run(&["start"]).ok();
}

#[test]
fn times_are_in_the_zone_of_the_setting() {
    if !std::path::Path::new("/usr/share/zoneinfo/Asia/Kathmandu").exists() {
        return eprintln!("SKIPPED: this machine has no time zones");
    }
    let world = World::new();
    let keys = "out_file = 'a.log'\nlog_timezone = 'Asia/Kathmandu'\nlog_date_format = 'ddd Do [of] MMM x Z'";
    one_app(&world, "echo hello", keys);
    world.until("a line", || world.text("a.log").contains("hello"));
    let text = world.text("a.log");
    let words: Vec<&str> = text.trim_end().split(' ').collect();
    assert_eq!((words[2], words[5], words[6]), ("of", "+05:45", "hello"), "{text}");
    assert!(
        words[4].len() == 13 && words[4].bytes().all(|byte| byte.is_ascii_digit()),
        "{text}"
    );
    assert_eq!(world.describe("a")["spec"]["logs"]["zone"], "Asia/Kathmandu");
    let sources = &world.describe("a")["logs"];
    assert!(
        sources
            .as_array()
            .unwrap()
            .iter()
            .all(|source| source["zone"] == "Asia/Kathmandu"),
        "{sources}"
    );
    let bad = "[[apps]]\nname = 'b'\ncmd = 'sleep 1000'\nlog_timezone = 'Asia/Katmandoo'";
    world.file("bad.toml", bad);
    world
        .run(&["start", "bad.toml"])
        .refused(2, "no time zone `Asia/Katmandoo`");
}

#[test]
fn records_have_a_level_and_a_fixed_order() {
    let world = World::new();
    let script = r#"echo plain; echo "{\"severity\":\"WARNING\",\"x\":{\"level\":10}}"; echo "{\"level\":50,\"msg\":\"no\"}" >&2"#;
    one_app(
        &world,
        script,
        "log_type = 'json'\nlog_file = 'both.log'\nlog_timezone = 'UTC'",
    );
    world.until("three records", || world.text("both.log").lines().count() == 3);
    let text = world.text("both.log");
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut levels: Vec<Value> = records
        .iter()
        .map(|record| json!([record["stream"], record["level"]]))
        .collect();
    levels.sort_by_key(Value::to_string);
    let expected = [json!(["err", "error"]), json!(["out", "warn"]), json!(["out", null])];
    assert_eq!(levels, expected);
    let names = [
        "time",
        "app",
        "namespace",
        "instance",
        "pid",
        "stream",
        "level",
        "message",
    ];
    let line = text.lines().find(|line| line.contains("\"level\":\"warn\"")).unwrap();
    let places: Vec<usize> = names
        .iter()
        .map(|name| line.find(&format!("\"{name}\":")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{line}");
    assert!(
        line.starts_with("{\"time\":\"20") && line.contains("+00:00\""),
        "{line}"
    );
}

#[test]
fn a_merged_file_keeps_each_streams_order_and_that_of_arrival() {
    let world = World::new();
    // Each line is in the file before the next is written.
    let script = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; until grep -q \"out $i\" one.log 2>/dev/null; do sleep 0.01; done; \
                  echo err $i >&2; until grep -q \"err $i\" one.log; do sleep 0.01; done; done; \
                  (for i in `seq 1 4000`; do echo fast out $i; echo fast err $i >&2; done); echo end";
    one_app(&world, script, "out_file = 'one.log'\nerror_file = 'one.log'");
    world.until("the end", || {
        world.text("one.log").contains("end\n") && world.text("one.log").contains("fast err 4000\n")
    });
    let text = world.text("one.log");
    let slow: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("fast") && *line != "end")
        .collect();
    let expected: Vec<String> = (1..=9).flat_map(|i| [format!("out {i}"), format!("err {i}")]).collect();
    assert_eq!(slow, expected);
    for stream in ["out", "err"] {
        let prefix = format!("fast {stream} ");
        let numbers: Vec<usize> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.parse().ok())
            .collect();
        assert_eq!(numbers, (1..=4000).collect::<Vec<_>>(), "{stream}");
    }
    let sources = world.describe("a")["logs"].clone();
    assert_eq!(sources.as_array().unwrap().len(), 1, "{sources}");
    assert_eq!(sources[0]["stream"], Value::Null);
}

#[test]
fn null_a_fifo_and_deep_folders() {
    let world = World::new();
    let fifo = world.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let keys = "out_file = '/dev/null'\nerror_file = 'fifo'\nlog_file = 'deep/er/still/both.log'";
    let reader = std::thread::spawn(move || {
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(std::fs::File::open(fifo).unwrap()));
        lines.next().unwrap().unwrap()
    });
    one_app(&world, "echo oops >&2; seq 1 100000", keys);
    assert_eq!(reader.join().unwrap(), "oops");
    world.until("all of it", || {
        world.text("deep/er/still/both.log").contains("100000\n")
    });
    let text = world.text("deep/er/still/both.log");
    assert_eq!(text.lines().filter(|line| *line != "oops").count(), 100_000);
    let sources = world.describe("a")["logs"].to_string();
    assert!(!sources.contains("/dev/null"), "{sources}");
    world.run(&["logs", "a", "--nostream", "--out"]).ok();
}
