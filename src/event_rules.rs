//! MinIO's event rules, read back when the daemon starts, put right, and told. MinIO loses them (a restart without its
//! environment, another tool that writes its own), and says nothing: uploads are then found by the reconciler only, a
//! minute later.

use std::time::Duration;

use pipeline::retry::Outage;
use pipeline::storage::{
    Ensured, NotificationReport, SetupState, Storage, StorageError, missing_target_help,
    webhook_targets,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::WEBHOOK_PATH;

/// Where the durable target keeps its events, for the reader to change.
const QUEUE_DIR: &str = "/var/lib/minio/clipstream-events";

/// Tries until MinIO has answered once; then there is nothing left to do until the next start.
pub(crate) async fn check(storage: Storage, url: Option<Url>, stop: CancellationToken) {
    let mut outage = Outage::default();
    let until_answered = async {
        loop {
            match storage.ensure_notifications(&webhook_targets()).await {
                Ok(report) => return tell(&report, url.as_ref()),
                Err(StorageError::Denied(_)) => return look(&storage).await,
                Err(error) => {
                    let setback = outage.failed();
                    if setback.first {
                        tracing::warn!(%error, "the event rules could not be checked yet");
                    }
                    tokio::time::sleep(setback.delay.max(Duration::from_secs(1))).await;
                }
            }
        }
    };
    tokio::select! {
        () = until_answered => stop.cancelled().await,
        () = stop.cancelled() => {}
    }
}

fn tell(report: &NotificationReport, url: Option<&Url>) {
    for (target, state) in &report.rules {
        match state {
            Ensured::Present => tracing::debug!(target, "the event rule is there"),
            Ensured::Made | Ensured::Repaired => tracing::warn!(
                target,
                state = state.as_str(),
                "the event rule was gone or changed, and is as it should be now; uploads since then are found by the reconciler"
            ),
        }
    }
    for (target, lines) in report.missing.iter().zip(missing_lines(report, url)) {
        tracing::error!(
            target = target.id,
            environment = lines.join(" "),
            "MinIO has no such event target: put these lines into its environment and restart it; until then uploads are \
             found by the other target, or by the reconciler"
        );
    }
}

/// With a key that may not write the rules.
async fn look(storage: &Storage) {
    match storage.inspect_notifications(&webhook_targets()).await {
        Ok(found) => {
            for (target, state) in found {
                if state != SetupState::Right {
                    tracing::error!(
                        target,
                        "the event rule is missing or not as it should be, and this key may not write it: run \
                         `clipstream setup minio` with one that may"
                    );
                }
            }
        }
        Err(error) => tracing::warn!(
            %error,
            "this key may not read the event rules: `clipstream doctor`, with one that may, says whether they are right"
        ),
    }
}

/// For each missing target, what MinIO's environment needs. The token stays a placeholder: this is read on terminals.
pub(crate) fn missing_lines(report: &NotificationReport, url: Option<&Url>) -> Vec<Vec<String>> {
    let url = url.map_or_else(
        || format!("http://<where MinIO reaches the daemon>:8000{WEBHOOK_PATH}"),
        ToString::to_string,
    );
    let token = "<the MINIO_WEBHOOK_TOKEN of the daemon>";
    let missing = report.missing.iter();
    missing.map(|target| missing_target_help(&target.id, &url, token, QUEUE_DIR)).collect()
}

#[cfg(test)]
mod tests {
    use pipeline::storage::{DURABLE_TARGET, IMMEDIATE_TARGET, MissingTarget};

    use super::*;

    #[test]
    fn the_lines_for_a_missing_target_name_the_url_and_hold_no_secret() {
        let url = Url::parse("http://clipstream:8000/webhooks/minio/upload-complete").expect("one");
        let missing = |id: &str| MissingTarget { id: id.to_owned() };
        let report = NotificationReport {
            rules: Vec::new(),
            missing: vec![missing(IMMEDIATE_TARGET), missing(DURABLE_TARGET)],
            foreign: 0,
        };
        let lines = missing_lines(&report, Some(&url));
        assert_eq!(lines.len(), 2);
        assert!(lines[1][1].ends_with(&format!("={url}")), "{lines:?}");
        assert!(lines[1][2].ends_with("=<the MINIO_WEBHOOK_TOKEN of the daemon>"), "{lines:?}");
        let unknown = missing_lines(&report, None);
        assert!(unknown[0][1].contains("<where MinIO reaches the daemon>"), "{unknown:?}");
    }
}
