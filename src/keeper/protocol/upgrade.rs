//! What is said when daemon and keeper are replaced by another build. From version 2 on.

use minicbor::{Decode, Encode};

/// The order to replace both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UpgradeOrder {
    /// Names this upgrade in every later message: milliseconds since 1970 when it was asked for.
    #[n(0)]
    pub id: u64,
    /// The program, an absolute path.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub exe: Vec<u8>,
    /// The version that gives the order.
    #[n(2)]
    pub from: String,
    /// The version that the program says it is.
    #[n(3)]
    pub to: String,
    /// What the old daemon saw last. None until it leaves.
    #[n(4)]
    pub seen: Option<Seen>,
}

/// What a daemon knows, to be compared with what its successor finds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Seen {
    /// Apps that are known.
    #[n(0)]
    pub apps: u32,
    /// A digest of what is wanted of them.
    #[n(1)]
    pub wanted: u64,
    /// The runs that live.
    #[n(2)]
    pub runs: Vec<u64>,
}

/// How an upgrade ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UpgradeOutcome {
    /// Of its order.
    #[n(0)]
    pub id: u64,
    /// The program asked for.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub exe: Vec<u8>,
    /// The version that was there.
    #[n(2)]
    pub from: String,
    /// The version asked for.
    #[n(3)]
    pub to: String,
    /// Why the old build is there as before; nothing if the new one is.
    #[n(4)]
    pub failed: Option<String>,
    /// The daemon that was asked.
    #[n(5)]
    pub daemon_before: i32,
    /// The daemon that is there now.
    #[n(6)]
    pub daemon_after: i32,
    /// The version that the keeper runs now.
    #[n(7)]
    pub keeper: String,
    /// Processes that lived before and live now.
    #[n(8)]
    pub processes: u32,
    /// From the end of one daemon's answers to the beginning of the next one's, in milliseconds.
    #[n(9)]
    pub gap_ms: u64,
    /// It has not been told to any daemon before.
    #[n(10)]
    pub fresh: bool,
}
