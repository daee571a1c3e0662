//! Programs whose main process is not the first one.

use rustix::process::{Signal, pidfd_send_signal};
use serde_json::Value;

use super::{BLOWS, Blow, notices, says, strike, world};
use crate::harness::{World, lives};

/// Makes itself a daemon: the grandchild in a session of its own is the main process, the first one ends.
const DAEMON: &str = r#"
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() != 0: os._exit(0)
    os.close(r)
    say("MAINPID=%d\nSTATUS=main" % os.getpid())
    say("READY=1")
    barrier()
    note("main", os.getpid())
    os.write(w, b".")
    os.close(w)
    wait("end%d" % os.getpid())
    os._exit(7)
os.close(w)
os.read(r, 1)
os._exit(0)
"#;

fn main_pid(world: &World, before: i64) -> i64 {
    world.until("its main process", || {
        let pid = world.pids("a")[0];
        pid != 0 && pid != before && world.text("main") == pid.to_string()
    });
    world.pids("a")[0]
}

#[test]
fn a_program_that_makes_itself_a_daemon_is_followed() {
    let world = world(DAEMON, "");
    world.run(&["start"]).ok();
    let mut main = main_pid(&world, 0);
    for blow in BLOWS {
        world.until("the first process to be gone", || {
            std::fs::read_to_string(format!("/proc/{main}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
                && world.states("a") == ["online"]
        });
        strike(&world, blow);
        assert_eq!(world.pids("a")[0], main, "{blow:?}\n{}", world.report());
        let exits = world.count_events("exited", "a");
        world.file(&format!("end{main}"), "");
        let next = main_pid(&world, main);
        let events = world.events();
        let last = events.iter().rfind(|event| event["kind"] == "exited").unwrap();
        assert_eq!(
            world.count_events("exited", "a"),
            exits + 1,
            "one end is one end: {blow:?}\n{}",
            world.report()
        );
        assert_eq!(
            (last["pid"].as_i64(), &last["exit"]["status"]["code"]),
            (Some(main), &Value::from(7)),
            "{last}"
        );
        if matches!(blow, Blow::Daemon | Blow::Upgrade) {
            // The keeper has collected it, as it does with its own children.
            assert!(last["exit"]["max_rss"].as_u64() > Some(0), "{last}");
        }
        main = next;
    }
    assert!(says(&world).contains("main"));
    world.run(&["stop", "a"]).ok();
    assert!(!lives(main));
}

#[test]
fn the_end_of_the_first_process_is_heard_after_what_it_said() {
    // It says who the main process is and ends at once; the daemon cannot hear either before it goes on.
    let world = world(
        r#"
pid = os.fork()
if pid == 0:
    os.setsid()
    wait("go")
    say("STATUS=still here")
    time.sleep(1000)
say("READY=1")
barrier()
note("up", pid)
wait("now")
say("MAINPID=%d" % pid)
os._exit(0)
"#,
        "",
    );
    world.run(&["start"]).ok();
    world.until("it is up", || !world.text("up").is_empty());
    let child: i64 = world.text("up").parse().unwrap();
    let (daemon, _) = world.manager();
    let leader = world.pids("a")[0];
    let fd = world.process(daemon);
    pidfd_send_signal(&fd, Signal::STOP).unwrap();
    world.file("now", "");
    world.until("the first process to end", || !lives(leader));
    // The next daemon finds its end in the keeper's table, and the message in the queue.
    pidfd_send_signal(&fd, Signal::KILL).unwrap();
    world.until("it is followed", || world.pids("a") == [child]);
    world.file("go", "");
    world.until("it speaks", || says(&world) == "still here");
    assert_eq!(world.count_events("exited", "a"), 0, "{}", world.report());
    assert!(lives(child));
}

#[test]
fn only_a_process_of_the_instance_can_become_its_main_process() {
    let world = world(
        "say('MAINPID=1')\nsay('MAINPID=%d' % os.getppid())\nsay('MAINPID=%d' % int(open('stranger').read()))\nsay('MAINPID=%d' % os.getpid())\nsay('READY=1')\ntime.sleep(1000)\n",
        "",
    );
    world.run(&["start", "sleep 1000", "--name", "other"]).ok();
    world.file("stranger", &world.pids("other")[0].to_string());
    world.run(&["start"]).ok();
    let told = notices(&world);
    assert!(told.len() == 1 && told[0].contains("does not belong"), "{told:?}");
    let environ = std::fs::read_to_string(format!("/proc/{}/cmdline", world.pids("a")[0])).unwrap();
    assert!(environ.contains("app.py"), "{environ}");
}
