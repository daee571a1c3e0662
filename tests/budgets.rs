//! Budgets that do not depend on the machine. Those that do are measured by `cargo bench --bench figures`.

use std::path::{Path, PathBuf};

/// Largest release binary, in bytes.
const LARGEST_BINARY: u64 = 10_000_000;

/// The release binary, if one was built into the target folder of this test.
fn release_binary() -> Option<PathBuf> {
    let debug = Path::new(env!("CARGO_BIN_EXE_clmgr"));
    let target = debug.parent()?.parent()?;
    Some(target.join("release/clmgr")).filter(|path| path.exists())
}

#[test]
fn the_release_binary_is_small() {
    let Some(path) = release_binary() else {
        eprintln!("skipped: no release binary was built");
        return;
    };
    let size = path.metadata().unwrap().len();
    assert!(
        size <= LARGEST_BINARY,
        "{} has {size} bytes, more than {LARGEST_BINARY}",
        path.display()
    );
}
