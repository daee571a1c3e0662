//! `max_memory_restart`: what grows past its limit is replaced gracefully, what does not is left alone.

use crate::harness::{World, lives};

#[test]
fn an_app_past_its_limit_is_replaced_and_one_below_is_not() {
    let world = World::new();
    // Grows when told to, once; says how it was ended.
    world.file(
        "grow.py",
        "import os, signal, sys, time\n\
         def bye(*_):\n    open('bye', 'a').write(str(os.getpid()) + '\\n')\n    sys.exit(0)\n\
         signal.signal(signal.SIGTERM, bye)\n\
         kept = []\n\
         while True:\n    try:\n        os.rename('grow', 'grown')\n        kept.append(b'x' * (120 << 20))\n    except FileNotFoundError:\n        pass\n    time.sleep(0.02)\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"big\"\ncmd = \"python3 grow.py\"\nmax_memory_restart = \"80M\"\nrollout = { min_healthy = \"200ms\" }\n\
         [[apps]]\nname = \"small\"\ncmd = [\"python3\", \"-c\", \"import time; x = b'x' * (20 << 20); time.sleep(1000)\"]\nmax_memory_restart = \"80M\"\n",
    );
    world.run(&["start"]).ok();
    let (big, small) = (world.pids("big")[0], world.pids("small")[0]);
    world.file("grow", "");
    world.until("a replacement", || {
        let now = world.pids("big")[0];
        now != 0 && now != big && !lives(big) && world.states("big") == ["online"]
    });
    assert_eq!(world.count_events("memory_limit", "big"), 1);
    assert_eq!(world.text("bye"), format!("{big}\n"), "it was asked to end, not killed");
    assert_eq!(world.count_events("killed", "big"), 0);
    assert_eq!(world.count_events("circuit_open", "big"), 0);
    assert_eq!(world.count_events("started", "big"), 2);
    // And the next one as well.
    let second = world.pids("big")[0];
    world.file("grow", "");
    world.until("another replacement", || {
        let now = world.pids("big")[0];
        now != 0 && now != second && !lives(second) && world.states("big") == ["online"]
    });
    assert_eq!(world.count_events("memory_limit", "big"), 2);
    assert_eq!(world.pids("small")[0], small);
    assert_eq!(world.count_events("memory_limit", "small"), 0);
    assert_eq!(world.count_events("started", "small"), 1);
}
