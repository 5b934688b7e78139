//! The commands, one file each: `Args` for clap, `run` for the work.

mod database;
pub mod dev;
pub mod doctor;
pub mod events;
pub mod healthcheck;
pub mod jobs;
pub mod media_child;
pub mod migrate;
pub mod owners;
pub mod queues;
pub mod reconcile;
pub mod serve;
pub mod setup;
mod table;
pub mod token;
pub mod upload;
