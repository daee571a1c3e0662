//! What `config` may know about the world, and what it gives back.

use std::fmt;
use std::io;
use std::path::Path;

use crate::config::diagnostic::Diagnostics;
use crate::model::env::EnvMap;
use crate::model::spec::AppSpec;

/// The language of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `ecosystem.toml`.
    Toml,
    /// The same keys as JSON; `//` and `/* */` comments and trailing commas are tolerated.
    Json,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing, or it cannot be reached.
    Missing,
    /// A folder.
    Folder,
    /// A file the caller may not execute.
    File,
    /// A file with an executable bit for the caller.
    Program,
}

/// Lists the names in a folder.
pub type ListDir<'a> = &'a dyn Fn(&Path) -> Vec<String>;

/// The world around the text.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The file the text came from, for messages and [`AppSpec::source`].
    pub file: Option<&'a Path>,
    /// Absolute folder that relative paths start from: the file's own, or the caller's.
    pub base_dir: &'a Path,
    /// The caller's environment, for inheriting and for `${VAR}`.
    pub env: &'a EnvMap,
    /// `--env NAME`: puts `env_NAME` on top of `env`.
    pub profile: Option<&'a str>,
    /// CPUs that `instances = "max"` stands for.
    pub cpus: u32,
    /// What `~` stands for.
    pub home: Option<&'a Path>,
    /// Reads an `env_file`, or a script's first line.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// What an absolute path leads to.
    pub file_kind: &'a dyn Fn(&Path) -> FileKind,
    /// Whether the caller's `PATH` has a program of this name.
    pub which: &'a dyn Fn(&str) -> bool,
    /// The names in a folder, for suggestions; empty if it cannot be read.
    pub list_dir: Option<ListDir<'a>>,
}

impl fmt::Debug for Context<'_> {
    /// Without the environment: it may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("file", &self.file)
            .field("base_dir", &self.base_dir)
            .field("profile", &self.profile)
            .field("cpus", &self.cpus)
            .finish_non_exhaustive()
    }
}

/// A file without errors.
#[derive(Debug)]
pub struct Parsed {
    /// In the order of the file.
    pub apps: Vec<AppSpec>,
    /// What is allowed but probably not meant. Often empty.
    pub warnings: Diagnostics,
}
