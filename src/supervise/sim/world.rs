//! The fake world: performs what the core asks for, in virtual time, and looks at everything twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::specs::Rng;
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::exit::{Exit, ExitStatus};
use crate::model::names::{AppId, RunId, Slot};
use crate::model::outcome::{ErrorBody, InstanceResult};
use crate::model::size::Bytes;
use crate::model::spec::AppSpec;
use crate::model::time::Moment;
use crate::supervise::app::App;
use crate::supervise::{Change, Command, Core, EventDraft, Input, Output, Ticket};

/// What a program does, by its name.
#[derive(Clone, Debug)]
pub(super) struct Behaviour {
    spawns: bool,
    ready: Option<u64>,
    exit: Option<(u64, i32)>,
    /// How long it takes to stop; none: not before SIGKILL.
    stop: Option<u64>,
    sweep: u64,
    fat: bool,
}

impl Behaviour {
    fn of(program: &str, rng: &mut Rng) -> Self {
        let good = Self {
            spawns: true,
            ready: Some(50),
            exit: None,
            stop: Some(20),
            sweep: 1,
            fat: false,
        };
        match program {
            "good" | "better" => good,
            "crash" => Self {
                ready: None,
                exit: Some((200, 1)),
                ..good
            },
            "ready-then-crash" => Self {
                exit: Some((1500, 1)),
                ..good
            },
            "once" => Self {
                exit: Some((3000, 0)),
                ..good
            },
            "once-3" => Self {
                exit: Some((300, 3)),
                ..good
            },
            "never-ready" => Self { ready: None, ..good },
            "no-spawn" => Self { spawns: false, ..good },
            "deaf" => Self { stop: None, ..good },
            "family" => Self { sweep: 30_000, ..good },
            "fat" => Self { fat: true, ..good },
            "wild" => Self {
                spawns: !rng.one_in(6),
                ready: (!rng.one_in(4)).then(|| rng.below(1500)),
                exit: (!rng.one_in(3)).then(|| {
                    let spread = rng.pick(&[300, 3000, 60_000]);
                    (rng.below(spread), rng.pick(&[0, 1, 1, 3]))
                }),
                stop: (!rng.one_in(4)).then(|| rng.below(3000)),
                sweep: rng.pick(&[0, 1, 5000]),
                fat: rng.one_in(4),
            },
            other => panic!("no such program: {other}"),
        }
    }
}

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
    pub(super) exclusive: bool,
    pub(super) inspects: bool,
    pub(super) down: bool,
    resuming: bool,
    shadow: Option<Core>,
    died: bool,
    queue: BTreeMap<(Moment, u64), Input>,
    committing: Option<Vec<Change>>,
    released: BTreeSet<RunId>,
    probed: BTreeSet<RunId>,
    seq: u64,
    next_ticket: Ticket,
    ticks_now: (Moment, u32),
    pub(super) commits: u32,
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
            exclusive: false,
            inspects: true,
            down: false,
            resuming: false,
            shadow: None,
            died: false,
            queue: BTreeMap::new(),
            committing: None,
            released: BTreeSet::new(),
            probed: BTreeSet::new(),
            seq: 0,
            next_ticket: 1,
            ticks_now: (Moment(0), 0),
            commits: 0,
        }
    }

    fn later(&mut self, millis: u64, input: Input) {
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
            Input::SpawnFailed(run, _) => {
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
            Input::Command(..) | Input::Checked(..) | Input::PreStopped(_) | Input::Inspected(..) | Input::Tick => {}
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

    /// From here on a core that was written to text and read back decides everything a second time.
    pub(super) fn cast_shadow(&mut self) {
        // A void check is asked for again by the shadow at once, by the other one when its answer comes.
        if self.committing.is_some() || self.core.apps.values().any(|app| app.recheck) {
            return;
        }
        let mut shadow = Core::new(self.core.next_app, self.core.cx.peek_run());
        for app in self.core.apps.values() {
            let copy = App::import(&app.export().unwrap(), Arc::clone(app.spec())).unwrap();
            shadow.insert(copy);
        }
        shadow.resume(self.now);
        while shadow.poll_output().is_some() {}
        self.shadow = Some(shadow);
    }

    pub(super) fn perform_all(&mut self) {
        while let Some(output) = self.core.poll_output() {
            self.compare(&output);
            self.trace
                .push(format!("{:>12}    -> {}", self.now.0 / 1000, brief(&output)));
            self.perform(output);
        }
        let _ = self.core.take_dirty();
        if let Some(shadow) = &mut self.shadow {
            while let Some(output) = shadow.poll_output() {
                assert!(matches!(output, Output::Reply(..)), "only the shadow wants {output:?}");
            }
            assert_eq!(shadow.poll_timeout(), self.core.poll_timeout(), "the same timers");
        }
    }

    fn compare(&mut self, output: &Output) {
        let Some(shadow) = &mut self.shadow else { return };
        if matches!(output, Output::Reply(..)) {
            return;
        }
        while let Some(other) = shadow.poll_output() {
            if !matches!(other, Output::Reply(..)) {
                assert_eq!(
                    format!("{output:?}"),
                    format!("{other:?}"),
                    "the same decision after export and import"
                );
                if let Output::Release(run) = other {
                    shadow.release(run);
                }
                return;
            }
        }
        panic!("the shadow does not want {output:?}");
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Commit(changes) => {
                assert!(self.committing.is_none(), "one commit at a time");
                self.commits += 1;
                self.committing = Some(changes);
                let fails = self.bad_disk > 0 && self.rng.one_in(self.bad_disk);
                let result = if fails { Err("no space left".to_owned()) } else { Ok(()) };
                let wait = self.rng.below(15);
                self.later(wait, Input::Committed(result));
            }
            Output::Check(id, spec) => {
                let missing = spec.require.env.iter().find(|name| spec.variable(name).is_none());
                let result = missing.map_or(Ok(()), |name| Err(format!("{name} is not set")));
                let wait = self.rng.below(30);
                self.later(wait, Input::Checked(id, result));
            }
            Output::Spawn { run, app, slot, spec } => self.spawn(run, app, slot, spec),
            Output::Probe(run) => {
                self.probed.insert(run);
                if let Some(after) = self.proc(run).behaviour.ready {
                    self.later(after, Input::Ready(run));
                }
            }
            Output::EndProbe(run) => {
                let _ = self.proc(run);
                self.probed.remove(&run);
            }
            Output::PreStop(run) => {
                self.proc(run).told = true;
                let wait = self.rng.below(500);
                self.later(wait, Input::PreStopped(run));
            }
            Output::Stop(run) => {
                let proc = self.proc(run);
                proc.told = true;
                if let Some(after) = proc.behaviour.stop {
                    self.later(after, exited(run, ExitStatus::Signal(15)));
                }
            }
            Output::Kill(run) => {
                self.proc(run).told = true;
                self.later(2, exited(run, ExitStatus::Signal(9)));
            }
            Output::Sweep(run, until) => {
                let now = self.now;
                let proc = self.proc(run);
                assert!(proc.exited, "sweeping after the leader");
                let wait = proc.behaviour.sweep.min(until.since(now).0 + 5);
                self.later(wait, Input::Swept(run));
            }
            Output::Inspect(run) => {
                let _ = self.proc(run);
                if self.inspects {
                    let exclusive = self.exclusive;
                    self.later(3, Input::Inspected(run, exclusive));
                }
            }
            Output::Release(run) => {
                let proc = self.procs.remove(&run).expect("released once");
                assert!(
                    proc.exited && (proc.swept || !proc.spec.stop.treekill || self.died),
                    "nothing is left at release"
                );
                assert!(self.released.insert(run));
                self.core.release(run);
            }
            Output::Event(draft) => self.log.push((self.now, *draft)),
            Output::Crash(draft) => assert!(self.disk.contains_key(&draft.app) || draft.pid >= 0),
            Output::Reply(ticket, reply) => {
                assert!(self.asked.contains(&ticket), "answers are to questions");
                assert!(self.replies.insert(ticket, reply).is_none(), "answered once");
            }
        }
    }

    fn proc(&mut self, run: RunId) -> &mut Proc {
        self.procs
            .get_mut(&run)
            .expect("outputs are about runs that are not released")
    }

    fn spawn(&mut self, run: RunId, id: AppId, slot: Slot, spec: Arc<AppSpec>) {
        assert!(!self.released.contains(&run), "a run is spawned once");
        if let Some(proc) = self.procs.get(&run) {
            // Asked again after a restart of the daemon: the keeper knows it, or will answer in a moment.
            if proc.spawned {
                let pid = pid_of(run);
                let gone = proc.exited;
                self.later(
                    0,
                    if gone {
                        exited(run, ExitStatus::Code(1))
                    } else {
                        Input::Spawned(run, pid)
                    },
                );
            }
            return;
        }
        if self.core.is_revoked(run) {
            let proc = Proc {
                app: id,
                spec,
                behaviour: Behaviour::of("no-spawn", &mut self.rng),
                spawned: false,
                exited: false,
                told: true,
                swept: false,
            };
            self.procs.insert(run, proc);
            self.later(0, Input::SpawnFailed(run, "not wanted any more".to_owned()));
            return;
        }
        assert!(!self.down, "nothing starts after a shutdown");
        let app = &self.core.apps[&id];
        assert!(app.is_wanted(slot), "only what is wanted starts");
        assert_eq!(
            self.core.owner(run).map(|app| app.id),
            Some(id),
            "the run is in the books"
        );
        // A start that was decided before the circuit opened, and that the dead daemon did not come to.
        if app.rollout.is_none() && !self.resuming {
            assert!(!app.circuit.is_open(), "an open circuit starts nothing");
            assert_eq!(app.runs_in(slot).count(), 1, "a slot is empty before it is filled");
            if app.circuit.is_tripped() {
                let probes = app.runs.values().filter(|run| run.cause.is_none()).count();
                let tried = app
                    .runs
                    .values()
                    .filter(|r| r.pid.is_none() && r.cause.is_none())
                    .count();
                assert!(tried == 1 && probes <= app.desired as usize, "one probe at a time");
            }
        }
        let program = spec.argv[0].to_text().into_owned();
        let behaviour = Behaviour::of(&program, &mut self.rng);
        let wait = self.rng.below(6);
        let answer = if behaviour.spawns {
            Input::Spawned(run, pid_of(run))
        } else {
            Input::SpawnFailed(run, "exec: no such file".to_owned())
        };
        self.later(wait, answer);
        self.spawns.push((self.now, run, slot));
        let proc = Proc {
            app: id,
            spec,
            behaviour,
            spawned: false,
            exited: false,
            told: false,
            swept: false,
        };
        self.procs.insert(run, proc);
    }

    /// What must hold after every step.
    fn check(&self) {
        for (id, app) in &self.core.apps {
            check_app(app, self.down);
            for run in app.runs.keys() {
                assert!(
                    self.procs.contains_key(run),
                    "{id}: a run in the books is one of the keeper's"
                );
            }
            if self.committing.is_none() && !app.deleting {
                let row = Row {
                    spec: Arc::clone(app.spec()),
                    desired: app.desired,
                    wanted: app.wanted,
                    held: app.held.iter().copied().collect(),
                };
                assert_eq!(self.disk.get(id), Some(&row), "the disk holds what is in force");
            }
        }
        for (run, proc) in &self.procs {
            let app = self.core.apps.get(&proc.app);
            assert!(
                app.is_some_and(|app| app.runs.contains_key(run)),
                "a process is in the books: {proc:?}"
            );
        }
        if self.down {
            assert!(
                self.procs
                    .keys()
                    .all(|run| self.core.owner(*run).is_some_and(|a| a.runs[run].cause.is_some()))
            );
        }
    }

    /// The daemon dies, at once, and the next one takes over.
    pub(super) fn daemon_dies(&mut self) {
        self.trace.push(format!("{:>12} == the daemon dies", self.now.0 / 1000));
        let landed = self.rng.one_in(2);
        if let Some(changes) = self.committing.take().filter(|_| landed) {
            write(&mut self.disk, changes);
        }
        let records: BTreeMap<AppId, String> = self
            .core
            .apps
            .iter()
            .map(|(id, app)| (*id, app.export().unwrap()))
            .collect();
        // What only the daemon would have said is lost; what the keeper knows is not. Half of the spawns that
        // are under way never reached it.
        let mut kept = BTreeMap::new();
        for (key, input) in std::mem::take(&mut self.queue) {
            match &input {
                Input::Spawned(run, _) | Input::SpawnFailed(run, _) => {
                    if self.rng.one_in(2) {
                        self.procs.remove(run);
                        self.spawns.retain(|(_, known, _)| known != run);
                    } else {
                        kept.insert(key, input);
                    }
                }
                Input::Exited(..) | Input::Memory(..) => {
                    kept.insert(key, input);
                }
                Input::Committed(_)
                | Input::Checked(..)
                | Input::Ready(_)
                | Input::Swept(_)
                | Input::PreStopped(_)
                | Input::Inspected(..)
                | Input::Command(..)
                | Input::Tick => {}
            }
        }
        self.queue = kept;
        self.probed.clear();
        self.asked.retain(|ticket| self.replies.contains_key(ticket));
        self.core = Core::new(
            self.next_app(),
            self.spawns
                .iter()
                .map(|s| s.1.0 + 1)
                .max()
                .unwrap_or(0)
                .max(self.released.last().map_or(0, |r| r.0 + 1)),
        );
        let disk = &self.disk;
        self.procs.retain(|_, proc| disk.contains_key(&proc.app));
        for (id, row) in &self.disk {
            let app = records.get(id).map_or_else(
                || App::new(*id, Arc::clone(&row.spec), row.desired, row.wanted),
                |record| App::import(record, Arc::clone(&row.spec)).expect("a record of this version"),
            );
            let mut app = app;
            app.set_wanted(row.desired, row.wanted, row.held.iter().copied());
            self.core.insert(app);
        }
        self.core.resume(self.now);
        self.resuming = true;
        self.died = true;
        self.perform_all();
        self.resuming = false;
        self.check();
    }

    fn next_app(&self) -> u32 {
        self.disk
            .keys()
            .map(|id| id.0 + 1)
            .max()
            .unwrap_or(0)
            .max(self.core.apps.keys().map(|id| id.0 + 1).max().unwrap_or(0))
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

fn check_app(app: &App, down: bool) {
    let surge = app.rollout.as_ref().map_or(0, |rollout| rollout.parallel);
    let running = app
        .runs
        .values()
        .filter(|run| run.exit.is_none() && run.cause.is_none())
        .count();
    assert!(
        running <= (app.desired + surge) as usize,
        "{running} run, {} + {surge} at most",
        app.desired
    );
    for run in app
        .runs
        .values()
        .filter(|run| run.cause.is_none() && run.exit.is_none())
    {
        assert!(
            app.is_wanted(run.slot) || down,
            "what is not wanted is being stopped: {run:?}"
        );
        if app.rollout.is_none() {
            let others = app.runs_in(run.slot).filter(|other| other.cause.is_none()).count();
            assert_eq!(others, 1, "one process per slot");
            assert_eq!(
                app.spec_of(run),
                app.spec(),
                "one generation outside a rollout: {run:?}"
            );
            assert_eq!(
                app.slots[run.slot as usize].current,
                Some(run.id),
                "it is the one in service"
            );
        }
    }
    if app.rollout.is_none() {
        for slot in app.wanted_slots() {
            let state = app.slot_state(slot);
            assert_ne!(
                state,
                crate::model::state::State::Stopped,
                "slot {slot} is wanted and left behind"
            );
        }
    }
}

fn pid_of(run: RunId) -> i32 {
    i32::try_from(run.0).unwrap() + 1000
}

fn exited(run: RunId, status: ExitStatus) -> Input {
    Input::Exited(run, Exit::bare(status), vec!["last words".to_owned()])
}

fn write(disk: &mut BTreeMap<AppId, Row>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put {
                id,
                spec,
                desired,
                wanted,
                held,
            } => {
                disk.insert(
                    id,
                    Row {
                        spec,
                        desired,
                        wanted,
                        held,
                    },
                );
            }
            Change::Want {
                id,
                desired,
                wanted,
                held,
            } => {
                let row = disk.get_mut(&id).expect("known");
                (row.desired, row.wanted, row.held) = (desired, wanted, held);
            }
            Change::Delete(id) => {
                disk.remove(&id);
            }
        }
    }
}

fn brief(output: &Output) -> String {
    match output {
        Output::Spawn { run, app, slot, spec } => {
            format!("Spawn {run} app {app} slot {slot} {}", spec.argv[0].to_text())
        }
        Output::Event(draft) => format!("Event {:?} {:?} {}", draft.kind, draft.slot, draft.message),
        Output::Commit(changes) => format!("Commit {}", changes.len()),
        Output::Check(id, _) => format!("Check {id}"),
        Output::Reply(ticket, Ok(_)) => format!("Reply {ticket} ok"),
        Output::Reply(ticket, Err(body)) => format!("Reply {ticket} {}", body.message),
        Output::Probe(_)
        | Output::EndProbe(_)
        | Output::PreStop(_)
        | Output::Stop(_)
        | Output::Kill(_)
        | Output::Sweep(..)
        | Output::Inspect(_)
        | Output::Release(_)
        | Output::Crash(_) => format!("{output:?}"),
    }
}
