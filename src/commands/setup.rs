//! `clipstream setup minio`: bucket, policy and event rules, by the S3 API. Safe to run twice, also at the same time.
//! What only MinIO's own environment can give, a webhook target, is named with the lines that are missing there.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Subcommand;
use pipeline::storage::{
    Ensured, NotificationReport, Storage, StorageConfig, missing_target_help, webhook_targets,
};
use serde_json::json;

use crate::config::{MinioSettings, WEBHOOK_PATH, WebhookSettings};

/// Where the durable target keeps its events, for the reader to change.
const QUEUE_DIR: &str = "/var/lib/minio/clipstream-events";

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
    let lines = missing_lines(&done.notifications, &args.webhook);
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

/// For each missing target, what MinIO's environment needs. The token stays a placeholder: this is read on terminals.
fn missing_lines(report: &NotificationReport, webhook: &WebhookSettings) -> Vec<Vec<String>> {
    let url = webhook.url().map_or_else(
        |_| format!("http://<where MinIO reaches the daemon>:8000{WEBHOOK_PATH}"),
        |url| url.to_string(),
    );
    let token = "<the MINIO_WEBHOOK_TOKEN of the daemon>";
    let missing = report.missing.iter();
    missing.map(|target| missing_target_help(&target.id, &url, token, QUEUE_DIR)).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use pipeline::storage::{DURABLE_TARGET, IMMEDIATE_TARGET, MissingTarget};

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        webhook: WebhookSettings,
    }

    #[test]
    fn the_lines_for_a_missing_target_hold_no_secret() {
        let command = Command::try_parse_from([
            "clipstream",
            "--minio-webhook-url=http://clipstream:8000/webhooks/minio/upload-complete",
            "--minio-webhook-token=0123456789abcdef0123",
        ])
        .unwrap_or_else(|error| panic!("{error}"));
        let target = |id: &str| MissingTarget { id: id.to_owned() };
        let report = NotificationReport {
            rules: Vec::new(),
            missing: vec![target(IMMEDIATE_TARGET), target(DURABLE_TARGET)],
            foreign: 0,
        };
        let lines = missing_lines(&report, &command.webhook);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1][1].ends_with("=http://clipstream:8000/webhooks/minio/upload-complete"),
            "{lines:?}"
        );
        assert!(!lines.concat().concat().contains("0123456789abcdef"), "{lines:?}");
    }
}
