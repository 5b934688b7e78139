//! The whole path of an upload's event: a small object is put, MinIO posts its event to the running daemon, and the
//! daemon commits it. Intake knows the key as a probe and puts the event into the quarantine, so no video comes of it.
//! A doctor that is killed on the way leaves an object of ten bytes, which one after an hour removes, and a row in the
//! quarantine that says what it is.

use std::io;
use std::time::{Duration, Instant};

use pipeline::clock;
use pipeline::db::{Db, DbError};
use pipeline::event::DOCTOR_PREFIX;
use pipeline::storage::{Precondition, Storage, StorageError, StorageKey};
use uuid::Uuid;

use super::report::{Finding, Report};

const CHECK: &str = "round trip";
/// The durable target takes up to 3 s, and 3 s more for each time that the daemon was away.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// One copy from each target.
const COPIES: u64 = 2;
/// Probes older than this have no doctor any more.
const LEFT_BEHIND: Duration = Duration::from_hours(1);

const REMEDY: &str = "does `clipstream serve` run with the role webhook? Does MinIO reach it at the endpoint of its \
                      targets CLIPSTREAM and CLIPSTREAMNOW, with the same token as MINIO_WEBHOOK_TOKEN? MinIO's log \
                      says what it was answered";

#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Db(#[from] DbError),
}

pub(super) async fn check(
    report: &mut Report,
    db: Option<&Db>,
    storage: Option<&Storage>,
) -> io::Result<()> {
    let (Some(db), Some(storage)) = (db, storage) else {
        return report.add(Finding::skipped(CHECK, "needs Postgres and the bucket"));
    };
    let id = Uuid::now_v7();
    let arrived = watch(db, storage, id).await;
    // Whatever came of it. A copy that comes later than this stays in the quarantine.
    let removed = remove(db, storage, id).await;
    report.add(match arrived {
        Ok(arrived) => told(&arrived),
        Err(error) => Finding::fail(CHECK, error.to_string()),
    })?;
    match removed {
        Ok(()) => Ok(()),
        Err(error) => {
            report.add(Finding::warn(CHECK, format!("the probe was not removed: {error}")))
        }
    }
}

/// Puts the probe and notes after how long each copy of its event is a row.
async fn watch(db: &Db, storage: &Storage, id: Uuid) -> Result<Vec<Duration>, ProbeError> {
    let started = Instant::now();
    storage.put(&StorageKey::DoctorProbe { id }, "clipstream".into(), &Precondition::None).await?;
    let mut arrived = Vec::new();
    while (arrived.len() as u64) < COPIES && started.elapsed() < PATIENCE {
        let seen = db.probe_arrivals(id).await?;
        while (arrived.len() as u64) < seen {
            arrived.push(started.elapsed());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(arrived)
}

fn told(arrived: &[Duration]) -> Finding {
    match arrived {
        [] => Finding::fail(CHECK, format!("no event of an upload came within {PATIENCE:?}"))
            .mend(REMEDY),
        [only] => {
            let text =
                format!("one event came after {} ms, the other target's did not", only.as_millis());
            Finding::warn(CHECK, text).mend(REMEDY)
        }
        [first, .., last] => Finding::ok(
            CHECK,
            format!(
                "the events of an upload came after {} and {} ms",
                first.as_millis(),
                last.as_millis()
            ),
        ),
    }
}

async fn remove(db: &Db, storage: &Storage, id: Uuid) -> Result<(), ProbeError> {
    storage.delete(&StorageKey::DoctorProbe { id }).await?;
    db.forget_probe(id).await?;
    for object in storage.list(DOCTOR_PREFIX, "", 1000).await? {
        let id = object.key.strip_prefix(DOCTOR_PREFIX).and_then(|id| id.parse::<Uuid>().ok());
        let old = object.last_modified.is_some_and(|at| clock::now() - at > LEFT_BEHIND);
        if let (Some(id), true) = (id, old) {
            storage.delete(&StorageKey::DoctorProbe { id }).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probes_key_is_the_one_that_intake_knows() {
        let key = StorageKey::DoctorProbe { id: Uuid::now_v7() }.to_string();
        assert!(key.starts_with(DOCTOR_PREFIX), "{key}");
    }
}
