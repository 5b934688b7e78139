//! Everything that a scrape tells beside this process' own counts: rows, bytes, what MinIO says of its events.
//! A part that cannot be had is left out of the answer; `clipstream_dependency_up` says why.

use std::time::Duration;

use pipeline::db::queues::QueueFigures;
use pipeline::storage::EventFigures;

use super::MetricsState;
use super::cached::Cached;
use crate::readiness::Report;

const QUEUES: Duration = Duration::from_secs(5);
/// MinIO counts anew only every ten seconds itself.
const EVENTS: Duration = Duration::from_secs(10);
/// Reads whole tables.
const STORED: Duration = Duration::from_mins(1);

pub(super) struct Figures {
    state: MetricsState,
    queues: Cached<(Vec<QueueFigures>, u64)>,
    stored: Cached<(u64, u64)>,
    events: Cached<EventFigures>,
}

/// What one scrape found.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) report: Report,
    pub(super) queues: Option<Vec<QueueFigures>>,
    pub(super) quarantined: Option<u64>,
    /// Bytes of sources and of what was made from them.
    pub(super) stored: Option<(u64, u64)>,
    pub(super) events: Option<EventFigures>,
    pub(super) sandbox: Vec<(&'static str, bool)>,
}

impl Figures {
    pub(super) fn new(state: MetricsState) -> Self {
        Self {
            state,
            queues: Cached::for_a(QUEUES),
            stored: Cached::for_a(STORED),
            events: Cached::for_a(EVENTS),
        }
    }

    pub(super) async fn gather(&self) -> Gathered {
        let MetricsState { db, storage, readiness, sandbox } = &self.state;
        let rows = async {
            Ok::<_, pipeline::db::DbError>((
                db.queue_figures().await?,
                db.quarantined_waiting().await?,
            ))
        };
        let (report, queues, stored, events) = tokio::join!(
            readiness.report(),
            self.queues.get("queues", rows),
            self.stored.get("stored bytes", db.stored_bytes()),
            self.events.get("events of MinIO", storage.event_figures()),
        );
        let (queues, quarantined) = queues.unzip();
        let sandbox = sandbox.clone();
        Gathered { report, queues, quarantined, stored, events, sandbox }
    }
}
