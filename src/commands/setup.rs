//! `clipstream setup minio`: bucket, policy and event rules, by the S3 API. Safe to run twice, also at the same time.
//! What only MinIO's own environment can give, a webhook target, is named with the lines that are missing there.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Subcommand;
use pipeline::storage::{Ensured, NotificationReport, Storage, StorageConfig, webhook_targets};
use serde_json::json;

use crate::config::{MinioSettings, WebhookSettings};
use crate::event_rules;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make the bucket, let anybody read playback and thumbnails, and have MinIO announce uploads
    Minio(Box<MinioArgs>),
}

#[derive(clap::Args)]
struct MinioArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    minio: MinioSettings,
    #[command(flatten)]
    webhook: WebhookSettings,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let What::Minio(args) = args.what;
    let config = args.minio.storage()?;
    let storage = Storage::new(&config)?;
    let done = Done {
        bucket: storage.ensure_bucket().await?,
        policy: storage.ensure_policy().await?,
        notifications: storage.ensure_notifications(&webhook_targets()).await?,
    };
    let url = args.webhook.url().ok();
    let lines = event_rules::missing_lines(&done.notifications, url.as_ref());
    if args.json {
        writeln!(stdout(), "{:#}", done.document(&config, &lines))?;
    } else {
        writeln!(stdout(), "{}", done.text(&config))?;
    }
    if lines.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!(
        "MinIO lacks a webhook target. Put these lines into its environment, restart it, and run this again:\n\n{}",
        lines.concat().join("\n")
    )
}

/// What was there, what was made, what was put right.
struct Done {
    bucket: Ensured,
    policy: Ensured,
    notifications: NotificationReport,
}

impl Done {
    fn text(&self, config: &StorageConfig) -> String {
        let NotificationReport { rules, missing, foreign } = &self.notifications;
        let mut lines = vec![
            format!("bucket {}: {}", config.bucket, self.bucket.as_str()),
            format!("public read of playback and thumbnails: {}", self.policy.as_str()),
        ];
        lines
            .extend(rules.iter().map(|(to, state)| format!("event rule {to}: {}", state.as_str())));
        lines.extend(missing.iter().map(|target| {
            format!("event rule {}: impossible, MinIO has no such target", target.id)
        }));
        if *foreign > 0 {
            lines.push(format!("event rules of others: {foreign}, kept"));
        }
        lines.join("\n")
    }

    fn document(&self, config: &StorageConfig, lines: &[Vec<String>]) -> serde_json::Value {
        let rules = self.notifications.rules.iter();
        let missing = self.notifications.missing.iter().zip(lines);
        json!({
            "bucket": { "name": config.bucket, "state": self.bucket.as_str() },
            "policy": { "state": self.policy.as_str() },
            "event_rules": rules
                .map(|(target, state)| json!({ "target": target, "state": state.as_str() }))
                .collect::<Vec<_>>(),
            "missing_targets": missing
                .map(|(target, lines)| json!({
                    "target": target.id,
                    "environment": lines,
                }))
                .collect::<Vec<_>>(),
            "event_rules_of_others": self.notifications.foreign,
        })
    }
}
