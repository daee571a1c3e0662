//! Boot, reboot, power cuts and a real service manager, in a virtual machine. The scripts are in `tests/vm`.
//!
//! They need root, qemu and the machine's image (`../shared/rigs/vm`, or `CLMGR_RIG`), and are skipped elsewhere.
//! `CLMGR_VM=long` cuts the power 50 times instead of 3. `CLMGR_VM_BINARY` names the program to be tested, instead
//! of the one that was built with these tests; `CLMGR_VM_SEED` repeats a run.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One machine at a time: each has two processors, and they are emulated.
static TURN: Mutex<()> = Mutex::new(());

/// Where the rig is, or why nothing can be tested.
fn rig() -> Result<PathBuf, String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/rigs/vm");
    let rig = std::env::var_os("CLMGR_RIG").map_or(beside, PathBuf::from);
    if !rig.join("vm.py").is_file() {
        return Err(format!("there is no virtual machine rig at {}", rig.display()));
    }
    if !rustix::process::geteuid().is_root() {
        return Err("virtual machines need root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in ["qemu-system-x86_64", "python3", "strip"] {
        if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
            return Err(format!("{program} is not installed"));
        }
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = std::env::var_os("RIG_CACHE").map_or_else(|| home.join(".cache/clmgr-rig"), PathBuf::from);
    if !cache.join("base/stamp").is_file() {
        return Err(format!(
            "no image in {}: run {}/build-image.sh",
            cache.display(),
            rig.display()
        ));
    }
    Ok(rig)
}

/// The program, without what only a debugger needs: it is ten times smaller.
fn binary(folder: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os("CLMGR_VM_BINARY") {
        return path.into();
    }
    let stripped = folder.join("clmgr");
    let done = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(env!("CARGO_BIN_EXE_clmgr"))
        .status();
    assert!(done.unwrap().success());
    stripped
}

fn run(script: &str, args: &[&str]) {
    let rig = match rig() {
        Ok(rig) => rig,
        Err(why) => {
            let _untold = writeln!(std::io::stderr(), "SKIPPED: {why}");
            return;
        }
    };
    let _turn: MutexGuard<'_, ()> = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm").join(script);
    // Machines of a script end with it, whatever becomes of this process.
    let output = Command::new("python3")
        .arg(path)
        .args(args)
        .env("CLMGR_RIG", rig)
        .env("CLMGR_VM_BINARY", binary(folder.path()))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    let _untold = write!(std::io::stderr(), "{said}{complained}");
    assert!(output.status.success(), "{script} {args:?}: {}", output.status);
}

#[test]
fn a_unit_of_the_machine() {
    run("unit.py", &[]);
}

#[test]
fn a_unit_of_a_user() {
    run("user.py", &[]);
}

#[test]
fn power_cuts() {
    run("cuts.py", &[]);
}

/// In the long form only: it cuts as often.
#[test]
fn power_cuts_for_a_user() {
    if std::env::var_os("CLMGR_VM").is_some_and(|form| form == "long") {
        run("cuts.py", &["app"]);
    }
}

#[test]
fn the_pace_of_a_boot() {
    run("pace.py", &[]);
}
