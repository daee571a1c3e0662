//! From a command to what has to be written and what is to be done then.
//!
//! Planning changes nothing: either the whole command is possible, or it is refused as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::env::EnvMap;
use crate::model::names::{AppId, Slot};
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::spec::{AppSpec, MAX_INSTANCES};
use crate::model::target::{ScaleTo, Target};
use crate::supervise::app::App;
use crate::supervise::core::Core;
use crate::supervise::input::Command;
use crate::supervise::output::Change;
use crate::supervise::rollout::Purpose;

/// A command that is possible.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// To be written first.
    pub changes: Vec<Change>,
    /// To be done then.
    pub steps: Vec<Step>,
}

/// One thing to be done to one app.
#[derive(Debug)]
pub(super) enum Step {
    /// A new app.
    Create(AppId, Arc<AppSpec>),
    /// Another spec for an app of which nothing runs, or which is to be restarted.
    Respec(AppId, Arc<AppSpec>, u32),
    /// Start these slots.
    Up(AppId, Vec<Slot>),
    /// Stop these slots; all of them, or one by one.
    Down(AppId, Vec<Slot>, bool),
    /// Stop and start these slots.
    Restart(AppId, Vec<Slot>),
    /// Replace what runs by this spec; keep it even if it fails; how many are wanted and held when that is done.
    Rollout(AppId, Arc<AppSpec>, bool, Option<(u32, Vec<Slot>)>),
    /// Wait for the rollout to this spec that is under way.
    Join(AppId, Arc<AppSpec>),
    /// Another number of instances.
    Scale(AppId, u32),
    /// Stop and forget.
    Delete(AppId),
    /// Forget failures.
    Reset(AppId, Vec<Slot>),
    /// Stop everything.
    Shutdown,
}

pub(super) type Planned = Result<Plan, Box<ErrorBody>>;

pub(super) fn refuse<T>(
    kind: ErrorKind,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Result<T, Box<ErrorBody>> {
    Err(Box::new(ErrorBody::new(kind, message).hint(hint)))
}

impl Core {
    /// Decides whether and how a command is possible.
    pub(super) fn plan(&mut self, command: &Command) -> Planned {
        match command {
            Command::Apply {
                apps,
                update_env,
                no_rollback,
            } => self.plan_apply(apps, *update_env, *no_rollback),
            Command::Start { targets, env } => self.plan_start(targets, env.as_ref()),
            Command::Stop { targets } => self.plan_stop(targets),
            Command::Restart { targets, env } => self.plan_restart(targets, env.as_ref()),
            Command::Reload {
                targets,
                env,
                no_rollback,
            } => self.plan_reload(targets, env.as_ref(), *no_rollback),
            Command::Delete { targets } => self.plan_delete(targets),
            Command::Scale { targets, to } => self.plan_scale(targets, *to),
            Command::Reset { targets } => Ok(Plan {
                changes: Vec::new(),
                steps: self
                    .resolve(targets)?
                    .into_iter()
                    .map(|(id, slots)| Step::Reset(id, slots))
                    .collect(),
            }),
            Command::Shutdown => Ok(Plan {
                changes: Vec::new(),
                steps: vec![Step::Shutdown],
            }),
        }
    }

    /// The apps and slots that are meant. Every target must mean something.
    pub fn resolve(&self, targets: &[Target]) -> Result<Vec<(AppId, Vec<Slot>)>, Box<ErrorBody>> {
        let mut found: Vec<(AppId, BTreeSet<Slot>)> = Vec::new();
        for target in targets {
            let mut any = matches!(target, Target::All);
            for app in self
                .apps
                .values()
                .filter(|app| !app.deleting && target.matches(app.id, app.name(), &app.spec().namespace))
            {
                let slots: BTreeSet<Slot> = match target.slot() {
                    Some(slot) if slot >= app.desired => {
                        let message = format!("{} has no instance {slot}", app.name());
                        return refuse(
                            ErrorKind::NotFound,
                            message,
                            format!("it has {}, numbered from 0", app.desired),
                        );
                    }
                    Some(slot) => BTreeSet::from([slot]),
                    None => (0..app.desired).collect(),
                };
                any = true;
                match found.iter_mut().find(|(id, _)| *id == app.id) {
                    Some((_, known)) => known.extend(slots),
                    None => found.push((app.id, slots)),
                }
            }
            if !any {
                return refuse(
                    ErrorKind::NotFound,
                    format!(
                        "no app, namespace or id matches {target:?}",
                        target = target.to_string()
                    ),
                    "clmgr status lists what there is",
                );
            }
        }
        found.sort_by_key(|(id, _)| *id);
        Ok(found
            .into_iter()
            .map(|(id, slots)| (id, slots.into_iter().collect()))
            .collect())
    }

    fn app(&self, id: AppId) -> Option<&App> {
        self.apps.get(&id)
    }

    fn plan_start(&mut self, targets: &[Target], env: Option<&Arc<EnvMap>>) -> Planned {
        let mut plan = Plan::default();
        for (id, slots) in self.resolve(targets)? {
            let Some(app) = self.app(id) else { continue };
            let respec = self.respec(app, env)?;
            let unheld = slots.iter().any(|slot| app.held.contains(slot));
            if unheld && app.user_rollout().is_some() {
                return refuse(
                    ErrorKind::Conflict,
                    format!("{} is being reloaded", app.name()),
                    "wait for it, then try again",
                );
            }
            if let Some(spec) = respec {
                if app.is_serving() {
                    let held = app.held_without(&slots);
                    let shape = unheld.then_some((app.desired, held));
                    plan.steps.push(Step::Rollout(id, spec, false, shape));
                    continue;
                }
                plan.changes.push(Change::Put {
                    id,
                    spec: Arc::clone(&spec),
                    desired: app.desired,
                    wanted: true,
                    held: app.held_after_start(&slots),
                });
                plan.steps.push(Step::Respec(id, spec, app.desired));
            } else if !app.wanted || unheld {
                // An app that was stopped as a whole and is started by one slot keeps its other slots held.
                let held = app.held_after_start(&slots);
                plan.changes.push(Change::Want {
                    id,
                    desired: app.desired,
                    wanted: true,
                    held,
                });
            }
            plan.steps.push(Step::Up(id, slots));
        }
        Ok(plan)
    }

    /// The spec with another inherited environment, if that makes a difference.
    fn respec(&self, app: &App, env: Option<&Arc<EnvMap>>) -> Result<Option<Arc<AppSpec>>, Box<ErrorBody>> {
        let Some(env) = env.filter(|env| **env != app.spec().env_base) else {
            return Ok(None);
        };
        if app.user_rollout().is_some() {
            return refuse(
                ErrorKind::Conflict,
                format!("{} is being reloaded", app.name()),
                "wait for it, then try again",
            );
        }
        let mut spec = AppSpec::clone(app.spec());
        spec.env_base = Arc::clone(env);
        Ok(Some(Arc::new(spec)))
    }

    fn plan_stop(&mut self, targets: &[Target]) -> Planned {
        let mut plan = Plan::default();
        for (id, slots) in self.resolve(targets)? {
            let Some(app) = self.app(id) else { continue };
            let whole = slots.len() >= app.desired as usize;
            if !whole && app.user_rollout().is_some() {
                return refuse(
                    ErrorKind::Conflict,
                    format!("{} is being reloaded", app.name()),
                    format!("wait for it, or stop the whole app with: clmgr stop {}", app.name()),
                );
            }
            let mut held: Vec<Slot> = app.held.iter().copied().collect();
            let wanted = app.wanted && !whole;
            if whole {
                held.clear();
            } else {
                held.extend(&slots);
                held.sort_unstable();
                held.dedup();
            }
            if wanted != app.wanted || !held.iter().eq(app.held.iter()) {
                plan.changes.push(Change::Want {
                    id,
                    desired: app.desired,
                    wanted,
                    held,
                });
            }
            plan.steps.push(Step::Down(id, slots, whole));
        }
        Ok(plan)
    }

    fn plan_restart(&mut self, targets: &[Target], env: Option<&Arc<EnvMap>>) -> Planned {
        let mut plan = Plan::default();
        for (id, slots) in self.resolve(targets)? {
            let Some(app) = self.app(id) else { continue };
            if app.user_rollout().is_some() {
                return refuse(
                    ErrorKind::Conflict,
                    format!("{} is being reloaded", app.name()),
                    "wait for it, then try again",
                );
            }
            if let Some(spec) = self.respec(app, env)? {
                plan.changes.push(Change::Put {
                    id,
                    spec: Arc::clone(&spec),
                    desired: app.desired,
                    wanted: true,
                    held: app.held_after_start(&slots),
                });
                plan.steps.push(Step::Respec(id, spec, app.desired));
            } else if !app.wanted || slots.iter().any(|slot| app.held.contains(slot)) {
                plan.changes.push(Change::Want {
                    id,
                    desired: app.desired,
                    wanted: true,
                    held: app.held_after_start(&slots),
                });
            }
            plan.steps.push(Step::Restart(id, slots));
        }
        Ok(plan)
    }

    fn plan_reload(&mut self, targets: &[Target], env: Option<&Arc<EnvMap>>, no_rollback: bool) -> Planned {
        let mut plan = Plan::default();
        for (id, slots) in self.resolve(targets)? {
            let Some(app) = self.app(id) else { continue };
            if slots.len() < app.desired as usize {
                return refuse(
                    ErrorKind::BadRequest,
                    format!("{} can only be reloaded as a whole", app.name()),
                    format!(
                        "clmgr reload {0}, or clmgr restart {0}:{1}",
                        app.name(),
                        slots.first().unwrap_or(&0)
                    ),
                );
            }
            if app.user_rollout().is_some() {
                return refuse(
                    ErrorKind::Conflict,
                    format!("{} is being reloaded already", app.name()),
                    "wait for it, then try again",
                );
            }
            let spec = self.respec(app, env)?.unwrap_or_else(|| Arc::clone(app.spec()));
            if app.is_serving() {
                plan.steps.push(Step::Rollout(id, spec, no_rollback, None));
            } else {
                let held = Vec::new();
                plan.changes.push(Change::Put {
                    id,
                    spec: Arc::clone(&spec),
                    desired: app.desired,
                    wanted: true,
                    held,
                });
                plan.steps.push(Step::Respec(id, spec, app.desired));
                plan.steps.push(Step::Up(id, slots));
            }
        }
        Ok(plan)
    }

    fn plan_delete(&mut self, targets: &[Target]) -> Planned {
        let mut plan = Plan::default();
        for (id, slots) in self.resolve(targets)? {
            let Some(app) = self.app(id) else { continue };
            if slots.len() < app.desired as usize {
                return refuse(
                    ErrorKind::BadRequest,
                    format!("one instance of {} cannot be deleted", app.name()),
                    format!("clmgr scale {} {}", app.name(), app.desired.saturating_sub(1)),
                );
            }
            plan.changes.push(Change::Delete(id));
            plan.steps.push(Step::Delete(id));
        }
        Ok(plan)
    }

    fn plan_scale(&mut self, targets: &[Target], to: ScaleTo) -> Planned {
        let mut plan = Plan::default();
        for (id, _) in self.resolve(targets)? {
            let Some(app) = self.app(id) else { continue };
            if app.user_rollout().is_some() {
                return refuse(
                    ErrorKind::Conflict,
                    format!("{} is being reloaded", app.name()),
                    "wait for it, then scale",
                );
            }
            let desired = to.of(app.desired);
            let desired = match u32::try_from(desired) {
                Ok(count) if (1..=MAX_INSTANCES).contains(&count) => count,
                Ok(_) | Err(_) => {
                    let message = format!(
                        "{} cannot have {desired} instances; 1 to {MAX_INSTANCES} are possible",
                        app.name()
                    );
                    return refuse(
                        ErrorKind::BadRequest,
                        message,
                        format!("to have none, use: clmgr stop {}", app.name()),
                    );
                }
            };
            if desired != app.desired {
                let held = app.held.iter().copied().filter(|slot| *slot < desired).collect();
                plan.changes.push(Change::Want {
                    id,
                    desired,
                    wanted: app.wanted,
                    held,
                });
            }
            plan.steps.push(Step::Scale(id, desired));
        }
        Ok(plan)
    }
}

impl App {
    /// The rollout under way, if a user asked for it.
    #[must_use]
    pub fn user_rollout(&self) -> Option<&super::rollout::Rollout> {
        self.rollout
            .as_ref()
            .filter(|rollout| rollout.purpose == Purpose::Reload)
    }

    /// Any instance of it is in service, or on the way there.
    pub(super) fn is_serving(&self) -> bool {
        self.runs.values().any(|run| run.is_serving())
    }

    fn held_without(&self, slots: &[Slot]) -> Vec<Slot> {
        self.held.iter().copied().filter(|slot| !slots.contains(slot)).collect()
    }

    /// What stays held when these slots are started.
    fn held_after_start(&self, slots: &[Slot]) -> Vec<Slot> {
        if self.wanted {
            self.held_without(slots)
        } else {
            (0..self.desired).filter(|slot| !slots.contains(slot)).collect()
        }
    }
}
