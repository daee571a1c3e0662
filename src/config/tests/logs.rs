//! Time zones and targets of logs.

use super::{World, app, messages};
use crate::config::context::FileKind;
use crate::model::logspec::{Facility, LogTarget};

fn with_zones() -> World {
    let mut world = World::new();
    let zones = [
        ("/usr/share/zoneinfo", FileKind::Folder),
        ("/usr/share/zoneinfo/Europe", FileKind::Folder),
        ("/usr/share/zoneinfo/Europe/Berlin", FileKind::File),
        ("/usr/share/zoneinfo/Europe/Paris", FileKind::File),
    ];
    world.files.extend(zones.map(|(path, kind)| (path, ("", kind))));
    world
}

fn zone(world: &World, name: &str) -> Result<Option<String>, String> {
    let text = format!("[[apps]]\nscript = 'server.js'\nlog_timezone = '{name}'");
    match world.toml(&text) {
        Ok(mut parsed) => Ok(parsed.apps.remove(0).logs.zone),
        Err(problems) => Err(problems.render(false)),
    }
}

#[test]
fn zones_are_looked_up() {
    let world = with_zones();
    assert_eq!(zone(&world, "Europe/Berlin"), Ok(Some("Europe/Berlin".into())));
    assert_eq!(zone(&world, "utc"), Ok(Some("UTC".into())));
    assert_eq!(zone(&world, "local"), Ok(None));
    let near = zone(&world, "Europe/Berlni").unwrap_err();
    assert!(
        near.contains("no time zone `Europe/Berlni`") && near.contains("did you mean `Europe/Berlin`"),
        "{near}"
    );
    for bad in ["Europe", "CET+1/..", "../../../etc/passwd", ""] {
        let text = zone(&world, bad).unwrap_err();
        assert!(text.contains("timedatectl list-timezones"), "{text}");
    }
    let none = zone(&World::new(), "Europe/Berlin").unwrap_err();
    assert!(none.contains("install the package tzdata"), "{none}");
    assert_eq!(zone(&World::new(), "UTC"), Ok(Some("UTC".into())));
}

#[test]
fn targets_are_one_or_several() {
    use LogTarget::{Files, Journald, Stdout, Syslog};
    let of = |value: &str| app(&format!("[[apps]]\nscript = 'server.js'\nlog_to = {value}")).logs;
    assert_eq!(of("'journald'").targets, [Journald]);
    let all = of("['files', 'journald', 'syslog', 'stdout']\nsyslog_facility = 'local3'\nout = 'x'");
    assert_eq!(all.targets, [Files, Journald, Syslog, Stdout]);
    assert_eq!(all.facility, Facility(19));
    assert!(all.goes_to(Files) && !of("'syslog'").goes_to(Files));
    assert_eq!(of("'syslog'").facility, Facility(3));
    let plain = app("[[apps]]\nscript = 'server.js'").logs;
    assert!(plain.goes_to(Files) && !plain.goes_to(Journald));
    let displaced = app("[defaults]\nlog_to = 'syslog'\n[[apps]]\nscript = 'server.js'\ndisable_logs = true").logs;
    assert!(LogTarget::ALL.into_iter().all(|target| !displaced.goes_to(target)));
}

#[test]
fn wrong_targets_are_refused() {
    let of = |value: &str| messages(&format!("[[apps]]\nscript = 'server.js'\nlog_to = {value}"));
    assert_eq!(of("'jornald'"), ["\"jornald\" is no target of logs"]);
    assert_eq!(of("[]"), ["`log_to` is empty"]);
    assert_eq!(
        of("3"),
        ["`log_to` must be a string or an array of strings, not a whole number"]
    );
    assert_eq!(of("['syslog', 'syslog']"), ["`log_to` has \"syslog\" twice"]);
    assert_eq!(
        of("'syslog'\ndisable_logs = true"),
        ["`disable_logs` and `log_to` contradict each other"]
    );
    assert_eq!(
        of("'syslog'\nout_file = 'x'"),
        ["`log_to` without \"files\" and `out_file` contradict each other"]
    );
    assert_eq!(of("'files'\nsyslog_facility = 'mail'").len(), 1);
}
