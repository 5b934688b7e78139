//! Logs: to stderr, text for people and JSON for machines. Nothing else decides how a line looks.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogFormat, LogSettings};

/// Installs the logger of this process. A second call, as in tests, changes nothing.
pub fn init(settings: &LogSettings) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| {
        ConfigError(format!(
            "CLIPSTREAM_LOG is {:?}: {error}. Write a level (info) or levels by target (clipstream=debug,warn)",
            settings.log
        ))
    })?;
    let terminal = stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logger =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(colours);
    let installed = match settings.log_format {
        LogFormat::Json => logger.json().flatten_event(true).try_init(),
        LogFormat::Auto if !terminal => logger.json().flatten_event(true).try_init(),
        LogFormat::Auto | LogFormat::Text => logger.try_init(),
    };
    if installed.is_err() {
        tracing::debug!("a logger is installed already");
    }
    Ok(())
}
