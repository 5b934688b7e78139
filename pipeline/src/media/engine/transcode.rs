//! One decode, all renditions. This thread reads, decodes and paces; each rung encodes in a thread of its own; one thread
//! cuts segments and speaks. All queues are bounded, so the slowest sets the pace and memory stays flat.
//!
//! However one part ends, the others find their queue closed and end too; the first real reason is the answer.

use std::sync::atomic::AtomicI64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use super::assemble::{self, Coded, Plan, Position};
use super::feeder::Feeder;
use super::input::Source;
use super::ladder::{Rung, rungs};
use super::pacing::shown_rate;
use super::rung::{self, Orders, Step};
use super::time::{AUDIO_HZ, VIDEO_HZ};
use super::{EngineError, RemoteFile, Speaker};
use crate::media::cores;
use crate::media::protocol::{Limits, Message, Request};
use crate::video::MediaFacts;

/// Pictures between two rungs, as references; packets between the encoders and the assembler.
const PICTURES_WAITING: usize = 4;
const PACKETS_WAITING: usize = 64;

pub(super) fn run(
    request: &Request,
    file: RemoteFile,
    speaker: &mut Speaker<'_>,
) -> Result<(), EngineError> {
    let mut source = Source::open(file, &request.limits)?;
    speaker.say(&Message::Facts(source.facts.clone()), &[])?;
    let rungs = ladder(&source)?;
    let plans = plans(&rungs, source.sound.is_some());
    let sound_track = rungs.len();
    let total_us = source.declared_us.unwrap_or(0);
    let position = Position { decoded_us: AtomicI64::new(0), total_us };
    let (packets, coded) = sync_channel(PACKETS_WAITING);

    let facts = thread::scope(|scope| {
        let assembler = scope.spawn(|| assemble::run(plans, &position, coded, speaker));
        let (pictures, orders) = connect(rungs, &source, &request.limits, &packets);
        let rungs: Vec<_> =
            orders.into_iter().map(|orders| scope.spawn(move || rung::run(&orders))).collect();
        let fed = Feeder::new(&source, &request.limits, pictures, sound_track, packets)
            .and_then(|feeder| feeder.run(&mut source, &position.decoded_us));
        let others = rungs.into_iter().chain([assembler]).map(ended).collect();
        first_reason(fed, others)
    })?;
    speaker.say(&Message::Done(facts), &[])
}

fn ladder(source: &Source) -> Result<Vec<Rung>, EngineError> {
    match &source.facts.video {
        Some(video) if video.width == 0 || video.height == 0 => {
            Err(EngineError::corrupt("the picture stream does not say how large its pictures are"))
        }
        Some(video) => Ok(rungs(video.width, video.height)),
        None => Ok(Vec::new()),
    }
}

fn plans(rungs: &[Rung], has_sound: bool) -> Vec<Plan> {
    let video = rungs.iter().map(|r| Plan { name: r.name, hz: VIDEO_HZ, cut_anywhere: false });
    let audio =
        has_sound.then_some(Plan { name: "audio", hz: i64::from(AUDIO_HZ), cut_anywhere: true });
    video.chain(audio).collect()
}

/// The rungs in a chain, largest first: what goes into the sender comes out of every rung.
fn connect(
    rungs: Vec<Rung>,
    source: &Source,
    limits: &Limits,
    packets: &SyncSender<Coded>,
) -> (Option<(SyncSender<Step>, Rung)>, Vec<Orders>) {
    let threads = (cores::count() / rungs.len().max(1)).max(1);
    let declared = source.facts.video.as_ref().map_or(0.0, |video| video.frame_rate);
    let declared = if declared > 0.0 { declared } else { 25.0 };
    let frame_rate = shown_rate(declared, limits.max_frame_rate);
    let mut next = None;
    let mut orders = Vec::new();
    for (track, rung) in rungs.into_iter().enumerate().rev() {
        let (sender, pictures) = sync_channel(PICTURES_WAITING);
        let first = rung.clone();
        let packets = packets.clone();
        let next = next.replace((sender, first)).map(|(sender, _)| sender);
        orders.push(Orders { track, rung, frame_rate, threads, pictures, next, packets });
    }
    (next, orders)
}

fn ended(thread: ScopedJoinHandle<'_, Result<(), EngineError>>) -> Result<(), EngineError> {
    thread.join().unwrap_or_else(|_| Err(EngineError::panicked("in a thread of the transcode")))
}

/// The answer of the feeder, unless a thread failed: then the first reason that is one.
fn first_reason(
    fed: Result<MediaFacts, EngineError>,
    others: Vec<Result<(), EngineError>>,
) -> Result<MediaFacts, EngineError> {
    let mut stopped = None;
    let (facts, mut errors) = match fed {
        Ok(facts) => (Some(facts), Vec::new()),
        Err(error) => (None, vec![error]),
    };
    errors.extend(others.into_iter().filter_map(Result::err));
    // A broken pipe explains everything else.
    errors.sort_by_key(|error| !matches!(error, EngineError::Pipe(_)));
    for error in errors {
        match error {
            EngineError::Stopped => stopped = Some(EngineError::Stopped),
            reason => return Err(reason),
        }
    }
    match (facts, stopped) {
        (Some(facts), None) => Ok(facts),
        _ => Err(EngineError::Internal("a part of the transcode stopped without a reason".into())),
    }
}
