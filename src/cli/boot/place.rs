//! Which service manager, which file, which program.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::cli::failure::Failure;
use crate::cli::world;

/// The unit's name.
pub(crate) const UNIT: &str = "clmgr.service";

/// What a file is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A unit of the machine.
    Systemd,
    /// A unit of one user.
    SystemdUser,
    /// An init script.
    Openrc,
}

/// One file to be written, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// For whom.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
    /// The program that it runs.
    pub exe: PathBuf,
    /// The user an init script switches to.
    pub user: Option<String>,
    /// Variables that decide where this user's state is, if they are set.
    pub env: Vec<(&'static str, String)>,
}

/// What runs this machine, as far as it matters here.
pub(crate) fn detect() -> Option<Kind> {
    let root = rustix::process::geteuid().is_root();
    if Path::new("/run/systemd/system").is_dir() {
        Some(if root { Kind::Systemd } else { Kind::SystemdUser })
    } else if Path::new("/run/openrc").is_dir() {
        Some(Kind::Openrc)
    } else {
        None
    }
}

impl Place {
    /// Of this user, by the environment.
    pub(crate) fn of(kind: Kind, user: Option<&str>) -> Result<Self, Failure> {
        let name = match user {
            Some(user) if kind == Kind::Openrc => format!("clmgr.{user}"),
            Some(_) | None => "clmgr".to_owned(),
        };
        let path = match kind {
            Kind::Systemd => Path::new("/etc/systemd/system").join(UNIT),
            Kind::SystemdUser => configuration()?.join("systemd/user").join(UNIT),
            Kind::Openrc => Path::new("/etc/init.d").join(name),
        };
        // Another user's state is where that user's environment says, which nobody knows here.
        let names: &[&'static str] = match (kind, user) {
            (_, Some(_)) => &[],
            (Kind::Systemd | Kind::Openrc, None) => &["CLMGR_HOME"],
            (Kind::SystemdUser, None) => &["CLMGR_HOME", "XDG_STATE_HOME"],
        };
        let mut env = Vec::new();
        for name in names {
            match std::env::var(name) {
                Ok(value) if value.is_empty() => {}
                Ok(value) => env.push((*name, absolute(value)?)),
                Err(std::env::VarError::NotPresent) => {}
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(Failure::usage(format!("{name} is not UTF-8, which a unit cannot say")));
                }
            }
        }
        Ok(Self {
            kind,
            path,
            exe: program()?,
            user: user.filter(|_| kind == Kind::Openrc).map(ToOwned::to_owned),
            env,
        })
    }
}

fn absolute(value: String) -> Result<String, Failure> {
    let path = std::path::absolute(&value).map_err(|error| Failure::usage(format!("{value}: {error}")))?;
    Ok(path.to_str().map_or(value, ToOwned::to_owned))
}

fn configuration() -> Result<PathBuf, Failure> {
    let xdg = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    match (xdg.filter(|path| path.is_absolute()), world::user_home()) {
        (Some(path), _) => Ok(path),
        (None, Some(home)) => Ok(home.join(".config")),
        (None, None) => Err(Failure::usage(
            "HOME is not set: cannot tell where this user's units are",
        )),
    }
}

/// The name under which this program is found, rather than the file that a link leads to today: a newer version
/// may be linked there tomorrow.
fn program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
    let same = |path: &Path| {
        let id = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        id(path).is_some() && id(path) == id(&own)
    };
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|folder| folder.join("clmgr"))
            .find(|path| path.is_absolute() && same(path))
    });
    let exe = found.unwrap_or(own);
    if !exe.exists() {
        return Err(
            Failure::failed(format!("{} was removed", exe.display())).hint("run the clmgr that is installed now")
        );
    }
    if exe
        .to_str()
        .is_none_or(|text| text.contains(['\n', '"', '\\', '\'', '$', '`']))
    {
        return Err(
            Failure::usage(format!("a unit cannot name the program {:?}", exe.display()))
                .hint("install clmgr in /usr/local/bin"),
        );
    }
    Ok(exe)
}
