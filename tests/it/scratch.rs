//! A scratch disk that is too small for everything at once, on real small disks: what fits is begun, what does not waits
//! uncounted, large ones are not starved, and a source that could never fit ends with a reason.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pipeline::stage::Stage;
use pipeline::stages::source::SourceFile;
use pipeline::stages::{Scratch, StageError};
use pipeline::video::{Source, VideoId};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::clips::clip;
use crate::e2e::{clients, end_of};
use crate::small_disk::SmallDisk;
use crate::stage_world::StageWorld;
use crate::support::{TestApp, app_with};

const MIB: u64 = 1024 * 1024;
const PATIENCE: Duration = Duration::from_mins(3);

/// About 18 MB that are decoded in no time; no two seeds have the same bytes.
fn bulky(seed: u32) -> PathBuf {
    let picture = "-f lavfi -i testsrc2=size=128x96:rate=5:duration=8";
    let sound = format!(
        "-f lavfi -i anoisesrc=sample_rate=96000:duration=8:amplitude=0.1:seed={seed} -ac 8"
    );
    let codecs = "-c:v mjpeg -c:a pcm_s24le";
    clip(&format!("bulky-{seed}.mov"), &format!("{picture} {sound} {codecs}"))
}

async fn count(app: &TestApp, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&app.pool).await.expect("a count")
}

/// Files of the daemon's, its lock not counted.
fn sources_on(disk: &SmallDisk) -> usize {
    let entries = |path: &Path| {
        let entries = std::fs::read_dir(path).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let of_processes =
        entries(&disk.path().join("scratch")).into_iter().filter(|path| path.is_dir());
    of_processes.map(|directory| entries(&directory).len() - 1).sum()
}

async fn is_full(app: &TestApp) -> bool {
    let answer = reqwest::get(format!("{}/readyz", app.url)).await.expect("an answer");
    assert_eq!(answer.status(), 200, "a full scratch takes nothing out of service");
    let said: Value = answer.json().await.expect("JSON");
    let degraded = said["degraded"].as_array().expect("a list");
    assert_eq!(degraded.is_empty(), said["status"] == "ready", "{said}");
    degraded.iter().any(|name| name == "scratch")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_disk_that_is_too_small_and_filled_in_the_middle_all_end_ready_and_nothing_is_charged()
 {
    let disk = SmallDisk::new(64);
    let app = app_with(|config| {
        config.scratch = disk.path().join("scratch");
        // All at once want more than there is.
        for (_, slots) in &mut config.worker.slots {
            *slots = 4;
        }
    })
    .await;
    let mut videos = Vec::new();
    for seed in 0..6 {
        videos.push(clients::announce_and_put(&app, &bulky(seed)).await);
    }
    let begun = Instant::now();
    let ready = "select count(*) from videos where state = 'ready'";
    while count(&app, ready).await == 0 {
        assert!(begun.elapsed() < PATIENCE, "none is ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(count(&app, "select count(*) from videos where state = 'processing'").await > 0);

    // Whatever becomes free goes to the ballast, until no source is left and nothing runs.
    let running = "select count(*) from jobs where state = 'running'";
    let ballast = loop {
        disk.fill();
        if sources_on(&disk) == 0 {
            let ballast = disk.fill();
            if is_full(&app).await && count(&app, running).await == 0 && sources_on(&disk) == 0 {
                break ballast;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "it goes on with a full disk");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let attempts = "select coalesce(sum(attempt), 0) from jobs";
    let before = count(&app, attempts).await;
    // Six looks at the disk, and time for ids that were pulled before.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(count(&app, attempts).await, before, "nothing is claimed while nothing fits");
    std::fs::remove_file(ballast).expect("it was there");

    for id in &videos {
        let video = end_of(&app, *id).await;
        assert_eq!(video["state"], "ready", "{video:#}");
    }
    assert!(!is_full(&app).await);
    let charged =
        "select count(*) from jobs where failures + crashes + lost_workers > 0 or state <> 'done'";
    assert_eq!(count(&app, charged).await, 0);
    let waited = "select count(*) from job_attempts where outcome = 'released' and detail like '%on scratch%'";
    let (waited, tries) =
        (count(&app, waited).await, count(&app, "select count(*) from job_attempts").await);
    eprintln!(
        "6 videos in {:?}: {tries} attempts, {waited} given back for want of room",
        begun.elapsed()
    );
    assert!(waited > 0, "the disk was large enough: this proves nothing");
    assert!(tries < 24 + 60, "{tries} attempts of 24 jobs: it spins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_could_never_fit_ends_with_a_reason_and_is_ready_on_a_larger_disk() {
    let disk = SmallDisk::new(16);
    let app = app_with(|config| config.scratch = disk.path().join("scratch")).await;
    let id = clients::announce_and_put(&app, &bulky(0)).await;

    let video = end_of(&app, id).await;

    assert_eq!(
        (&video["state"], &video["failure"]["cause"]),
        (&"failed".into(), &"scratch_too_small".into()),
        "{video:#}"
    );
    let said = app.db.explain(VideoId(id)).await.expect("an answer").expect("a video");
    assert!(
        said.contains("17 MiB are needed on scratch")
            && said.contains("a larger CLIPSTREAM_SCRATCH, then run the stage again"),
        "{said}"
    );
    disk.resize(64);
    app.db.rerun(VideoId(id), Stage::Transcode).await.expect("it runs again");
    let video = end_of(&app, id).await;
    assert_eq!(video["state"], "ready", "{video:#}");
}

/// Sources on a small disk, without a worker.
struct Disk {
    world: StageWorld,
    scratch: Scratch,
    mount: SmallDisk,
}

impl Disk {
    /// 20 MiB, of which two are the floor.
    async fn new() -> Self {
        let (world, mount) = (StageWorld::new().await, SmallDisk::new(20));
        let scratch = Scratch::open(mount.path().to_owned()).expect("a scratch");
        Self { world, scratch: scratch.with_floor(Some(2 * MIB)), mount }
    }

    async fn open(&self, mib: u64) -> Result<SourceFile, StageError> {
        self.scratch.source(&self.world.storage, &source(mib)).await
    }
}

/// Only its size matters: nothing is read.
fn source(mib: u64) -> Source {
    let video = VideoId(Uuid::now_v7());
    Source {
        video,
        key: format!("raw-uploads/{video}.mp4"),
        etag: Some("e".to_owned()),
        version_id: None,
        size_bytes: Some(mib * MIB),
        sha256: None,
    }
}

#[track_caller]
fn refused(opened: Result<SourceFile, StageError>) -> bool {
    match opened.err().expect("there is no room") {
        StageError::NoRoom { ours_first, .. } => ours_first,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn room_is_kept_before_a_byte_is_read_and_idle_sources_make_way() {
    let disk = Disk::new().await;
    let idle = source(8);
    drop(disk.scratch.source(&disk.world.storage, &idle).await.expect("8 of 18"));
    let used = disk.open(9).await.expect("17 of 18");
    assert_eq!(disk.scratch.source_bytes(), 17 * MIB, "nothing had to go");
    let more = disk.open(8).await.expect("the idle one goes");
    assert_eq!(disk.scratch.source_bytes(), 17 * MIB);
    assert!(refused(disk.open(2).await), "it waits for one of the two");
    assert_eq!(disk.scratch.source_bytes(), 17 * MIB, "what is used stays");
    drop((used, more));
}

#[tokio::test]
async fn while_a_large_source_waits_for_ours_nothing_new_is_begun() {
    let disk = Disk::new().await;
    assert!(disk.scratch.has_room().await);
    let small = disk.open(6).await.expect("6 of 18");
    assert!(disk.scratch.has_room().await);
    assert!(refused(disk.open(15).await), "it fits when ours has ended");
    assert!(!disk.scratch.has_room().await, "small ones would starve it");
    assert!(disk.scratch.is_full());
    drop(small);
    assert!(disk.scratch.has_room().await, "the idle one went");
    let _large = disk.open(15).await.expect("now it fits");
    assert!(disk.scratch.has_room().await);
}

#[tokio::test]
async fn nobody_waits_for_what_others_occupy_and_below_the_floor_nothing_is_begun() {
    let disk = Disk::new().await;
    let ballast = disk.mount.path().join("ballast");
    let write = |mib: usize| std::fs::write(&ballast, vec![0; mib * 1024 * 1024]).expect("written");
    write(10);
    assert!(!refused(disk.open(15).await), "others have the room");
    assert!(disk.scratch.has_room().await, "small ones go on meanwhile");
    write(19);
    assert!(!disk.scratch.has_room().await, "it is below the floor");
    std::fs::remove_file(&ballast).expect("removed");
    assert!(disk.scratch.has_room().await);
}

#[tokio::test]
async fn only_what_is_larger_than_the_whole_disk_is_counted() {
    let disk = Disk::new().await;
    let _used = disk.open(6).await.expect("6 of 18");
    let ended = disk.open(19).await.err().expect("there is no room");
    assert!(
        matches!(ended, StageError::Retry { cause, .. } if cause.as_str() == "scratch_too_small"),
        "{ended:?}"
    );
    assert!(disk.scratch.has_room().await, "nobody waits for it");
    assert!(refused(disk.open(18).await));
}
