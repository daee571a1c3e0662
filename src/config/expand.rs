//! `${VAR}` and `${VAR:-default}` in texts; `$$` is a dollar sign. Anything else after a dollar sign is
//! left alone.

/// Deepest nesting of defaults.
const MAX_DEPTH: u32 = 16;
/// Longest result, in bytes. The kernel refuses single arguments and variables above 128 KiB anyway.
const MAX_LENGTH: usize = 1 << 20;

/// Why a text cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    #[error("the variable `{0}` is not set")]
    Unset(String),
    #[error("`${{` without `}}`")]
    Unclosed,
    #[error("`{0}` is not a variable's name")]
    BadName(String),
    #[error("the variable `{0}` is not UTF-8")]
    NotText(String),
    #[error("the variable `{0}` refers to itself through others")]
    Cycle(String),
    #[error("nested too deeply")]
    TooDeep,
    #[error("longer than 1 MiB when expanded")]
    TooLong,
}

/// The value of a variable, `None` if it is not set.
pub(super) type Lookup<'l> = dyn FnMut(&str) -> Result<Option<String>, ExpandError> + 'l;

/// Expands a text.
pub(super) fn expand(text: &str, lookup: &mut Lookup<'_>) -> Result<String, ExpandError> {
    nested(text, lookup, 0)
}

fn nested(text: &str, lookup: &mut Lookup<'_>, depth: u32) -> Result<String, ExpandError> {
    if depth > MAX_DEPTH {
        return Err(ExpandError::TooDeep);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix("${") {
            let end = closing(inside).ok_or(ExpandError::Unclosed)?;
            out.push_str(&variable(&inside[..end], lookup, depth)?);
            rest = &inside[end + 1..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
        if out.len() > MAX_LENGTH {
            return Err(ExpandError::TooLong);
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the brace is that closes the one before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0u32;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn variable(inside: &str, lookup: &mut Lookup<'_>, depth: u32) -> Result<String, ExpandError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.is_empty() || !name.chars().all(good) {
        return Err(ExpandError::BadName(name.chars().take(60).collect()));
    }
    match (lookup(name)?, default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => nested(default, lookup, depth + 1),
        (None, None) => Err(ExpandError::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{ExpandError, expand};

    fn with_a(text: &str) -> Result<String, ExpandError> {
        expand(text, &mut |name| {
            Ok(match name {
                "A" => Some("1".to_owned()),
                "EMPTY" => Some(String::new()),
                _ => None,
            })
        })
    }

    #[test]
    fn expands_what_it_should_and_nothing_else() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("x${A}y", "x1y"),
            ("${A}${A}", "11"),
            ("${B:-two}", "two"),
            ("${EMPTY:-e}", "e"),
            ("${EMPTY}", ""),
            ("${B:-${A}x}", "1x"),
            ("${B:-}", ""),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("$A $ {A}", "$A $ {A}"),
            ("a$", "a$"),
            ("{port} }", "{port} }"),
        ] {
            assert_eq!(with_a(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(with_a("${B}"), Err(ExpandError::Unset("B".into())));
        assert_eq!(with_a("${A"), Err(ExpandError::Unclosed));
        assert_eq!(with_a("${}"), Err(ExpandError::BadName(String::new())));
        assert_eq!(with_a("${A-b}"), Err(ExpandError::BadName("A-b".into())));
        assert_eq!(
            with_a(&format!("{}{}", "${X:-".repeat(10_000), "}".repeat(10_000))),
            Err(ExpandError::TooDeep)
        );
    }
}
