//! Decoded sound on one unbroken line of samples: one rate, one channel count, silence where the source has a hole.
//!
//! A step of 0.1 s or more between what should come and what comes is corrected at once (silence in, or samples out);
//! less is left alone, because every correction can be heard. The time line bounds every hole to 10 s.

use std::collections::VecDeque;

use ffmpeg_next::{Packet, Rational, frame};

use super::EngineError;
use super::decode::Decoder;
use super::ffi;
use super::graph::{Graph, Kind};
use super::time::from_base;
use crate::video::FailureCause;

/// What comes out: planar 32-bit floats of 1 or 2 channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) rate: u32,
    pub(super) channels: u16,
}

/// Decodes the sound stream onto a [`SampleLine`].
pub(super) struct Sound {
    decoder: Decoder,
    base: Rational,
    format: Format,
    resampler: Option<(Shape, Graph)>,
    pub(super) line: SampleLine,
}

#[derive(Debug, PartialEq, Eq)]
struct Shape {
    rate: u32,
    format: &'static str,
    layout: u64,
}

impl Sound {
    pub(super) fn new(decoder: Decoder, base: Rational, format: Format, start: Start) -> Self {
        let line = SampleLine::new(format, start);
        Self { decoder, base, format, resampler: None, line }
    }

    pub(super) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Takes a packet, or the end.
    pub(super) fn feed(&mut self, packet: Option<&Packet>) -> Result<(), EngineError> {
        self.decoder.feed(packet)?;
        while let Some(frame) = self.decoder.take(frame::Audio::empty())? {
            self.resample(frame)?;
        }
        if packet.is_none() {
            self.end_resampler()?;
        }
        Ok(())
    }

    fn resample(&mut self, mut frame: frame::Audio) -> Result<(), EngineError> {
        let Some(layout) = ffi::name_channels(&mut frame).filter(|_| frame.rate() > 0) else {
            return Err(EngineError::refused(
                FailureCause::UnsupportedFormat,
                format!("sound of {} channels at {} Hz", frame.channels(), frame.rate()),
            ));
        };
        let at = frame.timestamp().map(|at| from_base(at, self.base, i64::from(frame.rate())));
        frame.set_pts(at);
        let shape = Shape { rate: frame.rate(), format: frame.format().name(), layout };
        if !self.resampler.as_ref().is_some_and(|(current, _)| *current == shape) {
            self.end_resampler()?;
            let graph = self.build(&shape)?;
            self.resampler = Some((shape, graph));
        }
        if let Some((_, graph)) = &mut self.resampler {
            graph.push(&frame)?;
        }
        self.collect()
    }

    /// Float samples are not normalised by libav when channels are mixed down: without `rematrix_maxval` loud 5.1 clips.
    fn build(&self, shape: &Shape) -> Result<Graph, EngineError> {
        let Shape { rate, format, layout } = shape;
        let source = format!(
            "sample_rate={rate}:sample_fmt={format}:channel_layout=0x{layout:x}:time_base=1/{rate}"
        );
        let wanted = if self.format.channels == 1 { "mono" } else { "stereo" };
        let chain = format!(
            "aresample={}:rematrix_maxval=1.0,aformat=sample_fmts=fltp:channel_layouts={wanted}",
            self.format.rate
        );
        Graph::new(Kind::Sound, &source, &chain)
    }

    fn end_resampler(&mut self) -> Result<(), EngineError> {
        if let Some((_, graph)) = &mut self.resampler {
            graph.finish()?;
            self.collect()?;
        }
        self.resampler = None;
        Ok(())
    }

    fn collect(&mut self) -> Result<(), EngineError> {
        let Some((_, graph)) = &mut self.resampler else { return Ok(()) };
        let base = graph.base();
        while let Some(frame) = graph.take(frame::Audio::empty())? {
            let at = frame.pts().map(|at| from_base(at, base, i64::from(self.format.rate)));
            let planes: Vec<&[f32]> = (0..frame.planes()).map(|n| frame.plane(n)).collect();
            self.line.place(at, &planes);
        }
        Ok(())
    }
}

/// Where the line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At time zero, with silence before the first sound.
    Zero,
    /// At the first sound.
    FirstSound,
}

/// Samples without holes. Pure.
#[derive(Debug)]
pub(super) struct SampleLine {
    rate: i64,
    start: Start,
    /// Index on the presentation time line of the sample after the last.
    next: Option<i64>,
    waiting: Vec<VecDeque<f32>>,
}

impl SampleLine {
    fn new(format: Format, start: Start) -> Self {
        let waiting = vec![VecDeque::new(); usize::from(format.channels)];
        Self { rate: i64::from(format.rate), start, next: None, waiting }
    }

    /// Index of the sample after the last one, once there is one.
    pub(super) fn end(&self) -> Option<i64> {
        self.next
    }

    /// Index of the first sample that waits.
    pub(super) fn position(&self) -> i64 {
        let waiting = self.waiting.first().map_or(0, VecDeque::len);
        self.next.unwrap_or(0) - i64::try_from(waiting).unwrap_or(0)
    }

    /// Appends samples whose first stands at `at`, if that is known.
    pub(super) fn place(&mut self, at: Option<i64>, planes: &[&[f32]]) {
        let begun = self.next.is_some();
        let at = at.unwrap_or(self.next.unwrap_or(0));
        let next = *self.next.get_or_insert(match self.start {
            Start::Zero => 0,
            Start::FirstSound => at.max(0),
        });
        let step = at - next;
        let small = begun && step.abs() < self.rate / 10;
        if !small {
            self.silence(step);
        }
        let skip = if small { 0 } else { usize::try_from(-step).unwrap_or(0) };
        let count = planes.first().map_or(0, |plane| plane.len().saturating_sub(skip));
        for (waiting, plane) in self.waiting.iter_mut().zip(planes) {
            waiting.extend(plane.iter().skip(skip));
        }
        self.advance(count);
    }

    /// Appends silence up to an index, if that is ahead.
    pub(super) fn fill_to(&mut self, end: i64) {
        let next = *self.next.get_or_insert(0);
        self.silence(end - next);
    }

    /// The next `count` samples of each channel; with `all`, what is left of them.
    pub(super) fn take(&mut self, count: usize, all: bool) -> Option<Vec<Vec<f32>>> {
        let waiting = self.waiting.first().map_or(0, VecDeque::len);
        let count = if all { count.min(waiting) } else { count };
        if count == 0 || waiting < count {
            return None;
        }
        Some(self.waiting.iter_mut().map(|plane| plane.drain(..count).collect()).collect())
    }

    fn silence(&mut self, count: i64) {
        let Ok(count) = usize::try_from(count) else { return };
        for waiting in &mut self.waiting {
            waiting.extend(std::iter::repeat_n(0.0, count));
        }
        self.advance(count);
    }

    fn advance(&mut self, count: usize) {
        self.next = self.next.map(|next| next + i64::try_from(count).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { rate: 1000, channels: 1 };

    fn taken(line: &mut SampleLine) -> Vec<f32> {
        line.take(usize::MAX, true).map(|mut planes| planes.remove(0)).unwrap_or_default()
    }

    #[test]
    fn sound_that_begins_late_has_silence_before_it_and_keeps_its_time() {
        let mut line = SampleLine::new(FORMAT, Start::Zero);
        line.place(Some(3), &[&[1.0, 1.0]]);
        assert_eq!(taken(&mut line), [0.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(line.end(), Some(5));
    }

    #[test]
    fn samples_before_zero_are_cut() {
        let mut line = SampleLine::new(FORMAT, Start::Zero);
        line.place(Some(-2), &[&[9.0, 9.0, 1.0]]);
        assert_eq!(taken(&mut line), [1.0]);
        assert_eq!(line.end(), Some(1));
    }

    #[test]
    fn a_line_from_the_first_sound_says_where_it_begins() {
        let mut line = SampleLine::new(FORMAT, Start::FirstSound);
        line.place(Some(700), &[&[1.0; 10]]);
        assert_eq!(line.position(), 700);
        assert_eq!(taken(&mut line).len(), 10);
    }

    #[test]
    fn small_steps_are_left_alone_and_large_ones_corrected() {
        let mut line = SampleLine::new(FORMAT, Start::Zero);
        line.place(Some(0), &[&[1.0; 100]]);
        line.place(Some(199), &[&[2.0; 100]]);
        assert_eq!(line.end(), Some(200), "99 ms late: appended as it is");
        line.place(Some(400), &[&[3.0; 100]]);
        assert_eq!(line.end(), Some(500), "200 ms of silence before it");
        line.place(Some(350), &[&[4.0; 160]]);
        assert_eq!(line.end(), Some(510), "150 ms of overlap are cut");
        assert_eq!(taken(&mut line).len(), 510);
    }

    #[test]
    fn samples_without_a_time_follow_on() {
        let mut line = SampleLine::new(FORMAT, Start::Zero);
        line.place(None, &[&[1.0; 5]]);
        line.place(None, &[&[1.0; 5]]);
        assert_eq!(line.end(), Some(10));
    }
}
