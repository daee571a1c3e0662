//! From files and command lines to specs. Only this file (and `validate`, `init`, `schema`) touches `config`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::failure::Failure;
use crate::cli::world;
use crate::config::{self, AdHoc, Context, Diagnostics, FileKind, Parsed, Syntax};
use crate::model::env::EnvMap;
use crate::model::spec::AppSpec;

/// What is taken from a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// `--env`: the `env_<profile>` tables to add.
    pub(crate) profile: Option<String>,
    /// `--only`: names of apps; empty means all.
    pub(crate) only: Vec<String>,
}

/// Apps, ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The apps. Where an app's `env_base` is the shared one, its own is empty.
    pub(crate) apps: Vec<AppSpec>,
    /// The shared inherited environment.
    pub(crate) env_base: Arc<EnvMap>,
    /// What is strange but not wrong, ready to be shown.
    pub(crate) warnings: Option<String>,
}

impl From<Parsed> for Loaded {
    fn from(parsed: Parsed) -> Self {
        Self {
            warnings: (!parsed.warnings.is_empty()).then(|| parsed.warnings.render(false)),
            apps: parsed.apps,
            env_base: Arc::default(),
        }
    }
}

/// Reads an ecosystem file, or standard input for `-`.
///
/// # Errors
/// It cannot be read or makes no sense; `only` names an app it does not have.
pub(crate) fn file(path: &Path, options: &Options) -> Result<Loaded, Failure> {
    let env = world::environment();
    let parsed =
        parse(path, options.profile.as_deref(), &env)?.map_err(|diagnostics| Failure::diagnostics(&diagnostics))?;
    let mut loaded = Loaded::from(parsed);
    keep_only(&mut loaded.apps, &options.only, path)?;
    share_environment(&mut loaded, env);
    Ok(loaded)
}

/// Makes one app of a command line.
///
/// # Errors
/// The options make no sense, or what they name is not there.
pub(crate) fn adhoc(request: &AdHoc) -> Result<Loaded, Failure> {
    let env = world::environment();
    let parsed = with_world(None, &world::here()?, None, &env, |context| {
        config::adhoc(request, context)
    })
    .map_err(|diagnostics| Failure::diagnostics(&diagnostics))?;
    let mut loaded = Loaded::from(parsed);
    share_environment(&mut loaded, env);
    Ok(loaded)
}

/// Reads and checks; the inner result is what `config` says.
///
/// # Errors
/// The text cannot be had.
pub(crate) fn parse(path: &Path, profile: Option<&str>, env: &EnvMap) -> Result<Result<Parsed, Diagnostics>, Failure> {
    let (text, syntax) = text(path)?;
    let folder = folder_of(path)?;
    let file = (!is_stdin(path)).then(|| {
        path.file_name()
            .map_or_else(|| path.to_path_buf(), |name| folder.join(name))
    });
    Ok(with_world(file.as_deref(), &folder, profile, env, |context| {
        config::parse(&text, syntax, context)
    }))
}

/// Calls `work` with everything `config` may ask.
pub(crate) fn with_world<T>(
    file: Option<&Path>,
    base_dir: &Path,
    profile: Option<&str>,
    env: &EnvMap,
    work: impl FnOnce(&Context<'_>) -> T,
) -> T {
    let home = world::user_home();
    work(&Context {
        file,
        base_dir,
        env,
        profile,
        cpus: crate::os::limits::cpus(),
        home: home.as_deref(),
        read_file: &world::read_text,
        file_kind: &world::file_kind,
        which: &world::which,
        list_dir: Some(&world::list_dir),
    })
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn text(path: &Path) -> Result<(String, Syntax), Failure> {
    let shown = path.display();
    let text = if is_stdin(path) {
        let mut text = String::new();
        io::stdin()
            .take(world::LARGEST)
            .read_to_string(&mut text)
            .map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
        text
    } else {
        match world::file_kind(path) {
            FileKind::Missing if !path.exists() => {
                return Err(Failure::usage(format!("there is no file {shown}"))
                    .hint("clmgr init writes an ecosystem.toml for this folder"));
            }
            FileKind::Folder => {
                return Err(Failure::usage(format!("{shown} is a folder, not a file"))
                    .hint(format!("clmgr start {}", path.join("ecosystem.toml").display())));
            }
            FileKind::Missing | FileKind::File | FileKind::Program => {}
        }
        world::read_text(path).map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?
    };
    let json = match path.extension().and_then(|text| text.to_str()) {
        Some("json") => true,
        Some("toml") => false,
        Some(_) | None => text.trim_start().starts_with('{'),
    };
    Ok((text, if json { Syntax::Json } else { Syntax::Toml }))
}

/// The absolute folder that relative paths in the file begin from.
fn folder_of(path: &Path) -> Result<PathBuf, Failure> {
    let here = world::here()?;
    Ok(match path.parent() {
        Some(parent) if !is_stdin(path) => {
            let joined = here.join(parent);
            joined.canonicalize().unwrap_or(joined)
        }
        Some(_) | None => here,
    })
}

fn keep_only(apps: &mut Vec<AppSpec>, only: &[String], path: &Path) -> Result<(), Failure> {
    if only.is_empty() {
        return Ok(());
    }
    if let Some(unknown) = only
        .iter()
        .find(|name| !apps.iter().any(|app| app.name.as_str() == **name))
    {
        let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
        return Err(Failure::not_found(format!("{} has no app {unknown:?}", path.display()))
            .hint(format!("it has: {}", names.join(", "))));
    }
    apps.retain(|app| only.iter().any(|name| name == app.name.as_str()));
    Ok(())
}

/// Takes the caller's environment out of each app that inherits all of it, so that it is sent once.
///
/// An app that inherits nothing would get the shared one, so with such an app nothing is shared.
fn share_environment(loaded: &mut Loaded, env: EnvMap) {
    if loaded.apps.iter().any(|app| app.env_base.is_empty()) {
        return;
    }
    let shared = Arc::new(env);
    for app in &mut loaded.apps {
        if app.env_base == shared {
            app.env_base = Arc::default();
            loaded.env_base = Arc::clone(&shared);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Loaded, Options, file, keep_only, parse, share_environment, with_world};
    use crate::config::{self, Syntax};
    use crate::model::env::EnvMap;
    use std::ffi::OsStr;
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn loaded(text: &str, env: &EnvMap) -> Loaded {
        with_world(None, Path::new("/"), None, env, |context| {
            Loaded::from(config::parse(text, Syntax::Toml, context).unwrap())
        })
    }

    fn environment() -> EnvMap {
        [("PATH", "/bin"), ("SECRET", "x")]
            .map(|(name, value)| (name.to_owned(), value.into()))
            .into()
    }

    #[test]
    fn the_environment_is_sent_once() {
        let text = "[[apps]]\nname='a'\ncmd='sleep 1'\n[[apps]]\nname='b'\ncmd='sleep 1'\nenv_inherit=['PATH']";
        let mut apps = loaded(text, &environment());
        share_environment(&mut apps, environment());
        assert_eq!(*apps.env_base, environment());
        assert!(apps.apps[0].env_base.is_empty());
        assert_eq!(apps.apps[1].env_base.keys().collect::<Vec<_>>(), ["PATH"]);
    }

    #[test]
    fn an_app_that_inherits_nothing_never_gets_the_shared_one() {
        let text =
            "[[apps]]\nname='a'\ncmd='/bin/sleep 1'\n[[apps]]\nname='b'\ncmd='/bin/sleep 1'\nenv_inherit=['NOPE']";
        let mut apps = loaded(text, &environment());
        share_environment(&mut apps, environment());
        assert!(apps.env_base.is_empty());
        assert_eq!(*apps.apps[0].env_base, environment());
        assert!(apps.apps[1].env_base.is_empty());
    }

    #[test]
    fn only_keeps_apps_by_name_and_refuses_others() {
        let text = "[[apps]]\nname='a'\ncmd='sleep 1'\n[[apps]]\nname='b'\ncmd='sleep 1'";
        let mut apps = loaded(text, &environment()).apps;
        let failure = keep_only(&mut apps.clone(), &["c".to_owned()], Path::new("x.toml")).unwrap_err();
        assert_eq!((failure.code, failure.hints[0].as_str()), (3, "it has: a, b"));
        keep_only(&mut apps, &["b".to_owned()], Path::new("x.toml")).unwrap();
        assert_eq!(apps.len(), 1);
    }

    #[test]
    fn bad_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &[u8], bytes: &[u8]| {
            let path = folder.path().join(OsStr::from_bytes(name));
            let mut file = std::fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .open(&path)
                .unwrap();
            file.write_all(bytes).unwrap();
            path
        };
        let message = |path: &Path| file(path, &Options::default()).unwrap_err().message;
        assert!(message(&folder.path().join("none.toml")).contains("there is no file"));
        assert!(message(folder.path()).contains("is a folder"));
        assert!(message(&write(b"bytes.toml", b"a = \"\xff\"")).contains("not UTF-8 (byte 5)"));
        assert!(message(&write(b"two.toml", b"[[apps]\n[[apps]]\nname = 7\n")).contains("error"));
        let odd = write(b"\xfe.json", br#"{"apps":[{"name":"a","cmd":["/bin/sleep","1"]}]}"#);
        let parsed = parse(&odd, None, &environment()).unwrap().unwrap();
        assert_eq!(
            parsed.apps[0].source.as_ref().unwrap().as_path().file_name(),
            odd.file_name()
        );
    }
}
