//! A program and its options, in the words of an ecosystem file.

use crate::cli::commands::start::StartArgs;
use crate::config::AdHoc;

/// The options as keys of a file, so that one table of keys checks both.
pub(super) fn describe(command: String, args: &StartArgs) -> AdHoc {
    let program = &args.program;
    let texts = [
        ("--name", "name", args.name.clone()),
        ("--instances", "instances", program.instances.clone()),
        ("--namespace", "namespace", program.namespace.clone()),
        (
            "--cwd",
            "cwd",
            program.cwd.as_ref().map(|path| path.to_string_lossy().into_owned()),
        ),
        ("--interpreter", "interpreter", program.interpreter.clone()),
        (
            "--max-memory-restart",
            "max_memory_restart",
            program.max_memory_restart.map(|size| size.0.to_string()),
        ),
        (
            "--restart-delay",
            "restart_delay",
            program.restart_delay.map(|wait| wait.to_string()),
        ),
        (
            "--max-restarts",
            "max_restarts",
            program.max_restarts.map(|number| number.to_string()),
        ),
        (
            "--no-autorestart",
            "autorestart",
            program.no_autorestart.then(|| "false".to_owned()),
        ),
        ("--ready", "ready", program.ready.clone()),
        (
            "--kill-timeout",
            "kill_timeout",
            program.kill_timeout.map(|wait| wait.to_string()),
        ),
        ("--time", "time", program.time.then(|| "true".to_owned())),
    ];
    let sockets = program
        .listen
        .iter()
        .map(|address| ("--listen", "listen", Some(address.clone())));
    let words = program.args.iter().map(|arg| arg.to_string_lossy());
    texts
        .into_iter()
        .chain(sockets)
        .filter_map(|(flag, key, value)| Some((flag, key, value?)))
        .fold(AdHoc::new(command).args(words), |app, (flag, key, value)| {
            app.set(flag, key, value)
        })
}
