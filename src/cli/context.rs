//! What every command has at hand.

use crate::cli::ui::Ui;

/// The output and the global flags.
#[derive(Debug)]
pub(crate) struct Context {
    /// The terminal.
    pub(crate) ui: Ui,
    /// `--json`.
    pub(crate) json: bool,
}

impl Context {
    pub(crate) const fn new(ui: Ui, json: bool) -> Self {
        Self { ui, json }
    }
}
