//! The thread of a load.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::generator::connection::{Connection, Step};
use crate::generator::tally::{Loss, Tally};
use crate::generator::{PATIENCE, Pace, Plan, Shared};
use crate::random::Random;

/// Between two looks whether the load is to end, at most.
const GLANCE: Duration = Duration::from_millis(20);

/// Everything the thread has.
struct Engine<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    poller: std::os::fd::OwnedFd,
    random: Random,
    tally: Tally,
    slots: Vec<Option<Connection>>,
    /// Places in `slots` without a connection.
    free: Vec<usize>,
    /// Connections without a request; the one that waits longest is next.
    idle: VecDeque<usize>,
    /// Connections with a request, in the order of their beginning; those that were answered are passed over.
    begun: VecDeque<(usize, u64, Instant)>,
    /// Requests that are due and have no connection yet.
    waiting: VecDeque<Instant>,
    busy: usize,
}

/// Sends requests until it is told to stop, and waits for the last answers.
pub(super) fn run(plan: &Plan, shared: &Shared) -> anyhow::Result<Tally> {
    let mut engine = Engine {
        plan,
        shared,
        poller: epoll::create(CreateFlags::CLOEXEC)?,
        random: Random::new(plan.seed),
        tally: Tally::default(),
        slots: Vec::new(),
        free: Vec::new(),
        idle: VecDeque::new(),
        begun: VecDeque::new(),
        waiting: VecDeque::new(),
        busy: 0,
    };
    let mut due = Instant::now();
    let mut events: Vec<Event> = Vec::with_capacity(256);
    loop {
        let stop = shared.stop.load(Ordering::Acquire);
        let now = Instant::now();
        match plan.pace {
            Pace::Open(_) | Pace::Closed if stop => engine.waiting.clear(),
            Pace::Open(rate) => {
                while due <= now {
                    engine.waiting.push_back(due);
                    due += engine.random.gap(rate);
                }
            }
            Pace::Closed => {
                let wanted = plan.connections - engine.busy.min(plan.connections);
                engine.waiting.resize(wanted, now);
            }
        }
        engine.dispatch()?;
        engine.give_up();
        if stop && engine.busy == 0 {
            return Ok(engine.tally);
        }
        let until = match plan.pace {
            Pace::Open(_) if !stop => due.saturating_duration_since(Instant::now()).min(GLANCE),
            Pace::Open(_) | Pace::Closed => GLANCE,
        };
        events.clear();
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(until.subsec_nanos()),
        };
        match epoll::wait(&engine.poller, spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &events {
            let data = event.data;
            let at = usize::try_from(data.u64())?;
            engine.look(at);
        }
    }
}

impl Engine<'_> {
    /// Gives requests that are due to connections.
    fn dispatch(&mut self) -> anyhow::Result<()> {
        while let Some(due) = self.waiting.front().copied() {
            let at = match self.idle.pop_front() {
                // What the server closed meanwhile is no place for a request, and no failure.
                Some(at) if !self.slots[at].as_mut().is_some_and(Connection::is_quiet) => {
                    self.tally.closed_idle += 1;
                    self.drop_connection(at);
                    continue;
                }
                Some(at) => at,
                None if self.busy >= self.plan.connections => return Ok(()),
                None => match self.open()? {
                    Some(at) => at,
                    None => {
                        self.waiting.pop_front();
                        continue;
                    }
                },
            };
            self.waiting.pop_front();
            self.tally.sent += 1;
            let id = format!("{}-{}", self.plan.seed, self.tally.sent);
            let path = if self.random.below(100) < self.plan.slow {
                "/40/"
            } else {
                "/0/"
            };
            self.busy += 1;
            self.begun.push_back((at, self.tally.sent, Instant::now()));
            let Some(connection) = &mut self.slots[at] else {
                continue;
            };
            let step = connection.ask(self.tally.sent, id, due, path, self.plan.keep_alive);
            self.take(at, step);
        }
        Ok(())
    }

    /// A new connection, or none if that failed, which is counted.
    fn open(&mut self) -> anyhow::Result<Option<usize>> {
        self.tally.opened += 1;
        let connection = match Connection::open(self.plan.port) {
            Ok(connection) => connection,
            Err(failure) => {
                self.tally.sent += 1;
                self.lost(Loss {
                    failure,
                    port: 0,
                    pid: None,
                    text: "while connecting".to_owned(),
                });
                return Ok(None);
            }
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.poller, connection.stream(), EventData::new_u64(at as u64), flags)?;
        self.slots[at] = Some(connection);
        Ok(Some(at))
    }

    fn look(&mut self, at: usize) {
        if let Some(connection) = self.slots.get_mut(at).and_then(Option::as_mut) {
            let step = connection.look();
            self.take(at, step);
        }
    }

    fn take(&mut self, at: usize, step: Step) {
        match step {
            Step::Waiting => {}
            Step::Answered(request, answer) => {
                self.busy -= 1;
                self.tally.answered(answer.pid, request.due.elapsed());
                self.shared.answered.fetch_add(1, Ordering::AcqRel);
                if self.plan.keep_alive && !answer.close {
                    self.idle.push_back(at);
                } else {
                    self.drop_connection(at);
                }
            }
            Step::Lost(loss) => {
                self.busy -= 1;
                self.lost(loss);
                self.drop_connection(at);
            }
            Step::Closed => {
                self.tally.closed_idle += 1;
                self.idle.retain(|known| *known != at);
                self.drop_connection(at);
            }
        }
    }

    fn lost(&mut self, loss: Loss) {
        self.shared.lost.fetch_add(1, Ordering::AcqRel);
        self.tally.lost(loss);
    }

    fn drop_connection(&mut self, at: usize) {
        if self.slots[at].take().is_some() {
            self.free.push(at);
        }
    }

    /// What takes too long has failed.
    fn give_up(&mut self) {
        while let Some((at, number, begun)) = self.begun.front().copied() {
            let is_open = self.slots[at].as_ref().and_then(Connection::asking) == Some(number);
            if is_open && begun.elapsed() < PATIENCE {
                break;
            }
            self.begun.pop_front();
            if is_open && let Some(connection) = &mut self.slots[at] {
                let step = connection.give_up(PATIENCE);
                self.take(at, step);
            }
        }
    }
}
