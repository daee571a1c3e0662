//! The whole text: `[defaults]`, `[[apps]]`, and what must hold among apps.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::app::{Built, build};
use crate::config::context::{Context, Parsed, Syntax};
use crate::config::diagnostic::{Diagnostic, Diagnostics, Severity, Sink, Span, closest, position};
use crate::config::environment::Inherited;
use crate::config::fields::Fields;
use crate::config::json::read_json;
use crate::config::listen::unique;
use crate::config::refused::LATER;
use crate::config::schema;
use crate::config::tree::{Entry, Node, Value, read_toml};
use crate::config::values::Reader;
use crate::model::spec::AppSpec;

/// Most bytes of a text. Nobody writes more by hand.
const MAX_TEXT: usize = 1 << 20;

/// Reads a file.
///
/// # Errors
/// Every problem at once, in the order of the text.
pub fn parse(text: &str, syntax: Syntax, cx: &Context<'_>) -> Result<Parsed, Diagnostics> {
    let name = cx
        .file
        .map_or_else(|| "<input>".to_owned(), |file| file.display().to_string());
    if text.len() > MAX_TEXT {
        let problem = Diagnostic::nowhere(format!("{name} is larger than 1 MiB"));
        return Err(Diagnostics::new(name, "", vec![problem]));
    }
    let sink = Sink::default();
    let root = match syntax {
        Syntax::Toml => Some(read_toml(text, &sink)),
        Syntax::Json => read_json(text, &sink),
    };
    let syntax_errors = sink.into_list();
    let sink = Sink::default();
    let apps = root.map_or_else(Vec::new, |root| document(&root, cx, &sink));
    let mut problems = sink.into_list();
    if !syntax_errors.is_empty() {
        problems = beside(text, &syntax_errors, problems);
        problems.extend(syntax_errors);
    }
    finish(name, text, apps, problems)
}

/// Errors, or apps and warnings.
pub(super) fn finish(
    name: String,
    text: &str,
    apps: Vec<AppSpec>,
    problems: Vec<Diagnostic>,
) -> Result<Parsed, Diagnostics> {
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    let list = Diagnostics::new(name, text, problems);
    if failed {
        return Err(list);
    }
    Ok(Parsed { apps, warnings: list })
}

/// With syntax errors only part of the text was read: what is said about something missing, about lines with
/// such an error, or about lines below a broken `[header]`, may be a consequence of it.
fn beside(text: &str, syntax_errors: &[Diagnostic], problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let line = |d: &Diagnostic| d.span.as_ref().map(|span| position(text, span.start).0);
    let errors: BTreeSet<_> = syntax_errors.iter().filter_map(line).collect();
    let mut below_broken_header = false;
    let mut doubtful = BTreeSet::new();
    for (number, content) in (1..).zip(text.split('\n')) {
        if content.trim_start().starts_with('[') {
            below_broken_header = errors.contains(&number);
        }
        if below_broken_header || errors.contains(&number) {
            doubtful.insert(number);
        }
    }
    let trustworthy = |d: &Diagnostic| {
        d.severity == Severity::Error && !d.absence && line(d).is_some_and(|line| !doubtful.contains(&line))
    };
    problems.into_iter().filter(trustworthy).collect()
}

fn document(root: &Node, cx: &Context<'_>, sink: &Sink) -> Vec<AppSpec> {
    let reader = Reader { cx, sink };
    let mut defaults = None;
    let mut apps: Vec<&Node> = Vec::new();
    let mut misplaced = false;
    match &root.value {
        Value::List(list) => apps.extend(list),
        Value::Table(entries) => {
            for entry in entries {
                let no_apps = matches!(&entry.node.value, Value::List(list) if list.is_empty());
                misplaced |= matches!(entry.key.as_str(), "app" | "apps") && !no_apps;
                match (entry.key.as_str(), &entry.node.value) {
                    ("apps", Value::List(list)) => apps.extend(list),
                    ("apps", Value::Table(_)) => sink.push(
                        Diagnostic::error(
                            entry.key_span.clone(),
                            "apps",
                            "`apps` is one table; it must be an array of tables",
                        )
                        .hint("write `[[apps]]` with two brackets, once for each app"),
                    ),
                    ("apps", _) => reader.wrong("apps", &entry.node, "an array of tables"),
                    ("defaults", Value::Table(table)) => defaults = Some(Fields::of_app(reader, table)),
                    ("defaults", _) => reader.wrong("defaults", &entry.node, "a table"),
                    ("$schema", _) => {}
                    _ => stray(sink, entry),
                }
            }
        }
        Value::Text(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Date(_) | Value::Null => {
            reader.wrong("the file", root, "a table with `apps`");
            return Vec::new();
        }
    }
    if apps.is_empty() && !misplaced {
        sink.push(Diagnostic {
            hint: Some("add `[[apps]]` with `cmd` or `script`; `clmgr init` writes an example".to_owned()),
            ..Diagnostic::nowhere("there is no app in it")
        });
    }
    let built = build_all(&apps, defaults.as_ref(), reader);
    built.into_iter().map(|built| built.spec).collect()
}

/// Builds every app, and checks them against each other.
pub(super) fn build_all(apps: &[&Node], defaults: Option<&Fields<'_>>, reader: Reader<'_>) -> Vec<Built> {
    let inherited = Inherited::default();
    let mut profiles: BTreeSet<&str> = defaults
        .iter()
        .flat_map(|d| d.profiles.iter().map(|(name, _)| *name))
        .collect();
    let mut built = Vec::new();
    for node in apps {
        let Value::Table(entries) = &node.value else {
            reader.wrong("apps", node, "an array of tables");
            continue;
        };
        let own = Fields::of_app(reader, entries);
        profiles.extend(own.profiles.iter().map(|(name, _)| *name));
        let fields = match defaults {
            Some(defaults) => own.with_defaults(defaults),
            None => own,
        };
        built.extend(build(&fields, &inherited, &node.span));
    }
    if let Some(profile) = reader.cx.profile
        && !profiles.contains(profile)
    {
        unknown_profile(reader.sink, profile, &profiles);
    }
    unique_names(reader.sink, &built);
    unique_logs(reader.sink, &built);
    unique(
        reader.sink,
        built
            .iter()
            .map(|app| (&app.spec.name, app.spec.listen.as_slice(), app.listen_spans.as_slice())),
    );
    built
}

fn stray(sink: &Sink, entry: &Entry) {
    let key = entry.key.as_str();
    let problem = Diagnostic::error(
        entry.key_span.clone(),
        key,
        format!("unknown key `{key}` outside of `[[apps]]`"),
    );
    let is_app_key = schema::find(schema::app_keys(), key).is_some() || LATER.contains(&key);
    let hint = if is_app_key && key != "deploy" {
        format!("`{key}` belongs below `[[apps]]` or `[defaults]`")
    } else if key == "app" {
        "did you mean `[[apps]]`?".to_owned()
    } else {
        match closest(key, ["apps", "defaults"]) {
            Some(found) => format!("did you mean `{found}`?"),
            None => "there are only `[defaults]` and `[[apps]]`".to_owned(),
        }
    };
    sink.push(problem.hint(hint));
}

fn unknown_profile(sink: &Sink, profile: &str, known: &BTreeSet<&str>) {
    let hint = if known.is_empty() {
        format!("no app has an `env_…` table; write `env_{profile} = {{ NAME = \"value\" }}`")
    } else {
        format!("known: {}", known.iter().copied().collect::<Vec<_>>().join(", "))
    };
    sink.push(Diagnostic::nowhere(format!("no app has `env_{profile}`")).hint(hint));
}

fn unique_names(sink: &Sink, built: &[Built]) {
    let mut seen: BTreeMap<&str, &Span> = BTreeMap::new();
    for app in built {
        let name = app.spec.name.as_str();
        if let Some(first) = seen.insert(name, &app.name_span) {
            sink.push(
                Diagnostic::error(app.name_span.clone(), "name", format!("two apps are named `{name}`"))
                    .label("the same name")
                    .see(first.clone(), "first used here")
                    .hint("give each app its own `name`; for several instances of one, write `instances = 2`"),
            );
        }
    }
}

fn unique_logs(sink: &Sink, built: &[Built]) {
    let mut seen: BTreeMap<&crate::model::ostext::OsText, &Built> = BTreeMap::new();
    for app in built {
        let logs = &app.spec.logs;
        for path in [&logs.out_file, &logs.error_file, &logs.log_file].into_iter().flatten() {
            if path.as_bytes() == b"/dev/null" {
                continue;
            }
            let first = *seen.entry(path).or_insert(app);
            let other = first.spec.name != app.spec.name;
            if other && !(first.spec.logs.merge && logs.merge) {
                let (one, two) = (&first.spec.name, &app.spec.name);
                sink.push(
                    Diagnostic::error(
                        app.name_span.clone(),
                        "out_file",
                        format!("the apps `{one}` and `{two}` write to the same log `{path}`"),
                    )
                    .see(first.name_span.clone(), "the other app")
                    .hint("give each its own file, or set `merge_logs = true` in both"),
                );
            }
        }
    }
}
