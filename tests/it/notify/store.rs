//! Descriptors that are left for the next process.

use super::{BLOWS, instance, notices, strike, world};
use crate::harness::{World, lives};

/// Stores one end of a socket pair that says something to whoever has the other end, and a memory file.
const STORER: &str = r#"
have = stored()
note("names", " ".join(sorted(have)))
if "memory" in have:
    note("content", os.pread(have["memory"], 100, 0).decode())
    # As a program does: what it was given it keeps open.
else:
    memory = os.memfd_create("state")
    os.write(memory, b"begun by %d" % os.getpid())
    say("FDSTORE=1\nFDNAME=memory\nFDPOLL=0", [memory])
    left, right = socket.socketpair()
    say("FDSTORE=1\nFDNAME=pair", [left.fileno()])
    say("FDSTORE=1\nFDNAME=pair", [left.fileno()])
    say("FDSTORE=1\nFDNAME=fourth", [os.open("/dev/null", os.O_RDONLY)])
    say("FDSTORE=1\nFDNAME=toomuch", [os.open("/dev/zero", os.O_RDONLY)])
    left.detach()
    # Somebody else has the other end, whom no manager knows.
    import subprocess
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    home = {"CLMGR_HOME": os.environ["CLMGR_HOME"]}
    note("holder", subprocess.Popen(["/bin/sleep", "1000"], stdin=right, env=home, **quiet).pid)
    right.close()
say("READY=1")
barrier()
note("ready", os.getpid())
time.sleep(1000)
"#;

fn ready_again(world: &World, before: i64) -> i64 {
    world.until("the next process", || {
        let pid = world.pids("a")[0];
        pid != 0 && pid != before && world.text("ready") == pid.to_string()
    });
    world.pids("a")[0]
}

#[test]
fn stored_descriptors_outlive_everybody() {
    let world = world(STORER, "fd_store = 3\ntreekill = false");
    world.run(&["start"]).ok();
    world.until("the first process", || !world.text("ready").is_empty());
    let first = world.pids("a")[0];
    let content = format!("begun by {first}");
    assert_eq!(world.text("names"), "");
    assert_eq!(instance(&world)["stored_descriptors"], 3);
    let told = notices(&world);
    assert!(
        told.len() == 1 && told[0].contains("`toomuch`") && told[0].contains("`fd_store` allows 3"),
        "{told:?}"
    );
    assert!(world.kill9(first));
    let mut pid = ready_again(&world, first);
    assert_eq!(
        (world.text("names"), world.text("content")),
        ("fourth memory pair".to_owned(), content.clone())
    );
    for blow in BLOWS {
        strike(&world, blow);
        assert_eq!(
            world.pids("a")[0],
            pid,
            "{blow:?}: the app does not notice\n{}",
            world.report()
        );
        assert_eq!(
            instance(&world)["stored_descriptors"],
            3,
            "{blow:?}\n{}",
            world.report()
        );
        assert!(world.kill9(pid));
        pid = ready_again(&world, pid);
        assert_eq!(world.text("names"), "fourth memory pair", "{blow:?}");
        assert_eq!(world.text("content"), content, "{blow:?}");
    }
    world.run(&["restart", "a"]).ok();
    assert_eq!(world.text("names"), "fourth memory pair", "kept over a restart");
    // Its other end goes: nobody needs it any more.
    let holder: i64 = world.text("holder").parse().unwrap();
    assert!(world.kill9(holder));
    world.until("its end", || !lives(holder));
    world.run(&["restart", "a"]).ok();
    assert_eq!(world.text("names"), "fourth memory");
    world.run(&["stop", "a"]).ok();
    world.run(&["start", "a"]).ok();
    assert_eq!(world.text("names"), "", "dropped when it was stopped");
    assert!(world.kill9(world.text("holder").parse().unwrap()));
}

#[test]
fn stored_descriptors_come_after_the_sockets_and_can_be_removed() {
    let world = world(
        r#"
have = stored()
note("names", os.environ.get("LISTEN_FDNAMES"))
if "b" in have:
    assert os.read(have["b"], 3) == b"one", "not the file that was stored"
    say("FDSTOREREMOVE=1\nFDNAME=b")
    say("READY=1")
    time.sleep(1000)
for name in ["b", "c"]:
    r, w = os.pipe()
    os.write(w, b"one two three")
    say("FDSTORE=1\nFDPOLL=0\nFDNAME=" + name, [r])
say("READY=1")
time.sleep(1000)
"#,
        "fd_store = 10\nlisten = [{ tcp = \"127.0.0.1:0\", name = \"web\" }]\nready = \"notify\"",
    );
    world.file(
        "ecosystem.toml",
        &std::fs::read_to_string(world.path().join("ecosystem.toml"))
            .unwrap()
            .replacen("ready = \"notify\"\n", "", 1),
    );
    world.run(&["start"]).ok();
    assert_eq!(world.text("names"), "web");
    world.run(&["restart", "a"]).ok();
    assert_eq!(world.text("names"), "web:b:c");
    let env = world.run(&["env", "a", "--reveal"]).ok().out;
    assert!(env.contains("LISTEN_FDNAMES=web:c"), "{env}");
    world.run(&["restart", "a"]).ok();
    assert_eq!(world.text("names"), "web:c");
}
