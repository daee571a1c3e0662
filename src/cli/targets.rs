//! What a command is aimed at: the forms of [`Target`], and files, which stand for their apps.

use std::path::Path;

use crate::cli::failure::Failure;
use crate::cli::load;
use crate::model::target::Target;

/// Reads the words of a command line.
///
/// # Errors
/// A word is no target, or a file cannot be read.
pub(crate) fn resolve(words: &[String]) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::with_capacity(words.len());
    for word in words {
        if is_file(word) {
            let apps = load::file(Path::new(word), &load::Options::default())?.apps;
            targets.extend(apps.iter().map(|app| Target::Named(app.name.as_str().to_owned())));
        } else {
            targets.push(parse(word)?);
        }
    }
    Ok(targets)
}

/// Reads one word that is no file.
pub(crate) fn parse(word: &str) -> Result<Target, Failure> {
    word.parse().map_err(|error: crate::model::target::TargetError| {
        if word.contains('/') && !word.ends_with('/') {
            Failure::usage(format!("there is no file {word:?}"))
        } else {
            Failure::usage(error.to_string())
        }
    })
}

/// True for the name of an ecosystem file: `….toml` or `….json`, or `-` for standard input.
pub(crate) fn is_file(word: &str) -> bool {
    let extension = Path::new(word).extension().and_then(|text| text.to_str());
    word == "-" || matches!(extension, Some("toml" | "json"))
}

/// As a query of a request: `target=…` for each.
pub(crate) fn query(targets: &[Target]) -> Vec<(&'static str, String)> {
    targets.iter().map(|target| ("target", target.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::{is_file, resolve};

    #[test]
    fn tells_files_from_names() {
        for file in ["ecosystem.toml", "./a/b.json", "-"] {
            assert!(is_file(file), "{file}");
        }
        for name in ["api", "api:2", "/^web/", "all", "3", "server.js"] {
            assert!(!is_file(name), "{name}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_word() {
        let words = |text: &str| resolve(&[text.to_owned()]);
        assert_eq!(words("api:2").unwrap()[0].to_string(), "api:2");
        assert!(words("a b").unwrap_err().message.contains("is not a target"));
        assert!(words("dir/file").unwrap_err().message.contains("no file"));
        assert!(words("/(/").unwrap_err().message.contains("regular expression"));
        assert_eq!(words("/(/").unwrap_err().code, 2);
    }
}
