//! The command line: one enum, one line of dispatch per command.

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use pipeline::db::DbError;
use pipeline::queue::QueueError;
use pipeline::storage::StorageError;

use crate::commands::{
    dev, doctor, events, healthcheck, jobs, media_child, migrate, owners, queues, reconcile, serve,
    setup, token, upload,
};
use crate::config::{ConfigError, LogSettings};
use crate::telemetry;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage or settings, 3 not found, 5 dependency unreachable, \
                          6 the awaited video failed, 7 doctor found problems, 124 timed out, 130 interrupted";

/// An event-driven video pipeline: PUT a clip to MinIO, get it playable, transcribed and embedded.
#[derive(Parser)]
#[command(name = "clipstream", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    log: LogSettings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything on this machine: private Postgres, Redis and MinIO, and the daemon with all roles
    Dev(dev::Args),
    /// Run the daemon
    Serve(serve::Args),
    /// Bring the database to the schema of this version
    Migrate(migrate::Args),
    /// Set up what the daemon needs elsewhere
    Setup(setup::Args),
    /// Check every dependency, and say how to mend what is wrong
    Doctor(doctor::Args),
    /// Ask the daemon on this machine whether it is alive: for containers
    Healthcheck(healthcheck::Args),
    /// Upload a file, and watch what becomes of it
    Upload(upload::Args),
    /// Make, list and revoke API keys
    Token(token::Args),
    /// Look at events that could not be used, and replay them
    Events(events::Args),
    /// Look at jobs, run them again, cancel them
    Jobs(jobs::Args),
    /// Look at the queues, pause and resume them
    Queues(queues::Args),
    /// Look at the owners' shares of the workers, and change them
    Owners(owners::Args),
    /// Find uploads that no event announced
    Reconcile(reconcile::Args),
    /// Decode one file for the worker that started this process
    #[command(hide = true)]
    MediaChild(media_child::Args),
}

/// The whole process: parses, runs, and turns the outcome into an exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&command().get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if let Command::MediaChild(args) = &cli.command {
        // Before any thread exists: the cage holds for the thread that enters it, and for those made later.
        return media_child::run(args);
    }
    let outcome = telemetry::init(&cli.log).map_err(anyhow::Error::from).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(run(cli.command))
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// The command line as clap knows it, with empty variables taken for unset ones: compose files and CI systems
/// write `NAME=` for "not set".
#[must_use]
pub fn command() -> clap::Command {
    without_empty_variables(Cli::command())
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(args) => Box::pin(dev::run(args)).await,
        Command::Serve(args) => Box::pin(serve::run(args)).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Setup(args) => setup::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Healthcheck(args) => healthcheck::run(args).await,
        Command::Upload(args) => upload::run(args).await,
        Command::Token(args) => token::run(args).await,
        Command::Events(args) => events::run(args).await,
        Command::Jobs(args) => jobs::run(args).await,
        Command::Queues(args) => queues::run(args).await,
        Command::Owners(args) => owners::run(args).await,
        Command::Reconcile(args) => reconcile::run(args).await,
        Command::MediaChild(args) => Ok(media_child::run(&args)),
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let empty = argument
                .get_env()
                .is_some_and(|name| std::env::var_os(name).as_deref() == Some(OsStr::new("")));
            if empty { argument.env(clap::builder::Resettable::Reset) } else { argument }
        })
        .mut_subcommands(without_empty_variables)
}

#[expect(
    clippy::print_stderr,
    reason = "the last word of a process is for the person who started it"
)]
fn report(error: &anyhow::Error) {
    eprintln!("clipstream: {error:#}");
}

fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<ConfigError>() {
            return 2;
        }
        let unreachable = matches!(cause.downcast_ref(), Some(DbError::Unavailable(_)))
            || matches!(cause.downcast_ref(), Some(StorageError::Unavailable(_)))
            || matches!(cause.downcast_ref(), Some(QueueError::Unavailable(_)));
        if unreachable {
            return 5;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn exit_codes_follow_the_cause() {
        let settings = anyhow::Error::from(ConfigError("MINIO_ENDPOINT is not set".to_owned()));
        assert_eq!(exit_code(&settings.context("starting")), 2);
        let away = anyhow::Error::from(DbError::Unavailable("refused".to_owned()));
        assert_eq!(exit_code(&away), 5);
        assert_eq!(exit_code(&anyhow::anyhow!("anything else")), 1);
    }
}
