//! What happens to Node workers when the manager dies, and what bad workers can do to the manager.

use std::collections::BTreeSet;

use crate::cluster::{SERVER, get, has_node, server};
use crate::harness::{World, finish, free_port, rest};
use crate::upgrade::other;

/// The port answers with every slot's worker.
fn all_answer(world: &World, port: u16) {
    let wanted: BTreeSet<String> = world
        .pids("a")
        .iter()
        .enumerate()
        .map(|(slot, pid)| format!("{slot}:{pid}"))
        .collect();
    let mut seen = BTreeSet::new();
    world.until("an answer of each", || {
        seen.insert(get(port));
        wanted.is_subset(&seen)
    });
}

#[test]
fn workers_do_not_notice_that_daemons_die_while_they_start_and_serve() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    // It asks for its socket when it is told to, so that daemons die before, between and after.
    let script = format!(
        "const fs = require('fs');
fs.appendFileSync('lives', process.pid + '\\n');
process.on('disconnect', () => fs.appendFileSync('heard', 'disconnect\\n'));
setTimeout(() => {{ {SERVER} }}, Number(process.env.NODE_APP_INSTANCE) * 150);
"
    );
    world.file("ecosystem.toml", &server(&world, &script, 4, port, ""));
    world.run(&["ping"]);
    let start = world.begin(&["start"]);
    world.until("the first life", || !world.text("lives").is_empty());
    for _ in 0..6 {
        let ping = world.run(&["ping", "--json"]);
        if ping.code == 0 {
            world.kill9(ping.json()["pid"].as_i64().unwrap());
        }
        rest(60);
    }
    // The command may have lost its daemon; what it asked for is done nevertheless.
    let _said = finish(start, &["start"]);
    world.until("all are online", || world.states("a") == ["online"; 4]);
    let pids = world.pids("a");
    all_answer(&world, port);
    for _ in 0..5 {
        let (daemon, _) = world.manager();
        world.kill9(daemon);
        assert!(get(port).contains(':'));
    }
    world.until("a daemon", || world.run(&["ping"]).code == 0);
    assert_eq!(world.pids("a"), pids);
    assert_eq!(
        (world.text("lives").lines().count(), world.text("heard").as_str()),
        (4, "")
    );
    // What a worker asks of the new daemon is answered with the same socket.
    assert!(world.kill9(pids[2]));
    world.until("another worker", || {
        world.pids("a")[2] != pids[2] && world.states("a") == ["online"; 4]
    });
    all_answer(&world, port);
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.count_events("killed", "a"), 0);
}

#[test]
fn workers_do_not_notice_that_the_keeper_dies_or_both() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    let script = format!("process.on('disconnect', () => require('fs').writeFileSync('heard', ''));\n{SERVER}");
    world.file("ecosystem.toml", &server(&world, &script, 2, port, ""));
    world.run(&["start"]).ok();
    let pids = world.pids("a");
    let (_, keeper) = world.manager();
    assert!(world.kill9(keeper));
    world.until("another keeper", || {
        let ping = world.run(&["ping", "--json"]);
        ping.code == 0 && ping.json()["keeper_pid"].as_i64() != Some(keeper)
    });
    assert_eq!(world.pids("a"), pids);
    world.kill_both();
    assert!(get(port).contains(':'));
    world.run(&["status"]).ok();
    assert_eq!(world.pids("a"), pids);
    // The socket is with the workers alone: the next one gets it from them.
    assert!(world.kill9(pids[1]));
    world.until("another worker", || {
        world.pids("a")[1] != pids[1] && world.states("a") == ["online"; 2]
    });
    all_answer(&world, port);
    assert!(!world.path().join("heard").exists());
    world.run(&["reload", "a"]).ok();
    all_answer(&world, port);
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.count_events("killed", "a"), 0, "{}", world.report());
}

#[test]
fn channels_live_through_an_upgrade() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    let script = format!("process.on('disconnect', () => require('fs').writeFileSync('heard', ''));\n{SERVER}");
    world.file("ecosystem.toml", &server(&world, &script, 2, port, ""));
    world.run(&["start"]).ok();
    let pids = world.pids("a");
    let other = other(&world);
    world.run(&["upgrade", "--to", other.to_str().unwrap()]).ok();
    assert_eq!(world.pids("a"), pids);
    all_answer(&world, port);
    assert!(!world.path().join("heard").exists());
    // What the old build has bound and written is what the new one needs.
    assert!(world.kill9(pids[0]));
    world.until("another worker", || {
        world.pids("a")[0] != pids[0] && world.states("a") == ["online"; 2]
    });
    world.run(&["reload", "a"]).ok();
    all_answer(&world, port);
}

#[test]
fn bad_workers_do_not_block_the_manager() {
    if !has_node() {
        return;
    }
    let world = World::new();
    let port = free_port();
    // The first says much, the second reads nothing, the third sends what nobody asked for.
    let script = format!(
        "const fs = require('fs'); const net = require('net');
{SERVER}
const slot = Number(process.env.NODE_APP_INSTANCE);
const flood = () => {{ for (let i = 0; i < 50; i += 1) process.send({{ flood: 'x'.repeat(10_000), i }}, i === 49 ? flood : undefined); }};
setTimeout(() => {{
  fs.writeFileSync('bad-' + slot, '');
  if (slot === 0) flood();
  if (slot === 1) {{
    for (let i = 0; i < 2000; i += 1) process.send({{ cmd: 'NODE_CLUSTER', act: 'exitedAfterDisconnect', seq: i }});
    setTimeout(() => {{ for (;;) {{}} }}, 200);
  }}
  if (slot === 2) {{
    process.send('y'.repeat(1 << 20));
    process.send('z'.repeat(3 << 20));
    process._channel?.ref?.();
    const server = net.createServer(() => {{}}).listen({{ port: 0, exclusive: true }}, () => {{
      for (let i = 0; i < 5; i += 1) process.send({{ handle: i }}, server);
      process.send('last', (error) => fs.writeFileSync('sent', String(error)));
    }});
    process.send({{ cmd: 'NODE_CLUSTER', act: 'queryServer', address: [1], port: 'x', seq: {{}} }});
    process.send({{ cmd: 'NODE_CLUSTER' }});
    process.send({{ cmd: 'NODE_CLMGR', act: 7 }});
  }}
}}, 100);
"
    );
    let file = server(&world, &script, 3, port, "kill_timeout = \"1s\"");
    world.file("ecosystem.toml", &file);
    world.run(&["start"]).ok();
    world.until("all are bad", || {
        (0..3).all(|slot| world.path().join(format!("bad-{slot}")).exists())
    });
    world.until("everything is sent", || world.text("sent") == "null");
    let pids = world.pids("a");
    for _ in 0..10 {
        assert_eq!(world.states("a"), ["online"; 3]);
    }
    let (daemon, _) = world.manager();
    world.kill9(daemon);
    world.until("a daemon", || world.run(&["ping"]).code == 0);
    assert_eq!(world.pids("a"), pids);
    world.run(&["start", "sleep 1000", "--name", "other"]).ok();
    // Handles that were sent are closed: nothing of them is left with the manager.
    let (daemon, _) = world.manager();
    let held = std::fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count();
    assert!(held < 80, "{held}");
    let status = std::fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 100 << 10, "{kib} KiB");
    world.run(&["stop", "a"]).ok();
    // The one that reads nothing does not hear that it should end.
    assert_eq!(world.count_events("killed", "a"), 1, "{}", world.report());
}
