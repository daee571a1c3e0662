//! Where a program may be.

use crate::os::cstrings::CStrings;

/// What a shell without `PATH` would search.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// The paths to try, in order: the program itself if it contains a slash, else its name in every folder
/// of the child's `PATH`. An empty folder is the working folder.
pub(super) fn candidates(program: &[u8], env: &CStrings) -> CStrings {
    let mut list = CStrings::new();
    if program.contains(&b'/') {
        list.push(program);
        return list;
    }
    for folder in env
        .value_of(b"PATH")
        .unwrap_or(DEFAULT_PATH)
        .split(|byte| *byte == b':')
    {
        if folder.is_empty() {
            list.push_parts(&[b"./", program]);
        } else {
            list.push_parts(&[folder, b"/", program]);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::candidates;
    use crate::os::cstrings::CStrings;

    #[test]
    fn searches_the_childs_path() {
        let env = |text: &str| CStrings::from_iter([text]);
        let found = |program: &str, env: &CStrings| {
            candidates(program.as_bytes(), env)
                .iter()
                .map(|path| String::from_utf8_lossy(path).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("./x", &env("PATH=/a")), ["./x"]);
        assert_eq!(found("x", &env("PATH=/a::/b")), ["/a/x", "./x", "/b/x"]);
        assert_eq!(found("x", &env("PATH=")), ["./x"]);
        assert_eq!(found("x", &CStrings::new()).len(), 3);
    }
}
