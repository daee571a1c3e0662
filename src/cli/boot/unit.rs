//! The text of a systemd unit.

use std::fmt::Write as _;

use crate::cli::boot::MARK;
use crate::cli::boot::place::{Kind, Place};
use crate::model::duration::Millis;

/// Renders it. `stop_timeout` is the time that the known apps may take to stop; for others the daemon asks for
/// more while it stops them.
pub(super) fn render(place: &Place, stop_timeout: Millis) -> String {
    let system = place.kind == Kind::Systemd;
    let exe = place.exe.display().to_string().replace('%', "%%");
    let mut env = String::new();
    for (name, value) in &place.env {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        let _written = writeln!(env, "Environment=\"{name}={value}\"");
    }
    let after = if system { "After=network.target\n" } else { "" };
    let scope = if system { "" } else { " --user" };
    let target = if system { "multi-user.target" } else { "default.target" };
    let seconds = stop_timeout.0.div_ceil(1000);
    format!(
        "{MARK}
# To change something, make a drop-in: systemctl{scope} edit clmgr
[Unit]
Description=clmgr process manager
{after}# A keeper that cannot start is tried again for ever.
StartLimitIntervalSec=0

[Service]
Type=notify
# The keeper alone is listened to: no app can say that clmgr is ready.
NotifyAccess=main
{env}ExecStart=\"{exe}\" keeper
# On a restart the keeper leaves and the apps live on; else it stops them, the last one first.
ExecStop=\"{exe}\" service-stop{scope}
KillMode=process
# Not after a clean end, which is `clmgr kill`, nor (4) when a keeper was started by hand for the same state.
Restart=on-failure
RestartSec=500ms
RestartPreventExitStatus=4
TimeoutStartSec=2min
TimeoutStopSec={seconds}s
WatchdogSec=30s
WatchdogSignal=SIGKILL
# What nobody could open again is kept here: the input and the channels of apps, listening sockets.
FileDescriptorStoreMax=8192
Delegate=yes
# One app that needs too much memory is no reason to stop the others.
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=65536:524288
# No sandbox: apps inherit whatever is taken away here (folders, capabilities, system calls, devices), and what
# they may do is said for each of them in ecosystem.toml.

[Install]
WantedBy={target}
"
    )
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::cli::boot::place::{Kind, Place};
    use crate::model::duration::Millis;

    fn place(kind: Kind) -> Place {
        Place {
            kind,
            path: "/x".into(),
            exe: "/usr/local/bin/clmgr".into(),
            user: None,
            env: Vec::new(),
        }
    }

    #[test]
    fn of_the_machine() {
        insta::assert_snapshot!(render(&place(Kind::Systemd), Millis(90_000)));
    }

    #[test]
    fn of_a_user() {
        insta::assert_snapshot!(render(&place(Kind::SystemdUser), Millis(90_500)));
    }

    #[test]
    fn of_another_home() {
        let place = Place {
            exe: "/opt/my tools/100%/clmgr".into(),
            env: vec![("CLMGR_HOME", "/srv/a \"b\" %h".to_owned())],
            ..place(Kind::Systemd)
        };
        let text = render(&place, Millis(90_000));
        assert!(
            text.contains("Environment=\"CLMGR_HOME=/srv/a \\\"b\\\" %%h\"\n"),
            "{text}"
        );
        assert!(
            text.contains("ExecStart=\"/opt/my tools/100%%/clmgr\" keeper\n"),
            "{text}"
        );
    }
}
