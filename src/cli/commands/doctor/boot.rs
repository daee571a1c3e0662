//! Is the manager started with the machine?

use crate::cli::boot::{self, Installation, UnitState};

use super::Scene;
use super::check::Check;

pub(super) fn check(scene: &Scene) -> Vec<Check> {
    match boot::installation() {
        Ok(Some(found)) => judge(&found),
        Ok(None) => vec![missing(scene)],
        Err(failure) => vec![Check::attention(
            "boot",
            failure.message,
            "clmgr startup --print shows what it would be",
        )],
    }
}

fn missing(scene: &Scene) -> Check {
    if boot::detect().is_none() {
        return Check::note(
            "boot",
            "there is no systemd or OpenRC here; nothing starts clmgr at boot",
        )
        .next("clmgr startup --print");
    }
    if std::env::var_os("CLMGR_HOME").is_some_and(|home| !home.is_empty()) {
        let home = scene.home.state.display();
        return Check::note("boot", format!("nothing starts the clmgr of CLMGR_HOME={home} at boot"))
            .next("clmgr startup");
    }
    Check::attention(
        "boot",
        "clmgr is not started at boot: apps do not come back after a reboot",
        "clmgr startup",
    )
}

fn judge(found: &Installation) -> Vec<Check> {
    let path = found.path.display();
    let unit = if !found.same_home {
        Check::note("boot", format!("{path} starts the clmgr of another state folder"))
    } else if !found.enabled {
        let message = format!("{path} is not enabled: apps do not come back after a reboot");
        Check::attention("boot", message, "clmgr startup")
    } else {
        match found.state {
            UnitState::Current => Check::ok("boot", format!("{path} is enabled")),
            UnitState::Foreign => Check::note(
                "boot",
                format!("{path} is enabled; it was not written by clmgr startup"),
            ),
            UnitState::Outdated => {
                let message = format!(
                    "{path} is not what this clmgr would write: it is of another version, or starts another program"
                );
                Check::attention("boot", message, "clmgr startup")
            }
        }
    };
    let linger = found.linger.map(|lingers| {
        if lingers {
            return Check::ok("linger", "your apps run without a session");
        }
        Check::attention(
            "linger",
            "your apps end with your last session, and do not begin at boot",
            "clmgr startup, or loginctl enable-linger",
        )
    });
    [unit].into_iter().chain(linger).collect()
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::cli::boot::{Installation, Kind, UnitState};
    use crate::cli::commands::doctor::check::Verdict;

    #[test]
    fn a_unit_must_be_current_and_enabled_and_its_user_linger() {
        let good = Installation {
            kind: Kind::SystemdUser,
            path: "/x/clmgr.service".into(),
            state: UnitState::Current,
            enabled: true,
            linger: Some(true),
            same_home: true,
        };
        let verdicts = |found: &Installation| judge(found).iter().map(|check| check.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(&good), [Verdict::Ok, Verdict::Ok]);
        let with = |change: &dyn Fn(&mut Installation)| {
            let mut found = good.clone();
            change(&mut found);
            verdicts(&found)
        };
        assert_eq!(with(&|found| found.enabled = false), [Verdict::Attention, Verdict::Ok]);
        assert_eq!(
            with(&|found| found.state = UnitState::Outdated),
            [Verdict::Attention, Verdict::Ok]
        );
        assert_eq!(
            with(&|found| found.state = UnitState::Foreign),
            [Verdict::Note, Verdict::Ok]
        );
        assert_eq!(with(&|found| found.same_home = false), [Verdict::Note, Verdict::Ok]);
        assert_eq!(
            with(&|found| found.linger = Some(false)),
            [Verdict::Ok, Verdict::Attention]
        );
        assert_eq!(with(&|found| found.linger = None), [Verdict::Ok]);
    }
}
