//! The import table of `src/lib.rs`, enforced by reading the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each module may use of the others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &["model"]),
    ("supervise", &["model"]),
    ("api", &["model"]),
    ("os", &["model"]),
    ("keeper", &["model", "os"]),
    ("node", &["model", "os"]),
    ("logs", &["model", "os"]),
    ("store", &["model", "api"]),
    ("client", &["model", "api", "os"]),
    (
        "daemon",
        &[
            "model",
            "config",
            "supervise",
            "api",
            "os",
            "keeper",
            "node",
            "logs",
            "store",
        ],
    ),
    (
        "cli",
        &["model", "config", "api", "os", "keeper", "node", "logs", "client"],
    ),
];

#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The text without comments and without its tests, which may use what they like.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name == "tests" || name == "sim" || name == "tests.rs" || name.ends_with("_tests.rs")
    })
}

/// Top-level modules named after `crate::`, also in groups like `use crate::{os, logs}`.
fn used(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        let parts: Vec<&str> = group.map_or_else(|| vec![rest], |group| group.split(',').collect());
        for part in parts {
            let name: String = part
                .trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if ALLOWED.iter().any(|(module, _)| *module == name) {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, may) in &allowed {
        let mut files = Vec::new();
        sources(&root.join(module), &mut files);
        for file in files.iter().filter(|file| !is_test_file(file)) {
            seen += 1;
            let text = std::fs::read_to_string(file).unwrap();
            for name in used(&code(&text)) {
                if name != *module && !may.contains(&name.as_str()) {
                    wrong.push(format!("{} uses {name}", file.strip_prefix(&root).unwrap().display()));
                }
            }
        }
    }
    assert!(seen > 100, "the source was not found");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(ALLOWED.iter().any(|(module, _)| *module == name), "{name}");
        }
    }
}

#[test]
fn unsafe_stands_only_in_os() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let outside: Vec<_> = files
        .iter()
        .filter(|file| !file.starts_with(root.join("os")))
        .filter(|file| {
            let text = code(&std::fs::read_to_string(file).unwrap());
            text.contains("unsafe {") || text.contains("unsafe fn") || text.contains("unsafe impl")
        })
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn the_table_can_be_broken() {
    assert_eq!(
        used("use crate::{os, model::names};\ncrate::store::Store"),
        BTreeSet::from(["os".into(), "model".into(), "store".into()])
    );
    assert_eq!(
        used(&code("// crate::os\nuse crate::model::x;")),
        BTreeSet::from(["model".into()])
    );
}
