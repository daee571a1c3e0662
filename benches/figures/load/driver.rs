//! The loop of the load.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use super::connection::{Connection, Step};
use super::{Load, Pattern, Tally};
use crate::stats::{now, to_seconds};

/// Events taken at once.
const BATCH: usize = 64;
/// How often the open loop looks what is due, in nanoseconds.
const TICK: i64 = 250_000;
/// The timer's number among the events.
const TIMER: u64 = u64::MAX;
/// How long nothing may happen before the server counts as hung.
const HUNG: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const KEEP: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Runs a load to its end.
pub(crate) fn run(load: &Load) -> anyhow::Result<Tally> {
    let mut driver = Driver::new(load)?;
    driver.run()?;
    let failed = driver.tally.failed;
    ensure!(
        failed == 0,
        "{failed} of {} connections failed",
        driver.tally.times.len()
    );
    Ok(driver.tally)
}

struct Driver<'l> {
    load: &'l Load,
    to: SocketAddrV4,
    request: &'static [u8],
    epoll: OwnedFd,
    /// Every connection has a number, by which events name it.
    places: Vec<Option<Connection>>,
    free: VecDeque<usize>,
    /// When nothing new is begun any more, in nanoseconds.
    end: i64,
    /// The open loop's next request.
    due: i64,
    timer: Option<OwnedFd>,
    begun: usize,
    tally: Tally,
}

impl<'l> Driver<'l> {
    fn new(load: &'l Load) -> anyhow::Result<Self> {
        let request = match load.pattern {
            Pattern::Close(_) | Pattern::Open(_) => CLOSE,
            Pattern::KeepAlive(_) => KEEP,
        };
        let begin = now();
        Ok(Self {
            load,
            to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, load.port),
            request,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            places: Vec::new(),
            free: VecDeque::new(),
            end: begin + i64::try_from(load.time.as_nanos())?,
            due: begin,
            timer: None,
            begun: 0,
            tally: Tally::default(),
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let begin = now();
        match self.load.pattern {
            Pattern::Close(count) | Pattern::KeepAlive(count) => {
                for _ in 0..count {
                    self.open(now())?;
                }
            }
            Pattern::Open(_) => self.timer = Some(self.ticking()?),
        }
        let mut events = Vec::with_capacity(BATCH);
        while self.timer.is_some() || self.places.len() > self.free.len() {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&HUNG))?;
            ensure!(!events.is_empty(), "no answer for 10 s");
            for event in &events {
                match event.data.u64() {
                    TIMER => self.tick()?,
                    number => self.go_on(usize::try_from(number)?)?,
                }
            }
        }
        self.tally.seconds = to_seconds(now() - begin);
        Ok(())
    }

    fn ticking(&self) -> anyhow::Result<OwnedFd> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: TICK,
        };
        let both = Itimerspec {
            it_interval: tick,
            it_value: tick,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &both)?;
        epoll::add(
            &self.epoll,
            &timer,
            epoll::EventData::new_u64(TIMER),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        Ok(timer)
    }

    /// Begins what is due; ends the timer at the end.
    fn tick(&mut self) -> anyhow::Result<()> {
        let Pattern::Open(rate) = self.load.pattern else {
            return Ok(());
        };
        if let Some(timer) = &self.timer {
            // Its next tick is only set when this one was read.
            let _ = rustix::io::read(timer, &mut [0; 8]);
        }
        while self.due <= now().min(self.end) {
            self.open(self.due)?;
            self.due += 1_000_000_000 / i64::from(rate);
        }
        if now() >= self.end {
            self.timer = None;
        }
        Ok(())
    }

    fn open(&mut self, since: i64) -> anyhow::Result<()> {
        let from = match self.load.from.len() {
            0 => None,
            count => self.load.from.get(self.begun % count).copied(),
        };
        self.begun += 1;
        let mut connection = Connection::open(self.to, from, since).context("cannot connect")?;
        // Over loopback the handshake is mostly done when connect returns.
        if connection.go_on(self.request) == Step::Broken {
            self.tally.failed += 1;
        }
        let mut flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        flags.set(epoll::EventFlags::OUT, !connection.sent);
        let number = self.free.pop_front().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let name = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, &connection.socket, name, flags)?;
        if let Some(place) = self.places.get_mut(number) {
            *place = Some(connection);
        }
        Ok(())
    }

    fn go_on(&mut self, number: usize) -> anyhow::Result<()> {
        let place = self.places.get_mut(number).context("an event of nobody")?;
        let Some(connection) = place else {
            return Ok(());
        };
        let step = connection.go_on(self.request);
        let (since, from) = (connection.since, connection.from);
        match step {
            Step::Wait => return Ok(()),
            Step::Answer(pid) => {
                self.tally.times.push(to_seconds(now() - since));
                *self.tally.by.entry((pid, from)).or_default() += 1;
            }
            Step::Broken => self.tally.failed += 1,
        }
        let more = now() < self.end;
        match self.load.pattern {
            Pattern::KeepAlive(_) if more && step != Step::Broken => {
                connection.again(now());
                if connection.go_on(self.request) == Step::Broken {
                    self.tally.failed += 1;
                    self.leave(number);
                }
                Ok(())
            }
            Pattern::Close(_) | Pattern::KeepAlive(_) if more => {
                self.leave(number);
                self.open(now())
            }
            Pattern::Close(_) | Pattern::KeepAlive(_) | Pattern::Open(_) => {
                self.leave(number);
                Ok(())
            }
        }
    }

    /// Closes a connection; its number is for another.
    fn leave(&mut self, number: usize) {
        if let Some(place) = self.places.get_mut(number) {
            *place = None;
            self.free.push_back(number);
        }
    }
}
