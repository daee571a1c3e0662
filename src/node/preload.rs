//! The file that workers load before the app: see its own head for what it does.

/// Its text.
pub const TEXT: &str = include_str!("preload/preload.cjs");

/// Its name: another one for every text, so that workers which have loaded an older one are not disturbed.
#[must_use]
pub fn file_name() -> String {
    let hash = TEXT.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("preload-{hash:016x}.cjs")
}

/// `NODE_OPTIONS` with the file at this path in front of what the user has there.
#[must_use]
pub fn node_options(path: &str, users: Option<&str>) -> String {
    let special = |c: char| c.is_whitespace() || c == '"' || c == '\\';
    let path = if path.contains(special) {
        format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        path.to_owned()
    };
    match users.map(str::trim).filter(|users| !users.is_empty()) {
        Some(users) => format!("--require {path} {users}"),
        None => format!("--require {path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{file_name, node_options};

    #[test]
    fn the_users_options_stay() {
        assert_eq!(node_options("/a/p.cjs", None), "--require /a/p.cjs");
        assert_eq!(node_options("/a/p.cjs", Some(" ")), "--require /a/p.cjs");
        assert_eq!(
            node_options("/a b/\"p.cjs", Some("--max-old-space-size=100")),
            "--require \"/a b/\\\"p.cjs\" --max-old-space-size=100"
        );
        assert_eq!(file_name().len(), "preload-0123456789abcdef.cjs".len());
    }
}
