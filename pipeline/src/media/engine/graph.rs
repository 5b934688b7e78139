//! A libav filter graph with one way in and one way out.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::{Frame, Rational, filter};

use super::EngineError;
use super::error::{Doing, not_now};

/// Pictures or sound: the two kinds of ends that libav has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Picture,
    Sound,
}

pub(super) struct Graph {
    graph: filter::Graph,
    base: Rational,
}

impl Graph {
    /// `source` describes what comes in (as the arguments of `buffer` or `abuffer`), `chain` what is done to it.
    pub(super) fn new(kind: Kind, source: &str, chain: &str) -> Result<Self, EngineError> {
        let (first, last) = match kind {
            Kind::Picture => ("buffer", "buffersink"),
            Kind::Sound => ("abuffer", "abuffersink"),
        };
        let find = |name| filter::find(name).ok_or(ffmpeg::Error::FilterNotFound);
        let mut graph = filter::Graph::new();
        let build = |graph: &mut filter::Graph| {
            graph.add(&find(first)?, "in", source)?;
            graph.add(&find(last)?, "out", "")?;
            graph.output("in", 0)?.input("out", 0)?.parse(chain)?;
            graph.validate()?;
            Ok(graph.get("out").ok_or(ffmpeg::Error::FilterNotFound)?.sink().time_base())
        };
        let base = build(&mut graph).doing(&format!("set up the filters {chain} for {source}"))?;
        Ok(Self { graph, base })
    }

    /// Of the frames that come out.
    pub(super) fn base(&self) -> Rational {
        self.base
    }

    /// Takes a frame; its pixels or samples are moved in.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<(), EngineError> {
        self.end("in")?.source().add(frame).doing("filter a frame")
    }

    pub(super) fn finish(&mut self) -> Result<(), EngineError> {
        self.end("in")?.source().flush().doing("end a filter graph")
    }

    /// The next frame, if there is one now.
    pub(super) fn take<F>(&mut self, mut frame: F) -> Result<Option<F>, EngineError>
    where
        F: std::ops::DerefMut<Target = Frame>,
    {
        match self.end("out")?.sink().frame(&mut frame) {
            Ok(()) => Ok(Some(frame)),
            Err(error) if not_now(error) => Ok(None),
            Err(error) => Err(EngineError::internal("filter a frame", error)),
        }
    }

    fn end(&mut self, name: &str) -> Result<filter::Context, EngineError> {
        self.graph.get(name).ok_or(ffmpeg::Error::FilterNotFound).doing("find a filter")
    }
}
