//! The fifty apps, and what each is there for.

use std::fmt::Write as _;
use std::path::Path;

use crate::settings::Settings;
use crate::world::World;

/// Groups of apps: name, how many, instances of each, most instances that may ever live at once.
pub(crate) const GROUPS: [(&str, u32, u32, usize); 11] = [
    ("web", 4, 2, 3),
    ("lines", 6, 1, 1),
    ("exits", 12, 1, 1),
    ("loop", 3, 1, 1),
    ("open", 2, 1, 1),
    ("idle", 9, 1, 1),
    ("pair", 3, 2, 2),
    ("scaled", 3, 2, 6),
    ("toggled", 3, 2, 2),
    ("restarted", 2, 3, 3),
    ("rolled", 3, 2, 3),
];

/// The first wait of a crash loop and how it grows, by the app's number.
pub(crate) const BACKOFFS: [(u64, u32); 3] = [(500, 2), (300, 3), (1000, 2)];

/// The crash loops of the group `open` open their circuit with this exit.
pub(crate) const OPENS_AT: usize = 2;

/// All names of a group.
pub(crate) fn names(group: &str) -> Vec<String> {
    let count = GROUPS.iter().find(|known| known.0 == group).map_or(0, |known| known.1);
    (0..count).map(|number| format!("{group}{number}")).collect()
}

/// The group of an app.
pub(crate) fn group(app: &str) -> &str {
    app.trim_end_matches(|end: char| end.is_ascii_digit())
}

/// How many processes of an app may live at once.
pub(crate) fn most(app: &str) -> usize {
    GROUPS
        .iter()
        .find(|known| known.0 == group(app))
        .map_or(0, |known| known.3)
}

/// Writes `ecosystem.toml` with all of them.
pub(crate) fn write(world: &World, settings: &Settings) -> anyhow::Result<()> {
    let mut text = String::from(
        "[defaults]\nenv_inherit = false\nmin_uptime = \"100ms\"\nmax_restarts = 100000\nkill_timeout = \"20s\"\n",
    );
    for (group, count, instances, _) in GROUPS {
        for number in 0..count {
            text.push_str(&app(world.root(), group, number, instances, settings)?);
        }
    }
    std::fs::write(world.root().join("ecosystem.toml"), text)?;
    Ok(())
}

/// Writes a file with one app of the group `rolled` in this version; one that crashes if asked.
pub(crate) fn write_version(root: &Path, name: &str, version: u32, crashes: bool) -> anyhow::Result<String> {
    let crash = if crashes { ", CRASH = \"1\"" } else { "" };
    let text = format!(
        "[defaults]\nenv_inherit = false\nmin_uptime = \"100ms\"\nmax_restarts = 100000\nkill_timeout = \"20s\"\n{}",
        one(
            root,
            name,
            2,
            "idle",
            "",
            &format!(
                "rollout = {{ order = \"start-first\", min_healthy = \"200ms\" }}\nenv = {{ VERSION = \"{version}\"{crash} }}\n"
            )
        )?
    );
    let path = root.join(format!("{name}.toml"));
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn app(root: &Path, group: &str, number: u32, instances: u32, settings: &Settings) -> anyhow::Result<String> {
    let name = format!("{group}{number}");
    let none = String::new();
    let (role, argument, more) = match group {
        "web" => (
            "http",
            none,
            "listen = \"127.0.0.1:0\"\nrollout = { order = \"start-first\", min_healthy = \"200ms\" }\n".to_owned(),
        ),
        "lines" => (
            "lines",
            settings.rate.to_string(),
            if number == 0 {
                "log_rotate = { size = \"2M\", keep = 1000, compress = false }\n".to_owned()
            } else {
                "log_rotate = false\n".to_owned()
            },
        ),
        "exits" => (
            "exits",
            settings.seed.to_string(),
            "backoff = { first = \"20ms\", max = \"20ms\", jitter = 0 }\n".to_owned(),
        ),
        "loop" => {
            let (first, factor) = BACKOFFS[number as usize];
            let more = format!(
                "backoff = {{ first = \"{first}ms\", factor = {factor}, max = \"1h\", jitter = 0 }}\nmin_uptime = \"1h\"\n"
            );
            ("crash", none, more)
        }
        "open" => (
            "crash",
            none,
            format!(
                "max_restarts = {OPENS_AT}\nbreaker_cooldown = \"1h\"\nmin_uptime = \"1h\"\nbackoff = {{ first = \"10ms\", jitter = 0 }}\n"
            ),
        ),
        "rolled" => (
            "idle",
            none,
            "rollout = { order = \"start-first\", min_healthy = \"200ms\" }\nenv = { VERSION = \"0\" }\n".to_owned(),
        ),
        _ => ("idle", none, String::new()),
    };
    one(root, &name, instances, role, &argument, &more)
}

fn one(root: &Path, name: &str, instances: u32, role: &str, argument: &str, more: &str) -> anyhow::Result<String> {
    let program = std::env::current_exe()?;
    let mut text = String::new();
    writeln!(text, "[[apps]]\nname = \"{name}\"\ninstances = {instances}")?;
    write!(
        text,
        "cmd = [\"{}\", \"app\", \"{role}\", \"{}\"",
        program.display(),
        root.display()
    )?;
    if !argument.is_empty() {
        write!(text, ", \"{argument}\"")?;
    }
    writeln!(text, "]\n{more}")?;
    Ok(text)
}
