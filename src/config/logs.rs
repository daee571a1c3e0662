//! The log keys.

use std::path::Path;

use crate::config::environment::Scope;
use crate::config::fields::Fields;
use crate::config::tables::LOG_ROTATE;
use crate::config::tree::Value;
use crate::config::{log_to, log_zone};
use crate::model::logspec::{LogFormat, LogSpec, MinFree, Overflow, Rotation};
use crate::model::ostext::OsText;
use crate::model::size::Bytes;

/// What `time = true` puts before a line.
const ISO: &str = "%Y-%m-%dT%H:%M:%S%.3f%:z";

/// Reads them. Paths are relative to the file's folder.
pub(super) fn logs(fields: &Fields<'_>, scope: &Scope<'_>) -> LogSpec {
    let disabled = fields.boolean("disable_logs").unwrap_or(false);
    if disabled {
        for key in ["out_file", "error_file", "log_file"] {
            let message = format!("`disable_logs` and `{key}` contradict each other");
            fields.contradiction("disable_logs", key, &message, "remove one of them");
        }
    }
    let targets = log_to::targets(fields);
    LogSpec {
        facility: log_to::facility(fields, &targets),
        targets,
        zone: log_zone::zone(fields),
        out_file: file(fields, scope, "out_file"),
        error_file: file(fields, scope, "error_file"),
        log_file: file(fields, scope, "log_file"),
        merge: fields.boolean("merge_logs").unwrap_or(false),
        format: format(fields),
        rotate: rotate(fields).unwrap_or_default(),
        overflow: match fields.choice("log_overflow", &["block", "drop"]) {
            Some("drop") => Overflow::Drop,
            _ => Overflow::Block,
        },
        disabled,
    }
}

fn file(fields: &Fields<'_>, scope: &Scope<'_>, key: &'static str) -> Option<OsText> {
    let cx = fields.reader.cx;
    let (path, span) = scope.path(fields, key, cx.base_dir)?;
    let ends_in_slash = fields.text(key).is_some_and(|(text, _)| text.ends_with('/'));
    if ends_in_slash || (cx.file_kind)(&path) == crate::config::context::FileKind::Folder {
        fields
            .reader
            .bad(key, span, format!("`{}` is a folder", path.display()));
        return None;
    }
    Some(Path::new(&path).into())
}

fn format(fields: &Fields<'_>) -> LogFormat {
    let json = fields.choice("log_type", &["raw", "json"]) == Some("json");
    let time = fields.boolean("time");
    let format = fields.text("log_date_format").filter(|(text, _)| !text.is_empty());
    if json {
        let hint = "a JSON line has its time already; keep one of them";
        if format.is_some() {
            let message = "`log_type = \"json\"` and `log_date_format` contradict each other";
            fields.contradiction("log_type", "log_date_format", message, hint);
        }
        if time == Some(true) {
            fields.contradiction(
                "log_type",
                "time",
                "`log_type = \"json\"` and `time` contradict each other",
                hint,
            );
        }
        return LogFormat::Json;
    }
    match (format, time) {
        (Some((text, span)), time) => {
            if time == Some(false) {
                let message = "`time = false` and `log_date_format` contradict each other";
                fields.contradiction("time", "log_date_format", message, "keep one of them");
            }
            check_format(fields, text, span);
            LogFormat::Stamped(text.to_owned())
        }
        (None, Some(true)) => LogFormat::Stamped(ISO.to_owned()),
        (None, _) => LogFormat::Raw,
    }
}

/// A strftime-like format is tried on some moment; PM2's tokens cannot be wrong: what is none is literal.
fn check_format(fields: &Fields<'_>, text: &str, span: &crate::config::diagnostic::Span) {
    let key = "log_date_format";
    if text.contains('\n') || text.len() > 200 {
        fields.reader.bad(key, span, "`log_date_format` is longer than a line");
    }
    if text.contains('%') {
        let moment = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        if let Err(error) = jiff::fmt::strtime::format(text, &moment) {
            fields.reader.bad(key, span, format!("`log_date_format`: {error}"));
        }
    }
}

fn rotate(fields: &Fields<'_>) -> Option<Rotation> {
    let entry = fields.get("log_rotate")?;
    let default = Rotation::default();
    if let Value::Bool(on) = entry.node.value {
        return Some(if on {
            default
        } else {
            Rotation {
                size: None,
                every: None,
                total: None,
                // What lies beside the log is somebody else's.
                min_free: MinFree::Off,
                ..default
            }
        });
    }
    let table = fields.table("log_rotate", LOG_ROTATE)?;
    let size = size_or_none(&table, "size", default.size);
    let every = table.span_of_time("every");
    if size.is_none() && every.is_none() && table.get("every").is_none() {
        let message = "`max_age` is about rotated files, and nothing is rotated";
        table.contradiction("size", "max_age", message, "add `every = \"1d\"`, or give a size");
    }
    Some(Rotation {
        size,
        every,
        keep: table.count("keep").unwrap_or(default.keep),
        total: size_or_none(&table, "total", default.total),
        compress: table.boolean("compress").unwrap_or(default.compress),
        max_age: table.span_of_time("max_age"),
        min_free: min_free(&table),
    })
}

fn min_free(table: &Fields<'_>) -> MinFree {
    let Some(node) = table.get("min_free").map(|entry| &entry.node) else {
        return MinFree::Auto;
    };
    let Value::Text(text) = &node.value else {
        return table
            .reader
            .size(&table.path("min_free"), node)
            .map_or(MinFree::Auto, MinFree::Bytes);
    };
    if let Some(share) = text.strip_suffix('%') {
        if let Some(share) = share.trim().parse().ok().filter(|share| (1..100).contains(share)) {
            return MinFree::Percent(share);
        }
        let message = format!("`log_rotate.min_free`: {text:?} is no whole percentage from 1% to 99%");
        table.reader.bad(&table.path("min_free"), &node.span, message);
        return MinFree::Auto;
    }
    match text.as_str() {
        "auto" => MinFree::Auto,
        "none" => MinFree::Off,
        _ => table
            .reader
            .size(&table.path("min_free"), node)
            .map_or(MinFree::Auto, MinFree::Bytes),
    }
}

fn size_or_none(table: &Fields<'_>, key: &'static str, default: Option<Bytes>) -> Option<Bytes> {
    match table.get(key).map(|entry| &entry.node) {
        None => default,
        Some(node) if matches!(&node.value, Value::Text(text) if text == "none") => None,
        Some(node) => table.reader.size(&table.path(key), node).or(default),
    }
}
