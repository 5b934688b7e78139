//! `clipstream token create|list|revoke`: the API keys of `/v1`. A key is shown once, on stdout, and kept as a hash.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Subcommand;
use pipeline::db::Db;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::database;
use crate::config::DatabaseSettings;

const NOT_FOUND: u8 = 3;

/// Make, list and revoke API keys
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: TokenCommand,
    #[command(flatten)]
    database: DatabaseSettings,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a key and print it, this once
    Create {
        /// What you call it
        #[arg(long, default_value = "unnamed")]
        name: String,
        /// Whose videos it sees; made if there is none of this name
        #[arg(long, default_value = "default")]
        owner: String,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// List all keys, without the keys themselves
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Refuse a key from now on
    Revoke {
        /// The id that `create` and `list` show
        id: Uuid,
    },
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let db = database::open(&args.database).await?;
    match args.command {
        TokenCommand::Create { name, owner, json } => create(&db, &name, &owner, json).await,
        TokenCommand::List { json } => list(&db, json).await,
        TokenCommand::Revoke { id } => revoke(&db, id).await,
    }
}

async fn create(db: &Db, name: &str, owner: &str, json: bool) -> anyhow::Result<ExitCode> {
    let made = db.create_api_key(owner, name).await?;
    if made.owner_created {
        eprintln!("There was no owner {owner:?}: made one.");
    }
    let mut out = io::stdout();
    if json {
        let document = json!({ "id": made.id, "name": name, "owner": owner, "key": made.key });
        writeln!(out, "{document:#}")?;
    } else {
        eprintln!("Key {} of owner {owner:?}. It is not shown again:", made.id);
        writeln!(out, "{}", made.key)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(db: &Db, json: bool) -> anyhow::Result<ExitCode> {
    let keys = db.api_keys().await?;
    let mut out = io::stdout();
    if json {
        let mut items = Vec::with_capacity(keys.len());
        for key in &keys {
            items.push(json!({
                "id": key.id,
                "name": key.name,
                "owner": key.owner,
                "created_at": key.created_at.format(&Rfc3339)?,
                "revoked_at": key.revoked_at.map(|at| at.format(&Rfc3339)).transpose()?,
            }));
        }
        writeln!(out, "{:#}", json!({ "items": items }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for key in &keys {
        let state = match key.revoked_at {
            Some(at) => format!("revoked {}", day(at)),
            None => "works".to_owned(),
        };
        writeln!(
            out,
            "{}  {}  {state}  owner {:?}  {:?}",
            key.id,
            day(key.created_at),
            key.owner,
            key.name
        )?;
    }
    if keys.is_empty() {
        eprintln!("There is no key yet; `clipstream token create` makes one.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke(db: &Db, id: Uuid) -> anyhow::Result<ExitCode> {
    if db.revoke_api_key(id).await? {
        eprintln!("Key {id} is refused from now on.");
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!("There is no key {id}; `clipstream token list` shows them.");
        Ok(ExitCode::from(NOT_FOUND))
    }
}

fn day(at: OffsetDateTime) -> String {
    at.date().to_string()
}
