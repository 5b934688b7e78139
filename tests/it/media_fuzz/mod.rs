//! Damaged files, many of them, through the whole real media child. Whatever is in a file, the child ends in time with a
//! typed cause or with a result that decodes; its memory and its output stay within bounds, and whoever started it lives.
//!
//! `make fuzz-media` runs many. `FUZZ_SEED` and `FUZZ_RUNS` say which, and `FUZZ_CASE` runs one alone, whose file is kept.

mod child;
mod mutation;
mod seeds;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use pipeline::media::MediaError;
use pipeline::media::protocol::{Message, Task};
use pipeline::video::FailureCause;

use child::{Children, Ended};
use mutation::{Dice, damage};
use seeds::{Seed, seeds};

const RUNS: u64 = 60;
const SEED: u64 = 20_261_124;
const MOST_MEMORY_MIB: u64 = 768;
/// A gap of ten seconds is what a recording may have; no output is longer than twice what is there, and that.
const LONGEST_GAP_SECONDS: f64 = 10.0;
/// For two seconds of 96×64; the picture and sound of the largest result of an undamaged file are a tenth of it.
const MOST_OUTPUT_BYTES: usize = 4 * 1024 * 1024;
const AT_ONCE: usize = 2;

/// One damaged file and what became of it.
struct Case {
    number: u64,
    seed: &'static str,
    damage: String,
    outcome: String,
    took: Duration,
    /// Why this is not as it should be.
    wrong: Option<String>,
}

#[tokio::test]
async fn damaged_files_end_in_a_cause_or_in_a_result_that_decodes() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("media-fuzz");
    std::fs::remove_dir_all(&directory).unwrap_or_default();
    std::fs::create_dir_all(&directory).expect("a directory");
    let (first, runs) = (setting("FUZZ_SEED", SEED), setting("FUZZ_RUNS", RUNS));
    let numbers: Vec<u64> = match setting("FUZZ_CASE", 0) {
        0 => (first..first + runs).collect(),
        one => vec![one],
    };
    let seeds = seeds();
    let children = Children::new(&directory);
    let cases = stream::iter(&numbers)
        .map(|number| run(&children, &seeds, *number, &directory))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<Case>>();
    let cases = tokio::select! {
        cases = cases => cases,
        () = children.watch_memory() => unreachable!("it never ends"),
    };
    report(&cases, first, &children);
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let wrong = case.wrong.as_ref()?;
            Some(format!("FUZZ_CASE={} ({}: {}): {wrong}", case.number, case.seed, case.damage))
        })
        .collect();
    assert!(wrong.is_empty(), "the files are in {}\n{}", directory.display(), wrong.join("\n"));
    let memory = children.most_memory_mib();
    assert!((1..=MOST_MEMORY_MIB).contains(&memory), "{memory} MiB in one child");
}

/// Before any damage: without this, a child that refuses everything would pass.
#[tokio::test]
async fn the_undamaged_files_are_all_taken() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let children = Children::new(directory.path());
    for seed in seeds() {
        let ended = children.run(seed.bytes.clone(), Task::Transcode).await;
        assert!(ended.result.is_ok(), "{}: {:?}", seed.name, ended.result);
        let wrong = judge(&children, &ended, seed.seconds).await;
        assert_eq!(wrong, None, "{}", seed.name);
        let seconds = longest_seconds(&ended);
        assert!((seconds - seed.seconds).abs() < 0.2, "{}: {seconds} s", seed.name);
    }
}

async fn run(children: &Arc<Children>, seeds: &[Seed], number: u64, directory: &Path) -> Case {
    let mut dice = Dice::new(number);
    let seed = &seeds[dice.below(seeds.len())];
    let other = &seeds[dice.below(seeds.len())];
    let (bytes, damage) = damage(&seed.bytes, &other.bytes, &mut dice);
    let task = match dice.below(4) {
        0 => Task::ExtractAudio,
        1 => Task::SampleFrames { per_second: 1.0, width: 32, height: 32 },
        _ => Task::Transcode,
    };
    let ended = children.run(bytes.clone(), task).await;
    let wrong = judge(children, &ended, seed.seconds).await;
    if wrong.is_some() || setting("FUZZ_CASE", 0) == number {
        let kept = directory.join(format!("case-{number}-{}", seed.name));
        std::fs::write(kept, bytes).expect("a file");
    }
    let outcome = outcome(&ended);
    Case { number, seed: seed.name, damage, outcome, took: ended.took, wrong }
}

fn outcome(ended: &Ended) -> String {
    match &ended.result {
        Ok(()) => "done".into(),
        Err(MediaError::Failed { cause, .. }) => cause.to_string(),
        Err(MediaError::Crashed(_)) => "crashed".into(),
        Err(MediaError::Killed(_)) => "killed".into(),
        Err(MediaError::DeadlineExceeded(_)) => "deadline exceeded".into(),
        Err(MediaError::Stalled(_)) => "stalled".into(),
        Err(MediaError::Input(_)) => "input away".into(),
        Err(MediaError::Uncaged(_)) => "not caged".into(),
        Err(MediaError::Io(_)) => "could not be used".into(),
    }
}

/// What is wrong with an end, if anything is.
async fn judge(children: &Children, ended: &Ended, source_seconds: f64) -> Option<String> {
    let bytes: usize = ended.said.iter().map(|said| said.payload.len()).sum();
    if bytes > MOST_OUTPUT_BYTES {
        return Some(format!("{bytes} bytes of output"));
    }
    let seconds = longest_seconds(ended);
    if seconds > 2.0 * source_seconds + LONGEST_GAP_SECONDS {
        return Some(format!("{seconds} s of output"));
    }
    match &ended.result {
        Ok(()) => check_segments(children, ended).await,
        Err(MediaError::Failed { cause: FailureCause::Internal, detail }) => {
            Some(format!("a defect of ours: {detail}"))
        }
        Err(MediaError::Failed { .. }) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// The longest rendition, or the sound for recognition.
fn longest_seconds(ended: &Ended) -> f64 {
    let mut renditions: BTreeMap<&str, i64> = BTreeMap::new();
    let mut pcm_bytes = 0;
    for said in &ended.said {
        match &said.message {
            Message::Segment { rendition, duration_us, .. } => {
                *renditions.entry(rendition).or_default() += duration_us;
            }
            Message::Pcm { .. } => pcm_bytes += said.payload.len(),
            _ => {}
        }
    }
    let longest = renditions.into_values().max().unwrap_or(0);
    let pcm_us = i64::try_from(pcm_bytes).unwrap_or(i64::MAX) * 1_000_000 / 32_000;
    Duration::from_micros(u64::try_from(longest.max(pcm_us)).unwrap_or(0)).as_secs_f64()
}

/// Each segment on its own, as a player gets it.
async fn check_segments(children: &Children, ended: &Ended) -> Option<String> {
    let mut inits: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for said in &ended.said {
        match &said.message {
            Message::Init { rendition, .. } => {
                inits.insert(rendition, &said.payload);
            }
            Message::Segment { rendition, number, .. } => {
                let init = *inits.get(rendition.as_str())?;
                let alone = [init, &said.payload].concat();
                let checked = children.run(alone, Task::CheckSegment).await;
                if let Err(error) = checked.result {
                    return Some(format!("segment {number} of {rendition}: {error}"));
                }
            }
            _ => {}
        }
    }
    None
}

fn report(cases: &[Case], first: u64, children: &Children) {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases {
        *outcomes.entry(&case.outcome).or_default() += 1;
    }
    let slowest = cases.iter().max_by_key(|case| case.took);
    eprintln!(
        "{} damaged files from seed {first}: {outcomes:?}; at most {} MiB; the slowest took {:?}",
        cases.len(),
        children.most_memory_mib(),
        slowest.map(|case| (case.number, case.took)),
    );
}

fn setting(name: &str, otherwise: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how make fuzz-media asks for another run")]
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |text| text.parse().expect(name))
}
