//! The pipeline of clipstream: what happens to a clip between its PUT and the moment it can be played, read and found.
//!
//! Three kinds of rooms, and a test that keeps them apart:
//! - domain (`video`, `stage`, `job`, `event`, `retry`, `clock`, `metrics`, `steering`): pure, no input or output;
//! - doors (`queue`, `storage`, `db`, `media`, `speech`): one outside system each, never each other;
//! - rooms (`stages`, `worker`, `intake`, `dispatch`, `reconcile`, `gc`): the work itself, through the doors.
//!
//! No HTTP server, no environment variables, no command line: those are the daemon's.

pub mod clock;
pub mod event;
pub mod job;
pub mod metrics;
pub mod retry;
pub mod stage;
pub mod steering;
pub mod video;

pub mod db;
pub mod media;
pub mod queue;
pub mod speech;
pub mod storage;

pub mod dispatch;
pub mod gc;
pub mod intake;
pub mod reconcile;
pub mod stages;
pub mod worker;
