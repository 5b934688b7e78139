//! The commands, one file each: `Args` for clap, `run` for the work.

mod database;
pub mod dev;
pub mod doctor;
pub mod events;
pub mod healthcheck;
pub mod media_child;
pub mod migrate;
pub mod serve;
pub mod setup;
pub mod token;
pub mod upload;
