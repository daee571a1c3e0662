//! What each message does.

use super::{CLIENT, instance, notices, says, settled, world};
use crate::harness::{World, eventually, finish};

#[test]
fn a_status_is_shown_and_survives_the_daemon() {
    let world = world(
        r#"
say("STATUS=starting up")
barrier()
note("started", 1)
wait("go")
say("READY=1\nSTATUS=3 clients\t\x1b[31mand more")
wait("reload")
say("RELOADING=1\nMONOTONIC_USEC=%d" % (time.monotonic_ns() // 1000))
say("STATUS=" + "x" * 3000 + "\nX_MINE=1\nUNKNOWN=2\nREADY=1")
wait("stop")
say("STOPPING=1\nSTATUS=")
say("STOPPING=1")
barrier()
note("stopping", 1)
wait("end")
say("STATUS=cannot go on\nERRNO=28")
barrier()
sys.exit(3)
"#,
        "restart = \"never\"",
    );
    let start = world.begin(&["start"]);
    world.until("the app to begin", || !world.text("started").is_empty());
    assert_eq!(says(&world), "starting up");
    assert_eq!(world.states("a"), ["starting"]);
    world.file("go", "");
    finish(start, &["start"]).ok();
    world.until("its status", || says(&world) == "3 clients  [31mand more");
    let described = world.run(&["describe", "a"]).ok().out;
    assert!(described.contains("3 clients  [31mand more"), "{described}");
    let daemon = world.manager().0;
    assert!(world.kill9(daemon));
    settled(&world, (daemon, 0), true, false);
    assert_eq!(says(&world), "3 clients  [31mand more");
    world.file("reload", "");
    world.until("its long status", || says(&world) == "x".repeat(1024));
    world.until("it is online again", || world.states("a") == ["online"]);
    world.file("stop", "");
    world.until("it says that it stops", || !world.text("stopping").is_empty());
    assert_eq!(says(&world), "says that it stops");
    let told = notices(&world);
    assert_eq!(told, ["says that it stops"], "{told:?}");
    world.file("end", "");
    world.until("its end", || instance(&world)["pid"].is_null());
    let last = says(&world);
    assert!(
        last.starts_with("cannot go on; ") && last.contains("error 28"),
        "{last}"
    );
}

#[test]
fn a_barrier_is_answered_when_everything_before_it_is_handled() {
    let world = world(
        r#"
for at in range(300): say("STATUS=%d" % at)
barrier()
note("handled", 1)
say("READY=1")
time.sleep(1000)
"#,
        "",
    );
    let start = world.begin(&["start"]);
    world.until("the barrier", || !world.text("handled").is_empty());
    assert_eq!(says(&world), "299");
    finish(start, &["start"]).ok();
}

#[test]
fn a_program_of_a_shell_script_speaks_for_its_app() {
    let world = World::new();
    let tool = std::path::Path::new("/usr/bin/systemd-notify").exists();
    let say = if tool {
        "systemd-notify --status='by a tool' --ready".to_owned()
    } else {
        world.file(
            "say.py",
            &format!("{CLIENT}say('STATUS=by a tool\\nREADY=1')\nbarrier()\n"),
        );
        "/usr/bin/python3 say.py".to_owned()
    };
    world.file("app.sh", &format!("#!/bin/sh\n{say}\necho $? > code\nsleep 1000\n"));
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\nscript = \"app.sh\"\nready = \"notify\"\n",
    );
    world.run(&["start"]).ok();
    assert_eq!(says(&world), "by a tool");
    world.until("the tool to end", || world.text("code") == "0\n");
}

#[test]
fn nobody_speaks_for_another_app() {
    let world = world(
        "note('up', os.environ['NOTIFY_SOCKET'])\nwait('go')\nsay('READY=1')\ntime.sleep(1000)\n",
        "",
    );
    world.file(
        "liar.py",
        &format!("{CLIENT}wait('up')\nos.environ['NOTIFY_SOCKET'] = open('up').read()\nsay('READY=1\\nSTATUS=a lie')\nbarrier()\nnote('lied', 1)\ntime.sleep(1000)\n"),
    );
    // Another app, and a process that is nobody's; the latter even carries the mark of a run.
    world.file(
        "liar.toml",
        "[[apps]]\nname = \"liar\"\nscript = \"liar.py\"\ninterpreter = \"/usr/bin/python3\"\n",
    );
    let start = world.begin(&["start"]);
    world.until("the app to begin", || !world.text("up").is_empty());
    world.run(&["start", "liar.toml"]).ok();
    world.until("the other app's lie", || !world.text("lied").is_empty());
    std::fs::remove_file(world.path().join("lied")).unwrap();
    let pid = world.pids("a")[0];
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let mark = environ
        .split(|byte| *byte == 0)
        .find(|entry| entry.starts_with(b"CLMGR_RUN="))
        .unwrap();
    let mark = String::from_utf8_lossy(mark).into_owned();
    let mut outsider = std::process::Command::new("/usr/bin/python3")
        .arg(world.path().join("liar.py"))
        .current_dir(world.path())
        .env("CLMGR_RUN", mark.strip_prefix("CLMGR_RUN=").unwrap())
        .spawn()
        .unwrap();
    let lied = eventually(&mut || !world.text("lied").is_empty());
    outsider.kill().unwrap();
    outsider.wait().unwrap();
    assert!(lied, "even a stranger's barrier is answered");
    assert_eq!(
        (world.states("a"), says(&world)),
        (vec!["starting".to_owned()], String::new())
    );
    let liar = &world.instances("liar")[0];
    assert_eq!(liar["status_text"], "a lie", "it speaks for itself");
    world.file("go", "");
    finish(start, &["start"]).ok();
}

#[test]
fn rubbish_and_floods_do_no_harm() {
    let world = world(
        r#"
junk = [os.urandom(200), b"", b"\xff=\xfe\nREADY", b"READY=1" * 2000, b"=" * 4000, b"FDSTORE=1", b"\0" * 10]
for at in range(400):
    say(junk[at % len(junk)])
null = os.open("/dev/null", os.O_RDWR)
for at in range(40): say("STATUS=many", [null] * 250)
for at in range(40): say("FDSTORE=1\nFDNAME=many", [null] * 250)
r, w = os.pipe()
say("WATCHDOG=2", [w])
say("STATUS=" + "y" * 5000, [w])
os.close(w)
assert os.read(r, 1) == b"", "what came along is closed"
say("READY=1\nSTATUS=done")
time.sleep(1000)
"#,
        "fd_store = 3",
    );
    world.run(&["start"]).ok();
    assert_eq!(
        (world.states("a"), says(&world)),
        (vec!["online".to_owned()], "done".to_owned())
    );
    // The same file a thousand times is one.
    assert_eq!(instance(&world)["stored_descriptors"], 1);
    let daemon = world.manager().0;
    let open = std::fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count();
    assert!(open < 100, "{open} descriptors are open");
    assert_eq!(notices(&world).len(), 1, "one complaint is enough");
}
