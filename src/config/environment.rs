//! `env`, `env_<profile>`, `env_file`, `env_inherit`, and what `${VAR}` means in one app.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::context::Context;
use crate::config::diagnostic::{Diagnostic, Span};
use crate::config::expand::{ExpandError, expand};
use crate::config::fields::Fields;
use crate::config::paths::{absolute, similar};
use crate::config::tree::{Entry, Value};
use crate::config::values::Reader;
use crate::model::env::{EnvMap, MINIMAL, is_name};
use crate::model::ostext::OsText;

/// Longest chain of variables that refer to each other.
const MAX_CHAIN: usize = 64;

/// Variables that belong to one process and mislead any other that inherits them.
const PRIVATE: [&str; 10] = [
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "CLMGR_APP",
    "CLMGR_SLOT",
];

/// The inherited environments made so far: apps with the same choice share one.
#[derive(Debug, Default)]
pub(super) struct Inherited(RefCell<BTreeMap<Option<Vec<String>>, Arc<EnvMap>>>);

impl Inherited {
    /// `None`: everything.
    fn get(&self, names: Option<Vec<String>>, cx: &Context<'_>) -> Arc<EnvMap> {
        let mut made = self.0.borrow_mut();
        let entry = made.entry(names);
        let names = entry.key().clone();
        let wanted = |name: &String| {
            names
                .as_ref()
                .map_or_else(|| !PRIVATE.contains(&name.as_str()), |names| names.contains(name))
        };
        Arc::clone(entry.or_insert_with(|| {
            let kept = cx.env.iter().filter(|(name, _)| wanted(name));
            Arc::new(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
        }))
    }
}

/// The variables of one app, and what their names expand to.
pub(super) struct Scope<'a> {
    reader: Reader<'a>,
    /// What the file sets.
    pub(super) own: EnvMap,
    /// What the caller gives.
    pub(super) base: Arc<EnvMap>,
}

impl<'a> Scope<'a> {
    /// Reads the environment of an app.
    pub(super) fn read(fields: &Fields<'a>, inherited: &Inherited) -> Self {
        let reader = fields.reader;
        let mut own = EnvMap::new();
        files(fields, &mut own);
        let profile = |(name, entry): &(&str, &'a Entry)| (reader.cx.profile == Some(*name)).then_some(*entry);
        let mut raw = BTreeMap::new();
        for layer in fields
            .envs
            .iter()
            .copied()
            .chain(fields.profiles.iter().filter_map(profile))
        {
            table(&reader, layer, &mut raw);
        }
        // Profiles that are not chosen are checked too.
        for (_, entry) in &fields.profiles {
            table(&reader, entry, &mut BTreeMap::new());
        }
        resolve(&reader, &raw, &mut own);
        let base = inherited.get(inherit(fields), reader.cx);
        Self { reader, own, base }
    }

    /// Expands `${VAR}`; reports what is wrong with it.
    pub(super) fn expand(&self, key: &str, text: &str, span: &Span) -> Option<String> {
        let mut lookup = |name: &str| match self.own.get(name).or_else(|| self.reader.cx.env.get(name)) {
            Some(value) => to_text(name, value).map(Some),
            None => Ok(None),
        };
        expand(text, &mut lookup)
            .map_err(|error| report(&self.reader, key, span, &error))
            .ok()
    }

    /// The text at `key`, expanded.
    pub(super) fn text(&self, fields: &Fields<'a>, key: &'static str) -> Option<(String, &'a Span)> {
        let (text, span) = fields.text(key)?;
        Some((self.expand(&fields.path(key), text, span)?, span))
    }

    /// The path at `key`, expanded and made absolute from `base`.
    pub(super) fn path(&self, fields: &Fields<'a>, key: &'static str, base: &Path) -> Option<(PathBuf, &'a Span)> {
        let (text, span) = self.text(fields, key)?;
        if text.is_empty() {
            self.reader
                .bad(&fields.path(key), span, format!("`{}` is empty", fields.path(key)));
            return None;
        }
        Some((absolute(&text, base, self.reader.cx), span))
    }

    /// The texts at `key`, expanded.
    pub(super) fn texts(&self, fields: &Fields<'a>, key: &'static str) -> Option<Vec<(String, &'a Span)>> {
        let path = fields.path(key);
        let texts = self.reader.texts(&path, &fields.get(key)?.node)?;
        texts
            .into_iter()
            .map(|(text, span)| Some((self.expand(&path, text, span)?, span)))
            .collect()
    }

    /// The words at `key`, expanded.
    pub(super) fn words(&self, fields: &Fields<'a>, key: &'static str) -> Option<Vec<(String, Span)>> {
        self.command(&fields.path(key), &fields.get(key)?.node)
    }

    /// The words of a command, expanded after they are split, so that a value with spaces stays one word.
    pub(super) fn command(&self, key: &str, node: &crate::config::tree::Node) -> Option<Vec<(String, Span)>> {
        let words = self.reader.words(key, node)?;
        words
            .into_iter()
            .map(|(word, span)| Some((self.expand(key, &word, &span)?, span)))
            .collect()
    }

    /// The words of a command that is not the app's own: at least one.
    pub(super) fn hook(&self, key: &str, node: &crate::config::tree::Node) -> Option<Vec<OsText>> {
        let words = self.command(key, node)?;
        if words.first().is_none_or(|(word, _)| word.is_empty()) {
            self.reader.bad(key, &node.span, format!("`{key}` is empty"));
            return None;
        }
        Some(words.into_iter().map(|(word, _)| word.into()).collect())
    }

    /// Whether the app will have this variable, whoever sets it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.own.contains_key(name) || self.base.contains_key(name)
    }
}

fn report(reader: &Reader<'_>, key: &str, span: &Span, error: &ExpandError) {
    let diagnostic = Diagnostic::error(span.clone(), key, format!("`{key}`: {error}"));
    reader.sink.push(match error {
        ExpandError::Unset(name) => diagnostic.hint(format!(
            "set it, or give a default: `${{{name}:-value}}`; `$$` is a dollar sign"
        )),
        ExpandError::Unclosed | ExpandError::BadName(_) => {
            diagnostic.hint("`${NAME}` and `${NAME:-default}` are replaced; `$$` is a dollar sign")
        }
        ExpandError::NotText(_) | ExpandError::Cycle(_) | ExpandError::TooDeep | ExpandError::TooLong => diagnostic,
    });
}

fn to_text(name: &str, value: &OsText) -> Result<String, ExpandError> {
    let text = value.as_os_str().to_str();
    text.map(str::to_owned)
        .ok_or_else(|| ExpandError::NotText(name.to_owned()))
}

/// Reads `env_file` into `own`.
fn files(fields: &Fields<'_>, own: &mut EnvMap) {
    let reader = fields.reader;
    let key = "env_file";
    let Some(names) = fields.get(key).and_then(|entry| reader.texts(key, &entry.node)) else {
        return;
    };
    for (name, span) in names {
        let mut lookup = |name: &str| reader.cx.env.get(name).map(|value| to_text(name, value)).transpose();
        let path = match expand(name, &mut lookup) {
            Ok(name) => absolute(&name, reader.cx.base_dir, reader.cx),
            Err(error) => {
                report(&reader, key, span, &error);
                continue;
            }
        };
        match (reader.cx.read_file)(&path) {
            Ok(text) => file(&reader, span, &path, &text, own),
            Err(error) => reader.sink.push(
                Diagnostic::error(span.clone(), key, format!("cannot read `{}`: {error}", path.display()))
                    .hints(similar(&path, reader.cx)),
            ),
        }
    }
}

fn file(reader: &Reader<'_>, span: &Span, path: &Path, text: &str, own: &mut EnvMap) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        match item {
            Ok((name, value)) if value.contains('\0') => {
                reader.bad(
                    "env_file",
                    span,
                    format!("`{}`: {name} contains a NUL character", path.display()),
                );
            }
            Ok((name, value)) => {
                own.insert(name, value.into());
            }
            // The line is not shown: it may hold a secret.
            Err(dotenvy::Error::LineParse(line, _)) => {
                let line = line.lines().next().unwrap_or_default();
                let number = text.lines().position(|l| l.contains(line)).map_or(1, |n| n + 1);
                reader.sink.push(
                    Diagnostic::error(
                        span.clone(),
                        "env_file",
                        format!("`{}`: line {number} is malformed", path.display()),
                    )
                    .hint("write NAME=value, with quotes around values that contain spaces or `#`"),
                );
                return;
            }
            Err(error) => {
                reader.bad("env_file", span, format!("`{}`: {error}", path.display()));
                return;
            }
        }
    }
}

/// Reads one table of variables, unexpanded, over what lower layers said.
fn table<'a>(reader: &Reader<'a>, entry: &'a Entry, raw: &mut BTreeMap<&'a str, (String, &'a Span)>) {
    let Value::Table(variables) = &entry.node.value else {
        reader.wrong(&entry.key, &entry.node, "a table");
        return;
    };
    for variable in variables {
        let path = format!("{}.{}", entry.key, variable.key);
        if !is_name(&variable.key) {
            reader.bad(
                &path,
                &variable.key_span,
                format!("{:?} cannot be a variable's name", variable.key),
            );
            continue;
        }
        let text = match &variable.node.value {
            Value::Text(_) => reader.text(&path, &variable.node).map(str::to_owned),
            Value::Int(number) => Some(number.to_string()),
            Value::Float(number) => Some(format!("{number:?}")),
            Value::Bool(on) => Some(on.to_string()),
            Value::Date(date) => Some(date.clone()),
            Value::Null | Value::List(_) | Value::Table(_) => {
                reader.wrong(&path, &variable.node, "a string, number or boolean");
                None
            }
        };
        if let Some(text) = text {
            raw.insert(&variable.key, (text, &variable.node.span));
        }
    }
}

/// Expands the values and puts them into `own`, which holds those of the files.
fn resolve(reader: &Reader<'_>, raw: &BTreeMap<&str, (String, &Span)>, own: &mut EnvMap) {
    let mut resolver = Resolver {
        raw,
        files: own,
        caller: reader.cx.env,
        done: HashMap::new(),
        stack: Vec::new(),
    };
    let mut values = EnvMap::new();
    for (name, (_, span)) in raw {
        // A value that failed is empty, so that what refers to it does not fail again.
        let value = resolver.value(name).unwrap_or_else(|error| {
            report(reader, &format!("env.{name}"), span, &error);
            String::new()
        });
        values.insert((*name).to_owned(), value.into());
    }
    own.extend(values);
}

struct Resolver<'r> {
    raw: &'r BTreeMap<&'r str, (String, &'r Span)>,
    files: &'r EnvMap,
    caller: &'r EnvMap,
    done: HashMap<String, Result<String, ExpandError>>,
    stack: Vec<String>,
}

impl Resolver<'_> {
    fn value(&mut self, name: &str) -> Result<String, ExpandError> {
        if let Some(done) = self.done.get(name) {
            return done.clone();
        }
        if self.stack.len() > MAX_CHAIN {
            return Err(ExpandError::TooDeep);
        }
        let Some((text, _)) = self.raw.get(name) else {
            return Err(ExpandError::Unset(name.to_owned()));
        };
        self.stack.push(name.to_owned());
        let result = expand(text, &mut |wanted| self.lookup(wanted));
        self.stack.pop();
        self.done.insert(name.to_owned(), result.clone());
        result
    }

    fn lookup(&mut self, wanted: &str) -> Result<Option<String>, ExpandError> {
        if self.raw.contains_key(wanted) && self.stack.last().is_none_or(|last| last != wanted) {
            if self.stack.iter().any(|name| name == wanted) {
                return Err(ExpandError::Cycle(wanted.to_owned()));
            }
            return self.value(wanted).map(Some);
        }
        // `PATH = "/opt/bin:${PATH}"` means the one below.
        let lower = self.files.get(wanted).or_else(|| self.caller.get(wanted));
        lower.map(|value| to_text(wanted, value)).transpose()
    }
}

/// The names to inherit; `None` for all.
fn inherit(fields: &Fields<'_>) -> Option<Vec<String>> {
    let key = "env_inherit";
    let node = &fields.get(key)?.node;
    match &node.value {
        Value::Bool(true) => None,
        Value::Bool(false) => Some(MINIMAL.map(str::to_owned).to_vec()),
        Value::List(_) => {
            let names = fields.reader.texts(key, node)?;
            let mut names: Vec<String> = names
                .into_iter()
                .filter_map(|(name, span)| {
                    let good = is_name(name);
                    if !good {
                        fields
                            .reader
                            .bad(key, span, format!("{name:?} cannot be a variable's name"));
                    }
                    good.then(|| name.to_owned())
                })
                .collect();
            names.sort_unstable();
            names.dedup();
            Some(names)
        }
        Value::Text(_) | Value::Int(_) | Value::Float(_) | Value::Date(_) | Value::Null | Value::Table(_) => {
            fields.reader.wrong(key, node, "true, false or an array of names");
            None
        }
    }
}
