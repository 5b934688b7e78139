//! What stays of sources on scratch that nobody uses: for whom, for how long, how much of it, and never what is wrong.

use std::time::Duration;

use pipeline::stages::StageError;
use pipeline::stages::source::IdleBudget;
use pipeline::video::{FailureCause, Source};
use sha2::{Digest, Sha256};

use crate::source::{MIB, Network, pattern};

#[tokio::test]
async fn a_source_stays_for_the_next_stage_and_goes_with_the_scratch() {
    let network = Network::new().await;
    let body = pattern(3 * MIB, 0);
    let source = network.world.upload(&body).await;
    for _ in 0..3 {
        network.open(&source).await.sha256().await.expect("a sum");
    }
    network.carried(body.len());
    assert_eq!(network.files().len(), 1);
    let reader = network.open(&source).await.reader();
    let Network { world, scratch, .. } = network;
    drop(scratch);
    assert!(world.scratch_is_empty(), "nothing is left, also if a child still has its reader");
    drop(reader);
}

#[tokio::test]
async fn idle_sources_are_bounded_in_bytes_and_the_oldest_goes_first() {
    let mut network = Network::new().await;
    let budget = IdleBudget { bytes: 5 * MIB as u64, age: Duration::from_hours(1) };
    network.scratch = network.scratch.with_idle_budget(budget);
    let mut sources = Vec::new();
    for seed in 0..3 {
        let source = network.world.upload(&pattern(2 * MIB, seed)).await;
        network.open(&source).await.sha256().await.expect("a sum");
        sources.push(source);
    }
    assert_eq!(network.scratch.source_bytes(), 4 * MIB as u64);
    network.until_there_are_files(2).await;
    network.open(&sources[2]).await.sha256().await.expect("a sum");
    network.open(&sources[1]).await.sha256().await.expect("a sum");
    network.carried(6 * MIB);
    network.open(&sources[0]).await.sha256().await.expect("a sum");
    network.carried(8 * MIB);
    let used = network.open(&sources[0]).await;
    let more = network.world.upload(&pattern(6 * MIB, 9)).await;
    network.open(&more).await.sha256().await.expect("a sum");
    assert_eq!(network.scratch.source_bytes(), 2 * MIB as u64, "larger than the budget, it goes");
    drop(used);
}

#[tokio::test]
async fn an_idle_source_goes_by_itself_after_a_while_and_a_used_one_stays() {
    let mut network = Network::new().await;
    let budget = IdleBudget { bytes: u64::MAX, age: Duration::from_millis(200) };
    network.scratch = network.scratch.with_idle_budget(budget);
    let source = network.world.upload(&pattern(MIB, 0)).await;
    let used = network.world.upload(&pattern(MIB, 1)).await;
    let file = network.open(&used).await;
    file.sha256().await.expect("a sum");
    network.open(&source).await.sha256().await.expect("a sum");
    network.until_there_are_files(1).await;
    file.sha256().await.expect("the used one is here");
    network.carried(2 * MIB);
}

#[tokio::test]
async fn blocks_that_are_not_what_they_should_be_do_not_stay() {
    let network = Network::new().await;
    let body = pattern(2 * MIB, 0);
    let source = network.world.upload(&body).await;
    let forged = Source { sha256: Some([7; 32]), ..source.clone() };
    let neighbour = network.open(&source).await;
    let error = network.open(&forged).await.sha256().await.expect_err("other bytes");
    assert!(matches!(error, StageError::Fail { cause: FailureCause::SourceMissing, .. }));
    assert_eq!(network.scratch.source_bytes(), 0, "who comes now fetches anew");
    neighbour.sha256().await.expect("who has them goes on");
    network.carried(2 * MIB);
    let shorter = Source { size_bytes: Some(MIB as u64), ..source.clone() };
    let error = network.open(&shorter).await.sha256().await.expect_err("another length");
    assert!(matches!(error, StageError::Fail { cause: FailureCause::SourceMissing, .. }));
    let sum =
        network.open(&source).await.sha256().await.expect("the belief of one is not that of all");
    assert_eq!(sum, <[u8; 32]>::from(Sha256::digest(&body)));
}
