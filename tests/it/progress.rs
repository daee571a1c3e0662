//! What a terminal shows while a command works, and what everything else does not.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::World;

/// A new instance is ready when the file is there.
const SLOW: &str = "[[apps]]\nname = \"slow\"\ncmd = \"sleep 1000\"\ninstances = 2\nready = { exec = \"test -e go\" }\nrollout = { min_healthy = \"10ms\" }\n";

/// A terminal: its standard error is what a command writes to, the other end what somebody sees.
struct Screen {
    child: Child,
    master: std::fs::File,
    seen: String,
}

impl Screen {
    fn run(world: &World, args: &[&str]) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let (master, slave): (OwnedFd, OwnedFd) = (pty.master, pty.slave);
        let mut command = world.command(args);
        command
            .env("TERM", "xterm")
            .stdout(Stdio::piped())
            .stderr(Stdio::from(slave));
        let child = command.spawn().unwrap();
        Self {
            child,
            master: std::fs::File::from(master),
            seen: String::new(),
        }
    }

    /// Reads on until it was seen.
    fn until(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            let count = self.master.read(&mut buffer).unwrap_or(0);
            assert!(count > 0, "no {text:?} in {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Everything that was seen, the exit code, and standard output.
    fn end(mut self) -> (String, i32, String) {
        let mut buffer = [0; 4096];
        // The terminal's end is an error for its reader.
        while let Ok(count @ 1..) = self.master.read(&mut buffer) {
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.seen, code, out)
    }
}

fn world() -> World {
    let world = World::new();
    world.file("ecosystem.toml", SLOW);
    world
}

#[test]
fn a_terminal_shows_how_a_command_goes_on() {
    let world = world();
    let mut start = Screen::run(&world, &["start", "ecosystem.toml"]);
    start.until("slow  0/2 online, slow:0 starting, slow:1 starting");
    world.file("go", "");
    let (seen, code, out) = start.end();
    // What was shown is taken away again.
    assert!(seen.ends_with("\u{1b}[1A\u{1b}[J"), "{seen:?}");
    assert_eq!((code, out.as_str()), (0, "slow  2 started\n"));

    std::fs::remove_file(world.path().join("go")).unwrap();
    let mut reload = Screen::run(&world, &["reload", "slow"]);
    reload.until("slow  replacing 1/2, slow:0 starting");
    world.file("go", "");
    let (_, code, out) = reload.end();
    assert_eq!((code, out.as_str()), (0, "slow  2 reloaded\n"));
}

#[test]
fn an_interrupt_leaves_the_work_to_the_daemon() {
    let world = world();
    let mut start = Screen::run(&world, &["start", "ecosystem.toml"]);
    start.until("slow:0 starting");
    kill_process(Pid::from_child(&start.child), Signal::INT).unwrap();
    let (seen, code, _) = start.end();
    assert_eq!(code, 130);
    assert!(seen.contains("the daemon is still going on with it"), "{seen:?}");
    world.file("go", "");
    world.until("both online", || world.states("slow") == ["online", "online"]);
}

#[test]
fn a_pipe_gets_the_result_only() {
    let world = world();
    let start = world.begin(&["start", "ecosystem.toml"]);
    world.until("it starts", || world.states("slow") == ["starting", "starting"]);
    world.file("go", "");
    let said = crate::harness::finish(start, &["start"]).ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("slow  2 started\n", ""));
}
