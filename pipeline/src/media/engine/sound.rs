//! The sound stream, decoded: every shape of it becomes one rate and one channel count, and goes onto a line of samples.

use ffmpeg_next::{Packet, Rational, frame};

use super::EngineError;
use super::decode::Decoder;
use super::ffi;
use super::graph::{Graph, Kind};
use super::sample_line::{Format, SampleLine, Start};
use super::time::from_base;
use crate::video::FailureCause;

/// How loud channels that are mixed into fewer may get together. libav does not bound float samples by itself, so loud
/// 5.1 would clip; and an encoder gives peaks back a little higher than it got them, hence one decibel less than 1.
const MIXED_PEAK: f32 = 0.89;

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
            return Err(unsupported(frame.channels().into(), frame.rate()));
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

    fn build(&self, shape: &Shape) -> Result<Graph, EngineError> {
        let Shape { rate, format, layout } = shape;
        let source = format!(
            "sample_rate={rate}:sample_fmt={format}:channel_layout=0x{layout:x}:time_base=1/{rate}"
        );
        let (wanted, two) = match self.format.channels {
            1 => ("mono", "mono|c0=0.5*c0+0.5*c1"),
            _ => ("stereo", "stereo|c0=c0|c1=c1"),
        };
        let chain = format!(
            "aresample={}:rematrix_maxval={MIXED_PEAK},aformat=sample_fmts=fltp:channel_layouts={wanted}",
            self.format.rate
        );
        Graph::new(Kind::Sound, &source, &chain)
            // Places that no mix is known for: the first two channels.
            .or_else(|_| Graph::new(Kind::Sound, &source, &format!("pan={two},{chain}")))
            .map_err(|_| unsupported(layout.count_ones(), *rate))
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

fn unsupported(channels: u32, rate: u32) -> EngineError {
    let text = format!("sound of {channels} channels at {rate} Hz is not one that we accept");
    EngineError::refused(FailureCause::UnsupportedFormat, text)
}
