//! What the queue costs: job cycles and webhook deliveries a second with every guarantee on, against the bare statements
//! sent by pgbench to the same server in the same run. `make bench-queue` runs it and says where the figures go.
//!
//! Postgres syncs to disk, as in production; Redis and the binary are the real ones. Only the stages' work is left out.

mod cycles;
mod deliveries;
mod peer;
mod report;
mod services;

use std::error::Error;
use std::time::Duration;

use pipeline::stage::Stage;

use report::Report;
use services::Services;

/// Slots of each stage, and how many videos (of four jobs each) go through them.
const CYCLES: [(usize, usize); 3] = [(1, 150), (10, 1_000), (100, 2_000)];
/// Connections that deliver at once.
const SENDERS: [usize; 2] = [1, 32];
const DELIVERY_TIME: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter("queue=info,warn")
        .with_writer(std::io::stderr)
        .init();
    let services = Services::start().await?;
    let mut report = Report::default();
    for (slots, videos) in CYCLES {
        let world = services.world().await?;
        let ours = cycles::run(&world, slots, videos).await?;
        let peer = peer::cycles(&services, &world, slots * Stage::ALL.len())?;
        report.add("job cycles", slots, "slots", ours, peer);
    }
    for senders in SENDERS {
        let world = services.world().await?;
        let ours = deliveries::run(&world, senders, DELIVERY_TIME).await?;
        let peer = peer::inserts(&services, &world, senders)?;
        report.add("webhook deliveries", senders, "connections", ours, peer);
    }
    services.stop().await;
    report.write()?;
    Ok(())
}
