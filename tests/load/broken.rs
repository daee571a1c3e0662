//! Twelve ways in which a new generation can be broken: the old one keeps serving, its spec stays, and the command
//! fails and says why.

use std::net::TcpListener;

use anyhow::Context as _;
use clmgr::api::status::AppDescription;
use clmgr::model::state::State;

use crate::report::Report;
use crate::service::{Dead, Server, Service, Spec};
use crate::settings::Settings;
use crate::world::{World, lives};

/// Instances of each app.
const INSTANCES: u32 = 2;

/// Requests a second to each app.
const RATE: f64 = 120.0;

/// Short times, so that it is over soon.
const QUICK: &str = "kill_timeout = \"500ms\"\nrollout = { min_healthy = \"800ms\" }";

/// For those that never become ready. The good ones have all the time they need.
const IMPATIENT: &str = "listen_timeout = \"1500ms\"";

/// A way to be broken.
#[derive(Debug)]
struct Kind {
    /// Its name in the table, and what the server plays.
    name: &'static str,
    /// What both generations say.
    keys: &'static str,
    /// What only the new one says.
    more: &'static str,
    /// All of this must be in what the command says.
    reasons: &'static [&'static str],
    /// The same for Node, where it says something else.
    node: &'static [&'static str],
}

impl Kind {
    const fn new(name: &'static str, reasons: &'static [&'static str]) -> Self {
        Self {
            name,
            keys: "",
            more: "",
            reasons,
            node: reasons,
        }
    }

    const fn keys(mut self, keys: &'static str) -> Self {
        self.keys = keys;
        self
    }

    const fn more(mut self, more: &'static str) -> Self {
        self.more = more;
        self
    }

    const fn node(mut self, reasons: &'static [&'static str]) -> Self {
        self.node = reasons;
        self
    }
}

const KINDS: [Kind; 12] = [
    Kind::new(
        "exits",
        &["exit code 3 before it was ready", "cannot parse the configuration"],
    )
    .node(&["exit code 1 before it was ready", "cannot parse the configuration"]),
    Kind::new(
        "exits-late",
        &["exit code 4 before it was ready", "the migration has failed"],
    ),
    Kind::new("hangs", &["not ready after 1s500ms", "waiting for the database"]).more(IMPATIENT),
    Kind::new("answers-500", &["not ready after 1s500ms", "no such table: users"])
        .keys("ready = { http = \"http://127.0.0.1:{port}/0/probe\" }")
        .more(IMPATIENT),
    Kind::new(
        "dies",
        &[
            "exit code 5 after it was ready",
            "min_healthy",
            "the license has expired",
        ],
    ),
    Kind::new("wrong-cwd", &["releases/43"]).more("cwd = \"releases/43\""),
    Kind::new("no-binary", &["srever"]),
    Kind::new("no-variable", &["the environment variable DATABASE_URL is not set"])
        .more("require = { env = [\"DATABASE_URL\"] }"),
    Kind::new("out-of-memory", &["SIGABRT", "memory allocation of"])
        .node(&["SIGABRT", "JavaScript heap out of memory"]),
    Kind::new("port-stolen", &["in use"]).node(&["EADDRINUSE"]),
    Kind::new(
        "forks",
        &["exit code 0 before it was ready", "running in the background"],
    ),
    Kind::new("deaf", &["not ready after 1s500ms", "still starting"]).more(IMPATIENT),
];

/// Tries all of them, each on an app of its own, at the same time.
pub(crate) fn run(world: &World, report: &Report, settings: &Settings, server: Server) {
    std::thread::scope(|scope| {
        for kind in &KINDS {
            let what = format!("broken {}: {}", kind.name, server.as_str());
            if settings.wants(&what) {
                scope.spawn(move || {
                    if let Err(error) = kind.run(world, report, settings, server) {
                        report.wrong(format!("{what}: {error:#}"));
                    }
                });
            }
        }
    });
}

impl Kind {
    fn run(&self, world: &World, report: &Report, settings: &Settings, server: Server) -> anyhow::Result<()> {
        let name = format!("b-{}-{}", self.name, server.as_str());
        let good = Spec::new(&name, server, INSTANCES, &format!("{QUICK}\n{}", self.keys))?;
        let name = &good.name;
        let service = Service::start(world, &good)?;
        let before = world.describe(name)?;
        let loads = service.mixed(settings, RATE);
        // Somebody else's port.
        let thief = TcpListener::bind("127.0.0.1:0")?;
        let bad = self.spec(&good, thief.local_addr()?.port());
        for _ in 0..settings.broken {
            loads.go_on();
            let file = bad.write(world)?;
            let said = world.cli(&["start", file.to_str().context("a strange path")?])?;
            let words = format!("{}{}", said.out, said.err);
            if said.code <= 0 {
                report.wrong(format!("{name}: exit code {}: {words}", said.code));
            }
            let reasons = match server {
                Server::NodeCluster | Server::NodeBare | Server::NodeFd => self.node,
                Server::Rust | Server::Python => self.reasons,
            };
            for reason in reasons.iter().filter(|reason| !words.contains(**reason)) {
                report.wrong(format!("{name}: no {reason:?} in: {words}"));
            }
            loads.go_on();
            for text in changed(&before, &world.describe(name)?, world) {
                report.wrong(format!("{name}: {text} after {words}"));
            }
        }
        loads.go_on();
        let what = format!("broken {}", self.name);
        loads.end(report, &what, settings.broken, &Dead::default())?;
        service.delete()
    }

    /// The new generation.
    fn spec(&self, good: &Spec, stolen: u16) -> Spec {
        let mut bad = good.clone();
        bad.env.push(("BREAK", self.name.to_owned()));
        let mut more = self.more.to_owned();
        match (self.name, bad.server) {
            ("no-binary", _) => more.push_str("cmd = \"/opt/srever\""),
            ("port-stolen", Server::NodeCluster | Server::NodeBare) => {
                bad.env = vec![("PORT", stolen.to_string())];
            }
            ("port-stolen", _) => more.push_str(&format!("listen = \"127.0.0.1:{stolen}\"")),
            ("out-of-memory", Server::NodeCluster | Server::NodeBare | Server::NodeFd) => {
                bad.env.push(("NODE_OPTIONS", "--max-old-space-size=64".to_owned()));
            }
            _ => {}
        }
        bad.more = format!("{}\n{more}", good.more);
        bad
    }
}

fn pids(app: &AppDescription) -> Vec<i32> {
    app.status.instances.iter().map(|one| one.pid.unwrap_or(0)).collect()
}

/// What is not as it was.
fn changed(before: &AppDescription, after: &AppDescription, world: &World) -> Vec<String> {
    let mut found = Vec::new();
    if before.spec != after.spec {
        found.push("another spec".to_owned());
    }
    let old = pids(before);
    if old != pids(after) || !old.iter().all(|pid| lives(*pid)) {
        found.push(format!("{old:?} became {:?}", pids(after)));
    }
    if let Some(one) = after.status.instances.iter().find(|one| one.state != State::Online) {
        found.push(format!("instance {} is {}", one.slot, one.state.as_str()));
    }
    let mut living = world.processes(after.status.name.as_str());
    living.sort_unstable();
    let mut known = old;
    known.sort_unstable();
    if living != known {
        found.push(format!("processes {living:?} live and not {known:?}"));
    }
    found
}
