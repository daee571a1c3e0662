//! Which clmgr this is.

/// Stands in the program as one piece, so that it can be found in a file that is not run.
static MARK: &str = concat!("CLMGR_VERSION=", env!("CARGO_PKG_VERSION"), ";");

/// The version of this build, such as `0.1.0`.
#[must_use]
pub fn version() -> &'static str {
    // Read from the program's file, not folded into the code.
    let mark = std::hint::black_box(MARK);
    let version = mark.strip_prefix("CLMGR_VERSION=").unwrap_or(mark);
    version.strip_suffix(';').unwrap_or(version)
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_the_package_s() {
        assert_eq!(super::version(), env!("CARGO_PKG_VERSION"));
    }
}
