//! The pictures of a transcode: decoded, made presentable, paced, looked at for the poster, and sent down the ladder.

use std::sync::mpsc::SyncSender;

use ffmpeg_next::frame;

use super::assemble::Coded;
use super::error::Doing;
use super::input::{ChosenPicture, Source};
use super::ladder::Rung;
use super::pacing::{LONGEST_GAP, Pacer, Showing};
use super::picture::{Format, Presenter, Target};
use super::pictures::Pictures;
use super::poster::PosterPicker;
use super::rung::Step;
use super::{EngineError, ffi};
use crate::media::protocol::{Limits, Message};

pub(super) struct PictureSide {
    pub(super) pictures: Pictures,
    presenter: Presenter,
    pacer: Pacer,
    poster: PosterPicker,
    last: Option<frame::Video>,
    to: SyncSender<Step>,
}

impl PictureSide {
    /// `ladder` is the way to the top rung.
    pub(super) fn new(
        source: &Source,
        chosen: ChosenPicture,
        limits: &Limits,
        (to, top): (SyncSender<Step>, Rung),
    ) -> Result<Self, EngineError> {
        let target = Target { width: top.width, height: top.height, format: Format::Yuv };
        Ok(Self {
            pictures: Pictures::open(source, chosen, limits)?,
            presenter: Presenter::new(target, chosen.orientation, chosen.pixel_aspect),
            pacer: Pacer::new(chosen.frame_rate, limits.max_frame_rate),
            poster: PosterPicker::new(),
            last: None,
            to,
        })
    }

    /// Everything that the decoder has ready, through the filters to the ladder.
    pub(super) fn pass_on(&mut self, packets: &SyncSender<Coded>) -> Result<(), EngineError> {
        while let Some(picture) = self.pictures.take()? {
            self.presenter.push(&picture)?;
            self.show_ready(packets)?;
        }
        Ok(())
    }

    fn show_ready(&mut self, packets: &SyncSender<Coded>) -> Result<(), EngineError> {
        while let Some(picture) = self.presenter.take() {
            say(packets, self.poster.look(&picture)?)?;
            let plan = self.pacer.place(picture.pts().unwrap_or(0));
            for repeat in plan.repeats {
                self.show(self.last.as_ref().unwrap_or(&picture), repeat)?;
            }
            if let Some(showing) = plan.showing {
                self.show(&picture, showing)?;
                self.last = Some(picture);
            }
        }
        Ok(())
    }

    fn show(&self, picture: &frame::Video, showing: Showing) -> Result<(), EngineError> {
        let mut picture = ffi::share(picture).doing("share a picture")?;
        picture.set_pts(Some(showing.at));
        let step = Step::Picture { picture, starts_group: showing.starts_group };
        self.to.send(step).map_err(|_| EngineError::Stopped)
    }

    /// `sound_end` in ticks of 90 kHz: where the sound goes on for much longer, the last picture stays, because a player
    /// must not be left without one (a song with one picture).
    pub(super) fn finish(
        &mut self,
        sound_end: i64,
        packets: &SyncSender<Coded>,
    ) -> Result<(), EngineError> {
        self.presenter.finish()?;
        self.show_ready(packets)?;
        say(packets, self.poster.finish()?)?;
        let Some(last) = self.last.take() else {
            return Err(EngineError::corrupt("no picture has a time at which it could be shown"));
        };
        let end = match self.pictures.end() {
            end if sound_end - end > LONGEST_GAP => sound_end,
            end => end,
        };
        for repeat in self.pacer.finish(end) {
            self.show(&last, repeat)?;
        }
        self.to.send(Step::End { at: end }).map_err(|_| EngineError::Stopped)
    }
}

fn say(packets: &SyncSender<Coded>, said: Option<(Message, Vec<u8>)>) -> Result<(), EngineError> {
    match said {
        Some((message, payload)) => {
            packets.send(Coded::Say { message, payload }).map_err(|_| EngineError::Stopped)
        }
        None => Ok(()),
    }
}
