//! `exec_mode`, `node_preload`, `max_requests`.

use std::path::Path;

use crate::config::diagnostic::Diagnostic;
use crate::config::fields::Fields;
use crate::model::balance::ExecMode;
use crate::model::ostext::OsText;
use crate::model::spec::Ready;

/// How an app's processes are made.
pub(super) struct Mode {
    pub(super) exec: ExecMode,
    pub(super) preload: bool,
    pub(super) max_requests: Option<u32>,
}

impl Mode {
    /// What `ready` is where nothing is said.
    pub(super) const fn ready(&self) -> Ready {
        match self.exec {
            ExecMode::Fork => Ready::Spawn,
            ExecMode::Cluster => Ready::Listen,
        }
    }
}

/// Reads the three. `argv`: the app's command, if it has a valid one.
pub(super) fn mode(fields: &Fields<'_>, argv: Option<&[OsText]>) -> Mode {
    let exec = said(fields, argv).unwrap_or_else(|| {
        // As in PM2. Who gets descriptors, or a port for each instance, shares nothing else.
        let alone = fields.get("listen").is_none() && fields.get("increment_var").is_none();
        let is_script = fields.get("script").is_some() && argv.is_some_and(is_node_script);
        if fields.get("instances").is_some() && is_script && alone {
            ExecMode::Cluster
        } else {
            ExecMode::Fork
        }
    });
    let preload = fields.boolean("node_preload");
    let max_requests = fields.count("max_requests");
    if let (ExecMode::Fork, Some(entry)) = (exec, fields.get("max_requests")) {
        fields.reader.sink.push(
            Diagnostic::error(
                entry.key_span.clone(),
                "max_requests",
                "`max_requests` is for apps with `exec_mode = \"cluster\"`",
            )
            .hint("add `exec_mode = \"cluster\"`, or remove it"),
        );
    }
    if preload == Some(false) {
        fields.contradiction(
            "max_requests",
            "node_preload",
            "`max_requests` needs the preload: it is what counts them",
            "remove `node_preload = false`",
        );
    }
    Mode {
        exec,
        preload: preload.unwrap_or(true),
        max_requests,
    }
}

fn said(fields: &Fields<'_>, argv: Option<&[OsText]>) -> Option<ExecMode> {
    let (text, span) = fields.text("exec_mode")?;
    match text {
        "fork" | "fork_mode" => return Some(ExecMode::Fork),
        "cluster" | "cluster_mode" => {}
        _ => {
            let message = format!("`exec_mode` must be \"fork\" or \"cluster\", not {text:?}");
            fields.reader.bad("exec_mode", span, message);
            return None;
        }
    }
    if let Some(program) = argv.and_then(<[OsText]>::first).filter(|program| !is_node(program)) {
        let message = format!("`exec_mode = \"cluster\"` is for programs that node runs itself, not for `{program}`");
        fields
            .reader
            .sink
            .push(Diagnostic::error(span.clone(), "exec_mode", message).hint(
                "run it by node (`script = \"server.js\"`), or share a port between any programs, bun and deno among \
                 them: `listen = [\"0.0.0.0:3000\"]`, which they get as descriptor 3 (`{fd}` in arguments)",
            ));
    }
    Some(ExecMode::Cluster)
}

/// Node itself, or a script that names it in its first line.
fn is_node(program: &OsText) -> bool {
    let path = program.as_path();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let rest = name
        .strip_prefix("node")
        .map(|rest| rest.strip_prefix("js").unwrap_or(rest));
    let is_version = |rest: &str| {
        rest.chars()
            .all(|c| c.is_ascii_digit() || c == '.' || c == '-' || c == 'v')
    };
    rest.is_some_and(is_version) || is_javascript(path)
}

fn is_javascript(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["js", "mjs", "cjs"].contains(&extension))
}

/// A program of JavaScript, run by node.
fn is_node_script(argv: &[OsText]) -> bool {
    let mut words = argv.iter();
    let (Some(program), true) = (words.next(), argv.iter().any(|word| is_javascript(word.as_path()))) else {
        return false;
    };
    is_node(program)
}

#[cfg(test)]
mod tests {
    use super::is_node;

    #[test]
    fn programs_are_told_apart() {
        for node in [
            "node",
            "/usr/bin/node",
            "nodejs",
            "node22",
            "node-v18.1",
            "/srv/app/server.js",
            "./a.mjs",
        ] {
            assert!(is_node(&node.into()), "{node}");
        }
        for other in ["bun", "deno", "nodemon", "python3", "./start", "npm", "tsx"] {
            assert!(!is_node(&other.into()), "{other}");
        }
    }
}
