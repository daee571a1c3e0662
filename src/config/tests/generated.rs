//! What is made from the table of keys, and what `init` writes.

use std::collections::BTreeSet;

use super::World;
use crate::config::context::{Context, FileKind, Syntax};
use crate::config::{Found, init, json_schema, key_table_markdown, parse, refused, schema};

#[test]
fn the_schema_knows_every_key() {
    let schema = json_schema();
    let properties = schema["$defs"]["app"]["properties"].as_object().unwrap();
    for key in schema::app_keys() {
        for name in std::iter::once(&key.name).chain(key.aliases) {
            assert!(properties[*name]["description"].is_string(), "{name}");
        }
    }
}

#[test]
fn no_name_is_used_twice() {
    let mut names = BTreeSet::new();
    for key in schema::app_keys() {
        for name in std::iter::once(&key.name).chain(key.aliases) {
            assert!(names.insert(*name), "{name}");
        }
    }
    for name in refused::LATER
        .iter()
        .chain(refused::REPLACED.iter().map(|(name, _)| name))
    {
        assert!(names.insert(name), "{name}");
    }
}

#[test]
fn the_key_table_is_as_committed() {
    insta::assert_snapshot!(key_table_markdown());
}

/// Everything exists.
fn validates(text: &str) -> Vec<String> {
    World::new().with(|cx| {
        let cx = Context {
            file_kind: &|path| {
                if path.extension().is_some() {
                    FileKind::File
                } else {
                    FileKind::Folder
                }
            },
            which: &|_| true,
            ..*cx
        };
        let parsed = parse(text, Syntax::Toml, &cx).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
        assert!(parsed.warnings.is_empty());
        parsed.apps.iter().map(|app| app.name.as_str().to_owned()).collect()
    })
}

#[test]
fn what_init_writes_is_valid() {
    let folder = |name: &str| Found {
        folder_name: name.to_owned(),
        ..Found::default()
    };
    assert_eq!(validates(&init(&folder("my site"))), ["my-site"]);
    assert_eq!(validates(&init(&folder("../\u{0}\"\n"))), ["app"]);
    let node = Found {
        package_json: Some(r#"{"name": "@me/api", "scripts": {"start": "node server.js"}, "main": "x.js"}"#.into()),
        files: vec!["server.js".into()],
        ..folder("x")
    };
    assert_eq!(validates(&init(&node)), ["api"]);
    insta::assert_snapshot!(init(&node));
    let npm = Found {
        package_json: Some(r#"{"name": 5, "scripts": {"start": "next start && x"}}"#.into()),
        ..folder("web")
    };
    assert!(init(&npm).contains(r#"cmd = ["npm", "start"]"#));
    assert_eq!(validates(&init(&npm)), ["web"]);
    let python = Found {
        pyproject: Some("[project.scripts]\nserve = 'a:b'\n\"odd name\" = 'c:d'".into()),
        ..folder("x")
    };
    assert_eq!(validates(&init(&python)), ["odd-name", "serve"]);
    let heroku = Found {
        procfile: Some(
            "# x\nweb: node server.js --port $PORT \"a\"\nworker: python3 w.py\nweb: A=1 sleep 1\nall: sleep 1\n:\n"
                .into(),
        ),
        ..node
    };
    assert_eq!(validates(&init(&heroku)), ["web", "worker", "web-2", "app"]);
}
