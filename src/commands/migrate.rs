//! `clipstream migrate`: brings the database to the schema of this version. Safe to run twice, also at the same time.

use std::io::{Write, stdout};
use std::process::ExitCode;

use pipeline::db::Db;

use crate::config::DatabaseSettings;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseSettings,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let db = Db::connect(args.database.url()?, 2)?;
    let applied = db.migrate().await?;
    match applied {
        0 => writeln!(stdout(), "The schema is up to date.")?,
        1 => writeln!(stdout(), "Applied 1 migration.")?,
        _ => writeln!(stdout(), "Applied {applied} migrations.")?,
    }
    Ok(ExitCode::SUCCESS)
}
