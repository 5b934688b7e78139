//! Decoded pictures made presentable: deinterlaced where flagged, upright, square pixels, one size, one pixel format.
//! A source that changes its size, format or range in the middle gets a new filter graph; what comes out stays the same.

use std::collections::VecDeque;

use ffmpeg_next::{color, frame};

use super::EngineError;
use super::ffi;
use super::graph::{Graph, Kind};
use super::orientation::Orientation;
use super::time::{VIDEO_HZ, from_base};

/// What comes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) width: u32,
    pub(super) height: u32,
    /// `yuv420p` (8 bits, TV range) or `rgb24`.
    pub(super) format: &'static str,
}

/// What comes in, as far as a graph depends on it.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    width: u32,
    height: u32,
    format: &'static str,
    full_range: bool,
}

/// Makes pictures presentable. Time stamps are ticks of 90 kHz on both sides.
pub(super) struct Presenter {
    target: Target,
    orientation: Orientation,
    /// Once a flagged picture was seen, all pictures pass the deinterlacer, which leaves the others alone.
    interlaced: bool,
    graph: Option<(Shape, Graph)>,
    ready: VecDeque<frame::Video>,
}

impl Presenter {
    pub(super) fn new(target: Target, orientation: Orientation) -> Self {
        Self { target, orientation, interlaced: false, graph: None, ready: VecDeque::new() }
    }

    pub(super) fn push(&mut self, picture: &frame::Video) -> Result<(), EngineError> {
        let shape = shape(picture);
        let newly_interlaced = picture.is_interlaced() && !self.interlaced;
        self.interlaced |= newly_interlaced;
        let fits = self.graph.as_ref().is_some_and(|(current, _)| *current == shape);
        if !fits || newly_interlaced {
            self.finish()?;
            self.graph = Some((shape, self.build(picture)?));
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

    fn build(&self, picture: &frame::Video) -> Result<Graph, EngineError> {
        let (width, height) = (picture.width(), picture.height());
        let format = pixel_format(picture);
        let source = format!(
            "video_size={width}x{height}:pix_fmt={format}:time_base=1/{VIDEO_HZ}:pixel_aspect=1/1"
        );
        let mut chain: Vec<String> = Vec::new();
        if self.interlaced {
            chain.push("bwdif=mode=send_frame:parity=auto:deint=interlaced".into());
        }
        chain.extend(self.orientation.filters().into_iter().map(String::from));
        chain.push(self.scale(picture, format));
        chain.push(format!("format={}", self.target.format));
        chain.push("setsar=1".into());
        Graph::new(Kind::Picture, &source, &chain.join(","))
    }

    fn scale(&self, picture: &frame::Video, format: &str) -> String {
        let Target { width, height, format: wanted } = self.target;
        let (from_width, from_height) =
            self.orientation.turned((picture.width(), picture.height()));
        // Area averages when it makes smaller; it has nothing to average when it makes larger.
        let smaller = width <= from_width && height <= from_height;
        let flags = if smaller { "area" } else { "bicubic" };
        let mut scale = format!("scale={width}:{height}:flags={flags}");
        if wanted == "yuv420p" {
            if is_rgb(format) {
                scale.push_str(":out_color_matrix=bt709:out_range=tv");
            } else if is_full_range(picture) {
                scale.push_str(":out_range=tv");
            }
        }
        scale
    }
}

/// The size and format of a decoded picture without touching its pixels.
fn shape(picture: &frame::Video) -> Shape {
    Shape {
        width: picture.width(),
        height: picture.height(),
        format: pixel_format(picture),
        full_range: is_full_range(picture),
    }
}

fn pixel_format(picture: &frame::Video) -> &'static str {
    picture.format().descriptor().map_or("none", ffmpeg_next::format::pixel::Descriptor::name)
}

fn is_rgb(format: &str) -> bool {
    ["rgb", "bgr", "gbr", "pal8"].iter().any(|name| format.contains(name))
}

fn is_full_range(picture: &frame::Video) -> bool {
    picture.color_range() == color::Range::JPEG || pixel_format(picture).starts_with("yuvj")
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
