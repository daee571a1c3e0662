//! Which colour a state or an app has.

use anstyle::{AnsiColor, Style};

use crate::model::state::State;

/// The colour of a state.
#[must_use]
pub const fn state(state: State) -> AnsiColor {
    match state {
        State::Online => AnsiColor::Green,
        State::Errored | State::Unhealthy => AnsiColor::Red,
        State::Backoff | State::Starting | State::Reloading | State::Stopping => AnsiColor::Yellow,
        State::Waiting | State::Completed => AnsiColor::Cyan,
        State::Stopped => AnsiColor::BrightBlack,
    }
}

/// The colour of an app's prefix in `logs`: the same for the same name, however many there are.
#[must_use]
pub fn app(name: &str) -> Style {
    const COLOURS: [AnsiColor; 10] = [
        AnsiColor::Cyan,
        AnsiColor::Magenta,
        AnsiColor::Green,
        AnsiColor::Yellow,
        AnsiColor::Blue,
        AnsiColor::BrightCyan,
        AnsiColor::BrightMagenta,
        AnsiColor::BrightGreen,
        AnsiColor::BrightYellow,
        AnsiColor::BrightBlue,
    ];
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let at = usize::try_from(hash >> 8).unwrap_or(0) % COLOURS.len();
    COLOURS.get(at).copied().unwrap_or(AnsiColor::Cyan).on_default()
}
