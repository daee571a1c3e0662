//! Relative relocations in their packed form (`DT_RELR`): the tables of a program with this many tables of
//! functions shrink from hundreds of KiB to a few, and every start has that much less to read. Linkers that do
//! not know the option warn and go on; glibc has it since 2.36.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
