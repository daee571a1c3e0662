//! What became of the requests.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many failures are kept one by one.
const KEPT: usize = 20_000;

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// Nobody listened.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer did.
    Eof,
    /// No answer in time.
    Timeout,
    /// Status 500 or above.
    ServerError,
    /// An answer, but not the right one.
    Wrong,
    /// Sent on a connection that had answered before, which the server closed without a byte for this request.
    Raced,
}

impl Failure {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 7] = [
        Self::Refused,
        Self::Reset,
        Self::Eof,
        Self::Timeout,
        Self::ServerError,
        Self::Wrong,
        Self::Raced,
    ];

    /// The head of its column.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Eof => "eof",
            Self::Timeout => "timeout",
            Self::ServerError => "5xx",
            Self::Wrong => "wrong",
            Self::Raced => "raced",
        }
    }
}

/// One request that failed.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// How.
    pub(crate) failure: Failure,
    /// Our end of the connection; 0 if there was none.
    pub(crate) port: u16,
    /// Who answered on this connection before.
    pub(crate) pid: Option<i32>,
    /// Everything else.
    pub(crate) text: String,
}

/// The sum of a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Requests begun.
    pub(crate) sent: u64,
    /// Requests answered as they should be.
    pub(crate) answered: u64,
    /// The others, by kind.
    pub(crate) failed: BTreeMap<Failure, u64>,
    /// Those one by one.
    pub(crate) losses: Vec<Loss>,
    /// Connections that the server closed while nothing was asked on them.
    pub(crate) closed_idle: u64,
    /// Connections opened.
    pub(crate) opened: u64,
    /// From the moment a request was due to its answer, in microseconds.
    pub(crate) latencies: Vec<u32>,
    /// Answers by process.
    pub(crate) pids: BTreeMap<i32, u64>,
}

impl Tally {
    /// A good answer.
    pub(super) fn answered(&mut self, pid: i32, latency: Duration) {
        self.answered += 1;
        *self.pids.entry(pid).or_default() += 1;
        self.latencies
            .push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// No answer, or no good one.
    pub(super) fn lost(&mut self, loss: Loss) {
        *self.failed.entry(loss.failure).or_default() += 1;
        if self.losses.len() < KEPT {
            self.losses.push(loss);
        }
    }

    /// Both together.
    pub(crate) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.closed_idle += other.closed_idle;
        self.opened += other.opened;
        self.losses.extend(other.losses);
        self.latencies.extend(other.latencies);
        for (failure, count) in other.failed {
            *self.failed.entry(failure).or_default() += count;
        }
        for (pid, count) in other.pids {
            *self.pids.entry(pid).or_default() += count;
        }
    }

    /// Failures of one kind.
    pub(crate) fn failed(&self, failure: Failure) -> u64 {
        self.failed.get(&failure).copied().unwrap_or(0)
    }

    /// The latency that this share of the answers did not exceed, in milliseconds.
    pub(crate) fn quantile(&mut self, share: f64) -> f64 {
        self.latencies.sort_unstable();
        let Some(last) = self.latencies.len().checked_sub(1) else {
            return 0.0;
        };
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in a list"
        )]
        let at = (last as f64 * share) as usize;
        f64::from(self.latencies[at]) / 1000.0
    }
}
