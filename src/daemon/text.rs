//! Small wordings that several parts share.

use std::error::Error;
use std::io;

use crate::os::spawn::Step;

/// What the system says, without the number in brackets, in lower case.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// An error with its causes, one sentence.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

/// Why a process could not be started, so that the user sees what to change.
pub(crate) fn spawn_failure(step: Step, cause: &str, program: Option<&str>, cwd: Option<&str>) -> String {
    let program = program.unwrap_or("the program");
    if step == Step::Exec {
        format!("cannot execute {program}: {cause}")
    } else if step == Step::Chdir {
        format!("cannot enter the folder {}: {cause}", cwd.unwrap_or("?"))
    } else {
        format!("cannot start {program}: {step}: {cause}")
    }
}
