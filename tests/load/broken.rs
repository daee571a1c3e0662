//! Twelve ways in which a new generation can be broken: the old one keeps serving, its spec stays, and the command
//! fails and says why.

use std::net::TcpListener;

use anyhow::Context as _;
use clmgr::api::status::AppDescription;
use clmgr::model::state::State;

use crate::report::Report;
use crate::service::{self, Dead, Server, Service};
use crate::settings::Settings;
use crate::world::{World, lives};

/// Instances of each app.
const INSTANCES: u32 = 2;

/// Requests a second to each app.
const RATE: f64 = 120.0;

/// A way to be broken.
#[derive(Debug)]
struct Kind {
    /// Its name in the table, and what this binary plays.
    name: &'static str,
    /// What the new file says besides.
    more: &'static str,
    /// All of this must be in what the command says.
    reasons: &'static [&'static str],
    /// How it says that it is ready.
    ready: &'static str,
}

/// Short times, so that it is over soon.
const QUICK: &str = "listen_timeout = \"1500ms\"\nkill_timeout = \"500ms\"\nrollout = { min_healthy = \"600ms\" }\nlisten = \"127.0.0.1:0\"";

const KINDS: [Kind; 12] = [
    Kind {
        name: "exits",
        more: "",
        reasons: &["exit code 3 before it was ready", "cannot parse the configuration"],
        ready: "",
    },
    Kind {
        name: "exits-late",
        more: "",
        reasons: &["exit code 4 before it was ready", "the migration has failed"],
        ready: "",
    },
    Kind {
        name: "hangs",
        more: "",
        reasons: &["not ready after 1s500ms", "waiting for the database"],
        ready: "",
    },
    Kind {
        name: "answers-500",
        more: "",
        reasons: &["not ready after 1s500ms", "no such table: users"],
        ready: "ready = { http = \"http://127.0.0.1:{port}/0/probe\" }",
    },
    Kind {
        name: "dies",
        more: "",
        reasons: &[
            "exit code 5 after it was ready",
            "min_healthy",
            "the license has expired",
        ],
        ready: "",
    },
    Kind {
        name: "wrong-cwd",
        more: "cwd = \"releases/43\"",
        reasons: &["releases/43"],
        ready: "",
    },
    Kind {
        name: "no-binary",
        more: "",
        reasons: &["srever"],
        ready: "",
    },
    Kind {
        name: "no-variable",
        more: "require = { env = [\"DATABASE_URL\"] }",
        reasons: &["the environment variable DATABASE_URL is not set"],
        ready: "",
    },
    Kind {
        name: "out-of-memory",
        more: "",
        reasons: &["SIGABRT", "memory allocation of"],
        ready: "",
    },
    Kind {
        name: "port-stolen",
        more: "",
        reasons: &["in use"],
        ready: "",
    },
    Kind {
        name: "forks",
        more: "",
        reasons: &["exit code 0 before it was ready", "running in the background"],
        ready: "",
    },
    Kind {
        name: "deaf",
        more: "",
        reasons: &["not ready after 1s500ms", "still starting"],
        ready: "",
    },
];

/// Tries all of them, each on an app of its own, at the same time.
pub(crate) fn run(world: &World, report: &Report, settings: &Settings) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let mut tries = Vec::new();
        for kind in &KINDS {
            if settings.wants(&format!("broken {}", kind.name)) {
                tries.push(scope.spawn(move || kind.run(world, report, settings).context(kind.name)));
            }
        }
        for one in tries {
            match one.join() {
                Ok(result) => result?,
                Err(_panic) => anyhow::bail!("a thread panicked"),
            }
        }
        Ok(())
    })
}

impl Kind {
    fn run(&self, world: &World, report: &Report, settings: &Settings) -> anyhow::Result<()> {
        let name = format!("b-{}", self.name);
        let service = Service::start(world, &name, Server::Rust, INSTANCES, &self.keys())?;
        let before = world.describe(&name)?;
        let loads = service.mixed(settings, RATE);
        // Somebody else's port.
        let thief = TcpListener::bind("127.0.0.1:0")?;
        for _ in 0..settings.broken {
            loads.go_on();
            std::fs::write(&service.file, self.text(world, &name, &thief)?)?;
            let said = world.cli(&["start", service.file.to_str().context("a strange path")?])?;
            let words = format!("{}{}", said.out, said.err);
            if said.code <= 0 {
                report.wrong(format!("{name}: exit code {}: {words}", said.code));
            }
            for reason in self.reasons {
                if !words.contains(reason) {
                    report.wrong(format!("{name}: no {reason:?} in: {words}"));
                }
            }
            loads.go_on();
            for text in changed(&before, &world.describe(&name)?, world) {
                report.wrong(format!("{name}: {text} after {words}"));
            }
        }
        loads.go_on();
        loads.end(
            report,
            &format!("broken {}", self.name),
            settings.broken,
            &Dead::default(),
        )?;
        service.delete()
    }

    /// What both generations have.
    fn keys(&self) -> String {
        format!("{QUICK}\n{}", self.ready)
    }

    /// The new file.
    fn text(&self, world: &World, name: &str, thief: &TcpListener) -> anyhow::Result<String> {
        let text = service::text(world, name, Server::Rust, INSTANCES, &self.keys())?;
        let text = match self.name {
            "no-binary" => text.replace("cmd = [\"", "cmd = [\"/opt/srever"),
            "port-stolen" => text.replace(
                "listen = \"127.0.0.1:0\"",
                &format!("listen = \"{}\"", thief.local_addr()?),
            ),
            _ => text,
        };
        Ok(format!("{text}{}\nenv = {{ BREAK = \"{}\" }}\n", self.more, self.name))
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
    let left: Vec<i32> = world
        .processes(after.status.name.as_str())
        .into_iter()
        .filter(|pid| !old.contains(pid))
        .collect();
    if !left.is_empty() {
        found.push(format!("processes {left:?} are left"));
    }
    found
}
