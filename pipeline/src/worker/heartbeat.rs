//! The signs of life, each on a task of its own so that no job can hold them up: leases renewed in Postgres, a look at the
//! rows in between, the fence for when no renewal gets through, and the presence in Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Worker;
use super::held::Held;
use crate::queue::{ALIVE, SIGN_PERIOD};
use crate::retry::Outage;

/// Renews all leases of this worker in one statement, three times per lease.
pub(super) async fn renew<R>(worker: Arc<Worker<R>>, ended: CancellationToken) {
    let period = worker.held.lease() / 3;
    let mut outage = Outage::default();
    while !ended.is_cancelled() {
        let leases = worker.held.leases();
        let sent_at = Instant::now();
        let mut pause = period;
        if !leases.is_empty() {
            match worker.db.heartbeat(worker.id, &leases, worker.held.lease()).await {
                Ok(kept) => {
                    worker.held.renewed(&leases, &kept, sent_at);
                    if kept.iter().any(|kept| !kept.renewed) {
                        pause = period / 10;
                    }
                    if outage.worked() {
                        tracing::info!(worker.id = %worker.id, "heartbeats arrive again");
                    }
                }
                Err(error) => {
                    let setback = outage.failed();
                    if setback.first {
                        tracing::warn!(worker.id = %worker.id, %error, "heartbeat failed");
                    }
                    pause = setback.delay.min(period);
                }
            }
        }
        wait(pause, &ended).await;
    }
}

/// How often the rows are looked at between heartbeats.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Stops attempts that were cancelled, soon: the next heartbeat, a third of a lease away, would tell too. A look that
/// fails is left to that one.
pub(super) async fn look<R>(worker: Arc<Worker<R>>, ended: CancellationToken) {
    while !ended.is_cancelled() {
        let leases = worker.held.leases();
        if !leases.is_empty() {
            match worker.db.taken_away(&leases).await {
                Ok(gone) => worker.held.lost(&gone),
                Err(error) => {
                    tracing::debug!(worker.id = %worker.id, %error, "no look at the rows");
                }
            }
        }
        wait(LOOK_PERIOD, &ended).await;
    }
}

/// Stops attempts whose lease nobody could renew. Not part of `renew`: a heartbeat that hangs must not hold this up.
pub(super) async fn fence(held: Arc<Held>, ended: CancellationToken) {
    while !ended.is_cancelled() {
        held.stop_unrenewed(Instant::now());
        wait(held.lease() / 30, &ended).await;
    }
}

/// Keeps this worker's lists from being reaped. Should Redis be emptied, the next sign puts it right.
pub(super) async fn sign<R>(worker: Arc<Worker<R>>, ended: CancellationToken) {
    let stages = worker.stages();
    while !ended.is_cancelled() {
        // The consumers tell of an outage of Redis; a second voice would add nothing.
        if let Err(error) = worker.queue.sign(worker.id, &stages, ALIVE).await {
            tracing::debug!(worker.id = %worker.id, %error, "no sign of life to Redis");
        }
        wait(SIGN_PERIOD, &ended).await;
    }
}

async fn wait(pause: Duration, ended: &CancellationToken) {
    tokio::select! {
        () = ended.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
    }
}
