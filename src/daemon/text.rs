//! Small wordings that several parts share.

use std::io;

/// What the system says, without the number in brackets.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
