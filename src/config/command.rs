//! `cmd`, or `script` with `args`, `interpreter` and `interpreter_args`; and `cwd`.

use std::path::{Path, PathBuf};

use crate::config::context::FileKind;
use crate::config::diagnostic::{Diagnostic, Span};
use crate::config::environment::Scope;
use crate::config::fields::Fields;
use crate::config::interpreter::{Runner, runner};
use crate::config::paths::{absolute, similar};
use crate::config::tree::Value;
use crate::model::ostext::OsText;

/// What is run.
pub(super) struct Command {
    /// Program and arguments.
    pub(super) argv: Vec<OsText>,
    /// The name an app has that gives none.
    pub(super) name: String,
    /// Where it says so.
    pub(super) span: Span,
}

/// The working folder. When it is wrong, what it would be, so that the rest can be checked.
pub(super) fn cwd(fields: &Fields<'_>, scope: &Scope<'_>) -> PathBuf {
    let cx = fields.reader.cx;
    let Some((path, span)) = scope.path(fields, "cwd", cx.base_dir) else {
        return cx.base_dir.to_owned();
    };
    let message = match (cx.file_kind)(&path) {
        FileKind::Folder => return path,
        FileKind::Missing => format!("the folder `{}` does not exist", path.display()),
        FileKind::File | FileKind::Program => format!("`{}` is not a folder", path.display()),
    };
    fields
        .reader
        .sink
        .push(Diagnostic::error(span.clone(), "cwd", message).hints(similar(&path, cx)));
    path
}

/// Reads the command. `place` is where the app begins, for "nothing to run".
pub(super) fn read(fields: &Fields<'_>, scope: &Scope<'_>, cwd: &Path, place: &Span) -> Option<Command> {
    for key in ["script", "args", "interpreter", "interpreter_args"] {
        let message = format!("`cmd` and `{key}` cannot be given together");
        fields.contradiction(
            "cmd",
            key,
            &message,
            "`cmd` is the whole command; `args` and `interpreter` belong to `script`",
        );
    }
    if fields.get("cmd").is_some() {
        return program(fields, scope, cwd);
    }
    if fields.get("script").is_some() {
        return script(fields, scope, cwd);
    }
    fields.reader.sink.push(
        Diagnostic::error(place.clone(), "cmd", "this app has nothing to run")
            .absence()
            .hint("give it `cmd = \"program arg …\"` or `script = \"file\"`"),
    );
    None
}

fn program(fields: &Fields<'_>, scope: &Scope<'_>, cwd: &Path) -> Option<Command> {
    let entry = fields.get("cmd")?;
    let words = scope.words(fields, "cmd")?;
    let sink = fields.reader.sink;
    let Some((first, _)) = words.first().filter(|(word, _)| !word.is_empty()) else {
        fields.reader.bad("cmd", &entry.node.span, "`cmd` is empty");
        return None;
    };
    if matches!(entry.node.value, Value::Text(_)) {
        let operator =
            |word: &&(String, Span)| ["&&", "||", "|", ";", ">", ">>", "<", "&", "2>&1"].contains(&word.0.as_str());
        if let Some((operator, span)) = words.iter().find(operator) {
            sink.push(
                Diagnostic::warning(
                    span.clone(),
                    "cmd",
                    format!("`{operator}` is given to the program as an argument: no shell runs `cmd`"),
                )
                .hint("for a shell, write `cmd = [\"sh\", \"-c\", \"…\"]`"),
            );
        }
    }
    let name = Path::new(first)
        .file_name()
        .map_or(first.clone(), |n| n.to_string_lossy().into_owned());
    let mut argv: Vec<OsText> = words.iter().map(|(word, _)| OsText::from(word.as_str())).collect();
    let span = &words.first()?.1;
    if first.contains('/') {
        let path = absolute(first, cwd, fields.reader.cx);
        if first.starts_with('~') {
            argv[0] = path.clone().into();
        }
        if path.starts_with(cwd) && (fields.reader.cx.file_kind)(cwd) != FileKind::Folder {
            return None;
        }
        executable(fields, "cmd", span, &path)?;
    } else if !found(fields, scope, first) {
        let hint = match first.split_once('=') {
            Some((variable, value)) => format!("to set a variable, write `env = {{ {variable} = \"{value}\" }}`"),
            None if (fields.reader.cx.file_kind)(&cwd.join(first)) != FileKind::Missing => {
                format!("for the file in the app's folder, write `./{first}`, or use `script`")
            }
            None => "is it installed? A path needs a slash: `./program`".to_owned(),
        };
        let message = format!("there is no program `{first}` in PATH");
        sink.push(Diagnostic::error(span.clone(), "cmd", message).hint(hint));
        return None;
    }
    Some(Command {
        argv,
        name,
        span: entry.node.span.clone(),
    })
}

fn script(fields: &Fields<'_>, scope: &Scope<'_>, cwd: &Path) -> Option<Command> {
    let cx = fields.reader.cx;
    let args = match fields.get("args") {
        Some(_) => scope.words(fields, "args"),
        None => Some(Vec::new()),
    };
    let options = match fields.get("interpreter_args") {
        Some(_) => scope.words(fields, "interpreter_args"),
        None => Some(Vec::new()),
    };
    let (path, span) = scope.path(fields, "script", cwd)?;
    let error = |message: String, label: &str| Diagnostic::error(span.clone(), "script", message).label(label);
    let kind = (cx.file_kind)(&path);
    match kind {
        // Said already: the folder is not there.
        FileKind::Missing if path.starts_with(cwd) && (cx.file_kind)(cwd) != FileKind::Folder => return None,
        FileKind::Missing => {
            let hint = similar(&path, cx).or_else(|| {
                let name = path.file_name()?.to_str()?;
                found(fields, scope, name).then(|| format!("to run the program in PATH, write `cmd = \"{name}\"`"))
            });
            let message = format!("the script `{}` does not exist", path.display());
            fields.reader.sink.push(error(message, "no such file").hints(hint));
            return None;
        }
        FileKind::Folder => {
            fields
                .reader
                .sink
                .push(error(format!("the script `{}` is a folder", path.display()), ""));
            return None;
        }
        FileKind::File | FileKind::Program => {}
    }
    let options = options?;
    let mut argv: Vec<OsText> = Vec::new();
    match interpreter(fields, scope, cwd, &path, kind, span, !options.is_empty())? {
        Some(program) => {
            argv.push(program);
            argv.extend(options.into_iter().map(|(word, _)| word.into()));
        }
        None if options.is_empty() => {}
        None => {
            let entry = fields.get("interpreter_args")?;
            fields.reader.bad(
                "interpreter_args",
                &entry.key_span,
                "`interpreter_args` without an interpreter: the script is run as it is",
            );
        }
    }
    argv.push(path.as_path().into());
    argv.extend(args?.into_iter().map(|(word, _)| word.into()));
    Some(Command {
        argv,
        name: path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        span: span.clone(),
    })
}

/// `Some(None)`: the script is run as it is. `None`: a problem was reported.
fn interpreter(
    fields: &Fields<'_>,
    scope: &Scope<'_>,
    cwd: &Path,
    script: &Path,
    kind: FileKind,
    span: &Span,
    options: bool,
) -> Option<Option<OsText>> {
    let cx = fields.reader.cx;
    let sink = fields.reader.sink;
    if fields.get("interpreter").is_some() {
        let (program, span) = scope.text(fields, "interpreter")?;
        if program == "none" {
            executable(fields, "script", span, script)?;
            return Some(None);
        }
        if program.contains('/') {
            let path = absolute(&program, cwd, cx);
            executable(fields, "interpreter", span, &path)?;
            return Some(Some(path.into()));
        }
        if program.is_empty() || !found(fields, scope, &program) {
            let diagnostic = Diagnostic::error(
                span.clone(),
                "interpreter",
                format!("there is no interpreter `{program}` in PATH"),
            );
            sink.push(if program.contains(' ') {
                diagnostic.hint("arguments of the interpreter go to `interpreter_args`")
            } else {
                diagnostic.hint("install it, give its path, or choose another `interpreter`")
            });
            return None;
        }
        return Some(Some(program.into()));
    }
    // With arguments for it, there must be an interpreter: a file's own is not asked.
    let asked = if options { FileKind::File } else { kind };
    let diagnostic = match runner(script, asked, cx, &|name| found(fields, scope, name)) {
        Runner::Itself => return Some(None),
        Runner::Program(program) => return Some(Some(program.into())),
        Runner::Absent(programs) => Diagnostic::error(
            span.clone(),
            "script",
            format!(
                "`{}` needs the interpreter {}, which is not in PATH",
                script.display(),
                programs.join(" or ")
            ),
        )
        .hint("install it, or set `interpreter`"),
        Runner::Unknown if options => Diagnostic::error(
            span.clone(),
            "script",
            format!("nothing says which interpreter runs `{}`", script.display()),
        )
        .hint("set `interpreter`"),
        Runner::Unknown => Diagnostic::error(
            span.clone(),
            "script",
            format!(
                "`{}` is not executable, and its name does not say which interpreter runs it",
                script.display()
            ),
        )
        .hint(format!("`chmod +x {}`, or set `interpreter`", script.display())),
    };
    sink.push(diagnostic);
    None
}

/// Reports a path that leads to nothing that can be executed.
fn executable(fields: &Fields<'_>, key: &str, span: &Span, path: &Path) -> Option<()> {
    let cx = fields.reader.cx;
    let shown = path.display();
    let diagnostic = match (cx.file_kind)(path) {
        FileKind::Program => return Some(()),
        FileKind::Missing => {
            Diagnostic::error(span.clone(), key, format!("`{shown}` does not exist")).hints(similar(path, cx))
        }
        FileKind::Folder => Diagnostic::error(span.clone(), key, format!("`{shown}` is a folder")),
        FileKind::File => Diagnostic::error(span.clone(), key, format!("`{shown}` is not executable"))
            .hint(format!("`chmod +x {shown}`")),
    };
    fields.reader.sink.push(diagnostic);
    None
}

/// Whether the app's `PATH` has a program.
fn found(fields: &Fields<'_>, scope: &Scope<'_>, name: &str) -> bool {
    let cx = fields.reader.cx;
    match scope.own.get("PATH") {
        None => (cx.which)(name),
        Some(path) => std::env::split_paths(path.as_os_str())
            .any(|folder| (cx.file_kind)(&cx.base_dir.join(folder).join(name)) == FileKind::Program),
    }
}
