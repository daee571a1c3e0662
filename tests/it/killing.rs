//! Keeper, daemon or both are killed at random moments of random commands: nothing runs twice, nothing is lost, and
//! apps that nobody spoke of do not notice. `CLMGR_ROUNDS` makes it longer, `CLMGR_SEED` repeats one.

use std::collections::BTreeMap;
use std::io::Write;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::harness::{World, finish, lives, rest};

/// An environment variable, or what is used without it.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Pids of this world's processes in this role of clmgr.
fn role(world: &World, role: &str) -> Vec<i32> {
    let is = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"clmgr")) && words.next() == Some(role.as_bytes())
    };
    world.processes().into_iter().filter(is).collect()
}

fn signal(pid: i32, signal: Signal) {
    if let Ok(fd) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) {
        let _gone = pidfd_send_signal(fd, signal);
    }
}

/// Leaders of runs, by app id and slot, as the system shows them.
fn leaders(world: &World) -> BTreeMap<String, Vec<i64>> {
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for pid in world.processes() {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let value = |name: &str| {
            environ
                .split(|byte| *byte == 0)
                .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        if let (Some(place), Some(leader)) = (value("CLMGR_INSTANCE"), value("CLMGR_LEADER"))
            && leader == pid.to_string()
        {
            let slot = place.rsplit_once('.').unwrap().0.to_owned();
            found.entry(slot).or_default().push(pid.into());
        }
    }
    found
}

/// The same, as clmgr tells it, where everything is online.
fn told(world: &World) -> Option<BTreeMap<String, Vec<i64>>> {
    let mut found = BTreeMap::new();
    for app in world.status()["apps"].as_array().unwrap() {
        for instance in app["instances"].as_array().unwrap() {
            if instance["state"] != "online" {
                return None;
            }
            let slot = format!("{}.{}", app["id"], instance["slot"]);
            found.insert(slot, vec![instance["pid"].as_i64().unwrap()]);
        }
    }
    Some(found)
}

#[test]
fn deaths_at_random_moments_double_and_lose_nothing() {
    let rounds = number("CLMGR_ROUNDS", 16);
    let seed = number("CLMGR_SEED", u64::from(std::process::id()));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let _untold = writeln!(std::io::stderr(), "CLMGR_SEED={seed} CLMGR_ROUNDS={rounds}");
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "still", "-i", "2"]).ok();
    world.run(&["start", "sleep 1001", "--name", "busy", "-i", "3"]).ok();
    let still = world.pids("still");
    let mut names = 2;
    for round in 0..rounds {
        let count = (random.below(8) + 1).to_string();
        let (program, name) = (format!("sleep 10{}", random.below(90) + 10), format!("new{round}"));
        let args: Vec<&str> = match random.below(4) {
            0 => vec!["scale", "busy", &count],
            1 => vec!["reload", "busy"],
            2 => vec!["restart", "busy"],
            _ => vec!["start", &program, "--name", &name, "-i", "2"],
        };
        let (keepers, daemons) = (role(&world, "keeper"), role(&world, "daemon"));
        let command = world.begin(&args);
        rest(random.below(60));
        let whom = random.below(4);
        let mut victims = match whom {
            0 => keepers,
            1 => daemons,
            _ => [keepers, daemons].concat(),
        };
        if whom == 3 {
            victims.reverse();
        }
        if whom >= 2 {
            victims.iter().for_each(|pid| signal(*pid, Signal::STOP));
        }
        victims.iter().for_each(|pid| signal(*pid, Signal::KILL));
        let what = format!("seed {seed}, round {round}: {args:?}, killed {victims:?} ({whom})");
        world.until(&what, || victims.iter().all(|pid| !lives((*pid).into())));
        // It may have been answered or not.
        finish(command, &args);
        world.run(&["status"]).ok();
        if args[0] == "start" {
            // Refused if the first was acknowledged, or its app is there all the same.
            world.run(&args);
            names += 1;
        }
        world.until(&what, || {
            told(&world).is_some_and(|told| told.len() >= names && told == leaders(&world))
        });
        assert_eq!(world.pids("still"), still, "{what}");
        let apps = world.status()["apps"].as_array().unwrap().len();
        assert_eq!(apps, names, "{what}\n{}", world.report());
    }
    assert_eq!(world.count_events("exited", "still"), 0);
    let log = world.text("home/logs/clmgr.log");
    assert!(
        !log.contains("ERROR") || log.contains("the keeper is gone"),
        "seed {seed}\n{log}"
    );
}
