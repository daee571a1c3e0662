//! The committed files that are made by the program itself: completions, manual pages, schema, OpenAPI
//! document and table of keys. Compared with what the program makes now, or written anew with
//! `CLMGR_REGENERATE=1 cargo test --test generated`.

#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]

use std::fs;
use std::path::{Path, PathBuf};

use clmgr::cli::commands::completions::Shell;
use clmgr::cli::commands::{man, schema};
use clmgr::os::fsx;

/// Path in the repository and content.
fn files() -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        files.push((Path::new("completions").join(shell.file()), shell.script().unwrap()));
    }
    for (name, text) in man::pages().unwrap() {
        files.push((Path::new("man").join(name), text));
    }
    let openapi = serde_json::to_string_pretty(&clmgr::api::openapi::document()).unwrap();
    for (name, text) in [
        ("docs/ecosystem.schema.json", schema::text()),
        ("docs/openapi.json", openapi),
        ("docs/configuration-keys.md", clmgr::config::key_table_markdown()),
    ] {
        files.push((name.into(), format!("{}\n", text.trim_end()).into_bytes()));
    }
    files
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn generated_files_are_up_to_date() {
    let regenerate = std::env::var_os("CLMGR_REGENERATE").is_some_and(|text| text == "1");
    let mut stale = Vec::new();
    for (name, content) in files() {
        let path = repository().join(&name);
        if fs::read(&path).is_ok_and(|there| there == content) {
            continue;
        }
        if regenerate {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fsx::write_atomic(&path, &content, 0o644).unwrap();
        } else {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "CLMGR_REGENERATE=1 cargo test --test generated updates {stale:?}"
    );
    nothing_is_left_of_what_is_gone();
}

fn nothing_is_left_of_what_is_gone() {
    let known: Vec<PathBuf> = files().into_iter().map(|(name, _)| repository().join(name)).collect();
    for folder in ["man", "completions"] {
        for entry in fs::read_dir(repository().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            assert!(known.contains(&path), "nothing makes {} any more", path.display());
        }
    }
}
