//! An app from the command line: the same tree and the same way as from a file, with the command line as
//! the text that problems are shown in.

use crate::config::context::{Context, FileKind, Parsed};
use crate::config::diagnostic::{Diagnostic, Diagnostics, Sink, Span};
use crate::config::document::{build_all, finish};
use crate::config::paths::absolute;
use crate::config::schema::{self, Kind};
use crate::config::tree::{Entry, Node, Value};
use crate::config::values::Reader;

/// An app as given on the command line.
#[derive(Clone, Debug, Default)]
pub struct AdHoc {
    target: String,
    args: Vec<String>,
    settings: Vec<(String, String, String)>,
}

impl AdHoc {
    /// `target` is a script, a program, or a command with its arguments in one string.
    #[must_use]
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            ..Self::default()
        }
    }

    /// What follows `--`. Nothing in it is expanded or split.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A flag: how the user wrote it (`-i`), which key of a file it is (`instances`), and its value as
    /// text. Booleans are `true` and `false`. For `env` the value is `NAME=value`; it and `listen` may be
    /// repeated.
    #[must_use]
    pub fn set(mut self, flag: &str, key: &str, value: impl Into<String>) -> Self {
        self.settings.push((flag.to_owned(), key.to_owned(), value.into()));
        self
    }
}

/// Makes one app from the command line.
///
/// # Errors
/// Every problem at once, shown in the command line.
pub fn adhoc(given: &AdHoc, cx: &Context<'_>) -> Result<Parsed, Diagnostics> {
    let sink = Sink::default();
    let mut line = Line {
        text: "clmgr start".to_owned(),
        entries: Vec::new(),
    };
    let target = line.word(&given.target);
    let mut variables: Vec<Entry> = Vec::new();
    let mut sockets: Vec<Node> = Vec::new();
    for (flag, key, value) in &given.settings {
        let key_span = line.word(flag);
        let span = line.word(value);
        if key == "env" {
            variable(&sink, &mut variables, value, span);
        } else if key == "listen" {
            sockets.push(literal(value, span));
        } else {
            let node = setting(key, value, span);
            line.add(key, key_span, node);
        }
    }
    if !variables.is_empty() {
        let node = Node {
            span: variables[0].key_span.clone(),
            value: Value::Table(variables),
        };
        line.add("env", node.span.clone(), node);
    }
    if let (Some(first), Some(last)) = (sockets.first(), sockets.last()) {
        let span = first.span.start..last.span.end;
        let node = Node {
            span: span.clone(),
            value: Value::List(sockets),
        };
        line.add("listen", span, node);
    }
    if !given.args.is_empty() {
        line.word("--");
    }
    let args: Vec<Node> = given
        .args
        .iter()
        .map(|arg| {
            let span = line.word(arg);
            literal(arg, span)
        })
        .collect();
    what(given, cx, &mut line, target, args);
    let root = Node {
        span: 0..line.text.len(),
        value: Value::Table(line.entries),
    };
    let built = build_all(&[&root], None, Reader { cx, sink: &sink });
    let apps = built.into_iter().map(|built| built.spec).collect();
    finish("command line".to_owned(), &line.text, apps, sink.into_list())
}

/// The command line as it grows.
struct Line {
    text: String,
    entries: Vec<Entry>,
}

impl Line {
    fn word(&mut self, word: &str) -> Span {
        self.text.push(' ');
        let start = self.text.len();
        self.text.push_str(&shlex::try_quote(word).unwrap_or_default());
        start..self.text.len()
    }

    fn add(&mut self, key: &str, key_span: Span, node: Node) {
        self.entries.push(Entry {
            key: key.to_owned(),
            key_span,
            node,
        });
    }
}

/// Decides whether the target is a script, a program or a whole command.
fn what(given: &AdHoc, cx: &Context<'_>, line: &mut Line, target: Span, mut args: Vec<Node>) {
    let text = given.target.as_str();
    let set = |key: &str| {
        given
            .settings
            .iter()
            .find(|(_, k, _)| k == key)
            .map(|(_, _, value)| value.as_str())
    };
    let cwd = absolute(set("cwd").unwrap_or("."), cx.base_dir, cx);
    let exists = (cx.file_kind)(&absolute(text, &cwd, cx)) != FileKind::Missing;
    let words = shlex::split(text).unwrap_or_default();
    let is_command = !exists && words.len() > 1;
    let is_program = !exists && !text.contains('/') && set("interpreter").is_none() && (cx.which)(text);
    if is_command || is_program {
        let mut list: Vec<Node> = if is_command {
            words.iter().map(|word| literal(word, target.clone())).collect()
        } else {
            vec![literal(text, target.clone())]
        };
        list.append(&mut args);
        let node = Node {
            span: target.clone(),
            value: Value::List(list),
        };
        line.add("cmd", target, node);
        return;
    }
    line.add("script", target.clone(), literal(text, target));
    if let (Some(first), Some(last)) = (args.first(), args.last()) {
        let span = first.span.start..last.span.end;
        let node = Node {
            span: span.clone(),
            value: Value::List(args),
        };
        line.add("args", span, node);
    }
}

/// Text that stays as it is: the shell has expanded it already.
fn literal(text: &str, span: Span) -> Node {
    Node {
        span,
        value: Value::Text(text.replace('$', "$$")),
    }
}

fn setting(key: &str, value: &str, span: Span) -> Node {
    let kind = schema::find(schema::app_keys(), key).map(|key| key.kind);
    let number = || value.parse::<i64>().ok().map(Value::Int);
    let value = match kind {
        Some(Kind::Bool | Kind::Inherit | Kind::TableOrBool(_)) => value.parse().ok().map(Value::Bool),
        Some(
            Kind::Instances
            | Kind::Count
            | Kind::ExitCodes
            | Kind::Number(..)
            | Kind::Duration
            | Kind::DurationOrNever
            | Kind::DurationOrTable(_)
            | Kind::Size
            | Kind::SizeOrNone
            | Kind::FreeSpace
            | Kind::Signal,
        ) => number(),
        Some(Kind::Text | Kind::Texts | Kind::Words)
            if !matches!(
                key,
                "name" | "namespace" | "instance_var" | "increment_var" | "log_date_format"
            ) =>
        {
            Some(Value::Text(value.replace('$', "$$")))
        }
        Some(
            Kind::Text
            | Kind::Texts
            | Kind::Words
            | Kind::Choice(_)
            | Kind::Table(_)
            | Kind::Env
            | Kind::Ready
            | Kind::Health
            | Kind::Listen
            | Kind::Events,
        )
        | None => None,
    }
    .unwrap_or_else(|| Value::Text(value.to_owned()));
    Node { span, value }
}

fn variable(sink: &Sink, variables: &mut Vec<Entry>, text: &str, span: Span) {
    match text.split_once('=') {
        Some((name, value)) => {
            variables.retain(|entry| entry.key != name);
            variables.push(Entry {
                key: name.to_owned(),
                key_span: span.clone(),
                node: literal(value, span),
            });
        }
        None => {
            sink.push(Diagnostic::error(span, "env", format!("{text:?} is not NAME=value")).hint("write NAME=value"));
        }
    }
}
