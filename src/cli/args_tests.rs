use super::Cli;
use clap::{CommandFactory, Parser};

/// Every line of a help text that begins with `clmgr`, as words.
fn examples(help: &str) -> Vec<Vec<String>> {
    let lines = help.lines().map(str::trim).filter(|line| line.starts_with("clmgr "));
    lines
        .map(|line| {
            let line = line.split(" # ").next().unwrap();
            let line = line.split(" < ").next().unwrap().split(" > ").next().unwrap();
            shlex::split(line).unwrap()
        })
        .collect()
}

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_has_an_example_and_every_example_parses() {
    let command = Cli::command();
    let mut helps = vec![(
        "clmgr",
        command.get_after_help().expect("clmgr has examples").to_string(),
    )];
    for verb in command.get_subcommands() {
        let help = verb
            .get_after_help()
            .unwrap_or_else(|| panic!("{} has no example", verb.get_name()));
        helps.push((verb.get_name(), help.to_string()));
    }
    for (name, help) in helps {
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{name} has no example");
        for words in examples {
            let parsed = Cli::try_parse_from(&words);
            assert!(parsed.is_ok_and(|cli| cli.command.is_some()), "{words:?}");
        }
    }
}

#[test]
fn forms_people_type() {
    for line in [
        "clmgr start",
        "clmgr start -",
        "clmgr start server.js -i max --name api",
        "clmgr start server.js -i -1",
        "clmgr start 'python3 worker.py' --name w -- --port 3000 -x",
        "clmgr start a.toml --only a,b --env production",
        "clmgr ls",
        "clmgr list --json",
        "clmgr --json ps",
        "clmgr scale api -2 --json",
        "clmgr scale api +2",
        "clmgr show api:0",
        "clmgr del all",
        "clmgr logs",
        "clmgr logs api --lines 100 --err --nostream",
        "clmgr log -f api",
        "clmgr events -f --kind exited,started",
        "clmgr send api -- --flag",
        "clmgr send api -x",
        "clmgr signal api SIGHUP",
        "clmgr serve dist --port 8080 --spa --basic-auth user:pass",
        "clmgr serve",
        "clmgr validate --json",
        "clmgr help start",
        "clmgr startup --print",
        "clmgr startup --user ann --print systemd-user",
        "clmgr startup --print --user ann",
        "clmgr",
    ] {
        let words = shlex::split(line).unwrap();
        assert!(
            Cli::try_parse_from(&words).is_ok(),
            "{line}: {:?}",
            Cli::try_parse_from(&words).err()
        );
    }
}

#[test]
fn forms_that_make_no_sense() {
    for (line, part) in [
        ("clmgr stop", "required"),
        ("clmgr strat", "start"),
        ("clmgr scale api many", "max"),
        ("clmgr signal api NOPE", "no signal"),
        ("clmgr events --kind nope", "not a kind"),
        ("clmgr events --since yesterday", "no time"),
        ("clmgr start x.js --max-memory-restart lots", "not a size"),
        ("clmgr start x.js --restart-delay -5s", "unexpected"),
        ("clmgr serve --port 99999", "65535"),
    ] {
        let error = Cli::try_parse_from(shlex::split(line).unwrap()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(part), "{line}: {error}");
    }
}
