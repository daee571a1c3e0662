//! The keeper's state on its way from one build to the next: all it knows, as CBOR in a file in memory; all it holds,
//! as descriptors that stay open under their numbers.
//!
//! A field that the reader does not know is skipped, and one that the writer does not know has its default, so a new
//! field needs no new [`FORMAT`]. What a reader must know to be a keeper at all raises [`FORMAT`] and [`OLDEST`].

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::protocol::{ChildEntry, UpgradeOrder, UpgradeOutcome, wire};
use crate::model::time::Moment;
use crate::os::fds;

/// Begins every state.
const MAGIC: &[u8] = b"clmgr keeper state\n";
/// The format written here.
const FORMAT: u32 = 1;
/// The oldest reader that understands it.
const OLDEST: u32 = 1;

/// Why a state cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandoverError {
    /// It is something else.
    #[error("this is no state of a keeper")]
    Strange,
    /// It does not decode.
    #[error("the keeper's state cannot be read")]
    Decode(#[source] minicbor::decode::Error),
    /// It needs a newer reader.
    #[error("the keeper's state needs a reader of format {0}; this build knows format {FORMAT}")]
    Newer(u32),
    /// A descriptor did not come along.
    #[error("descriptor {0} of the keeper's state is not open")]
    Closed(i32),
}

/// Everything a keeper knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Saved {
    #[n(0)]
    pub(super) format: u32,
    #[n(1)]
    pub(super) oldest: u32,
    /// The version that wrote it.
    #[n(2)]
    pub(super) version: String,
    /// What locks the home.
    #[n(3)]
    pub(super) lock: Option<i32>,
    /// The link to the daemon.
    #[n(4)]
    pub(super) link: Option<i32>,
    #[n(5)]
    pub(super) daemon: Option<SavedDaemon>,
    #[n(6)]
    pub(super) children: Vec<SavedChild>,
    /// The last number given to an exit.
    #[n(7)]
    pub(super) last_seq: u64,
    #[n(8)]
    pub(super) stored: Vec<SavedFd>,
    /// Living runs that are not our children.
    #[n(9)]
    pub(super) foreign: Vec<u64>,
    /// Children's limit of open descriptors.
    #[n(10)]
    pub(super) nofile: Option<u64>,
    /// Children's `oom_score_adj`.
    #[n(11)]
    pub(super) oom_score_adj: Option<i32>,
    /// Somebody has asked the keeper to end.
    #[n(12)]
    pub(super) terminating: bool,
    /// The protocol spoken with the daemon; 0 before its `Hello`.
    #[n(13)]
    pub(super) spoken: u32,
    /// Daemons that died young.
    #[n(14)]
    pub(super) failures: u32,
    #[n(15)]
    pub(super) upgrade: Option<SavedUpgrade>,
    #[n(16)]
    pub(super) last: Option<UpgradeOutcome>,
    /// A daemon gave a sign of life since the last one was killed.
    #[n(17)]
    #[cbor(default)]
    pub(super) proven: bool,
}

/// The daemon that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct SavedDaemon {
    /// 0 if it is no child of the keeper.
    #[n(0)]
    pub(super) pid: i32,
    #[n(1)]
    pub(super) pidfd: Option<i32>,
    #[cbor(n(2), with = "wire::moment")]
    pub(super) started: Moment,
    /// It gave a sign of life.
    #[n(3)]
    #[cbor(default)]
    pub(super) signed: bool,
}

/// A child.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct SavedChild {
    #[n(0)]
    pub(super) entry: ChildEntry,
    /// Those in the entry's `held`, in order.
    #[n(1)]
    pub(super) fds: Vec<i32>,
}

/// A stored descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct SavedFd {
    #[n(0)]
    pub(super) name: String,
    #[n(1)]
    pub(super) fd: i32,
}

/// The upgrade under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct SavedUpgrade {
    #[n(0)]
    pub(super) order: UpgradeOrder,
    /// When the old daemon was told to leave.
    #[cbor(n(1), with = "wire::moment")]
    pub(super) left: Moment,
    /// When the new one had proven itself.
    #[cbor(n(2), with = "wire::moment")]
    pub(super) proven: Moment,
    #[n(3)]
    pub(super) daemon_before: i32,
}

impl Saved {
    /// As it is read by [`Saved::read`].
    pub(super) fn write(mut self) -> Vec<u8> {
        (self.format, self.oldest) = (FORMAT, OLDEST);
        let mut bytes = MAGIC.to_vec();
        // Memory takes everything.
        let _infallible = minicbor::encode(&self, &mut bytes);
        bytes
    }

    /// Reads what another build wrote.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, HandoverError> {
        let body = bytes
            .strip_prefix(std::hint::black_box(MAGIC))
            .ok_or(HandoverError::Strange)?;
        let saved: Self = minicbor::decode(body).map_err(HandoverError::Decode)?;
        if saved.oldest > FORMAT {
            return Err(HandoverError::Newer(saved.oldest));
        }
        Ok(saved)
    }

    /// The numbers of all descriptors in it.
    pub(super) fn descriptors(&self) -> Vec<i32> {
        let daemon = self.daemon.as_ref().and_then(|daemon| daemon.pidfd);
        let mut all: Vec<i32> = [self.lock, self.link, daemon].into_iter().flatten().collect();
        all.extend(self.children.iter().flat_map(|child| &child.fds));
        all.extend(self.stored.iter().map(|stored| stored.fd));
        all
    }

    /// Fails if one of them is not open here.
    pub(super) fn complete(self) -> Result<Self, HandoverError> {
        match fds::first_closed(&self.descriptors()) {
            Some(number) => Err(HandoverError::Closed(number)),
            None => Ok(self),
        }
    }
}

/// The number of a descriptor that stays open.
pub(super) fn number(fd: &Arc<OwnedFd>) -> i32 {
    fd.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::{FORMAT, HandoverError, MAGIC, Saved, SavedChild, SavedFd};
    use crate::keeper::protocol::{ChildEntry, Held};
    use crate::model::time::Moment;

    fn saved() -> Saved {
        Saved {
            version: "0.0.1".into(),
            lock: Some(7),
            last_seq: 9,
            children: vec![SavedChild {
                entry: ChildEntry {
                    run: 1,
                    pid: 2,
                    label: b"x".to_vec(),
                    started: Moment(3),
                    exited: None,
                    held: Held::PIDFD.with(Held::OUT),
                },
                fds: vec![70, 71],
            }],
            stored: vec![SavedFd {
                name: "notify".into(),
                fd: 80,
            }],
            ..Saved::default()
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let bytes = saved().write();
        let read = Saved::read(&bytes).unwrap();
        let written = Saved {
            format: FORMAT,
            oldest: super::OLDEST,
            ..saved()
        };
        assert_eq!(read, written);
        assert_eq!(read.descriptors(), [7, 70, 71, 80]);
        assert!(matches!(read.complete(), Err(HandoverError::Closed(_))));
    }

    #[test]
    fn a_build_that_does_not_know_of_signs_of_life_heard_none() {
        #[derive(minicbor::Encode)]
        struct Older {
            #[n(0)]
            format: u32,
            #[n(1)]
            oldest: u32,
            #[n(2)]
            version: &'static str,
            #[n(5)]
            daemon: OlderDaemon,
            #[n(6)]
            children: [u8; 0],
            #[n(7)]
            last_seq: u64,
            #[n(8)]
            stored: [u8; 0],
            #[n(9)]
            foreign: [u8; 0],
            #[n(12)]
            terminating: bool,
            #[n(13)]
            spoken: u32,
            #[n(14)]
            failures: u32,
        }
        #[derive(minicbor::Encode)]
        struct OlderDaemon {
            #[n(0)]
            pid: i32,
            #[n(2)]
            started: u64,
        }
        let older = Older {
            format: FORMAT,
            oldest: FORMAT,
            version: "0.0.1",
            daemon: OlderDaemon { pid: 3, started: 4 },
            children: [],
            last_seq: 9,
            stored: [],
            foreign: [],
            terminating: false,
            spoken: 1,
            failures: 0,
        };
        let mut bytes = MAGIC.to_vec();
        minicbor::encode(&older, &mut bytes).unwrap();
        let read = Saved::read(&bytes).unwrap();
        assert!(!read.proven && !read.daemon.unwrap().signed);
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        assert!(matches!(Saved::read(b""), Err(HandoverError::Strange)));
        assert!(matches!(Saved::read(b"#!/bin/sh\n"), Err(HandoverError::Strange)));
        let mut cut = saved().write();
        cut.truncate(cut.len() - 3);
        assert!(matches!(Saved::read(&cut), Err(HandoverError::Decode(_))));
        let mut newer = MAGIC.to_vec();
        let future = Saved {
            oldest: FORMAT + 1,
            ..saved()
        };
        minicbor::encode(&future, &mut newer).unwrap();
        assert!(matches!(Saved::read(&newer), Err(HandoverError::Newer(_))));
    }
}
