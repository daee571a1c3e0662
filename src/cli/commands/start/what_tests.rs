use super::{Part, sort_out};
use crate::cli::commands::start::StartArgs;

fn parts(words: &[&str], name: Option<&str>) -> Result<Vec<Part>, String> {
    let args = StartArgs {
        what: words.iter().map(|word| (*word).to_owned()).collect(),
        name: name.map(str::to_owned),
        ..StartArgs::default()
    };
    sort_out(&args).map_err(|failure| failure.message)
}

#[test]
fn every_word_has_one_meaning() {
    let one = |word: &str| parts(&[word], None).unwrap().remove(0);
    assert!(matches!(one("-"), Part::File(_)));
    assert!(matches!(one("a/b.toml"), Part::File(_)));
    assert!(matches!(one("apps.json"), Part::File(_)));
    assert!(matches!(one("all"), Part::Known(_)));
    assert!(matches!(one("/^web/"), Part::Known(_)));
    assert!(matches!(one("api:1"), Part::Known(_)));
    assert!(matches!(one("7"), Part::Known(_)));
    assert!(matches!(one("python3 worker.py"), Part::Program(_)));
    assert!(matches!(one("./srever.js"), Part::Program(_)));
    assert!(matches!(one("srever.js"), Part::Program(_)));
    assert!(matches!(one("/bin/sh"), Part::Program(_)));
    assert!(matches!(one("redis-server"), Part::KnownOrProgram(_)));
}

#[test]
fn refuses_what_does_not_go_together() {
    assert!(
        parts(&["a.toml"], Some("x"))
            .unwrap_err()
            .contains("do not go with files")
    );
    assert!(parts(&["a.js", "b.js"], Some("x")).unwrap_err().contains("one --name"));
    assert!(parts(&["/tmp"], None).unwrap_err().contains("is a folder"));
    assert!(
        parts(&["ecosystem.config.js"], None)
            .unwrap_err()
            .contains("another process manager")
    );
    assert!(parts(&["all", "1"], None).is_ok_and(|parts| parts.len() == 1));
}
