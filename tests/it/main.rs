//! The real program, as a user has it: every test starts its own clmgr in a home of its own.

#![expect(unreachable_pub, reason = "one binary of tests: nothing of it is reachable")]

mod fork_bomb;
mod harness;
//mod identity;
//mod logs;
//mod memory;
mod readiness;
//mod reload;
mod restart_law;
mod smoke;
mod stop;
//mod survival;
