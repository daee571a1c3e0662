//! What a worker finds in its environment, and the file that it loads first.

use std::io;
use std::path::PathBuf;

use crate::daemon::Daemon;
use crate::daemon::cluster::is_worker;
use crate::daemon::listeners::channel_number;
use crate::daemon::spawning::wants_channel;
use crate::model::env::EnvMap;
use crate::model::names::{RunId, Slot};
use crate::model::spec::AppSpec;
use crate::node::preload;
use crate::os::fsx;

/// How many requests the preload counts before it says so.
const MAX_REQUESTS: &str = "CLMGR_MAX_REQUESTS";

impl Daemon {
    /// Adds what leads to the IPC channel, and what makes a worker of a process. For the process itself only: the
    /// channel is not there for what is run beside it.
    pub(crate) fn channel_variables(&self, run: RunId, slot: Slot, spec: &AppSpec, env: &mut EnvMap) {
        if !wants_channel(spec) {
            return;
        }
        env.insert("NODE_CHANNEL_FD".into(), channel_number(spec).to_string().into());
        env.insert("NODE_CHANNEL_SERIALIZATION_MODE".into(), "json".into());
        if !is_worker(spec) {
            return;
        }
        // `cluster.worker.id`: the same for every life of a slot, from 1 on.
        env.insert("NODE_UNIQUE_ID".into(), (u64::from(slot) + 1).to_string().into());
        if !spec.preload {
            return;
        }
        match self.preload_file() {
            Ok(path) => {
                let users = env.get("NODE_OPTIONS").map(|value| value.to_text().into_owned());
                let options = preload::node_options(&path.display().to_string(), users.as_deref());
                env.insert("NODE_OPTIONS".into(), options.into());
                if let Some(most) = spec.max_requests {
                    env.insert(MAX_REQUESTS.into(), spread(most, run).to_string().into());
                }
            }
            Err(error) => tracing::warn!(
                "the file that closes keep-alive connections gently cannot be written, {} starts without it: {error}",
                spec.name
            ),
        }
    }

    /// Where the preload is, written if it is not there.
    fn preload_file(&self) -> io::Result<PathBuf> {
        let path = self.home.state.join(preload::file_name());
        if !path.exists() {
            fsx::write_atomic(&path, preload::TEXT.as_bytes(), 0o644)?;
        }
        Ok(path)
    }
}

/// A tenth more or less, so that workers which began together do not end together.
fn spread(most: u32, run: RunId) -> u64 {
    let most = u64::from(most);
    let share = most / 5;
    // Fibonacci hashing: neighbouring runs are far apart.
    let place = run.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (most - share / 2 + ((share * place) >> 32)).max(1)
}

#[cfg(test)]
mod tests {
    use super::spread;
    use crate::model::names::RunId;

    #[test]
    fn limits_differ_by_a_tenth() {
        let all: Vec<u64> = (0..100).map(|run| spread(1000, RunId(run))).collect();
        assert!(all.iter().all(|one| (900..=1100).contains(one)), "{all:?}");
        let mean = all.iter().sum::<u64>() / 100;
        assert!((980..=1020).contains(&mean), "{mean}");
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(spread(1, RunId(7)), 1);
    }
}
