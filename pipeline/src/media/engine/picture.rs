//! Decoded pictures made presentable: deinterlaced where flagged, upright, square pixels, one size, one set of colours.
//! A source that changes its size, format or colours in the middle gets a new filter graph; what comes out stays the same.

use std::collections::VecDeque;

use ffmpeg_next::{Rational, frame};

use super::colours::{Colours, is_mastered, pixel_format};
use super::graph::{Graph, Kind};
use super::orientation::Orientation;
use super::shape::{fit, square};
use super::time::{VIDEO_HZ, from_base};
use super::{EngineError, ffi};

/// What comes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// For an encoder: 8-bit 4:2:0, BT.709, TV range. A shape that is not the target's gets bars.
    Yuv,
    /// To be looked at by programs: `rgb24`, stretched to the target, one out for each one in.
    Rgb,
}

const TAGS: &str = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709";

/// What a graph depends on.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    size: (u32, u32),
    format: &'static str,
    colours: Colours,
    /// The codec's word for the shape of a pixel.
    pixel_aspect: (i32, i32),
}

/// Makes pictures presentable. Time stamps are ticks of 90 kHz on both sides.
pub(super) struct Presenter {
    target: Target,
    orientation: Orientation,
    /// The container's word for the shape of a pixel: it goes before the codec's, until the codec changes its own.
    pixel_aspect: Rational,
    /// Size and shape of a pixel in the first picture, for which the container's word holds.
    first: Option<((u32, u32), (i32, i32))>,
    /// Once a flagged picture was seen, all pictures pass the deinterlacer, which leaves the others alone.
    interlaced: bool,
    /// Said by one picture, it holds for those that follow.
    mastered: bool,
    graph: Option<(Shape, Graph)>,
    ready: VecDeque<frame::Video>,
}

impl Presenter {
    pub(super) fn new(target: Target, orientation: Orientation, pixel_aspect: Rational) -> Self {
        Self {
            target,
            orientation,
            pixel_aspect,
            first: None,
            interlaced: false,
            mastered: false,
            graph: None,
            ready: VecDeque::new(),
        }
    }

    /// For pictures that came out of a presenter.
    pub(super) fn of_presentable(target: Target) -> Self {
        Self::new(target, Orientation::default(), Rational(1, 1))
    }

    pub(super) fn push(&mut self, picture: &frame::Video) -> Result<(), EngineError> {
        self.mastered |= is_mastered(picture);
        let shape = self.shape(picture);
        self.first.get_or_insert((shape.size, shape.pixel_aspect));
        // The deinterlacer needs the next picture before it answers.
        let flagged = picture.is_interlaced() && self.target.format == Format::Yuv;
        let newly_interlaced = flagged && !self.interlaced;
        self.interlaced |= newly_interlaced;
        let fits = self.graph.as_ref().is_some_and(|(current, _)| *current == shape);
        if !fits || newly_interlaced {
            self.finish()?;
            let graph = self.build(&shape)?;
            self.graph = Some((shape, graph));
        }
        if let Some((_, graph)) = &mut self.graph {
            graph.push(picture)?;
        }
        self.collect()
    }

    /// No more pictures come; what the filters still hold comes out.
    pub(super) fn finish(&mut self) -> Result<(), EngineError> {
        if let Some((_, graph)) = &mut self.graph {
            graph.finish()?;
            self.collect()?;
        }
        self.graph = None;
        Ok(())
    }

    /// The next presentable picture, if there is one now.
    pub(super) fn take(&mut self) -> Option<frame::Video> {
        self.ready.pop_front()
    }

    /// Pushes one picture and takes the one that comes of it; only where nothing is deinterlaced.
    pub(super) fn present(&mut self, picture: &frame::Video) -> Result<frame::Video, EngineError> {
        self.push(&share(picture)?)?;
        self.take().ok_or_else(|| EngineError::Internal("a filter kept a picture".into()))
    }

    fn collect(&mut self) -> Result<(), EngineError> {
        let Some((_, graph)) = &mut self.graph else { return Ok(()) };
        let base = graph.base();
        while let Some(mut picture) = graph.take(frame::Video::empty())? {
            let at = picture.pts().map(|pts| from_base(pts, base, VIDEO_HZ));
            picture.set_pts(at);
            self.ready.push_back(picture);
        }
        Ok(())
    }

    /// Looks at a picture without touching its pixels.
    fn shape(&self, picture: &frame::Video) -> Shape {
        let Rational(num, den) = picture.aspect_ratio();
        Shape {
            size: (picture.width(), picture.height()),
            format: pixel_format(picture),
            colours: Colours::of(picture, self.mastered),
            pixel_aspect: (num, den),
        }
    }

    fn build(&self, shape: &Shape) -> Result<Graph, EngineError> {
        let Shape { size: (width, height), format, colours, .. } = shape;
        let source = format!(
            "video_size={width}x{height}:pix_fmt={format}:time_base=1/{VIDEO_HZ}:pixel_aspect=1/1"
        );
        let mut chain: Vec<String> = Vec::new();
        if self.interlaced {
            chain.push("bwdif=mode=send_frame:parity=auto:deint=interlaced".into());
        }
        chain.extend(self.orientation.filters().into_iter().map(String::from));
        let filled = self.filled(shape);
        chain.push(self.scale(shape, filled));
        // After the scaler: what converts colours costs most, and there are fewer pixels now.
        chain.extend(colours.filters());
        chain.extend(self.finishing(filled));
        Graph::new(Kind::Picture, &source, &chain.join(","))
    }

    /// Changes the size and nothing else.
    fn scale(&self, shape: &Shape, (width, height): (u32, u32)) -> String {
        let (from_width, from_height) = self.orientation.turned(shape.size);
        // Area averages when it makes smaller; it has nothing to average when it makes larger.
        let smaller = width <= from_width && height <= from_height;
        let flags = if smaller { "area" } else { "bicubic" };
        let range = shape.colours.range();
        format!("scale={width}:{height}:flags={flags}:in_range={range}:out_range={range}")
    }

    /// What of the target the picture fills.
    fn filled(&self, shape: &Shape) -> (u32, u32) {
        let target = (self.target.width, self.target.height);
        let pixel_aspect = match self.first {
            Some(first) if first != (shape.size, shape.pixel_aspect) => {
                Rational(shape.pixel_aspect.0, shape.pixel_aspect.1)
            }
            _ => self.pixel_aspect,
        };
        match self.target.format {
            Format::Yuv => fit(self.orientation.turned(square(shape.size, pixel_aspect)), target),
            Format::Rgb => target,
        }
    }

    /// The last pixel format, and bars around what is `filled`.
    fn finishing(&self, filled: (u32, u32)) -> Vec<String> {
        let Target { width, height, format } = self.target;
        let mut chain = Vec::new();
        match format {
            Format::Yuv => {
                chain.push("format=yuv420p".into());
                if filled != (width, height) {
                    chain.push(format!("pad={width}:{height}:(ow-iw)/2:(oh-ih)/2"));
                }
                chain.push("setsar=1".into());
                chain.push(TAGS.into());
            }
            Format::Rgb => {
                chain.push("format=yuv444p".into());
                chain.push("scale=in_color_matrix=bt709:in_range=tv".into());
                chain.push("format=rgb24".into());
            }
        }
        chain
    }
}

fn share(picture: &frame::Video) -> Result<frame::Video, EngineError> {
    ffi::share(picture).map_err(|error| EngineError::internal("share a picture", error))
}

/// The bytes of an `rgb24` picture, row after row without padding.
pub(super) fn packed_rgb(picture: &frame::Video) -> Vec<u8> {
    let row = picture.width() as usize * 3;
    let stride = picture.stride(0);
    let rows = picture.height() as usize;
    picture.data(0).chunks(stride).take(rows).flat_map(|line| &line[..row]).copied().collect()
}
