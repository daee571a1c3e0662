//! A server is reloaded again and again under load.

use clmgr::os::clock;

use crate::report::Report;
use crate::service::{self, Dead, Server, Service, Spec};
use crate::settings::Settings;
use crate::world::{World, lives};

/// Instances of each server.
const INSTANCES: u32 = 4;

/// Reloads one server so often.
pub(crate) fn run(world: &World, report: &Report, settings: &Settings, server: Server) -> anyhow::Result<()> {
    let spec = Spec::new(&format!("reload-{}", server.as_str()), server, INSTANCES, "")?;
    let service = Service::start(world, &spec)?;
    let name = spec.name;
    let rate = service.rate(settings)?;
    let loads = service.load(settings, rate);
    let begin = clock::monotonic();
    let mut done = 0;
    // Those that race have shown it soon, and take their time to end.
    let turns = settings.reloads / if server.races() { 10 } else { 1 };
    for turn in 0..turns {
        loads.go_on();
        let old = world.pids(&name)?;
        let said = world.cli(&["reload", &name])?;
        let new = world.pids(&name)?;
        let replaced = new.len() == old.len() && new.iter().all(|pid| *pid > 0 && lives(*pid) && !old.contains(pid));
        if said.code == 0 && replaced && !old.iter().any(|pid| lives(*pid)) {
            done += 1;
        } else {
            let text = format!("{}{}", said.out, said.err);
            report.wrong(format!(
                "reload {turn} of {name}: {old:?}, then {new:?}: {}, {text}",
                said.code
            ));
        }
    }
    loads.go_on();
    report.note(format!(
        "{name}: {done} reloads of {INSTANCES} instances in {}; the server carries at least {:.0} connections/s",
        clock::monotonic().since(begin),
        rate / service::SHARE,
    ));
    loads.end(report, "reloads", done, &Dead::default())?;
    service.delete()
}
