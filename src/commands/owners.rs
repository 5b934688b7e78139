//! `clipstream owners list|set`: who gets how much of the workers while others wait as well.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Subcommand;
use pipeline::db::{Db, OwnerShare, Share};
use serde_json::{Value, json};

use super::{database, table};
use crate::config::DatabaseSettings;

const NOT_FOUND: u8 = 3;

/// Look at the owners' shares of the workers, and change them
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: OwnersCommand,
    #[command(flatten)]
    database: DatabaseSettings,
}

#[derive(Subcommand)]
enum OwnersCommand {
    /// List all owners: their shares, what they have at work, what waits
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Change an owner's share; what is not given stays as it is
    #[command(arg_required_else_help = true)]
    Set {
        name: String,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Change {
    /// Jobs at work for each one of an owner of weight 1, while both have some that wait: 1 to 100
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(i16).range(1..=100))]
    weight: Option<i16>,
    /// Most jobs of one stage that may run or lie in Redis at once; 0 for no limit
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(0..))]
    max_inflight: Option<i32>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let db = database::open(&args.database).await?;
    match args.command {
        OwnersCommand::List { json } => list(&db, json).await,
        OwnersCommand::Set { name, change } => set(&db, &name, &change).await,
    }
}

async fn list(db: &Db, json: bool) -> anyhow::Result<ExitCode> {
    let owners = db.shares().await?;
    let mut out = stdout();
    if json {
        let items: Vec<Value> = owners.iter().map(document).collect();
        writeln!(out, "{:#}", json!({ "items": items }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = owners.iter().map(cells).collect();
    let heading = ["OWNER", "WEIGHT", "MAX IN FLIGHT", "IN FLIGHT", "WAITING"];
    table::write(&mut out, &heading, &rows)?;
    Ok(ExitCode::SUCCESS)
}

async fn set(db: &Db, name: &str, change: &Change) -> anyhow::Result<ExitCode> {
    let Some(Share { weight, max_inflight }) =
        db.set_share(name, change.weight, change.max_inflight).await?
    else {
        eprintln!("There is no owner {name:?}; `clipstream owners list` shows them.");
        return Ok(ExitCode::from(NOT_FOUND));
    };
    let limit = max_inflight.map_or_else(
        || "without a limit of its own".to_owned(),
        |most| format!("at most {most} jobs of a stage in flight"),
    );
    writeln!(stdout(), "{name} has weight {weight}, {limit}.")?;
    Ok(ExitCode::SUCCESS)
}

fn cells(owner: &OwnerShare) -> Vec<String> {
    vec![
        table::cell(Some(&owner.name)),
        owner.share.weight.to_string(),
        owner.share.max_inflight.map_or_else(|| "-".to_owned(), |most| most.to_string()),
        owner.in_flight.to_string(),
        owner.waiting.to_string(),
    ]
}

fn document(owner: &OwnerShare) -> Value {
    json!({
        "owner": owner.name,
        "weight": owner.share.weight,
        "max_inflight": owner.share.max_inflight,
        "in_flight": owner.in_flight,
        "waiting": owner.waiting,
    })
}
