//! The daemon around the pipeline: command line, settings, HTTP, lifecycle, and the supervisor behind `clipstream dev`.

pub mod app;
mod caged;
pub mod cli;
pub mod commands;
pub mod config;
mod event_rules;
pub mod http;
pub mod lifecycle;
pub mod readiness;
pub mod supervisor;
pub mod telemetry;
