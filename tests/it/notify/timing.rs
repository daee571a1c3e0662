//! Time that an instance asks for, and its own reloads.

use super::{Blow, says, strike, world};
use crate::harness::finish;

#[test]
fn a_slow_start_may_take_as_long_as_it_asks_for() {
    let world = world(
        r#"
say("EXTEND_TIMEOUT_USEC=600000000\nSTATUS=reading the index")
barrier()
# Longer than `listen_timeout`.
time.sleep(4)
note("late", 1)
wait("go")
say("READY=1")
time.sleep(1000)
"#,
        "listen_timeout = \"3s\"",
    );
    let start = world.begin(&["start"]);
    world.until("the timeout to be over", || !world.text("late").is_empty());
    assert_eq!(
        (world.states("a"), says(&world)),
        (vec!["starting".to_owned()], "reading the index".to_owned())
    );
    world.file("go", "");
    finish(start, &["start"]).ok();
    assert_eq!(
        (world.states("a"), world.count_events("started", "a")),
        (vec!["online".to_owned()], 1)
    );
}

#[test]
fn a_reload_of_its_own_is_shown_until_it_is_over() {
    let world = world(
        r#"
say("READY=1")
wait("reload")
say("RELOADING=1")
barrier()
note("reloading", 1)
wait("go")
say("READY=1")
time.sleep(1000)
"#,
        "",
    );
    world.run(&["start"]).ok();
    world.file("reload", "");
    world.until("the reload", || !world.text("reloading").is_empty());
    assert_eq!(world.states("a"), ["reloading"]);
    let daemon = world.manager();
    strike(&world, Blow::Daemon);
    assert_ne!(world.manager(), daemon);
    assert_eq!(world.states("a"), ["reloading"]);
    world.file("go", "");
    world.until("its end", || world.states("a") == ["online"]);
    assert_eq!(world.count_events("started", "a"), 1);
}
