//! The order to start a process.

use minicbor::{Decode, Encode};

use crate::os::cstrings::CStrings;

/// Everything a process begins with. Lists of strings are one byte string in which each is terminated by
/// NUL: see [`CStrings`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SpawnRequest {
    /// Names the run in every later message. Refused if it is in use.
    #[n(0)]
    pub run: u64,
    /// Anything; comes back in the table.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub label: Vec<u8>,
    /// Program and arguments.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub argv: Vec<u8>,
    /// Environment, `NAME=value`.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub env: Vec<u8>,
    /// Working folder.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub cwd: Vec<u8>,
    /// Standard input is a pipe whose write end is kept; otherwise `/dev/null`.
    #[n(5)]
    pub stdin: bool,
    /// Standard error goes to the pipe of standard output.
    #[n(6)]
    pub merge_output: bool,
    /// Standard output and error are pipes; otherwise `/dev/null`.
    #[n(7)]
    pub capture: bool,
    /// Make a Unix stream socket pair and give the child one end as this descriptor.
    #[n(8)]
    pub channel: Option<i32>,
    /// The numbers that the descriptors attached to this message get in the child, in order.
    #[n(9)]
    pub extra: Vec<i32>,
    /// Its umask; the keeper's if there is none.
    #[n(10)]
    pub umask: Option<u32>,
    /// Variables that are set to its own pid.
    #[n(11)]
    pub pid_vars: Vec<String>,
}

impl SpawnRequest {
    /// Captures both outputs of this command line, nothing else.
    #[must_use]
    pub fn new(run: u64, argv: CStrings, env: CStrings, cwd: &[u8]) -> Self {
        Self {
            run,
            argv: argv.into_bytes(),
            env: env.into_bytes(),
            cwd: cwd.to_vec(),
            capture: true,
            ..Self::default()
        }
    }
}
