//! The fake world: performs what the core asks for, in virtual time, and looks at everything twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::perform::exited;
use super::programs::Behaviour;
use super::specs::Rng;
use super::succession::write;
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::exit::ExitStatus;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::outcome::{ErrorBody, InstanceResult};
use crate::model::size::Bytes;
use crate::model::spec::AppSpec;
use crate::model::time::Moment;
use crate::supervise::app::App;
use crate::supervise::{Change, Command, Core, EventDraft, Input, Ticket};

/// One process of the fake keeper.
#[derive(Clone, Debug)]
pub(super) struct Proc {
    pub(super) app: AppId,
    pub(super) spec: Arc<AppSpec>,
    pub(super) behaviour: Behaviour,
    pub(super) spawned: bool,
    pub(super) exited: bool,
    pub(super) told: bool,
    pub(super) swept: bool,
}

/// What the disk holds of an app.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) spec: Arc<AppSpec>,
    pub(super) desired: u32,
    pub(super) wanted: bool,
    pub(super) held: Vec<Slot>,
}

pub(super) type Reply = Result<Vec<InstanceResult>, Box<ErrorBody>>;

pub(super) struct World {
    pub(super) now: Moment,
    pub(super) core: Core,
    pub(super) rng: Rng,
    pub(super) procs: BTreeMap<RunId, Proc>,
    pub(super) disk: BTreeMap<AppId, Row>,
    pub(super) spawns: Vec<(Moment, RunId, Slot)>,
    pub(super) log: Vec<(Moment, EventDraft)>,
    pub(super) replies: BTreeMap<Ticket, Reply>,
    pub(super) asked: BTreeSet<Ticket>,
    pub(super) trace: Vec<String>,
    /// One commit in so many fails; zero: none.
    pub(super) bad_disk: u64,
    /// Nothing can be started at the moment.
    pub(super) starving: bool,
    pub(super) exclusive: bool,
    pub(super) inspects: bool,
    /// What is monitored falls ill and recovers now and then.
    pub(super) sickly: bool,
    pub(super) down: bool,
    pub(super) resuming: bool,
    pub(super) shadow: Option<Core>,
    pub(super) died: bool,
    pub(super) queue: BTreeMap<(Moment, u64), Input>,
    pub(super) committing: Option<Vec<Change>>,
    pub(super) released: BTreeSet<RunId>,
    pub(super) probed: BTreeSet<RunId>,
    pub(super) monitored: BTreeSet<RunId>,
    seq: u64,
    next_ticket: Ticket,
    ticks_now: (Moment, u32),
    pub(super) commits: u32,
    /// How often a core was made anew from what another one wrote.
    pub(super) restarts: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Moment(1_000_000_007),
            core: Core::new(0, 0),
            rng: Rng(seed),
            procs: BTreeMap::new(),
            disk: BTreeMap::new(),
            spawns: Vec::new(),
            log: Vec::new(),
            replies: BTreeMap::new(),
            asked: BTreeSet::new(),
            trace: Vec::new(),
            bad_disk: 0,
            starving: false,
            exclusive: false,
            inspects: true,
            sickly: false,
            down: false,
            resuming: false,
            shadow: None,
            died: false,
            queue: BTreeMap::new(),
            committing: None,
            released: BTreeSet::new(),
            probed: BTreeSet::new(),
            monitored: BTreeSet::new(),
            seq: 0,
            next_ticket: 1,
            ticks_now: (Moment(0), 0),
            commits: 0,
            restarts: 0,
        }
    }

    pub(super) fn later(&mut self, millis: u64, input: Input) {
        self.seq += 1;
        let odd = self.rng.below(999_999);
        let at = Moment(self.now.after(Millis(millis)).0 + odd);
        self.queue.insert((at, self.seq), input);
    }

    /// Somebody asks, now.
    pub(super) fn ask(&mut self, command: Command) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.asked.insert(ticket);
        let before = self.exports();
        let commits = self.commits;
        self.feed(Input::Command(ticket, command));
        if self
            .replies
            .get(&ticket)
            .is_some_and(|reply| reply.as_ref().is_err_and(|e| e.results.is_empty()))
            && commits == self.commits
        {
            assert_eq!(before, self.exports(), "a refused command changes nothing");
        }
        ticket
    }

    pub(super) fn exports(&self) -> Vec<String> {
        self.core.apps.values().map(|app| app.export().unwrap()).collect()
    }

    /// Asks, and runs until the answer.
    pub(super) fn run(&mut self, command: Command) -> Reply {
        let ticket = self.ask(command);
        self.until_answered(ticket)
    }

    pub(super) fn until_answered(&mut self, ticket: Ticket) -> Reply {
        for _ in 0..20_000 {
            if let Some(reply) = self.replies.get(&ticket) {
                return reply.clone();
            }
            assert!(self.step(), "nothing happens any more, and ticket {ticket} is open");
        }
        panic!("ticket {ticket} is still open after 20000 steps, at {:?}", self.now);
    }

    /// Runs for this long.
    pub(super) fn pass(&mut self, millis: u64) {
        let end = self.now.after(Millis(millis));
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    fn next_at(&self) -> Option<Moment> {
        let world = self.queue.first_key_value().map(|((at, _), _)| *at);
        let timer = self.core.poll_timeout().map(|at| at.max(self.now));
        world.into_iter().chain(timer).min()
    }

    /// One thing happens. False if nothing ever will.
    pub(super) fn step(&mut self) -> bool {
        let world = self.queue.first_key_value().map(|((at, _), _)| *at);
        let timer = self.core.poll_timeout();
        match (world, timer) {
            (None, None) => return false,
            (Some(at), timer) if timer.is_none_or(|timer| at <= timer) => {
                let ((_, _), input) = self.queue.pop_first().unwrap();
                self.now = self.now.max(at);
                self.deliver(input);
            }
            (_, Some(at)) => {
                self.now = self.now.max(at);
                if self.ticks_now.0 == self.now {
                    self.ticks_now.1 += 1;
                    assert!(self.ticks_now.1 < 20, "a busy loop");
                } else {
                    self.ticks_now = (self.now, 1);
                }
                self.feed(Input::Tick);
            }
            (Some(_), None) => unreachable!(),
        }
        true
    }

    fn deliver(&mut self, input: Input) {
        match &input {
            Input::Committed(result) => {
                let changes = self.committing.take().expect("a commit is under way");
                if result.is_ok() {
                    write(&mut self.disk, changes);
                }
            }
            Input::Spawned(run, _) => {
                let Some(proc) = self.procs.get_mut(run) else { return };
                proc.spawned = true;
                let behaviour = proc.behaviour.clone();
                if let Some((after, code)) = behaviour.exit {
                    self.later(after, exited(*run, ExitStatus::Code(code)));
                }
                if behaviour.fat {
                    self.later(5000, Input::Memory(*run, Bytes(1 << 40)));
                }
            }
            Input::SpawnFailed(run, _) | Input::SpawnStarved(run, _) => {
                let Some(proc) = self.procs.get_mut(run) else { return };
                proc.exited = true;
                proc.swept = true;
            }
            Input::Exited(run, ..) => {
                let Some(proc) = self.procs.get_mut(run).filter(|proc| !proc.exited) else {
                    return;
                };
                proc.exited = true;
            }
            Input::Swept(run) => {
                let Some(proc) = self.procs.get_mut(run) else { return };
                proc.swept = true;
            }
            Input::Ready(run) => {
                if !self.probed.remove(run) || self.procs.get(run).is_none_or(|proc| proc.exited) {
                    return;
                }
            }
            Input::Memory(run, bytes) => {
                if self.procs.get(run).is_none_or(|proc| proc.exited) {
                    return;
                }
                self.later(1000, Input::Memory(*run, *bytes));
            }
            Input::LeftBehind(_)
            | Input::Healthy(_)
            | Input::Unhealthy(..)
            | Input::Recycle(..)
            | Input::Extend(..)
            | Input::Reloading(_)
            | Input::Demand(_)
            | Input::Idle(_)
            | Input::Command(..)
            | Input::Checked(..)
            | Input::PreStopped(_)
            | Input::Inspected(..)
            | Input::Tick => {}
        }
        self.feed(input);
    }

    pub(super) fn feed(&mut self, input: Input) {
        self.trace.push(format!("{:>12} <- {input:?}", self.now.0 / 1000));
        let copy = self.shadow.is_some().then(|| input.clone());
        self.core.handle(self.now, input);
        if let (Some(shadow), Some(copy)) = (self.shadow.as_mut(), copy) {
            shadow.handle(self.now, copy);
        }
        self.perform_all();
        self.check();
    }

    pub(super) fn count(&self, kind: EventKind) -> usize {
        self.log.iter().filter(|(_, draft)| draft.kind == kind).count()
    }

    /// The app of that name.
    pub(super) fn app(&self, name: &str) -> &App {
        self.core.named(&name.parse().unwrap()).unwrap()
    }

    pub(super) fn alive(&self) -> usize {
        self.procs.values().filter(|proc| !proc.exited).count()
    }

    /// Programs that are alive and not told to stop, by slot.
    pub(super) fn serving(&self, name: &str) -> Vec<String> {
        let id = self.app(name).id;
        self.procs
            .values()
            .filter(|proc| proc.app == id && !proc.exited && !proc.told)
            .map(|proc| proc.spec.argv[0].to_text().into_owned())
            .collect()
    }
}
