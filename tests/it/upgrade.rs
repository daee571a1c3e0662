//! Another build takes over, or does not, while apps go on.
//!
//! The other builds are copies of the program whose version was patched, and scripts in front of it that get one
//! thing wrong.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Said, World, finish, lives, said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clmgr");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The same length as ours.
const OTHER: &str = "0.1.9";

/// A copy of the program in which every `from` is a `to`.
#[track_caller]
fn patched(world: &World, name: &str, from: &str, to: &str) -> PathBuf {
    assert_eq!(from.len(), to.len());
    let path = world.path().join(name);
    if path.exists() {
        return path;
    }
    let mut bytes = std::fs::read(PROGRAM).unwrap();
    let mut found = 0;
    let finder = memchr::memmem::Finder::new(from);
    let mut at = 0;
    while let Some(next) = finder.find(&bytes[at..]) {
        bytes[at + next..at + next + to.len()].copy_from_slice(to.as_bytes());
        at += next + to.len();
        found += 1;
    }
    assert!(found > 0, "{from} is not in the program");
    std::fs::write(&path, bytes).unwrap();
    executable(&path);
    path
}

fn executable(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The same program as version [`OTHER`].
pub fn other(world: &World) -> PathBuf {
    patched(
        world,
        "clmgr-other",
        &format!("CLMGR_VERSION={VERSION};"),
        &format!("CLMGR_VERSION={OTHER};"),
    )
}

/// A script that does `wrong` where it applies, and is the other build everywhere else.
fn wrapper(world: &World, wrong: &str) -> PathBuf {
    let other = other(world);
    let path = world.file(
        "wrapper",
        &format!("#!/bin/sh\n{wrong}\nexec {} \"$@\"\n", other.display()),
    );
    executable(&path);
    path
}

fn upgrade(world: &World, to: &Path) -> Said {
    world.run(&["upgrade", "--to", to.to_str().unwrap()])
}

fn ping(world: &World) -> Value {
    world.run(&["ping", "--json"]).ok().json()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

/// Versions of daemon and keeper.
fn versions(world: &World) -> (String, String) {
    let ping = ping(world);
    (text(&ping, "version"), text(&ping, "keeper_version"))
}

/// The apps that every test has, all pids that must stay.
fn apps(world: &World) -> Vec<i64> {
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "3"]).ok();
    world.run(&["start", "sleep 1000", "--name", "down"]).ok();
    world.run(&["stop", "down"]).ok();
    world.run(&["scale", "a", "4"]).ok();
    world.pids("a")
}

/// The old build goes on, and the command said why.
#[track_caller]
fn stays(world: &World, pids: &[i64], keeper: i64, said: Said, why: &str) {
    said.refused(1, why);
    assert_eq!(versions(world), (VERSION.to_owned(), VERSION.to_owned()));
    assert_eq!(world.manager().1, keeper);
    assert_eq!(world.pids("a"), pids);
    assert_eq!(world.states("down"), ["stopped"]);
    // And it works.
    world.run(&["scale", "a", "5"]).ok();
    world.run(&["scale", "a", "4"]).ok();
    assert_eq!(world.pids("a"), pids);
    // The next upgrade does, too.
    upgrade(world, &other(world)).ok();
    assert_eq!(versions(world), (OTHER.to_owned(), OTHER.to_owned()));
    assert_eq!(world.pids("a"), pids);
}

#[test]
fn another_build_takes_over_and_gives_back() {
    let world = World::new();
    let pids = apps(&world);
    let (daemon, keeper) = world.manager();
    let other = other(&world);
    let said = upgrade(&world, &other).ok();
    assert!(
        said.out
            .contains(&format!("upgraded {VERSION} → {OTHER}: daemon {daemon} → ")),
        "{}",
        said.out
    );
    assert!(
        said.out
            .contains(&format!("keeper {keeper} (the same process), 4 processes untouched")),
        "{}",
        said.out
    );
    assert_eq!(versions(&world), (OTHER.to_owned(), OTHER.to_owned()));
    let (newer, same) = world.manager();
    assert!(newer != daemon && same == keeper && !lives(daemon));
    let file = std::fs::read_link(format!("/proc/{keeper}/exe")).unwrap();
    assert_eq!(file, other);
    assert_eq!(world.pids("a"), pids);
    // Everything works as before.
    world.run(&["scale", "a", "6"]).ok();
    world.run(&["scale", "a", "4"]).ok();
    assert_eq!(world.pids("a"), pids);
    // And back, by the command's own program.
    let back: Value = world.run(&["upgrade", "--json"]).ok().json();
    assert_eq!(
        (back["ok"].as_bool(), text(&back, "from"), text(&back, "to")),
        (Some(true), OTHER.into(), VERSION.into())
    );
    assert_eq!(back["processes"], world.processes().len() as u64 - 2);
    assert_eq!(versions(&world), (VERSION.to_owned(), VERSION.to_owned()));
    assert_eq!((world.manager().1, world.pids("a")), (keeper, pids));
    let kinds: Vec<Value> = world
        .events()
        .into_iter()
        .filter(|event| event["kind"] == "upgraded")
        .collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    world.run(&["kill"]).ok();
    assert!(!lives(keeper));
}

#[test]
fn nothing_is_lost_on_the_way() {
    let world = World::new();
    world.file(
        "eco.toml",
        r#"
[[apps]]
name = "writer"
log_rotate = { size = "1G" }
cmd = ["bash", "-c", "i=0; while :; do echo line $((i++)); done"]
[[apps]]
name = "reader"
cmd = ["bash", "-c", "while read line; do echo got $line; done"]
[[apps]]
name = "seven"
cmd = ["bash", "-c", "until test -e go; do sleep 0.02; done; exit 7"]
autorestart = false
"#,
    );
    world.run(&["start", "eco.toml"]).ok();
    let other = other(&world);
    let pids = (world.pids("writer"), world.pids("reader"));
    let (_, keeper) = world.manager();
    for (round, build) in [other.as_path(), Path::new(PROGRAM), &other, Path::new(PROGRAM)]
        .into_iter()
        .enumerate()
    {
        let command = world.begin(&["upgrade", "--to", build.to_str().unwrap()]);
        if round == 0 {
            std::fs::write(world.path().join("go"), "").unwrap();
        }
        // Whoever asks meanwhile is answered.
        for _ in 0..20 {
            world.status();
        }
        finish(command, &["upgrade"]).ok();
        world.run(&["send", "reader", &format!("word{round}")]).ok();
    }
    assert_eq!(world.manager().1, keeper);
    assert_eq!((world.pids("writer"), world.pids("reader")), pids);
    world.until("the words", || {
        world.text("home/logs/reader-0-out.log").matches("got word").count() == 4
    });
    world.until("its end", || world.states("seven") != ["online"]);
    let seven = world.instances("seven")[0].clone();
    assert_eq!(seven["last_exit"]["status"]["code"], 7, "{seven}");
    assert_eq!(world.count_events("started", "seven"), 1);
    world.run(&["stop", "writer"]).ok();
    let log = world.text("home/logs/writer-0-out.log");
    let mut numbers: Vec<u64> = Vec::new();
    for line in log.lines() {
        numbers.push(line.strip_prefix("line ").unwrap().parse().unwrap());
    }
    assert!(numbers.len() > 1000, "{}", numbers.len());
    for pair in numbers.windows(2) {
        assert_eq!(pair[1], pair[0] + 1);
    }
}

#[test]
fn what_is_no_clmgr_is_refused_before_anything_is_touched() {
    let world = World::new();
    let pids = apps(&world);
    let before = world.manager();
    let script = world.file("script", "#!/bin/sh\necho hello\n");
    let fails = world.file("fails", "#!/bin/sh\nexit 3\n");
    let plain = world.file("plain", "no program");
    let relative = world
        .run(&["upgrade", "--to", "script"])
        .refused(1, "no clmgr that can take over");
    assert!(relative.err.contains("nothing was changed"), "{}", relative.err);
    upgrade(&world, &script).refused(1, "does not say what it understands");
    upgrade(&world, &fails).refused(1, "ended with exit code 3");
    upgrade(&world, &plain).refused(2, "is not executable");
    upgrade(&world, world.path()).refused(2, "is no file");
    upgrade(&world, Path::new("/nonexistent/clmgr")).refused(2, "/nonexistent/clmgr cannot be used");
    let foreign = r#"{"clmgr":"9.0.0","protocol":{"min":7,"current":8},"schema":{"min":1,"current":1}}"#;
    let future = world.file("future", &format!("#!/bin/sh\necho '{foreign}'\n"));
    upgrade(&world, &future).refused(1, "speaks keeper protocols 7 to 8, the running keeper 1 to 4");
    assert_eq!(world.manager(), before);
    assert_eq!(world.pids("a"), pids);
}

#[test]
fn a_keeper_that_cannot_read_the_state_is_found_out_first() {
    let world = World::new();
    let pids = apps(&world);
    let (daemon, keeper) = world.manager();
    let path = wrapper(
        &world,
        "test \"$1$2\" = keeper--check-state && { echo no such thing >&2; exit 4; }",
    );
    let said = upgrade(&world, &path);
    assert_eq!(world.manager().0, daemon, "nobody had to leave");
    stays(
        &world,
        &pids,
        keeper,
        said,
        "its keeper cannot take over from this one: no such thing",
    );
}

#[test]
fn a_daemon_that_dies_at_once_is_replaced_by_the_old_build() {
    let world = World::new();
    let pids = apps(&world);
    let (_, keeper) = world.manager();
    let path = wrapper(&world, "test \"$1\" = daemon && exit 9");
    let said = upgrade(&world, &path);
    stays(&world, &pids, keeper, said, "exit code 9");
    assert!(world.events().iter().any(|event| event["kind"] == "upgrade_failed"));
}

#[test]
fn a_daemon_that_hangs_is_given_up() {
    let world = World::new();
    let pids = apps(&world);
    let (_, keeper) = world.manager();
    let path = wrapper(&world, "test \"$1\" = daemon && exec sleep 1000");
    let said = upgrade(&world, &path);
    stays(&world, &pids, keeper, said, "did not prove itself within");
}

#[test]
fn a_daemon_that_finds_another_state_is_not_let_near_the_apps() {
    let world = World::new();
    let pids = apps(&world);
    let (_, keeper) = world.manager();
    // It looks into an empty home: without the proof it would stop everything as strange.
    let path = wrapper(
        &world,
        "test \"$1\" = daemon && export CLMGR_HOME=\"$CLMGR_HOME-empty\" && mkdir -p \"$CLMGR_HOME/logs\"",
    );
    let said = upgrade(&world, &path);
    stays(&world, &pids, keeper, said, "it reads another state");
}

#[test]
fn a_keeper_that_cannot_go_on_gives_back_to_the_old_build() {
    let world = World::new();
    let pids = apps(&world);
    let (_, keeper) = world.manager();
    let strange = patched(&world, "strange", "clmgr keeper state\n", "clmgr keeper stole\n");
    let path = wrapper(
        &world,
        &format!("test \"$1$2\" = keeper--resume && exec {} \"$@\"", strange.display()),
    );
    let said = upgrade(&world, &path);
    stays(
        &world,
        &pids,
        keeper,
        said,
        "its keeper could not take over: this is no state of a keeper",
    );
}

#[test]
fn a_keeper_that_dies_on_the_way_is_replaced_and_no_app_notices() {
    let world = World::new();
    let pids = apps(&world);
    let (_, keeper) = world.manager();
    let path = wrapper(&world, "test \"$1$2\" = keeper--resume && exit 5");
    let said = upgrade(&world, &path).ok();
    assert!(
        said.out.contains(&format!("it was {keeper}, which died")),
        "{}",
        said.out
    );
    assert_eq!(versions(&world), (OTHER.to_owned(), OTHER.to_owned()));
    assert_eq!(world.pids("a"), pids);
    world.run(&["restart", "a"]).ok();
}

#[test]
fn the_old_file_may_be_gone_or_replaced() {
    let world = World::new();
    let ours = world.path().join("clmgr-ours");
    std::fs::copy(PROGRAM, &ours).unwrap();
    executable(&ours);
    let run = |args: &[&str]| {
        let plain = world.command(args);
        let mut command = std::process::Command::new(&ours);
        command.args(args).current_dir(world.path()).env_clear();
        command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
        said(command).ok()
    };
    run(&["start", "sleep 1000", "--name", "a", "-i", "4"]);
    run(&["start", "sleep 1000", "--name", "down"]);
    run(&["stop", "down"]);
    let pids = world.pids("a");
    let (daemon, keeper) = world.manager();
    // As a package manager does it; nobody asked for another build.
    let other = other(&world);
    std::fs::rename(&other, &ours).unwrap();
    assert!(world.kill9(daemon));
    world.until("another daemon", || world.manager().0 != daemon);
    assert_eq!(versions(&world), (VERSION.to_owned(), VERSION.to_owned()));
    std::fs::remove_file(&ours).unwrap();
    // A build that fails brings the one back whose file is gone.
    let path = wrapper(&world, "test \"$1\" = daemon && exit 9");
    let said = upgrade(&world, &path);
    stays(&world, &pids, keeper, said, "exit code 9");
}

#[test]
fn the_daemon_may_be_killed_at_any_moment_of_it() {
    let world = World::new();
    let pids = apps(&world);
    let (_, keeper) = world.manager();
    let other = other(&world);
    let mut build = other.as_path();
    for pause in [0_u64, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96] {
        let before = versions(&world).0;
        let (daemon, _) = world.manager();
        let command = world.begin(&["upgrade", "--to", build.to_str().unwrap()]);
        crate::harness::rest(pause + 4);
        world.kill9(daemon);
        let said = finish(command, &["upgrade"]);
        world.until("one version", || {
            let (daemon, keeper) = versions(&world);
            daemon == keeper
        });
        let daemon = versions(&world).0;
        if said.code == 0 {
            assert_ne!(daemon, before);
        }
        if daemon != before {
            build = if build == other { Path::new(PROGRAM) } else { &other };
        }
        assert_eq!(world.pids("a"), pids);
        assert_eq!(world.manager().1, keeper);
    }
    assert_eq!(world.count_events("started", "a"), 4);
}

#[test]
fn an_interrupted_command_and_a_second_one_change_nothing() {
    let world = World::new();
    let pids = apps(&world);
    let other = other(&world);
    // Killed while the build that it has named is asked what it is.
    let folder = world.path().display();
    let asked = wrapper(
        &world,
        &format!("test \"$1\" = handshake && touch {folder}/asked && until test -e {folder}/tell; do sleep 0.02; done"),
    );
    let mut first = world.begin(&["upgrade", "--to", asked.to_str().unwrap()]);
    world.until("it is asked", || world.path().join("asked").exists());
    first.kill().unwrap();
    first.wait().unwrap();
    world.file("tell", "");
    world.until("it is done", || {
        world.events().iter().any(|event| event["kind"] == "upgraded")
    });
    upgrade(&world, &other).ok();
    // It says what it is when it is told to: whichever comes second is refused.
    let slow = wrapper(
        &world,
        &format!("test \"$1\" = handshake && until test -e {folder}/go; do sleep 0.02; done"),
    );
    let mut both = [(), ()].map(|()| world.begin(&["upgrade", "--to", slow.to_str().unwrap()]));
    world.until("one is refused", || {
        both.iter_mut().any(|command| command.try_wait().unwrap().is_some())
    });
    world.file("go", "");
    let mut said = both.map(|command| finish(command, &["upgrade"]));
    said.sort_by_key(|said| said.code);
    let [done, refused] = said;
    done.ok();
    refused.refused(4, "another upgrade is under way");
    assert_eq!(versions(&world), (OTHER.to_owned(), OTHER.to_owned()));
    assert_eq!(world.pids("a"), pids);
}

#[test]
fn a_reload_goes_on_through_it() {
    let world = World::new();
    world.file(
        "eco.toml",
        "[[apps]]\nname = \"a\"\ninstances = 4\ncmd = \"sleep 1000\"\nrollout = { min_healthy = \"300ms\" }\n",
    );
    world.run(&["start", "eco.toml"]).ok();
    let before = world.pids("a");
    let reload = world.begin(&["reload", "a"]);
    world.until("it begins", || world.count_events("reload_started", "a") == 1);
    upgrade(&world, &other(&world)).ok();
    // It was told, or it was done in time.
    let said = finish(reload, &["reload"]);
    assert!(said.code == 0 || said.err.contains("lost or replaced"), "{}", said.err);
    world.until("its end", || world.count_events("reload_done", "a") == 1);
    let after = world.pids("a");
    assert!(
        after.iter().all(|pid| !before.contains(pid)) && after.len() == 4,
        "{before:?} {after:?}"
    );
    assert_eq!(world.states("a"), ["online"; 4]);
}

#[test]
fn without_a_manager_there_is_nothing_to_replace() {
    let world = World::new();
    world.run(&["upgrade"]).refused(5, "does not run here");
}
