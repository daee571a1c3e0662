//! The real program, as a user has it: every test starts its own clmgr in a home of its own.


mod api;
mod bad_days;
mod bad_input;
mod disk;
mod harness;
mod smoke;
