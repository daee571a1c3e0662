//! What is shown of the apps.

use std::sync::Arc;

use crate::api::logs::LogSources;
use crate::api::status::{AppDescription, AppStatus, EnvReply, InstanceStatus, Ping, StatusReply};
use crate::daemon::{Daemon, sinks};
use crate::model::env::{EnvMap, MASK};
use crate::model::names::{AppId, RunId};
use crate::model::outcome::ErrorBody;
use crate::model::spec::AppSpec;
use crate::model::target::Target;
use crate::model::time::Moment;
use crate::model::version::version;
use crate::os::clock;
use crate::supervise::app::App;
use crate::supervise::policy::breaker::Circuit;

impl Daemon {
    /// `ping`.
    pub(crate) fn ping(&self) -> Ping {
        Ping {
            version: version().to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            keeper_pid: self.keeper_pid,
            keeper_version: self.upgrades.keeper_version.clone(),
            uptime_ms: clock::monotonic().since(self.began).0,
            home: self.home.state.display().to_string(),
        }
    }

    /// `status`.
    pub(crate) fn status(&mut self, targets: &[Target]) -> Result<StatusReply, Box<ErrorBody>> {
        self.look();
        let now = clock::monotonic();
        let apps = if targets.is_empty() {
            self.core
                .apps
                .values()
                .map(|app| self.app_status(app, now, None))
                .collect()
        } else {
            let found = self.core.resolve(targets)?;
            found
                .iter()
                .filter_map(|(id, slots)| self.core.apps.get(id).map(|app| self.app_status(app, now, Some(slots))))
                .collect()
        };
        Ok(StatusReply { apps })
    }

    fn app_status(&self, app: &App, now: Moment, only: Option<&[u32]>) -> AppStatus {
        let slots = app
            .visible_slots()
            .filter(|slot| only.is_none_or(|wanted| wanted.contains(slot) || *slot >= app.desired));
        AppStatus {
            id: app.id,
            name: app.name().clone(),
            namespace: app.spec().namespace.clone(),
            state: app.state(),
            desired: app.desired,
            listeners: self.listeners.status(app, false),
            instances: slots.map(|slot| self.instance_status(app, slot, now)).collect(),
            progress: app.progress(now),
        }
    }

    fn instance_status(&self, app: &App, slot: u32, now: Moment) -> InstanceStatus {
        let record = app.slots.get(slot as usize);
        let run = app.current(slot).or_else(|| app.runs_in(slot).next());
        let living = run.filter(|run| run.exit.is_none() && run.pid.is_some());
        let sample = living.and_then(|run| self.samples.get(&run.id));
        let due = |circuit: Circuit| match circuit {
            Circuit::Open { until, .. } => until,
            Circuit::Closed | Circuit::Probing { .. } => None,
        };
        let waiting = if app.is_wanted(slot) && living.is_none() {
            due(app.circuit).or_else(|| record.and_then(|record| due(record.circuit).or(record.next_start)))
        } else {
            None
        };
        InstanceStatus {
            slot,
            pid: living.and_then(|run| run.pid),
            state: app.slot_state(slot),
            restarts: record.map_or(0, |record| record.restarts),
            uptime_ms: living.and_then(|run| run.began).map(|began| now.since(began).0),
            cpu_percent: sample
                .filter(|sample| sample.cpu_known)
                .map(|sample| sample.usage.cpu_percent),
            memory_bytes: sample.map(|sample| sample.usage.memory),
            next_start_ms: waiting.map(|at| at.since(now).0),
            last_exit: record.and_then(|record| record.last_exit),
            health: None,
            status_text: match living {
                Some(run) => run.said.text(),
                None => record.and_then(|record| record.last_words.clone()),
            },
            stored_descriptors: self.notify.store.count(app.id, slot),
        }
    }

    /// `describe`, without what the store knows.
    pub(crate) fn describe(&mut self, targets: &[Target]) -> Result<Vec<AppDescription>, Box<ErrorBody>> {
        self.look();
        let now = clock::monotonic();
        let found = self.core.resolve(targets)?;
        Ok(found
            .iter()
            .filter_map(|(id, slots)| self.core.apps.get(id).map(|app| (app, slots)))
            .map(|(app, slots)| (app, slots, self.custom_of(app)))
            .map(|(app, slots, (metrics, actions))| AppDescription {
                status: AppStatus {
                    listeners: self.listeners.status(app, true),
                    ..self.with_health(app, self.app_status(app, now, Some(slots)))
                },
                spec: masked(app.spec()),
                reason: reason(app),
                crashes: Vec::new(),
                events: Vec::new(),
                logs: sinks::sources(&self.home.logs, app),
                created: self.created.get(&app.id).copied(),
                metrics,
                actions,
            })
            .collect())
    }

    fn with_health(&self, app: &App, mut status: AppStatus) -> AppStatus {
        for instance in &mut status.instances {
            instance.health = app.current(instance.slot).and_then(|run| self.health_of(run.id));
        }
        status
    }

    /// `env`.
    pub(crate) fn env(&self, targets: &[Target], reveal: bool) -> Result<Vec<EnvReply>, Box<ErrorBody>> {
        let mut replies = Vec::new();
        for (id, slots) in self.core.resolve(targets)? {
            let Some(app) = self.core.apps.get(&id) else { continue };
            for slot in slots {
                let run = app.current(slot).map_or(RunId(0), |run| run.id);
                let spec = self.spec_of(run).unwrap_or_else(|| Arc::clone(app.spec()));
                let mut env = self.run_environment(run, slot, &spec);
                Self::socket_numbers(&spec, &mut env);
                self.channel_variables(run, slot, &spec, &mut env);
                self.stored_numbers(id, slot, &spec, &mut env);
                if !reveal {
                    mask(&mut env);
                }
                replies.push(EnvReply {
                    app: app.name().clone(),
                    slot,
                    env,
                });
            }
        }
        Ok(replies)
    }

    /// `logs/sources`.
    pub(crate) fn log_sources(&self, targets: &[Target]) -> Result<LogSources, Box<ErrorBody>> {
        let ids: Vec<(AppId, Vec<u32>)> = if targets.is_empty() {
            self.core.apps.keys().map(|id| (*id, Vec::new())).collect()
        } else {
            self.core.resolve(targets)?
        };
        let mut found = LogSources {
            times: Some(self.home.log_times().into()),
            ..LogSources::default()
        };
        for (id, slots) in ids {
            let Some(app) = self.core.apps.get(&id) else { continue };
            found.elsewhere.extend(sinks::elsewhere(app));
            let all = slots.is_empty() || slots.len() >= app.desired as usize;
            found.sources.extend(
                sinks::sources(&self.home.logs, app)
                    .into_iter()
                    .filter(|source| all || source.slot.is_none_or(|slot| slots.contains(&slot))),
            );
        }
        Ok(found)
    }
}

/// Why an app does not run as it should, in one sentence.
fn reason(app: &App) -> Option<String> {
    if let Some(reason) = app.reason.as_ref().filter(|_| app.circuit.is_tripped()) {
        return Some(format!("the circuit is open: {reason}"));
    }
    app.slots.iter().enumerate().find_map(|(slot, record)| {
        record
            .reason
            .as_ref()
            .map(|reason| format!("instance {slot}: {reason}"))
    })
}

fn mask(env: &mut EnvMap) {
    for value in env.values_mut() {
        *value = MASK.into();
    }
}

/// The spec with every environment value masked.
fn masked(spec: &AppSpec) -> AppSpec {
    let mut shown = spec.clone();
    mask(&mut shown.env);
    let mut base = EnvMap::clone(&spec.env_base);
    mask(&mut base);
    shown.env_base = Arc::new(base);
    shown
}
