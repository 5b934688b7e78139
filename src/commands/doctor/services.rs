//! Postgres, Redis and MinIO: whether they answer, and whether they are set up as the daemon needs them.

use std::io;
use std::time::Duration;

use pipeline::db::Db;
use pipeline::queue::{Queue, QueueError};
use pipeline::storage::{SetupState, Storage, StorageError, webhook_targets};

use super::report::{Finding, Report};
use crate::config::{DatabaseSettings, MinioSettings, RedisSettings, WebhookSettings};

/// How long MinIO may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(5);
const SET_UP: &str = "run `clipstream setup minio`";

/// The database, if it can be used.
pub(super) async fn postgres(
    report: &mut Report,
    settings: &DatabaseSettings,
) -> io::Result<Option<Db>> {
    let db = match settings.url().map(|url| Db::connect(url, 2)) {
        Ok(Ok(db)) => db,
        Ok(Err(error)) => {
            return report.add(Finding::fail("postgres", error.to_string())).map(|()| None);
        }
        Err(error) => {
            return report.add(Finding::fail("postgres", error.to_string())).map(|()| None);
        }
    };
    match db.server_version().await {
        Ok(version) => report.add(Finding::ok("postgres", format!("version {version}")))?,
        Err(error) => {
            let remedy = "is it up, and does DATABASE_URL name its host, user and password?";
            report.add(Finding::fail("postgres", error.to_string()).mend(remedy))?;
            return Ok(None);
        }
    }
    match db.settings_warnings().await {
        Ok(warnings) => {
            for warning in warnings {
                report.add(Finding::warn("postgres", warning))?;
            }
        }
        Err(error) => report.add(Finding::warn("postgres", error.to_string()))?,
    }
    match db.check_schema().await {
        Ok(()) => report.add(Finding::ok("schema", "the one of this version"))?,
        Err(error) => {
            report.add(Finding::fail("schema", error.to_string()))?;
            return Ok(None);
        }
    }
    Ok(Some(db))
}

pub(super) async fn redis(report: &mut Report, settings: &RedisSettings) -> io::Result<()> {
    let queue = match settings.queue().map(|config| Queue::new(&config)) {
        Ok(Ok(queue)) => queue,
        Ok(Err(error)) => return report.add(Finding::fail("redis", error.to_string())),
        Err(error) => return report.add(Finding::fail("redis", error.to_string())),
    };
    match queue.server_version().await {
        Ok(Some(version)) => report.add(Finding::ok("redis", format!("version {version}")))?,
        Err(error @ QueueError::Config(_)) => {
            report.add(Finding::fail("redis", error.to_string()))?;
        }
        // The check says of an outage what to do.
        Ok(None) | Err(QueueError::Unavailable(_)) => {}
    }
    match queue.check().await {
        Ok(()) => report.add(Finding::ok("redis", "takes writes"))?,
        Err(error) => {
            let remedy = "is it up, do REDIS_URL or REDIS_HOST, REDIS_PORT and REDIS_PASSWORD name it, is its disk or \
                          memory full? No job is lost meanwhile";
            return report.add(Finding::fail("redis", error.to_string()).mend(remedy));
        }
    }
    match queue.settings_warnings().await {
        Ok(warnings) => {
            for warning in warnings {
                report.add(Finding::warn("redis", warning))?;
            }
            Ok(())
        }
        Err(error) => report.add(Finding::warn("redis", error.to_string())),
    }
}

/// The bucket, if it can be used.
pub(super) async fn minio(
    report: &mut Report,
    settings: &MinioSettings,
) -> io::Result<Option<Storage>> {
    let (endpoint, storage) = match settings.storage() {
        Ok(config) => (config.endpoint.clone(), Storage::new(&config)),
        Err(error) => return report.add(Finding::fail("minio", error.to_string())).map(|()| None),
    };
    let storage = match storage {
        Ok(storage) => storage,
        Err(error) => return report.add(Finding::fail("minio", error.to_string())).map(|()| None),
    };
    match storage.ping(PATIENCE).await {
        Ok(()) => report.add(Finding::ok("minio", format!("answers at {endpoint}")))?,
        // It answers, and says itself what is to be done.
        Err(error @ StorageError::Denied(_)) => {
            return report.add(Finding::fail("minio", error.to_string())).map(|()| None);
        }
        Err(error) => {
            let finding = Finding::fail("minio", error.to_string());
            report.add(finding.mend("is it up, and does MINIO_ENDPOINT name its API port?"))?;
            return Ok(None);
        }
    }
    let bucket = storage.inspect_bucket().await;
    let there = matches!(bucket, Ok(SetupState::Right));
    report.add(part("bucket", bucket, "there", "is not there"))?;
    if !there {
        return Ok(None);
    }
    let policy = storage.inspect_policy().await;
    let private = "playback and thumbnails cannot be read without a key, so players cannot play";
    report.add(part("bucket policy", policy, "playback and thumbnails are public", private))?;
    event_rules(report, &storage).await?;
    Ok(Some(storage))
}

/// One rule is enough to work; the reconciler is even enough with none, a minute later.
async fn event_rules(report: &mut Report, storage: &Storage) -> io::Result<()> {
    let found = match storage.inspect_notifications(&webhook_targets()).await {
        Ok(found) => found,
        Err(error) => return report.add(Finding::fail("event rules", error.to_string())),
    };
    let wrong: Vec<&str> = found
        .iter()
        .filter(|(_, state)| *state != SetupState::Right)
        .map(|(target, _)| target.as_str())
        .collect();
    let detail = format!("missing or not as they should be: {}", wrong.join(", "));
    report.add(if wrong.is_empty() {
        Finding::ok("event rules", "both there")
    } else if wrong.len() < found.len() {
        Finding::warn("event rules", detail).mend(SET_UP)
    } else {
        Finding::fail("event rules", detail).mend(SET_UP)
    })
}

fn part(
    check: &'static str,
    state: Result<SetupState, StorageError>,
    right: &str,
    wrong: &str,
) -> Finding {
    match state {
        Ok(SetupState::Right) => Finding::ok(check, right),
        Ok(SetupState::Absent | SetupState::Different) => Finding::fail(check, wrong).mend(SET_UP),
        Err(error) => Finding::fail(check, error.to_string()),
    }
}

/// Only whether the daemon has a usable one; whether it is MinIO's too, the round trip shows.
pub(super) fn token(report: &mut Report, settings: &WebhookSettings) -> io::Result<()> {
    report.add(match settings.token() {
        Ok(_) => Finding::ok("webhook token", "set"),
        Err(error) => Finding::fail("webhook token", error.to_string()),
    })
}
