//! What else may happen to an app in a random history: it falls ill, asks to be replaced, is connected to.

use super::specs::Rng;
use super::world::World;
use crate::model::balance::OnDemand;
use crate::model::duration::Millis;
use crate::model::health::{Health, MaxAge, Probe};
use crate::model::listen::ListenSpec;
use crate::model::names::{AppId, RunId};
use crate::model::spec::AppSpec;
use crate::supervise::Input;

/// Gives a random spec what makes the core watch it.
pub(super) fn watched(rng: &mut Rng, spec: &mut AppSpec) {
    if rng.one_in(3) {
        spec.health = Some(Health {
            probe: Probe::Tcp("127.0.0.1:1".to_owned()),
            interval: Millis(rng.pick(&[200, 1000])),
            timeout: Millis(500),
            retries: 2,
            start_period: Millis(rng.pick(&[0, 1000])),
        });
    }
    spec.watchdog = rng.one_in(5).then_some(Millis(3000));
    spec.hang_timeout = rng.one_in(5).then_some(Millis(5000));
    spec.max_age = rng.one_in(4).then(|| MaxAge {
        after: Millis(rng.pick(&[3000, 60_000])),
        jitter: 0.3,
    });
    spec.on_demand = rng.one_in(4).then_some(OnDemand { idle_timeout: None });
    if rng.one_in(4)
        && let Ok(address) = "127.0.0.1:0".parse()
    {
        spec.listen = vec![ListenSpec::new(address)];
    }
}

/// Something happens to somebody.
pub(super) fn disturb(rng: &mut Rng, world: &mut World) {
    let apps: Vec<AppId> = world.core.apps.keys().copied().collect();
    let runs: Vec<RunId> = world.procs.keys().copied().collect();
    if !apps.is_empty() && rng.one_in(2) {
        let app = rng.pick(&apps);
        let input = if rng.one_in(3) {
            Input::Idle(app)
        } else {
            Input::Demand(app)
        };
        return world.feed(input);
    }
    if runs.is_empty() {
        return;
    }
    let run = rng.pick(&runs);
    let online = world
        .core
        .owner(run)
        .and_then(|app| app.runs.get(&run))
        .is_some_and(|run| run.is_online());
    let input = match rng.below(6) {
        0 => Input::Healthy(run),
        1 => Input::Unhealthy(run, "it accepts nothing".to_owned()),
        2 => Input::Recycle(run, "1000 requests answered".to_owned()),
        3 => Input::Reloading(run),
        4 if online => Input::Ready(run),
        _ => Input::Extend(run, Millis(rng.below(40_000))),
    };
    world.feed(input);
}
