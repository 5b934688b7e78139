//! Media children that were seen to be caged: one is started before a worker takes its first job. With less of the cage than
//! the settings ask for there are none, and the worker does not start.

use pipeline::media::cage::{Layer, Level};
use pipeline::media::{Media, MediaConfig, MediaError};

pub(crate) struct Caged {
    pub(crate) media: Media,
    level: Level,
}

pub(crate) async fn caged(config: &MediaConfig) -> Result<Caged, MediaError> {
    let media = Media::new(config.clone());
    let level = media.probe().await?;
    if level.missing.is_empty() {
        tracing::info!(sandbox = %level, "media children are caged");
    } else {
        let wanted = config.sandbox;
        tracing::warn!(sandbox = %level, %wanted, "media children are caged in part; doctor says what to do");
    }
    Ok(Caged { media, level })
}

impl Caged {
    /// Every layer by its name, and whether it holds.
    pub(crate) fn layers(&self) -> Vec<(&'static str, bool)> {
        Layer::ALL.map(|layer| (layer.as_str(), self.level.holds(layer))).to_vec()
    }
}
