//! Poison among good files: what crashes, lies, never ends or is not there fails alone, and the good ones hardly notice.
//!
//! `bench/poison.py` runs it with many and compares. Crashes are real: the media child's program is a wrapper here, which
//! looks at the size of the input, starts the real child, and sends it SIGSEGV in the middle of its work.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::storage::{Precondition, StorageKey};
use pipeline::video::VideoId;
use serde_json::json;

use crate::clips::{H264_AAC, clip, picture_and_tone};
use crate::support::{TestApp, app_with, clipstream};

/// Sizes that leave this rest are those of files that crash; all others leave another.
const CRASH_MODULUS: usize = 1000;
const CRASH_REST: usize = 13;
/// Jobs of each stage at once.
const WORKERS: usize = 2;
const PATIENCE: Duration = Duration::from_mins(20);

/// Python, because a shell cannot look at what waits in a socket without taking it.
const WRAPPER: &str = r#"#!/usr/bin/python3 -SI
import os, select, signal, socket, struct, sys, time
# A child that is only asked whether its cage holds is told nothing.
told = select.select([0], [], [], 0.5)[0]
opening = socket.socket(fileno=os.dup(0)).recv(1 << 16, socket.MSG_PEEK) if told else b""
header, payload = struct.unpack_from("<II", opening) if len(opening) >= 8 else (0, 0)
end = 8 + header + payload
size = struct.unpack_from("<Q", opening, end)[0] if len(opening) >= end + 8 else 0
if size % MODULUS == REST and os.fork() == 0:
    child = os.getppid()
    os.closerange(0, 64)
    time.sleep(0.2)
    # The first only takes the handler away by which Rust tells a stack overflow.
    os.kill(child, signal.SIGSEGV)
    time.sleep(0.05)
    os.kill(child, signal.SIGSEGV)
    os._exit(0)
os.execv("PROGRAM", ["PROGRAM", *sys.argv[1:]])
"#;

#[tokio::test(flavor = "multi_thread")]
async fn poison_fails_alone_and_the_good_files_end_ready() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("media-child.py");
    write_wrapper(&program);
    let app = app_with(|config| {
        config.media.program = program;
        config.worker.slots.iter_mut().for_each(|(_, slots)| *slots = WORKERS);
    })
    .await;
    let (good, bad) = (setting("POISON_GOOD", 12), setting("POISON_BAD", 7));
    let files = Files::new();
    let (mut good_keys, mut bad_keys) = (Vec::new(), Vec::new());
    for n in 0..good.max(bad) {
        // Evenly among the good ones.
        let due = ((n + 1) * bad).checked_div(good).unwrap_or(bad);
        while bad_keys.len() < due.min(bad) {
            let key = put(&app, files.poison(bad_keys.len())).await;
            bad_keys.push(key);
        }
        if n < good {
            good_keys.push(put(&app, files.good(n)).await);
        }
    }
    wait_for_ends(&app, good + bad).await;

    let ready = states(&app, &good_keys).await;
    assert!(ready.iter().all(|(state, _)| state == "ready"), "{ready:?}");
    let failed = states(&app, &bad_keys).await;
    assert!(failed.iter().all(|(state, _)| state == "failed"), "{failed:?}");
    for (n, (_, cause)) in failed.iter().enumerate() {
        let cause = cause.as_deref().unwrap_or("none");
        assert_eq!(cause == "media_crashed", n % KINDS == 0, "poison {n} failed for {cause}");
        assert_ne!(cause, "internal", "poison {n}");
    }
    assert_eq!(workers(&app).await, (1, 0), "one worker all the while, and no job lost");
    // And it still works.
    let last = put(&app, files.good(good)).await;
    wait_for_ends(&app, good + bad + 1).await;
    assert_eq!(states(&app, &[last]).await[0].0, "ready");
    if let Some(path) = text_setting("POISON_RESULTS") {
        std::fs::write(path, measured(&app, &good_keys, bad).await).expect("a file");
    }
}

fn write_wrapper(program: &Path) {
    let real = clipstream().display().to_string();
    let script = WRAPPER
        .replace("MODULUS", &CRASH_MODULUS.to_string())
        .replace("REST", &CRASH_REST.to_string())
        .replace("PROGRAM", &real);
    std::fs::write(program, script).expect("a script");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(program, executable).expect("an executable");
}

/// Kinds of poison, in turn.
const KINDS: usize = 7;

struct Files {
    good: Vec<u8>,
    /// Takes longer than the wrapper waits.
    long: Vec<u8>,
    /// Five hours of black in a few kilobytes.
    endless: Vec<u8>,
}

impl Files {
    fn new() -> Self {
        let made = |name: &str, recipe: &str| std::fs::read(clip(name, recipe)).expect("a clip");
        let small = format!("{} {H264_AAC}", picture_and_tone("160x120", "25", 2.0));
        let long = format!("{} {H264_AAC}", picture_and_tone("640x480", "25", 20.0));
        let endless =
            "-f lavfi -i color=black:s=64x64:r=1/10:d=18000 -c:v libx264 -pix_fmt yuv420p";
        Self {
            good: made("poison-good.mp4", &small),
            long: made("poison-long.mp4", &long),
            endless: made("poison-endless.mp4", endless),
        }
    }

    /// Different from all others, so that none is a duplicate.
    fn good(&self, n: usize) -> Vec<u8> {
        padded(&self.good, n, false)
    }

    fn poison(&self, n: usize) -> Vec<u8> {
        let file = &self.good;
        let half = file.len() / 2;
        match n % KINDS {
            0 => return padded(&self.long, n, true),
            1 => file[..half].to_vec(),
            2 => self.endless.clone(),
            3 => {
                // A header, and nothing that decodes.
                let mut broken = file.clone();
                let start = broken.windows(4).position(|w| w == b"mdat").expect("mdat") + 4;
                let end = broken.windows(4).rposition(|w| w == b"moov").expect("moov") - 4;
                broken[start..end].fill(0x55);
                broken
            }
            4 => b"#EXTM3U\n#EXTINF:2,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n".to_vec(),
            5 => file.iter().map(|byte| byte.rotate_left(3) ^ 0x5a).collect(),
            _ => [&file[..48], &file[half..]].concat(),
        }
        .into_iter()
        .chain(format!(" {n}").into_bytes())
        .collect()
    }
}

/// The same clip with a box at its end that nobody reads, of a length and content of its own.
fn padded(clip: &[u8], n: usize, crashes: bool) -> Vec<u8> {
    let mut room = 64 + n;
    while (clip.len() + 8 + room) % CRASH_MODULUS == CRASH_REST {
        room += CRASH_MODULUS / 2;
    }
    if crashes {
        let rest = (clip.len() + 8 + room) % CRASH_MODULUS;
        room += (CRASH_MODULUS + CRASH_REST - rest) % CRASH_MODULUS;
        room += n * CRASH_MODULUS;
    }
    let length = u32::try_from(8 + room).expect("a small box");
    let content = format!("{n:>room$}");
    [clip, &length.to_be_bytes(), b"free", content.as_bytes()].concat()
}

async fn put(app: &TestApp, bytes: Vec<u8>) -> String {
    let key = StorageKey::Source { video: VideoId::new(), extension: "mp4" };
    let bytes = Bytes::from(bytes);
    app.storage.put(&key, bytes, &Precondition::None).await.expect("a PUT");
    key.to_string()
}

async fn wait_for_ends(app: &TestApp, count: usize) {
    let begun = Instant::now();
    loop {
        let ended: i64 = sqlx::query_scalar(
            "select count(*) from videos where state not in ('uploading', 'processing')",
        )
        .fetch_one(&app.pool)
        .await
        .expect("a count");
        if usize::try_from(ended).is_ok_and(|ended| ended >= count) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{ended} of {count} have ended");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn states(app: &TestApp, keys: &[String]) -> Vec<(String, Option<String>)> {
    let sql = "select v.state, v.failure_cause from unnest($1) with ordinality as k (key, n)
                 join videos v on v.object_key = k.key order by k.n";
    sqlx::query_as(sql).bind(keys).fetch_all(&app.pool).await.expect("rows")
}

/// How many workers tried anything, and how many tries were lost with one.
async fn workers(app: &TestApp) -> (i64, i64) {
    let sql = "select count(distinct worker), count(*) filter (where outcome = 'lost')
                 from job_attempts";
    sqlx::query_as(sql).fetch_one(&app.pool).await.expect("counts")
}

/// From claim to done, of the jobs of the good files; from the first claim to ready, of the files themselves.
async fn measured(app: &TestApp, good: &[String], bad: usize) -> String {
    let sql = "with jobs_done as (
                 select extract(epoch from a.ended_at - a.started_at)::float8 as seconds
                   from videos v join jobs j on j.video_id = v.id
                   join job_attempts a on a.job_id = j.id and a.outcome = 'done'
                  where v.object_key = any($1)),
               videos_done as (
                 select extract(epoch from v.processed_at - min(a.started_at))::float8 as seconds
                   from videos v join jobs j on j.video_id = v.id
                   join job_attempts a on a.job_id = j.id
                  where v.object_key = any($1) group by v.id)
               select (select percentile_cont(0.5) within group (order by seconds) from jobs_done),
                      (select percentile_cont(0.99) within group (order by seconds) from jobs_done),
                      (select percentile_cont(0.5) within group (order by seconds) from videos_done),
                      (select percentile_cont(0.99) within group (order by seconds) from videos_done)";
    let figures: (f64, f64, f64, f64) =
        sqlx::query_as(sql).bind(good).fetch_one(&app.pool).await.expect("figures");
    json!({
        "good": good.len(),
        "poison": bad,
        "job_p50_s": figures.0,
        "job_p99_s": figures.1,
        "video_p50_s": figures.2,
        "video_p99_s": figures.3,
    })
    .to_string()
}

fn setting(name: &str, otherwise: usize) -> usize {
    text_setting(name).map_or(otherwise, |text| text.parse().expect(name))
}

fn text_setting(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "how bench/poison.py asks for the long run")]
    std::env::var(name).ok()
}
