//! `sd_notify(3)` from real programs: every message, whoever dies in between.

mod main_process;
mod messages;
mod store;
mod timing;

use serde_json::Value;

use crate::harness::World;

/// What the programs here have in common.
const CLIENT: &str = r#"
import array, os, select, socket, struct, sys, time
def address():
    name = os.environ["NOTIFY_SOCKET"]
    return "\0" + name[1:] if name.startswith("@") else name
def say(text, fds=()):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(address())
    s.sendmsg([text if isinstance(text, bytes) else text.encode()],
              [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    s.close()
def barrier():
    r, w = os.pipe()
    say("BARRIER=1", [w])
    os.close(w)
    while not select.select([r], [], [], 60)[0]: sys.exit("no answer to a barrier")
    os.close(r)
def note(name, text):
    with open(name + ".new", "w") as f: f.write(str(text))
    os.rename(name + ".new", name)
def wait(name):
    while not os.path.exists(name): time.sleep(0.01)
def stored():
    if os.environ.get("LISTEN_PID") != str(os.getpid()): return {}
    names = os.environ["LISTEN_FDNAMES"].split(":")
    assert len(names) == int(os.environ["LISTEN_FDS"])
    return {name: 3 + at for at, name in enumerate(names)}
"#;

/// A world with one app, `a`, of this program.
fn world(app: &str, more: &str) -> World {
    let world = World::new();
    world.file("app.py", &format!("{CLIENT}{app}"));
    world.file(
        "ecosystem.toml",
        &format!(
            "[[apps]]\nname = \"a\"\nscript = \"app.py\"\ninterpreter = \"/usr/bin/python3\"\nready = \"notify\"\n\
             kill_timeout = \"5s\"\nmin_uptime = \"1ms\"\nbackoff = {{ first = \"10ms\" }}\n{more}\n"
        ),
    );
    world
}

fn instance(world: &World) -> Value {
    world.instances("a")[0].clone()
}

fn says(world: &World) -> String {
    instance(world)["status_text"].as_str().unwrap_or_default().to_owned()
}

fn notices(world: &World) -> Vec<String> {
    let events = world.events();
    let noted = events.iter().filter(|event| event["kind"] == "notified");
    noted
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect()
}

/// Somebody is there again, and everything was taken over.
fn settled(world: &World, before: (i64, i64), daemon: bool, keeper: bool) {
    world.until("another manager", || {
        let said = world.run(&["ping", "--json"]);
        let Ok(ping) = serde_json::from_str::<Value>(&said.out) else {
            return false;
        };
        (!daemon || ping["pid"] != before.0) && (!keeper || ping["keeper_pid"] != before.1)
    });
}

/// What may happen to the manager.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Daemon,
    Keeper,
    Both,
    Upgrade,
}

const BLOWS: [Blow; 4] = [Blow::Daemon, Blow::Keeper, Blow::Both, Blow::Upgrade];

fn strike(world: &World, blow: Blow) {
    let before = world.manager();
    match blow {
        Blow::Daemon => assert!(world.kill9(before.0)),
        Blow::Keeper => assert!(world.kill9(before.1)),
        Blow::Both => world.kill_both(),
        Blow::Upgrade => {
            world.run(&["upgrade", "--to", env!("CARGO_BIN_EXE_clmgr")]).ok();
        }
    }
    let daemon = matches!(blow, Blow::Daemon | Blow::Both | Blow::Upgrade);
    let keeper = matches!(blow, Blow::Keeper | Blow::Both);
    settled(world, before, daemon, keeper);
}
