//! Whether an exit that nobody asked for leads to a new start.

use crate::model::exit::{Exit, ExitStatus};
use crate::model::spec::{RestartMode, RestartSpec};

/// True if the instance is to be started again.
///
/// `stop_exit_codes` mean "done" in every mode. An unknown exit code counts as a failure: better one start
/// too many than an app that stays away.
#[must_use]
pub fn wanted(spec: &RestartSpec, exit: &Exit) -> bool {
    if let ExitStatus::Code(code) = exit.status
        && spec.stop_exit_codes.contains(&code)
    {
        return false;
    }
    match spec.mode {
        RestartMode::Always => true,
        RestartMode::OnFailure => !exit.is_success(),
        RestartMode::Never => false,
    }
}

#[cfg(test)]
mod tests {
    use super::wanted;
    use crate::model::exit::{Exit, ExitStatus};
    use crate::model::spec::{RestartMode, RestartSpec};

    #[test]
    fn follows_the_table() {
        use ExitStatus::{Code, Signal, Unknown};
        use RestartMode::{Always, Never, OnFailure};
        for (mode, status, expected) in [
            (Always, Code(0), true),
            (Always, Code(1), true),
            (Always, Code(42), false),
            (OnFailure, Code(0), false),
            (OnFailure, Code(1), true),
            (OnFailure, Code(42), false),
            (OnFailure, Signal(9), true),
            (OnFailure, Unknown, true),
            (Never, Code(1), false),
            (Never, Signal(11), false),
        ] {
            let spec = RestartSpec {
                mode,
                stop_exit_codes: vec![42],
                ..RestartSpec::default()
            };
            assert_eq!(wanted(&spec, &Exit::bare(status)), expected, "{mode:?} {status:?}");
        }
    }
}
