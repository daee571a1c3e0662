//! The whole module, against a world in memory.

mod adhoc;
mod adversarial;
mod bad;
mod cluster;
mod demand;
mod fd_store;
mod generated;
mod good;
mod liveness;
mod logs;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::config::context::{Context, FileKind, Parsed, Syntax};
use crate::config::diagnostic::Diagnostics;
use crate::config::document::parse;
use crate::model::env::EnvMap;
use crate::model::spec::AppSpec;

/// A made-up machine: `/srv/app` with some files, and some programs in `PATH`.
struct World {
    files: BTreeMap<&'static str, (&'static str, FileKind)>,
    env: EnvMap,
    profile: Option<&'static str>,
    programs: Vec<&'static str>,
}

impl World {
    fn new() -> Self {
        let files = [
            ("/srv/app", ("", FileKind::Folder)),
            ("/srv/app/sub", ("", FileKind::Folder)),
            ("/srv/app/server.js", ("", FileKind::File)),
            ("/srv/app/sub/worker.py", ("", FileKind::File)),
            ("/srv/app/run.sh", ("#!/bin/bash\n", FileKind::Program)),
            ("/srv/app/plain.sh", ("", FileKind::Program)),
            ("/srv/app/main.ts", ("", FileKind::File)),
            ("/srv/app/binary", ("", FileKind::Program)),
            ("/srv/app/notes.txt", ("", FileKind::File)),
            ("/srv/app/tool.rb", ("", FileKind::File)),
            ("/srv/app/two words.js", ("", FileKind::File)),
            (
                "/srv/app/.env",
                (
                    "# comment\nFROM_FILE=f\nQUOTED=\"a b\"\nexport PORT=1\n",
                    FileKind::File,
                ),
            ),
            ("/srv/app/bad.env", ("OK=1\nthis is not a line\n", FileKind::File)),
            ("/home/me/tool", ("", FileKind::Program)),
        ];
        let env = [
            ("HOME", "/home/me"),
            ("PATH", "/bin"),
            ("SECRET", "s3cret"),
            ("LANG", "C"),
            ("CLMGR_APP", "x"),
        ];
        Self {
            files: files.into(),
            env: env.map(|(k, v)| (k.to_owned(), v.into())).into(),
            profile: None,
            programs: vec!["node", "python3", "sh", "bun", "sleep"],
        }
    }

    fn with<T>(&self, run: impl FnOnce(&Context<'_>) -> T) -> T {
        let kind = |path: &Path| {
            let found = path.to_str().and_then(|path| self.files.get(path));
            found.map_or(FileKind::Missing, |(_, kind)| *kind)
        };
        let read = |path: &Path| {
            let found = path.to_str().and_then(|path| self.files.get(path));
            found
                .map(|(text, _)| (*text).to_owned())
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "No such file or directory"))
        };
        let list = |folder: &Path| {
            let inside = |path: &&&str| Path::new(path).parent() == Some(folder);
            let name = |path: &&str| Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
            self.files.keys().filter(inside).map(name).collect()
        };
        run(&Context {
            file: Some(Path::new("ecosystem.toml")),
            base_dir: Path::new("/srv/app"),
            env: &self.env,
            profile: self.profile,
            cpus: 4,
            home: Some(Path::new("/home/me")),
            read_file: &read,
            file_kind: &kind,
            which: &|name| self.programs.contains(&name),
            list_dir: Some(&list),
        })
    }

    fn toml(&self, text: &str) -> Result<Parsed, Diagnostics> {
        self.with(|cx| parse(text, Syntax::Toml, cx))
    }

    fn json(&self, text: &str) -> Result<Parsed, Diagnostics> {
        self.with(|cx| parse(text, Syntax::Json, cx))
    }
}

/// The only app of a good file.
fn app(text: &str) -> AppSpec {
    let mut parsed = World::new().toml(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(parsed.apps.len(), 1);
    parsed.apps.remove(0)
}

/// The messages of a bad file.
fn messages(text: &str) -> Vec<String> {
    let problems = World::new().toml(text).expect_err(text);
    problems.iter().map(|problem| problem.message.clone()).collect()
}

fn argv(spec: &AppSpec) -> Vec<String> {
    spec.argv.iter().map(|word| word.to_text().into_owned()).collect()
}
