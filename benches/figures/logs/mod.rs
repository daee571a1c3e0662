//! What reading and keeping the output of apps costs.
//!
//! | file | figure |
//! |---|---|
//! | [`one`] | one app that writes as fast as it can, in each format |
//! | [`crowd`] | 50 such apps at once: speed, memory, and whether clmgr still answers |
//! | [`rotation`] | what rotation and gzip cost the app |
//! | [`trickle`] | 500 apps that say something once a second |
//! | [`history`] | how soon the first line of a time is found in a long history |
//! | [`following`] | what `clmgr logs -f` costs the daemon, and what a stalled one costs the app |
//!
//! The apps are `lines.c` and `ticks.c`; [`writer`] runs them, below clmgr and through `cat`.

pub(crate) mod crowd;
pub(crate) mod following;
pub(crate) mod history;
mod made;
pub(crate) mod one;
pub(crate) mod rotation;
pub(crate) mod trickle;
mod verify;
mod writer;
