//! The restart law against an independent implementation of its text, over 10^5 random histories.

use super::specs::{Rng, spec};
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::exit::{Exit, ExitStatus};
use crate::model::names::RunId;
use crate::model::spec::{Backoff, Ready, RestartSpec};
use crate::model::time::Moment;
use crate::supervise::{Command, Core, Input, Output};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fuse {
    Closed,
    /// Since when it cools down, for how long.
    Open(Moment, Option<Millis>),
    Trying(Millis),
}

#[derive(Debug)]
struct Instance {
    run: Option<(RunId, Moment)>,
    proven: bool,
    in_a_row: u32,
    exits: Vec<Moment>,
    fuse: Fuse,
    /// When the next start has to come: earliest and latest.
    due: Option<(Moment, Moment)>,
}

/// The law, written down a second time.
#[derive(Debug)]
struct Reference {
    law: RestartSpec,
    instances: Vec<Instance>,
    exits: Vec<Moment>,
    fuse: Fuse,
    opened: usize,
}

impl Reference {
    fn new(law: RestartSpec, count: usize, now: Moment) -> Self {
        let instance = || Instance {
            run: None,
            proven: false,
            in_a_row: 0,
            exits: Vec::new(),
            fuse: Fuse::Closed,
            due: Some((now, now)),
        };
        Self {
            law,
            instances: (0..count).map(|_| instance()).collect(),
            exits: Vec::new(),
            fuse: Fuse::Closed,
            opened: 0,
        }
    }

    fn blow(&self, fuse: Fuse, now: Moment) -> Fuse {
        let Some(first) = self.law.cooldown else {
            return Fuse::Open(now, None);
        };
        match fuse {
            Fuse::Trying(last) => Fuse::Open(
                now,
                Some(Millis((last.0 * 2).min(self.law.cooldown_max.0).max(first.0))),
            ),
            Fuse::Closed | Fuse::Open(..) => Fuse::Open(now, Some(first)),
        }
    }

    fn started(&mut self, slot: usize, run: RunId, now: Moment) {
        let instance = &mut self.instances[slot];
        assert!(instance.run.is_none(), "one process per instance");
        let (from, to) = instance
            .due
            .take()
            .unwrap_or_else(|| panic!("instance {slot} must not start now: {instance:?}"));
        assert!(
            from <= now && now <= to,
            "instance {slot} starts at {now:?}, allowed {from:?} to {to:?}"
        );
        instance.run = Some((run, now));
        instance.proven = false;
    }

    fn proven(&mut self, slot: usize, now: Moment) {
        let instance = &mut self.instances[slot];
        instance.proven = true;
        instance.in_a_row = 0;
        if self.fuse == Fuse::Closed {
            if instance.fuse != Fuse::Closed {
                instance.fuse = Fuse::Closed;
                instance.exits.clear();
            }
            return;
        }
        self.fuse = Fuse::Closed;
        self.exits.clear();
        for instance in &mut self.instances {
            instance.fuse = Fuse::Closed;
            instance.exits.clear();
            if instance.run.is_none() {
                instance.due = Some((now, now));
            }
        }
    }

    fn exited(&mut self, slot: usize, now: Moment) {
        let law = self.law.clone();
        let (_, began) = self.instances[slot].run.take().expect("it ran");
        if now >= began.after(law.min_uptime) {
            let at = now.after(law.delay);
            self.instances[slot].due = Some((at, at));
            return;
        }
        let recent = |exits: &[Moment]| exits.iter().filter(|at| at.after(law.window) > now).count();
        self.exits.push(now);
        let of_app = recent(&self.exits);
        let any_proven = self
            .instances
            .iter()
            .any(|instance| instance.run.is_some() && instance.proven);
        let instance = &mut self.instances[slot];
        instance.in_a_row += 1;
        instance.exits.push(now);
        let of_slot = recent(&instance.exits);
        let (fuse, in_a_row) = (instance.fuse, instance.in_a_row);
        let limit = (law.max_restarts as usize).max(self.instances.len());
        match self.fuse {
            Fuse::Trying(_) => {
                self.fuse = self.blow(self.fuse, now);
            }
            Fuse::Open(..) => {}
            Fuse::Closed if of_app >= limit && !any_proven => {
                self.fuse = self.blow(Fuse::Closed, now);
                self.opened += 1;
                for instance in &mut self.instances {
                    instance.due = None;
                }
            }
            Fuse::Closed if matches!(fuse, Fuse::Trying(_)) => self.instances[slot].fuse = self.blow(fuse, now),
            Fuse::Closed if of_slot >= law.max_restarts as usize => {
                self.instances[slot].fuse = self.blow(Fuse::Closed, now);
                self.opened += 1;
            }
            Fuse::Closed => {
                let grown = law.backoff.first.0 as f64 * law.backoff.factor.powf(f64::from(in_a_row - 1));
                let exact = grown.min(law.backoff.max.0 as f64);
                let bound = |share: f64, slack: f64| {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "small and positive"
                    )]
                    let millis = (exact * share + slack).max(0.0) as u64;
                    now.after(Millis(millis.max(law.delay.0)))
                };
                self.instances[slot].due = Some((
                    bound(1.0 - law.backoff.jitter, -1.0),
                    bound(1.0 + law.backoff.jitter, 1.0),
                ));
            }
        }
    }

    /// The next moment in which the law itself acts.
    fn next(&self) -> Option<Moment> {
        let proving = self
            .instances
            .iter()
            .filter(|i| !i.proven)
            .filter_map(|i| i.run.map(|(_, began)| began.after(self.law.min_uptime)));
        let ends = |fuse: &Fuse| match fuse {
            Fuse::Open(since, Some(wait)) => Some(since.after(*wait)),
            Fuse::Open(_, None) | Fuse::Closed | Fuse::Trying(_) => None,
        };
        let slots = self
            .instances
            .iter()
            .filter(|_| self.fuse == Fuse::Closed)
            .filter_map(|i| ends(&i.fuse));
        proving.chain(slots).chain(ends(&self.fuse)).min()
    }

    fn act(&mut self, now: Moment) {
        for slot in 0..self.instances.len() {
            let instance = &self.instances[slot];
            if !instance.proven
                && instance
                    .run
                    .is_some_and(|(_, began)| began.after(self.law.min_uptime) <= now)
            {
                self.proven(slot, now);
            }
        }
        if let Fuse::Open(since, Some(wait)) = self.fuse
            && since.after(wait) <= now
        {
            self.fuse = Fuse::Trying(wait);
            if let Some(free) = self.instances.iter_mut().find(|instance| instance.run.is_none()) {
                free.due = Some((now, now));
            }
        }
        if self.fuse == Fuse::Closed {
            for instance in &mut self.instances {
                if let Fuse::Open(since, Some(wait)) = instance.fuse
                    && since.after(wait) <= now
                {
                    instance.fuse = Fuse::Trying(wait);
                    instance.due = Some((now, now));
                }
            }
        }
    }
}

fn random_law(rng: &mut Rng) -> RestartSpec {
    RestartSpec {
        min_uptime: Millis(rng.pick(&[1000, 1000, 300])),
        delay: Millis(rng.pick(&[0, 0, 700])),
        backoff: Backoff {
            first: Millis(rng.pick(&[1000, 1000, 100])),
            factor: rng.pick(&[2.0, 2.0, 1.5]),
            max: Millis(rng.pick(&[30_000, 4000])),
            jitter: rng.pick(&[0.1, 0.1, 0.0]),
        },
        max_restarts: rng.pick(&[5, 5, 2, 9]),
        window: Millis(rng.pick(&[30_000, 30_000, 5000])),
        cooldown: rng.pick(&[Some(Millis(60_000)), Some(Millis(60_000)), Some(Millis(9000)), None]),
        cooldown_max: Millis(rng.pick(&[600_000, 100_000])),
        ..RestartSpec::default()
    }
}

fn history(seed: u64) {
    let mut rng = Rng(seed);
    let law = random_law(&mut rng);
    let count = 1 + u32::try_from(rng.below(4)).unwrap();
    let mut app = spec("api", "good", count);
    app.ready = Ready::Spawn;
    app.restart = law.clone();
    let mut now = Moment(1_000_000_000 + rng.below(1_000_000));
    let mut reference = Reference::new(law, count as usize, now);
    let mut core = Core::new(0, 0);
    core.handle(
        now,
        Input::Command(
            1,
            Command::Apply {
                apps: vec![app],
                update_env: true,
                no_rollback: false,
            },
        ),
    );
    core.handle(now, Input::Committed(Ok(())));
    let mut lives: Vec<(Moment, usize, RunId)> = Vec::new();
    let mut opened = 0;
    let mood = rng.pick(&[2, 4, 20]);
    for _ in 0..rng.pick(&[6, 6, 6, 6, 40]) {
        while let Some(output) = core.poll_output() {
            match output {
                Output::Spawn { run, slot, .. } => {
                    reference.started(slot as usize, run, now);
                    core.handle(now, Input::Spawned(run, 1));
                    let spread = if rng.one_in(mood) { 20_000 } else { 300 };
                    let life = Moment(now.after(Millis(1 + rng.below(spread))).0 + rng.below(999_983) + 1);
                    lives.push((life, slot as usize, run));
                }
                Output::Sweep(run, _) => core.handle(now, Input::Swept(run)),
                Output::Release(run) => core.release(run),
                Output::Event(draft) => opened += usize::from(draft.kind == EventKind::CircuitOpen),
                Output::Commit(_)
                | Output::Check(..)
                | Output::Probe(_)
                | Output::EndProbe(_)
                | Output::Monitor(_)
                | Output::EndMonitor(_)
                | Output::PreStop(_)
                | Output::Stop(_)
                | Output::Kill(_)
                | Output::Inspect(_)
                | Output::Crash(_)
                | Output::Reply(..) => {}
            }
        }
        for instance in &reference.instances {
            assert!(
                instance
                    .due
                    .is_none_or(|(_, latest)| latest >= now && (latest > now || instance.run.is_some())),
                "a start is overdue at {now:?}: {instance:?}"
            );
        }
        assert_eq!(opened, reference.opened, "one event per incident");
        lives.sort();
        let exit = lives.first().map(|(at, ..)| *at);
        let timer = core.poll_timeout();
        let Some(next) = exit.into_iter().chain(timer).min() else {
            break;
        };
        assert!(reference.next().is_none_or(|at| at >= now), "the law acts in time");
        let acts = reference.next();
        assert!(
            acts.is_none_or(|at| at >= next),
            "the core sleeps through {acts:?}, until {next:?}"
        );
        assert!(next > now, "time goes on");
        now = next;
        reference.act(now);
        if exit == Some(now) {
            let (_, slot, run) = lives.remove(0);
            reference.exited(slot, now);
            core.handle(now, Input::Exited(run, Exit::bare(ExitStatus::Code(1)), Vec::new()));
        } else {
            core.handle(now, Input::Tick);
        }
    }
}

#[test]
fn a_hundred_thousand_histories_follow_the_law() {
    for seed in 0..100_000 {
        if let Err(panic) = std::panic::catch_unwind(|| history(seed)) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Not quadratic: every input of one of thousands of instances is cheap.
#[test]
fn a_thousand_instances_start_and_stop() {
    let now = Moment(1);
    let mut core = Core::new(0, 0);
    let mut app = spec("api", "good", 1000);
    app.ready = Ready::Spawn;
    let apps = vec![app];
    let apply = Command::Apply {
        apps,
        update_env: true,
        no_rollback: false,
    };
    let targets = vec![crate::model::target::Target::All];
    for (ticket, command) in [(1, apply), (2, Command::Stop { targets })] {
        core.handle(now, Input::Command(ticket, command));
        let mut answered = false;
        while let Some(output) = core.poll_output() {
            match output {
                Output::Commit(_) => core.handle(now, Input::Committed(Ok(()))),
                Output::Spawn { run, .. } => core.handle(now, Input::Spawned(run, 1)),
                Output::Stop(run) => core.handle(now, Input::Exited(run, Exit::bare(ExitStatus::Code(0)), Vec::new())),
                Output::Sweep(run, _) => core.handle(now, Input::Swept(run)),
                Output::Release(run) => core.release(run),
                Output::Reply(_, reply) => answered = reply.is_ok_and(|lines| lines.len() == 1000),
                Output::Check(..)
                | Output::Probe(_)
                | Output::EndProbe(_)
                | Output::Monitor(_)
                | Output::EndMonitor(_)
                | Output::PreStop(_)
                | Output::Kill(_)
                | Output::Inspect(_)
                | Output::Event(_)
                | Output::Crash(_) => {}
            }
        }
        assert!(answered);
    }
}
