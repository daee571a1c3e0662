//! `clmgr runtime`: what its command line says, as it travels to the daemon.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The variable that tells keeper and daemon that they are a runtime: a [`RuntimeSpec`] as JSON. Apps do not get it.
pub const RUNTIME_VAR: &str = "CLMGR_RUNTIME";
/// The variable that tells a helper of the keeper what to do: [`START`] or [`RELOAD`]. Apps do not get it.
pub const STEP_VAR: &str = "CLMGR_RUNTIME_STEP";
/// Wait for the daemon, then start what the command line names.
pub const START: &str = "start";
/// Read the files again and do what has changed in them.
pub const RELOAD: &str = "reload";
/// Where a starting helper reads whether the daemon serves, or why it does not.
pub const STEP_FD: i32 = 3;

/// How app output looks on the runtime's standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// [`Self::Prefix`] with more than one app, else [`Self::Raw`].
    #[default]
    Auto,
    /// Lines as the app wrote them.
    Raw,
    /// `app:0 | ` before each line.
    Prefix,
    /// One JSON object a line.
    Json,
}

/// How to be a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeSpec {
    /// What lines look like.
    pub output: Output,
    /// Prefixes have colours.
    pub colour: bool,
    /// End, with a failure, when a circuit opens.
    pub exit_on_error: bool,
    /// Serve `/health` over TCP here.
    pub health: Option<SocketAddr>,
}

impl RuntimeSpec {
    /// As the value of [`RUNTIME_VAR`].
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From the value of [`RUNTIME_VAR`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Output, RuntimeSpec};

    #[test]
    fn travels_as_text() {
        let spec = RuntimeSpec {
            output: Output::Json,
            colour: true,
            exit_on_error: true,
            health: Some("[::1]:9000".parse().unwrap()),
        };
        assert_eq!(RuntimeSpec::from_text(&spec.to_text()), Some(spec));
        assert_eq!(RuntimeSpec::from_text("x"), None);
    }
}
