//! The table of keys as Markdown, for `docs/`.

use std::fmt::Write as _;

use crate::config::refused::LATER;
use crate::config::schema::{GROUPS, Key, Kind};
use crate::config::tables::{HEALTH, LISTEN, READY_TABLE};

const INTRODUCTION: &str = "\
Every key may stand in `[[apps]]` and in `[defaults]`. What an app says itself replaces the default as a whole; only the
variables of `env` and `env_<profile>` are merged one by one. A default that would contradict what the app says
(`script` and `cmd`, `restart` and `autorestart`, …) is left out. In strings that are commands, paths, addresses or
variables, `${NAME}` and `${NAME:-default}` are replaced, and `$$` is a dollar sign.

";

/// The documentation of all keys: one table for each group, then the keys of tables, then what is refused.
#[must_use]
pub fn key_table_markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    let mut tables: Vec<(&str, &[Key])> = Vec::new();
    for (title, keys) in GROUPS {
        section(&mut out, title, keys);
        for key in *keys {
            match key.kind {
                Kind::Table(inner) | Kind::TableOrBool(inner) | Kind::DurationOrTable(inner) => {
                    tables.push((key.name, inner));
                }
                Kind::Ready => tables.push((key.name, READY_TABLE)),
                Kind::Health => tables.push((key.name, HEALTH)),
                Kind::Listen => tables.push((key.name, LISTEN)),
                Kind::Text
                | Kind::Words
                | Kind::Texts
                | Kind::Bool
                | Kind::Duration
                | Kind::DurationOrNever
                | Kind::Size
                | Kind::SizeOrNone
                | Kind::FreeSpace
                | Kind::Count
                | Kind::Number(..)
                | Kind::Instances
                | Kind::Choice(_)
                | Kind::Env
                | Kind::Inherit
                | Kind::ExitCodes
                | Kind::Signal
                | Kind::Events => {}
            }
        }
    }
    for (name, keys) in tables {
        section(&mut out, &format!("`{name}`"), keys);
    }
    let later: Vec<String> = LATER.iter().map(|name| format!("`{name}`")).collect();
    let _ = writeln!(out, "Refused by this version, never ignored: {}.", later.join(", "));
    out
}

fn section(out: &mut String, title: &str, keys: &[Key]) {
    let _ = write!(
        out,
        "### {title}\n\n| key | value | default | meaning |\n|---|---|---|---|\n"
    );
    for key in keys {
        let aliases: String = key.aliases.iter().map(|alias| format!(", `{alias}`")).collect();
        let default = match key.default {
            "" => String::new(),
            text if text.contains(' ') && !text.starts_with(['"', '{', '[']) => text.to_owned(),
            text if text == "by extension" => text.to_owned(),
            text => format!("`{text}`"),
        };
        let cells = [value(key.kind), default, key.doc.to_owned()].map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(out, "| `{}`{aliases} | {} |", key.name, cells.join(" | "));
    }
    out.push('\n');
}

/// What a value may be, in a few words.
fn value(kind: Kind) -> String {
    match kind {
        Kind::Text => "string".into(),
        Kind::Words => "command: string or array".into(),
        Kind::Texts => "string or array".into(),
        Kind::Bool => "`true` or `false`".into(),
        Kind::Duration => "duration".into(),
        Kind::DurationOrNever => "duration or `\"never\"`".into(),
        Kind::Size => "size".into(),
        Kind::SizeOrNone => "size or `\"none\"`".into(),
        Kind::FreeSpace => "size, percentage, `\"auto\"` or `\"none\"`".into(),
        Kind::Count => "number, at least 1".into(),
        Kind::Number(low, high) => format!("number, {low} to {high}"),
        Kind::Instances => "number, `\"max\"` or share".into(),
        Kind::Choice(choices) => choices
            .iter()
            .map(|c| format!("`\"{c}\"`"))
            .collect::<Vec<_>>()
            .join(", "),
        Kind::Table(_) => "table, see below".into(),
        Kind::TableOrBool(_) => "table, see below, or `false`".into(),
        Kind::Env => "table of variables".into(),
        Kind::Inherit => "boolean or array of names".into(),
        Kind::ExitCodes => "number or array, 0 to 255".into(),
        Kind::Signal => "signal's name or number".into(),
        Kind::Ready => "string or table, see below".into(),
        Kind::Health => "table, see below".into(),
        Kind::DurationOrTable(_) => "duration, or table, see below".into(),
        Kind::Listen => "string or table, see below, or an array of them".into(),
        Kind::Events => "table of commands".into(),
    }
}
