//! What the queue costs: job cycles and webhook deliveries a second with every guarantee on, against the bare statements
//! sent by pgbench to the same server in the same run. `make bench-queue` runs it and says where the figures go.
//!
//! Postgres syncs to disk, as in production; Redis and the binary are the real ones. Only the stages' work is left out.

mod cycles;
mod daemon;
mod deliveries;
mod fairness;
mod mix;
mod peer;
mod report;
mod services;
mod usage;
mod waits;
#[path = "../../tests/it/webhook_calls.rs"]
mod webhook_calls;

use std::error::Error;
use std::time::Duration;

use pipeline::stage::Stage;

use report::Report;
use services::Services;

/// Slots of each stage, and how many videos (of four jobs each) go through them.
const CYCLES: [(usize, usize); 3] = [(1, 400), (10, 4_000), (100, 6_000)];
/// Connections that deliver at once.
const SENDERS: [usize; 2] = [1, 32];
const DELIVERY_TIME: Duration = Duration::from_secs(10);

/// All of it, or the parts that are named, which then only print what they measured.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter("queue=info,warn")
        .with_writer(std::io::stderr)
        .init();
    let named: Vec<String> = std::env::args().skip(1).filter(|part| part != "--bench").collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    let services = Services::start().await?;
    let mut report = Report::default();
    if wanted("cycles") {
        cycles(&services, &mut report).await?;
    }
    if wanted("deliveries") {
        deliveries(&services, &mut report).await?;
    }
    if wanted("mix") {
        let mixed = mix::run(&services.world().await?).await?;
        report.mixed(&mixed);
    }
    if wanted("fairness") {
        let idle = fairness::idle(&services.world().await?).await?;
        report.waits("picked up by idle workers", &idle);
        let alone = fairness::alone(&services.world().await?).await?;
        let crowded = fairness::crowded(&services.world().await?).await?;
        report.fairness(&alone, &crowded);
    }
    services.stop().await;
    if named.is_empty() {
        report.write()?;
    }
    Ok(())
}

async fn cycles(services: &Services, report: &mut Report) -> Result<(), Box<dyn Error>> {
    for (slots, videos) in CYCLES {
        let world = services.world().await?;
        let ours = cycles::run(&world, slots, videos).await?;
        let peer = peer::cycles(services, &world, slots * Stage::ALL.len())?;
        report.cycles(slots, &ours, peer);
    }
    Ok(())
}

async fn deliveries(services: &Services, report: &mut Report) -> Result<(), Box<dyn Error>> {
    for senders in SENDERS {
        let world = services.world().await?;
        let ours = deliveries::run(&world, senders, DELIVERY_TIME).await?;
        let peer = peer::inserts(services, &world, senders)?;
        report.rate("webhook deliveries", format!("{senders} connections"), ours, peer);
    }
    Ok(())
}
