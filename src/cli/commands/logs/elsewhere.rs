//! Apps whose output is not in files: where to look for it.

use crate::api::logs::Elsewhere;
use crate::cli::context::Context;
use crate::model::logspec::LogTarget;

/// Says it, an app a line.
pub(super) fn tell(apps: &[Elsewhere], context: &mut Context) {
    for app in apps {
        context.ui.note(&sentence(app));
    }
}

fn sentence(found: &Elsewhere) -> String {
    let app = &found.app;
    let place = |target: &LogTarget| match target {
        LogTarget::Files => "log files".to_owned(),
        LogTarget::Journald => format!("journald: journalctl -f CLMGR_APP={app}"),
        LogTarget::Syslog => format!("syslog, as {app}: look into the files of the syslog service"),
        LogTarget::Stdout => "the standard output of clmgr runtime".to_owned(),
    };
    if found.targets.is_empty() {
        return format!("the output of {app} is kept nowhere (disable_logs = true)");
    }
    let places: Vec<String> = found.targets.iter().map(place).collect();
    format!("the output of {app} goes to {}", places.join(", and to "))
}

#[cfg(test)]
mod tests {
    use super::sentence;
    use crate::api::logs::Elsewhere;
    use crate::model::logspec::LogTarget;

    #[test]
    fn names_the_command_that_shows_it() {
        let of = |targets: &[LogTarget]| {
            sentence(&Elsewhere {
                app: "api".parse().unwrap(),
                targets: targets.to_vec(),
            })
        };
        assert_eq!(
            of(&[LogTarget::Journald]),
            "the output of api goes to journald: journalctl -f CLMGR_APP=api"
        );
        assert!(of(&[LogTarget::Syslog, LogTarget::Stdout]).contains(", and to the standard output"));
        assert!(of(&[]).contains("disable_logs"));
    }
}
