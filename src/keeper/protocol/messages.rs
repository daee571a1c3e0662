//! The messages.

use minicbor::{Decode, Encode};

use super::held::Held;
use super::spawn::SpawnRequest;
use super::upgrade::{UpgradeOrder, UpgradeOutcome};
use super::wire;
use crate::model::exit::Exit;
use crate::model::time::Moment;
use crate::os::spawn::Step;

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToKeeper {
    /// First of all. Answer: `Welcome` and every exit not acknowledged, or `Refused`.
    #[n(0)]
    Hello {
        /// Oldest version understood.
        #[n(0)]
        min: u32,
        /// Version spoken.
        #[n(1)]
        current: u32,
        /// For people.
        #[n(2)]
        daemon_version: String,
    },
    /// Start a process. Descriptors: those for `extra`. Answer: `Spawned` or `SpawnFailed`.
    #[n(1)]
    Spawn(#[n(0)] SpawnRequest),
    /// Exits up to this number are on disk; they are not sent again. No answer.
    #[n(2)]
    Ack {
        /// Of `Exited`.
        #[n(0)]
        up_to: u64,
    },
    /// Keep the one descriptor attached under this name, in place of one that has it. No answer.
    #[n(3)]
    Store {
        /// Any name.
        #[n(0)]
        name: String,
    },
    /// Answer: `Stored`.
    #[n(4)]
    Fetch {
        /// The name it was stored under.
        #[n(0)]
        name: String,
    },
    /// Close a stored descriptor. No answer.
    #[n(5)]
    Drop {
        /// The name it was stored under.
        #[n(0)]
        name: String,
    },
    /// Answer: `StoredNames`.
    #[n(6)]
    Names,
    /// Close all descriptors of a run that has exited: nobody needs them any more. No answer.
    #[n(7)]
    Release {
        /// Which run.
        #[n(0)]
        run: u64,
    },
    /// Answer: `Children`, one or more.
    #[n(8)]
    Table,
    /// Take over children of a keeper that has died. Descriptors: for each child in order, those in its
    /// `held`; at most 250 in one message, so send several. No answer, but `Exited` for those that have died.
    #[n(9)]
    Restore {
        /// Who.
        #[n(0)]
        children: Vec<Restored>,
    },
    /// End the keeper with code 0, without starting a daemon again. Refused while children live, unless forced.
    /// The keeper closes the link, waits for the daemon to end, and leaves.
    #[n(10)]
    Exit {
        /// Leave living children to whoever inherits them.
        #[n(0)]
        force: bool,
    },
    /// Answer: `Pong`.
    #[n(11)]
    Ping,
    /// Replace daemon and keeper. Answer: `Leave`, or `Upgraded` with the reason why not. Sent again by a daemon that
    /// leaves, with what it saw last. Since version 2.
    #[n(12)]
    Upgrade(#[n(0)] UpgradeOrder),
    /// The new daemon serves, and has found everything. Since version 2.
    #[n(13)]
    Proven {
        /// Of the order.
        #[n(0)]
        id: u64,
    },
    /// The new daemon cannot take over; it ends. Since version 2.
    #[n(14)]
    Unfit {
        /// In one sentence.
        #[n(0)]
        why: String,
    },
    /// Only to a keeper that is a runtime: when it leaves, this is its exit code. No answer. Since version 2.
    #[n(15)]
    Outcome {
        /// 0 to 255.
        #[n(0)]
        code: u8,
    },
    /// Tell the service manager, if there is one: assignments, one a line (`sd_notify(3)`). No answer. Since
    /// version 2.
    #[n(16)]
    Notify {
        /// Such as `READY=1`.
        #[n(0)]
        text: String,
    },
    /// From now on the run is another process of its tree: the end of that is the run's end. Descriptor: its pidfd.
    /// An end of the run that was told before, of the process it was until now, is taken back. No answer. Since
    /// version 3.
    #[n(17)]
    Follow {
        /// Which run.
        #[n(0)]
        run: u64,
        /// The process.
        #[n(1)]
        pid: i32,
    },
}

/// A child of a keeper that has died.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Restored {
    /// Its run.
    #[n(0)]
    pub run: u64,
    /// Its pid.
    #[n(1)]
    pub pid: i32,
    /// When it began, as in `/proc/PID/stat`: decides whether a process with this pid is still the same.
    #[n(2)]
    pub start_ticks: u64,
    /// As in its `SpawnRequest`.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub label: Vec<u8>,
    /// When it was spawned.
    #[cbor(n(4), with = "wire::moment")]
    pub started: Moment,
    /// Which descriptors are attached for it. With `PIDFD` its exit status can be told even if it has died
    /// since (Linux 6.15 and later).
    #[n(5)]
    pub held: Held,
}

/// To the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FromKeeper {
    /// Answer to `Hello`.
    #[n(0)]
    Welcome {
        /// Oldest version understood.
        #[n(0)]
        min: u32,
        /// Version spoken.
        #[n(1)]
        current: u32,
        /// The keeper's process.
        #[n(2)]
        keeper_pid: i32,
        /// The keeper's version, for people.
        #[n(3)]
        version: String,
        /// Children in the table, dead ones included.
        #[n(4)]
        children: u32,
    },
    /// The program executes. Descriptors: those in `held`.
    #[n(1)]
    Spawned {
        /// Which run.
        #[n(0)]
        run: u64,
        /// Its pid, process group and session.
        #[n(1)]
        pid: i32,
        /// When.
        #[cbor(n(2), with = "wire::moment")]
        start: Moment,
        /// Which descriptors are attached.
        #[n(3)]
        held: Held,
    },
    /// Nothing was started; the run is forgotten.
    #[n(2)]
    SpawnFailed {
        /// Which run.
        #[n(0)]
        run: u64,
        /// What failed.
        #[cbor(n(1), with = "wire::step")]
        step: Step,
        /// Why.
        #[n(2)]
        errno: i32,
    },
    /// A child has ended. Sent again to every new daemon until acknowledged.
    #[n(3)]
    Exited {
        /// Counts exits; never twice in the life of a keeper.
        #[n(0)]
        seq: u64,
        /// Which run.
        #[n(1)]
        run: u64,
        /// What its pid was.
        #[n(2)]
        pid: i32,
        /// How.
        #[cbor(n(3), with = "wire::exit")]
        exit: Exit,
        /// When the keeper saw it.
        #[cbor(n(4), with = "wire::moment")]
        at: Moment,
    },
    /// Part of the table. Descriptors: for each child in order, those in its `held`.
    #[n(4)]
    Children {
        /// No more parts follow.
        #[n(0)]
        last: bool,
        /// By run.
        #[n(1)]
        children: Vec<ChildEntry>,
    },
    /// Answer to `Fetch`. Descriptor: the stored one, if `found`.
    #[n(5)]
    Stored {
        /// The name asked for.
        #[n(0)]
        name: String,
        /// There is one.
        #[n(1)]
        found: bool,
    },
    /// Answer to `Names`.
    #[n(6)]
    StoredNames {
        /// In order.
        #[n(0)]
        names: Vec<String>,
    },
    /// Answer to `Ping`.
    #[n(7)]
    Pong,
    /// A message was not acted upon.
    #[n(8)]
    Refused {
        /// In one sentence.
        #[n(0)]
        why: String,
    },
    /// Somebody asked the keeper to end (SIGTERM or SIGINT): stop the apps, then send `Exit`.
    #[n(9)]
    Terminate,
    /// Another daemon is to take over: write everything and end. Since version 2.
    #[n(10)]
    Leave {
        /// Of the order.
        #[n(0)]
        id: u64,
    },
    /// After `Welcome`: you are to take over by this order. Look, and say `Proven` or `Unfit`. Since version 2.
    #[n(11)]
    Trial(#[n(0)] UpgradeOrder),
    /// How the last upgrade ended. After it has, and after `Welcome`. Since version 2.
    #[n(12)]
    Upgraded(#[n(0)] UpgradeOutcome),
    /// Only from a keeper that is a runtime: everything that its command line names was started. Sent to every new
    /// daemon, before the answer to `Table`. Since version 2.
    #[n(13)]
    Applied,
    /// Somebody asked the keeper to leave without its apps (SIGUSR1): write what is left, then send `Exit` by force.
    /// Since version 2.
    #[n(14)]
    Detach,
    /// Somebody asked to open all log files anew (SIGUSR2). Since version 4.
    #[n(15)]
    Reopen,
}

/// A child in the table: it lives, or its exit is not acknowledged, or its descriptors are not released.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChildEntry {
    /// Its run.
    #[n(0)]
    pub run: u64,
    /// Its pid (only a number once it has exited).
    #[n(1)]
    pub pid: i32,
    /// As in its `SpawnRequest`.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub label: Vec<u8>,
    /// When it was spawned.
    #[cbor(n(3), with = "wire::moment")]
    pub started: Moment,
    /// How it ended, if it has.
    #[n(4)]
    pub exited: Option<ExitReport>,
    /// Which descriptors are attached for it.
    #[n(5)]
    pub held: Held,
}

/// An end in the table.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ExitReport {
    /// As in `Exited`.
    #[n(0)]
    pub seq: u64,
    /// How.
    #[cbor(n(1), with = "wire::exit")]
    pub exit: Exit,
    /// When the keeper saw it.
    #[cbor(n(2), with = "wire::moment")]
    pub at: Moment,
    /// Its `Exited` was acknowledged.
    #[n(3)]
    pub acked: bool,
}
