//! A broken deploy stays harmless: issue 2, section 3, with `examples/broken-deploy` as it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{World, eventually, rest};

const LINE: &str = "server.sh: cannot connect to the database: DATABASE_URL is not set";

/// The example, in a folder of its own.
fn world() -> World {
    let world = World::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/broken-deploy");
    for entry in std::fs::read_dir(example).unwrap() {
        let entry = entry.unwrap();
        let target = world.path().join(entry.file_name());
        std::fs::copy(entry.path(), target).unwrap();
    }
    world
}

fn has(environ: &[u8], entry: &str) -> bool {
    environ.split(|byte| *byte == 0).any(|known| known == entry.as_bytes())
}

/// Living processes of the app among the keeper's children (everything the app has is one).
fn alive(keeper: i64) -> usize {
    let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            has(&environ, "CLMGR_APP=broken")
                && !environ.starts_with(b"CLMGR_EVENT=")
                && !has(&environ, "CLMGR_EVENT=circuit_open")
        })
        .count()
}

/// CPU time a process has used, in seconds.
fn cpu(pid: i64) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the promise is about time")]
fn a_crash_loop_is_contained_reported_once_and_ended_by_one_command() {
    let world = world();
    // An app that is fine makes sure that the manager runs before the clock does.
    world.run(&["start", "sleep 1000", "--name", "fine"]).ok();
    let (daemon, keeper) = world.manager();
    let over = Arc::new(AtomicBool::new(false));
    let most = Arc::new(AtomicUsize::new(0));
    let sampler = std::thread::spawn({
        let (over, most) = (Arc::clone(&over), Arc::clone(&most));
        move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(alive(keeper), Ordering::Relaxed);
                rest(1);
            }
        }
    });
    let used = cpu(daemon) + cpu(keeper);
    let begin = Instant::now();
    let _whatever = world.run(&["start", "ecosystem.toml"]);
    // That it opens within 15 s is asserted in virtual time, where no other program is in the way.
    world.until("the alert", || world.text("alerts.log").contains("circuit_open"));
    let observe = if std::env::var_os("CLMGR_LONG").is_some() {
        59
    } else {
        20
    };
    rest(
        Duration::from_secs(observe)
            .saturating_sub(begin.elapsed())
            .as_millis()
            .try_into()
            .unwrap(),
    );
    let share = (cpu(daemon) + cpu(keeper) - used) / begin.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    sampler.join().unwrap();
    assert!(share < 0.01, "the supervisor used {:.2} % of a core", share * 100.0);
    assert!(
        most.load(Ordering::Relaxed) <= 8,
        "{} at once",
        most.load(Ordering::Relaxed)
    );
    assert_eq!((daemon, keeper), world.manager());

    let spawns = world.count_events("started", "broken");
    assert!((8..=24).contains(&spawns), "{spawns} spawns");
    assert_eq!(world.count_events("circuit_open", "broken"), 1);
    assert_eq!(
        world.text("alerts.log").lines().count(),
        1,
        "{}",
        world.text("alerts.log")
    );
    let status = world.status();
    let app = status["apps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|app| app["name"] == "broken")
        .unwrap();
    assert_eq!(app["state"], "errored");
    assert!(
        app["instances"]
            .as_array()
            .unwrap()
            .iter()
            .all(|instance| instance["state"] == "errored" && instance["pid"].is_null())
    );
    let table = world.run(&["status"]).ok().out;
    assert!(table.contains("errored"), "{table}");
    let text = world.run(&["describe", "broken"]).ok().out;
    assert!(
        text.contains("exit code 1") && text.contains(LINE) && text.contains("circuit is open"),
        "{text}"
    );
    let described = world.describe("broken");
    assert!(
        described["reason"].as_str().unwrap().contains("exit code 1"),
        "{described}"
    );
    assert_eq!(described["crashes"][0]["stderr"], serde_json::json!([LINE]));
    assert_eq!(described["crashes"][0]["exit"]["status"]["code"], 1);
    let event = world
        .events()
        .into_iter()
        .find(|event| event["kind"] == "circuit_open")
        .unwrap();
    assert_eq!(event["stderr"], serde_json::json!([LINE]));
    assert_eq!(world.states("fine"), ["online"], "nobody else is affected");

    let mut fixed = world.command(&["start", "ecosystem.toml", "--update-env"]);
    let fixed = fixed.env("DATABASE_URL", "postgres://db/app").output().unwrap();
    assert!(fixed.status.success(), "{fixed:?}");
    world.until("all eight", || world.states("broken") == ["online"; 8]);
    assert_eq!(world.text("alerts.log").lines().count(), 1, "no second alert");
}

#[test]
fn an_edited_file_brings_all_eight_up_with_one_command() {
    let world = world();
    let _whatever = world.run(&["start", "ecosystem.toml"]);
    world.until("an open circuit", || world.status()["apps"][0]["state"] == "errored");
    let text = world.text("ecosystem.toml");
    world.file(
        "ecosystem.toml",
        &format!("{text}\nenv = {{ DATABASE_URL = \"postgres://db/app\" }}\n"),
    );
    world.run(&["start", "ecosystem.toml"]).ok();
    world.until("all eight", || world.states("broken") == ["online"; 8]);
    assert_eq!(world.count_events("circuit_open", "broken"), 1);
}

#[test]
fn what_is_required_is_named_and_nothing_is_spawned() {
    let world = world();
    world
        .run(&["start", "ecosystem.require.toml"])
        .refused(1, "DATABASE_URL");
    assert!(world.pids("broken").iter().all(|pid| *pid == 0));
    assert_eq!(world.count_events("started", "broken"), 0);
    assert!(!eventually_any_started(&world));
    let mut empty = world.command(&["start", "ecosystem.require.toml", "--update-env"]);
    let empty = empty.env("DATABASE_URL", "").output().unwrap();
    assert_eq!(empty.status.code(), Some(1), "an empty variable is none: {empty:?}");
    assert!(
        String::from_utf8_lossy(&empty.stderr).contains("DATABASE_URL"),
        "{empty:?}"
    );
    assert_eq!(world.count_events("started", "broken"), 0);
    let mut fixed = world.command(&["start", "ecosystem.require.toml", "--update-env"]);
    let fixed = fixed.env("DATABASE_URL", "postgres://db/app").output().unwrap();
    assert!(fixed.status.success(), "{fixed:?}");
    assert!(
        eventually(&mut || world.states("broken") == ["online"; 8]),
        "{}",
        world.report()
    );
}

/// A moment in which a careless supervisor would start something after all.
fn eventually_any_started(world: &World) -> bool {
    (0..30).any(|_| {
        rest(50);
        world.count_events("started", "broken") > 0
    })
}
