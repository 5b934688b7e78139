//! Which picture stands for the video: the first that is not nearly black among the first seconds, else the very first.

use ffmpeg_next::frame;

use super::EngineError;
use super::ffi;
use super::picture::{Format, Presenter, Target, packed_rgb};
use super::time::VIDEO_HZ;
use crate::media::protocol::Message;

/// Later pictures are not looked at: the poster is wanted early.
const LOOK_UNTIL: i64 = 3 * VIDEO_HZ;
/// Mean luma (16 is black) under which a picture counts as nearly black.
const NEARLY_BLACK: u64 = 32;
/// Every so many pixels are looked at, each way.
const EVERY: usize = 8;

/// Looks at pictures until it has decided.
pub(super) struct PosterPicker {
    first: Option<frame::Video>,
    decided: bool,
}

impl PosterPicker {
    pub(super) fn new() -> Self {
        Self { first: None, decided: false }
    }

    /// Looks at the next presentable picture; answers the poster once.
    pub(super) fn look(
        &mut self,
        picture: &frame::Video,
    ) -> Result<Option<(Message, Vec<u8>)>, EngineError> {
        if self.decided {
            return Ok(None);
        }
        if mean_luma(picture) >= NEARLY_BLACK {
            self.decided = true;
            self.first = None;
            return poster(picture).map(Some);
        }
        if self.first.is_none() {
            let shared = ffi::share(picture);
            self.first = Some(shared.map_err(|e| EngineError::internal("share a picture", e))?);
        }
        if picture.pts().unwrap_or(0) >= LOOK_UNTIL {
            return self.finish();
        }
        Ok(None)
    }

    /// No more pictures come.
    pub(super) fn finish(&mut self) -> Result<Option<(Message, Vec<u8>)>, EngineError> {
        self.decided = true;
        self.first.take().map(|first| poster(&first)).transpose()
    }
}

fn poster(picture: &frame::Video) -> Result<(Message, Vec<u8>), EngineError> {
    let (width, height) = (picture.width(), picture.height());
    let target = Target { width, height, format: Format::Rgb };
    let rgb = Presenter::of_presentable(target).present(picture)?;
    Ok((Message::Poster { width, height }, packed_rgb(&rgb)))
}

fn mean_luma(picture: &frame::Video) -> u64 {
    let stride = picture.stride(0);
    let width = picture.width() as usize;
    let rows = picture.data(0).chunks(stride).take(picture.height() as usize).step_by(EVERY);
    let (sum, count) = rows
        .flat_map(|row| row[..width].iter().step_by(EVERY))
        .fold((0, 0), |(sum, count), &luma| (sum + u64::from(luma), count + 1));
    sum / std::cmp::Ord::max(count, 1)
}
