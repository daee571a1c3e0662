//! Environments: names to values.

use std::collections::BTreeMap;

use crate::model::ostext::OsText;

/// An environment. Names that are not UTF-8 or contain `=` or NUL never get in.
pub type EnvMap = BTreeMap<String, OsText>;

/// The variables an app gets with `env_inherit = false`.
pub const MINIMAL: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "SHELL"];

/// What stands in place of a value when it is shown.
pub const MASK: &str = "********";

/// True for a name that a process environment can hold.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}
