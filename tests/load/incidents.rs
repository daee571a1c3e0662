//! What happens to a service besides reloads: processes die, their number changes, the manager is killed or replaced.

use anyhow::ensure;
use clmgr::model::duration::Millis;
use clmgr::os::poll;

use crate::random::Random;
use crate::report::Report;
use crate::service::{Dead, Server, Service, Spec};
use crate::settings::Settings;
use crate::world::{World, lives};

/// SIGKILL.
const KILL: i32 = 9;
/// SIGSTOP.
const STOP: i32 = 19;
/// SIGUSR2: the servers take 300 MB.
const GROW: i32 = 12;

/// Something that happens once.
type Incident = fn(&Service<'_>, &mut Random, &mut Dead) -> anyhow::Result<()>;

/// What happens, to how many instances, with which keys.
const INCIDENTS: [(&str, u32, &str, Incident); 10] = [
    ("an instance is killed", 4, "", kill),
    ("8 to 2 to 8 instances", 8, "", scale),
    ("memory replacement", 4, "max_memory_restart = \"250M\"", leak),
    (
        "a hung instance",
        4,
        "hang_timeout = \"1s\"\nkill_timeout = \"500ms\"",
        hang,
    ),
    ("too old", 4, "max_age = { after = \"1500ms\", jitter = 0.5 }", age),
    ("the daemon is killed", 4, "", kill_daemon),
    ("the keeper is killed", 4, "", kill_keeper),
    ("both are killed", 4, "", kill_both),
    ("upgrade", 4, "", upgrade),
    ("the daemon is killed during a reload", 4, "", interrupt),
];

/// Each of them so often, one kind after the other, each under load.
pub(crate) fn run(world: &World, report: &Report, settings: &Settings, server: Server) {
    for (number, (what, instances, more, incident)) in INCIDENTS.into_iter().enumerate() {
        if !settings.wants(&format!("{what}: {}", server.as_str())) {
            continue;
        }
        let name = format!("i{number}-{}", server.as_str());
        let seed = settings.seed + number as u64;
        let result = Spec::new(&name, server, instances, more).and_then(|spec| {
            let service = Service::start(world, &spec)?;
            let loads = service.mixed(settings, service.rate(settings)?);
            let mut random = Random::new(seed);
            let mut dead = Dead::default();
            let mut turns = 0..settings.incidents;
            let happened = turns.try_for_each(|_| {
                loads.go_on();
                incident(&service, &mut random, &mut dead)
            });
            loads.go_on();
            loads.end(report, what, settings.incidents, &dead)?;
            service.delete()?;
            happened
        });
        if let Err(error) = result {
            report.wrong(format!("{what}: {}: {error:#}", server.as_str()));
        }
    }
}

/// A random instance dies.
fn kill(service: &Service<'_>, random: &mut Random, dead: &mut Dead) -> anyhow::Result<()> {
    let pids = service.world.online(&service.name)?;
    let at = usize::try_from(random.below(pids.len() as u64))?;
    dead.pids.push(pids[at]);
    ensure!(service.world.signal(pids[at], KILL), "it was gone already");
    service.world.until("its replacement", || {
        let now = service.world.pids(&service.name)?[at];
        Ok(now != 0 && now != pids[at])
    })?;
    service.world.online(&service.name)?;
    Ok(())
}

fn scale(service: &Service<'_>, _: &mut Random, _: &mut Dead) -> anyhow::Result<()> {
    for (to, count) in [("2", 2), ("8", 8)] {
        service.world.done(&["scale", &service.name, to])?;
        let pids = service.world.online(&service.name)?;
        ensure!(pids.len() == count, "{} instead of {to} instances", pids.len());
    }
    Ok(())
}

/// One takes more memory than it may.
fn leak(service: &Service<'_>, random: &mut Random, _: &mut Dead) -> anyhow::Result<()> {
    let pids = service.world.online(&service.name)?;
    let at = usize::try_from(random.below(pids.len() as u64))?;
    ensure!(service.world.signal(pids[at], GROW), "it is gone");
    service.world.until("its replacement", || {
        let now = service.world.pids(&service.name)?[at];
        Ok(now != 0 && now != pids[at] && !lives(pids[at]))
    })?;
    service.world.online(&service.name)?;
    Ok(())
}

/// One stands still: whoever connects to it waits, until it is found and replaced.
fn hang(service: &Service<'_>, random: &mut Random, dead: &mut Dead) -> anyhow::Result<()> {
    let pids = service.world.online(&service.name)?;
    let at = usize::try_from(random.below(pids.len() as u64))?;
    dead.pids.push(pids[at]);
    ensure!(service.world.signal(pids[at], STOP), "it was gone already");
    service.world.until("its replacement", || {
        let now = service.world.pids(&service.name)?[at];
        Ok(now != 0 && now != pids[at] && !lives(pids[at]))
    })?;
    service.world.online(&service.name)?;
    Ok(())
}

/// All are replaced because of their age.
fn age(service: &Service<'_>, _: &mut Random, _: &mut Dead) -> anyhow::Result<()> {
    let before = service.world.pids(&service.name)?;
    service
        .world
        .until("the end of all", || Ok(!before.iter().any(|pid| lives(*pid))))?;
    Ok(())
}

/// The next daemon finishes what this one has begun.
fn interrupt(service: &Service<'_>, random: &mut Random, _: &mut Dead) -> anyhow::Result<()> {
    let before = service.world.online(&service.name)?;
    let ping = service.world.ping()?;
    let reload = service.world.begin(&["reload", &service.name])?;
    poll::pause(Millis(random.below(600)));
    ensure!(service.world.signal(ping.pid, KILL), "it was gone already");
    // What it says depends on when it was interrupted.
    let _said = reload.wait_with_output()?;
    let all_or_none = || {
        let now = service.world.online(&service.name)?;
        let mut living = service.world.processes(&service.name);
        living.retain(|pid| !now.contains(pid));
        let replaced = now.iter().filter(|pid| !before.contains(pid)).count();
        Ok(living.is_empty() && (replaced == 0 || replaced == before.len()))
    };
    service.world.until("the end of the reload", all_or_none)
}

fn kill_daemon(service: &Service<'_>, random: &mut Random, _: &mut Dead) -> anyhow::Result<()> {
    let before = service.world.pids(&service.name)?;
    let ping = service.world.ping()?;
    poll::pause(Millis(random.below(50)));
    ensure!(service.world.signal(ping.pid, KILL), "it was gone already");
    service
        .world
        .until("another daemon", || Ok(service.world.ping()?.pid != ping.pid))?;
    untouched(service, &before)
}

fn kill_keeper(service: &Service<'_>, random: &mut Random, _: &mut Dead) -> anyhow::Result<()> {
    let before = service.world.pids(&service.name)?;
    let ping = service.world.ping()?;
    poll::pause(Millis(random.below(50)));
    ensure!(service.world.signal(ping.keeper_pid, KILL), "it was gone already");
    service.world.until("another keeper", || {
        Ok(service.world.ping()?.keeper_pid != ping.keeper_pid)
    })?;
    untouched(service, &before)
}

fn kill_both(service: &Service<'_>, _: &mut Random, _: &mut Dead) -> anyhow::Result<()> {
    let before = service.world.pids(&service.name)?;
    let ping = service.world.ping()?;
    for signal in [STOP, KILL] {
        for pid in [ping.keeper_pid, ping.pid] {
            service.world.signal(pid, signal);
        }
    }
    service
        .world
        .until("the end of both", || Ok(!lives(ping.pid) && !lives(ping.keeper_pid)))?;
    untouched(service, &before)
}

fn upgrade(service: &Service<'_>, _: &mut Random, _: &mut Dead) -> anyhow::Result<()> {
    let before = service.world.pids(&service.name)?;
    let ping = service.world.ping()?;
    service.world.done(&["upgrade"])?;
    let after = service.world.ping()?;
    ensure!(
        after.pid != ping.pid && after.keeper_pid == ping.keeper_pid,
        "{ping:?}, then {after:?}"
    );
    untouched(service, &before)
}

/// The instances are those that there were.
fn untouched(service: &Service<'_>, before: &[i32]) -> anyhow::Result<()> {
    let after = service.world.online(&service.name)?;
    ensure!(after == before, "{before:?} became {after:?}");
    Ok(())
}
