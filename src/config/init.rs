//! A commented `ecosystem.toml` for what a folder holds.

use std::fmt::Write as _;

/// What was found in the folder.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The text of `package.json`.
    pub package_json: Option<String>,
    /// The text of `pyproject.toml`.
    pub pyproject: Option<String>,
    /// The text of `Procfile`.
    pub procfile: Option<String>,
    /// The folder's name.
    pub folder_name: String,
    /// The names of the files in the folder.
    pub files: Vec<String>,
}

/// One app to write.
struct Draft {
    name: String,
    /// `cmd = …` or `script = …`, as TOML.
    run: String,
    /// Where it comes from.
    from: String,
}

/// Writes the file. What it says is valid, as long as the programs it names are installed.
#[must_use]
pub fn init(found: &Found) -> String {
    let mut drafts = found.procfile.as_deref().map(procfile).unwrap_or_default();
    if drafts.is_empty() {
        drafts.extend(found.package_json.as_deref().and_then(|text| package_json(text, found)));
        drafts.extend(found.pyproject.as_deref().map(pyproject).unwrap_or_default());
    }
    if drafts.is_empty() {
        drafts.extend(by_file(found));
    }
    let example = drafts.is_empty();
    if example {
        drafts.push(Draft {
            name: name(&found.folder_name, "app"),
            run: "cmd = [\"sh\", \"-c\", \"while :; do date; sleep 5; done\"]".to_owned(),
            from: "an example: put your own command here".to_owned(),
        });
    }
    let mut out = String::from(HEAD);
    let mut used: Vec<String> = Vec::new();
    for mut draft in drafts {
        let base = draft.name.clone();
        let mut number = 2;
        while used.contains(&draft.name) {
            draft.name = format!("{base}-{number}");
            number += 1;
        }
        let _ = write!(
            out,
            "\n[[apps]]\nname = {}\n{} # {}\n{TAIL}",
            quote(&draft.name),
            draft.run,
            draft.from
        );
        used.push(draft.name);
    }
    out
}

const HEAD: &str = "\
# Apps for clmgr. `clmgr start` runs them, `clmgr validate` checks this file.
# Durations: \"5s\", \"1m30s\", or milliseconds. Sizes: \"500M\".

[defaults]
# kill_timeout = \"10s\"          # from the stop signal to SIGKILL
# max_memory_restart = \"500M\"   # replace an instance that grows beyond this
";

const TAIL: &str = "\
# instances = \"max\"             # one for every CPU
# env = { PORT = 3000 }
# increment_var = \"PORT\"        # 3000, 3001, … for the instances
# ready = { http = \"http://127.0.0.1:{port}/\" }
# require = { env = [\"DATABASE_URL\"] }
";

/// A TOML string.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A TOML string in which `$` stands for itself.
fn literal(text: &str) -> String {
    quote(&text.replace('$', "$$"))
}

/// `text` made fit to be an app's name, or `fallback`.
fn name(text: &str, fallback: &str) -> String {
    let kept: String = text
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(32)
        .collect();
    let kept = kept.trim_matches(['-', '.']).to_owned();
    match kept.parse::<crate::model::names::AppName>() {
        Ok(_) if kept.len() <= 48 => kept,
        _ => fallback.to_owned(),
    }
}

/// A command line: exec form if it is plain words, otherwise with a shell.
fn command(line: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || " -_./:=@,+%".contains(c);
    let variable_first = line.split_whitespace().next().is_some_and(|word| word.contains('='));
    if line.chars().all(plain) && !variable_first {
        format!("cmd = {}", literal(line.trim()))
    } else {
        format!("cmd = [\"sh\", \"-c\", {}]", literal(line.trim()))
    }
}

fn procfile(text: &str) -> Vec<Draft> {
    let draft = |line: &str| {
        let (process, line) = line.split_once(':')?;
        let good = !process.is_empty() && process.chars().all(|c| c.is_alphanumeric() || "-_".contains(c));
        (good && !line.trim().is_empty()).then(|| Draft {
            name: name(process, "app"),
            run: command(line),
            from: "Procfile".to_owned(),
        })
    };
    text.lines().map(str::trim).filter_map(draft).collect()
}

fn package_json(text: &str, found: &Found) -> Option<Draft> {
    let package: serde_json::Value = serde_json::from_str(text).ok()?;
    let text = |value: &serde_json::Value| {
        value
            .as_str()
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    };
    let own_name = text(&package["name"]).map(|n| n.rsplit('/').next().unwrap_or_default().to_owned());
    let name = name(&own_name.unwrap_or_else(|| found.folder_name.clone()), "app");
    let script = |file: &str| format!("script = {}", literal(file));
    let present = |file: &str| found.files.iter().any(|f| f == file.trim_start_matches("./"));
    if let Some(start) = text(&package["scripts"]["start"]) {
        let direct = start.strip_prefix("node ").map(str::trim).filter(|file| present(file));
        return Some(Draft {
            name,
            run: direct.map_or_else(|| "cmd = [\"npm\", \"start\"]".to_owned(), script),
            from: "package.json: scripts.start".to_owned(),
        });
    }
    let main = text(&package["main"]).filter(|main| present(main));
    let main = main.or_else(|| present("index.js").then(|| "index.js".to_owned()))?;
    Some(Draft {
        name,
        run: script(&main),
        from: "package.json: main".to_owned(),
    })
}

fn pyproject(text: &str) -> Vec<Draft> {
    let Ok(project) = text.parse::<toml::Table>() else {
        return Vec::new();
    };
    let scripts = |path: &[&str]| {
        let mut table = &project;
        for key in path {
            table = table.get(*key)?.as_table()?;
        }
        Some(table.keys().cloned().collect::<Vec<_>>())
    };
    let names = scripts(&["project", "scripts"]).or_else(|| scripts(&["tool", "poetry", "scripts"]));
    let draft = |script: String| Draft {
        name: name(&script, "app"),
        run: format!("cmd = [{}]", literal(&script)),
        from: "pyproject.toml: scripts".to_owned(),
    };
    names.unwrap_or_default().into_iter().map(draft).collect()
}

fn by_file(found: &Found) -> Option<Draft> {
    let usual = [
        "server.js",
        "index.js",
        "app.js",
        "main.py",
        "app.py",
        "server.py",
        "server.ts",
        "index.ts",
    ];
    let file = usual.iter().find(|file| found.files.iter().any(|f| f == *file))?;
    Some(Draft {
        name: name(&found.folder_name, "app"),
        run: format!("script = {}", literal(file)),
        from: "found in this folder".to_owned(),
    })
}
