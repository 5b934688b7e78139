//! The event rules of the bucket: which created objects MinIO tells us about, and by which of its targets.
//! A target itself is part of MinIO's own environment; what is missing there can only be named, with its lines.
//!
//! Two targets: one without a queue, which delivers before the uploader has its answer and forgets what it cannot
//! deliver, and one with a queue on disk, which never forgets and takes up to three seconds. Intake makes them one.

use std::time::Duration;

use minio::s3::error::Error;
use minio::s3::types::{
    NotificationConfig, PrefixFilterRule, QueueConfig, S3Api, SuffixFilterRule,
};
use tokio::time::Instant;

use super::attempts::{CALL, repeated};
use super::client::within;
use super::error::code;
use super::key::RAW_UPLOADS;
use super::{Ensured, SetupState, Storage, StorageError};

/// The target with `queue_dir`.
pub const DURABLE_TARGET: &str = "CLIPSTREAM";
/// The target without.
pub const IMMEDIATE_TARGET: &str = "CLIPSTREAMNOW";

/// Exactly these. `s3:ObjectCreated:*` would in MinIO also bring tagging, retention and legal holds.
const EVENTS: [&str; 4] = [
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:Post",
    "s3:ObjectCreated:Put",
];

/// MinIO knows its targets only a moment after it answers.
const TARGET_WAIT: Duration = Duration::from_secs(5);
const TARGET_POLL: Duration = Duration::from_millis(250);

/// Both targets, as [`Storage::ensure_notifications`] takes them.
#[must_use]
pub fn webhook_targets() -> Vec<String> {
    vec![IMMEDIATE_TARGET.to_owned(), DURABLE_TARGET.to_owned()]
}

/// What making sure of the rules did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationReport {
    /// Target and what became of its rule.
    pub rules: Vec<(String, Ensured)>,
    /// Targets that MinIO does not have.
    pub missing: Vec<MissingTarget>,
    /// Rules of others, which were kept.
    pub foreign: usize,
}

/// A target that MinIO does not have: only its environment, or `mc admin config set`, can give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingTarget {
    pub id: String,
}

/// The environment lines that give MinIO a target. `token` is printed as it is: pass a placeholder where it is shown.
#[must_use]
pub fn missing_target_help(target: &str, url: &str, token: &str, queue_dir: &str) -> Vec<String> {
    let mut settings = vec![("ENABLE", "on"), ("ENDPOINT", url), ("AUTH_TOKEN", token)];
    if target != IMMEDIATE_TARGET {
        settings.extend([("QUEUE_DIR", queue_dir), ("QUEUE_LIMIT", "100000")]);
    }
    let settings = settings.into_iter();
    settings.map(|(name, value)| format!("MINIO_NOTIFY_WEBHOOK_{name}_{target}={value}")).collect()
}

impl Storage {
    /// Per target, whether its rule is as it should be. Changes nothing.
    pub async fn inspect_notifications(
        &self,
        targets: &[String],
    ) -> Result<Vec<(String, SetupState)>, StorageError> {
        let current = self.read_rules().await?;
        Ok(targets.iter().map(|target| (target.clone(), state_of(&current, target))).collect())
    }

    /// One rule per target, for the four events under `raw-uploads/`. Rules of others are kept. The rules are written
    /// even if they read right: only writing makes MinIO say whether it still has the targets. All at once, so that no
    /// event falls between two writes; one by one only to find out which target is missing.
    pub async fn ensure_notifications(
        &self,
        targets: &[String],
    ) -> Result<NotificationReport, StorageError> {
        let before = self.read_rules().await?;
        let (ours, mut kept): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|rule| targets.iter().any(|target| names(rule, target)));
        let mut report =
            NotificationReport { rules: Vec::new(), missing: Vec::new(), foreign: kept.len() };
        let patience = Instant::now() + TARGET_WAIT;
        let all: Vec<QueueConfig> =
            kept.iter().cloned().chain(targets.iter().map(|target| rule(target))).collect();
        if self.write_known(&all, patience).await? {
            let rules =
                targets.iter().map(|to| (to.clone(), Ensured::from_state(state_of(&ours, to))));
            report.rules = rules.collect();
            return self.read_back(report).await;
        }
        for target in targets {
            let mut with = kept.clone();
            with.push(rule(target));
            if self.write_known(&with, patience).await? {
                report.rules.push((target.clone(), Ensured::from_state(state_of(&ours, target))));
                kept = with;
            } else {
                report.missing.push(MissingTarget { id: target.clone() });
            }
        }
        if !report.missing.is_empty() {
            // Nothing of a target that is gone may stay: MinIO would refuse every later change of the rules.
            if !self.write_known(&kept, patience).await? {
                return Err(StorageError::Refused(format!(
                    "{}: a rule of somebody else in this bucket names a target that MinIO no longer has; \
                     see `mc event ls` and `mc event rm`",
                    self.bucket()
                )));
            }
        }
        self.read_back(report).await
    }

    async fn read_back(
        &self,
        report: NotificationReport,
    ) -> Result<NotificationReport, StorageError> {
        let after = self.read_rules().await?;
        match report.rules.iter().find(|(target, _)| state_of(&after, target) != SetupState::Right)
        {
            None => Ok(report),
            Some((target, _)) => Err(StorageError::Refused(format!(
                "{}: the event rule for {target} was written and does not read back the same",
                self.bucket()
            ))),
        }
    }

    async fn read_rules(&self) -> Result<Vec<QueueConfig>, StorageError> {
        let config = repeated(|| {
            within(CALL, self.bucket(), async {
                let answer = self.client().get_bucket_notification(self.bucket())?.build();
                answer.send().await?.config().map_err(Error::from)
            })
        })
        .await?;
        Ok(config.queue_config_list.unwrap_or_default())
    }

    /// Writes the rules; `false` when MinIO goes on not knowing one of their targets.
    async fn write_known(
        &self,
        rules: &[QueueConfig],
        patience: Instant,
    ) -> Result<bool, StorageError> {
        loop {
            let known = repeated(|| {
                within(CALL, self.bucket(), async {
                    let config = NotificationConfig {
                        queue_config_list: Some(rules.iter().map(escaped).collect()),
                        ..NotificationConfig::default()
                    };
                    let request = self.client().put_bucket_notification(self.bucket())?;
                    match request.notification_config(config).build().send().await {
                        Ok(_) => Ok(true),
                        Err(error) if code(&error).as_deref() == Some("invalidargument") => {
                            Ok(false)
                        }
                        Err(error) => Err(error),
                    }
                })
            })
            .await?;
            if known || Instant::now() >= patience {
                return Ok(known);
            }
            tokio::time::sleep(TARGET_POLL).await;
        }
    }
}

/// Our rule for a target.
fn rule(target: &str) -> QueueConfig {
    QueueConfig {
        events: EVENTS.map(str::to_owned).to_vec(),
        id: Some(format!("clipstream-{}", target.to_lowercase())),
        prefix_filter_rule: Some(PrefixFilterRule { value: RAW_UPLOADS.to_owned() }),
        suffix_filter_rule: None,
        // Without a region: MinIO takes that whatever its own is.
        queue: format!("arn:minio:sqs::{target}:webhook"),
    }
}

/// Whether a rule sends to a target: `arn:minio:sqs:{region}:{id}:webhook`, whatever the region.
fn names(rule: &QueueConfig, target: &str) -> bool {
    let parts: Vec<&str> = rule.queue.split(':').collect();
    matches!(parts.as_slice(), ["arn", "minio", "sqs", _, id, "webhook"] if *id == target)
}

fn state_of(rules: &[QueueConfig], target: &str) -> SetupState {
    let mut of_target = rules.iter().filter(|rule| names(rule, target));
    match (of_target.next(), of_target.next()) {
        (None, _) => SetupState::Absent,
        (Some(only), None) if same(only, &rule(target)) => SetupState::Right,
        _ => SetupState::Different,
    }
}

fn same(one: &QueueConfig, other: &QueueConfig) -> bool {
    let sorted = |rule: &QueueConfig| {
        let mut events = rule.events.clone();
        events.sort_unstable();
        events
    };
    sorted(one) == sorted(other)
        && one.id == other.id
        && one.prefix_filter_rule == other.prefix_filter_rule
        && one.suffix_filter_rule == other.suffix_filter_rule
}

/// The crate builds its XML without escaping; a foreign rule may hold anything.
fn escaped(rule: &QueueConfig) -> QueueConfig {
    let escape =
        |text: &String| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    QueueConfig {
        events: rule.events.clone(),
        id: rule.id.as_ref().map(escape),
        prefix_filter_rule: rule
            .prefix_filter_rule
            .as_ref()
            .map(|filter| PrefixFilterRule { value: escape(&filter.value) }),
        suffix_filter_rule: rule
            .suffix_filter_rule
            .as_ref()
            .map(|filter| SuffixFilterRule { value: escape(&filter.value) }),
        queue: escape(&rule.queue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_right_whatever_region_and_order_minio_gives_back() {
        let mut read = rule(DURABLE_TARGET);
        read.queue = format!("arn:minio:sqs:eu-west-1:{DURABLE_TARGET}:webhook");
        read.events.reverse();
        assert_eq!(state_of(&[read], DURABLE_TARGET), SetupState::Right);
    }

    #[test]
    fn a_second_rule_for_a_target_is_different() {
        let (ours, mut by_hand) = (rule(DURABLE_TARGET), rule(DURABLE_TARGET));
        by_hand.events = vec!["s3:ObjectCreated:*".to_owned()];
        assert_eq!(state_of(&[ours, by_hand], DURABLE_TARGET), SetupState::Different);
    }

    #[test]
    fn one_targets_name_is_no_part_of_the_others() {
        assert!(!names(&rule(IMMEDIATE_TARGET), DURABLE_TARGET));
        assert!(names(&rule(IMMEDIATE_TARGET), IMMEDIATE_TARGET));
    }

    #[test]
    fn only_the_durable_target_is_told_to_queue() {
        let durable = missing_target_help(DURABLE_TARGET, "http://x/", "TOKEN", "/queue");
        let immediate = missing_target_help(IMMEDIATE_TARGET, "http://x/", "TOKEN", "/queue");
        let queue = "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_CLIPSTREAM=/queue".to_owned();
        assert!(durable.contains(&queue), "{durable:?}");
        assert!(!immediate.concat().contains("QUEUE_DIR"), "{immediate:?}");
    }
}
