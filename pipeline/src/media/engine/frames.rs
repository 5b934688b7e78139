//! Pictures on a fixed grid of times, in the size that was asked for, upright: what the embeddings look at.
//! Each point of the grid shows what a viewer would see at that moment.

use ffmpeg_next::frame;

use super::input::{Source, Track};
use super::limits::too_long;
use super::picture::{Format, Presenter, Target, packed_rgb};
use super::pictures::Pictures;
use super::time::{MICROSECONDS, to_ms, video_us};
use super::verdict::{check_complete, check_pictures};
use super::{EngineError, RemoteFile, Speaker};
use crate::media::protocol::{Message, Request};

/// How often, and how large.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) per_second: f64,
    pub(super) width: u32,
    pub(super) height: u32,
}

const MOST_PER_SECOND: f64 = 60.0;
const LEAST_PER_SECOND: f64 = 0.001;
const LARGEST_SIDE: u32 = 4096;

/// A file without pictures gets its facts, no frames, and a good end.
pub(super) fn run(
    request: &Request,
    file: RemoteFile,
    grid: Grid,
    speaker: &mut Speaker<'_>,
) -> Result<(), EngineError> {
    grid.check()?;
    let mut source = Source::open(file, &request.limits)?;
    speaker.say(&Message::Facts(source.facts.clone()), &[])?;
    let mut facts = source.facts.clone();
    if let Some(chosen) = source.picture {
        let mut pictures = Pictures::open(&source, chosen, &request.limits)?;
        let target = Target { width: grid.width, height: grid.height, format: Format::Rgb };
        let mut sampler = Sampler {
            grid,
            presenter: Presenter::new(target, chosen.orientation, chosen.pixel_aspect),
            shown: None,
            point: 0,
            speaker,
        };
        while let Some((track, packet)) = source.next_packet()? {
            let total_us = source.declared_us.unwrap_or(0);
            sampler.speaker.say_progress(source.position_us(), total_us)?;
            if track != Track::Picture {
                continue;
            }
            pictures.feed(Some(&packet))?;
            sampler.pass_on(&mut pictures)?;
            let until_ms = to_ms(video_us(pictures.end()));
            if until_ms > request.limits.max_duration_ms {
                return Err(too_long(until_ms, &request.limits));
            }
        }
        pictures.feed(None)?;
        sampler.pass_on(&mut pictures)?;
        check_pictures(&source, pictures.decoder(), video_us(pictures.end()))?;
        if source.sound.is_none() {
            let decoded_us = video_us(pictures.end());
            check_complete(&source, [Some(pictures.decoder()), None], decoded_us)?;
        }
        sampler.say_until(pictures.end())?;
        facts.duration_ms = to_ms(video_us(pictures.end()));
        if let Some(video) = &mut facts.video {
            video.frame_rate = pictures.measured_rate().unwrap_or(video.frame_rate);
        }
    }
    speaker.say(&Message::Done(facts), &[])
}

impl Grid {
    fn check(self) -> Result<(), EngineError> {
        let rate = (LEAST_PER_SECOND..=MOST_PER_SECOND).contains(&self.per_second);
        // Even, because colours are converted with half as many chroma samples.
        let sides = [self.width, self.height];
        let sides = sides.iter().all(|s| (2..=LARGEST_SIDE).contains(s) && s % 2 == 0);
        if rate && sides {
            return Ok(());
        }
        Err(EngineError::Internal(format!("{self:?} is no grid that can be sampled")))
    }

    /// Time of a point in microseconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "points are few: hours at most 60 times a second"
    )]
    fn time_us(self, point: u64) -> i64 {
        (point as f64 * MICROSECONDS as f64 / self.per_second).round() as i64
    }
}

struct Sampler<'a, 'b> {
    grid: Grid,
    presenter: Presenter,
    /// What a viewer sees until the next picture comes.
    shown: Option<frame::Video>,
    point: u64,
    speaker: &'a mut Speaker<'b>,
}

impl Sampler<'_, '_> {
    fn pass_on(&mut self, pictures: &mut Pictures) -> Result<(), EngineError> {
        while let Some(picture) = pictures.take()? {
            self.say_until(picture.pts().unwrap_or(0))?;
            self.shown = Some(picture);
        }
        Ok(())
    }

    /// Says the points before a time, in ticks of 90 kHz. The first picture also stands for the time before it.
    fn say_until(&mut self, end: i64) -> Result<(), EngineError> {
        let Some(shown) = self.shown.take() else { return Ok(()) };
        let mut rgb = None;
        while self.grid.time_us(self.point) < video_us(end) {
            let bytes = match &mut rgb {
                Some(bytes) => bytes,
                none => none.insert(packed_rgb(&self.presenter.present(&shown)?)),
            };
            let Grid { width, height, .. } = self.grid;
            let time_us = self.grid.time_us(self.point);
            self.speaker.say(&Message::Frame { time_us, width, height }, bytes)?;
            self.point += 1;
        }
        self.shown = Some(shown);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_do_not_drift() {
        let grid = Grid { per_second: 3.0, width: 1, height: 1 };
        assert_eq!(grid.time_us(3), 1_000_000);
        assert_eq!(grid.time_us(3 * 3600), 3_600_000_000);
    }

    #[test]
    fn absurd_grids_are_refused() {
        for per_second in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            assert!(Grid { per_second, width: 32, height: 32 }.check().is_err());
        }
        assert!(Grid { per_second: 1.0, width: 0, height: 32 }.check().is_err());
    }
}
