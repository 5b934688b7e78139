//! What MinIO itself says of its events: lost ones, and ones that wait. When some wait, the daemon is asked the way MinIO
//! asks it, so that the cause has a name: MinIO repeats the first event for ever and keeps its reason to its own log.

use std::io;
use std::time::Duration;

use pipeline::storage::{DURABLE_TARGET, EventFigures, Storage, StorageError};
use reqwest::StatusCode;
use url::Url;

use super::report::{Finding, Report};
use crate::config::WebhookSettings;

const CHECK: &str = "event queue";
/// A daemon that stores an event answers in milliseconds, and one without Postgres after eight seconds.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn check(
    report: &mut Report,
    storage: Option<&Storage>,
    webhook: &WebhookSettings,
) -> io::Result<()> {
    let Some(storage) = storage else {
        return report.add(Finding::skipped(CHECK, "needs the bucket"));
    };
    let figures = match storage.event_figures().await {
        Ok(figures) => figures,
        Err(StorageError::Denied(why)) => return report.add(Finding::warn(CHECK, why)),
        Err(error) => return report.add(Finding::warn(CHECK, error.to_string())),
    };
    let durable = figures.targets.get(DURABLE_TARGET).copied().unwrap_or_default();
    if durable.queued > 0 {
        let (cause, known) = cause(webhook).await;
        let detail = format!("{} events wait on MinIO's disk: {cause}", durable.queued);
        return report.add(if known {
            Finding::fail(CHECK, detail).mend("they come by themselves once that is mended")
        } else {
            Finding::warn(CHECK, detail)
        });
    }
    report.add(lost(&figures, durable.failed))
}

fn lost(figures: &EventFigures, failed: u64) -> Finding {
    if figures.skipped == 0 && failed == 0 {
        return Finding::ok(CHECK, "nothing waits, nothing was dropped since MinIO started");
    }
    let detail = format!(
        "MinIO dropped {} events before any target and {failed} of the durable one since it started",
        figures.skipped
    );
    Finding::warn(CHECK, detail).mend(
        "the reconciler has found their uploads; give the queue directory of MinIO room and see that it can be written",
    )
}

/// Why the first event is not taken, and whether that is certain.
async fn cause(webhook: &WebhookSettings) -> (String, bool) {
    let (Ok(url), Ok(token)) = (webhook.url(), webhook.token()) else {
        let unset = "set MINIO_WEBHOOK_URL and MINIO_WEBHOOK_TOKEN as MinIO has them, and the daemon is asked why";
        return (unset.to_owned(), false);
    };
    match ask(&url, token).await {
        Err(error) => (format!("nobody answers at {url} ({})", error.without_url()), true),
        Ok(StatusCode::UNAUTHORIZED) => {
            (format!("the daemon at {url} has another MINIO_WEBHOOK_TOKEN than this one"), true)
        }
        Ok(StatusCode::SERVICE_UNAVAILABLE) => {
            (format!("the daemon at {url} cannot store events now; is its Postgres up?"), true)
        }
        Ok(status) if status.is_success() => (
            format!(
                "the daemon at {url} takes events with this token. MinIO is catching up, or has another endpoint or token: \
                 compare its MINIO_NOTIFY_WEBHOOK_ENDPOINT_{DURABLE_TARGET} and _AUTH_TOKEN_{DURABLE_TARGET}; its log says \
                 what it was answered"
            ),
            false,
        ),
        Ok(status) => (format!("{url} answers {status}: that is not the daemon's webhook"), true),
    }
}

/// An empty delivery, which the daemon takes for a probe.
async fn ask(url: &Url, token: &str) -> Result<StatusCode, reqwest::Error> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()?;
    Ok(client.post(url.clone()).bearer_auth(token).send().await?.status())
}
