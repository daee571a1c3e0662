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
fn share_environment(loaded: &mut Loaded, env: EnvMap) {
    let shared = Arc::new(env);
    for app in &mut loaded.apps {
        if app.env_base == shared {
            app.env_base = Arc::default();
            loaded.env_base = Arc::clone(&shared);
        }
    }
}
