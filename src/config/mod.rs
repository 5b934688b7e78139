//! Settings: flags and environment variables, checked at start with errors that say what to do. Secrets are never printed.
//!
//! Each group is a clap `Args` that commands flatten, so `--help` and `.env.example` know all of them. A group's
//! accessors turn it into the configuration of one door; nothing else in the daemon reads the environment.

mod daemon;
mod endpoint;
mod limits;
mod minio;
mod redis;
mod roles;
mod secret;
mod speech;
mod worker;

pub use daemon::{Config, DaemonSettings, METRICS_PORT, media_program};
pub use limits::LimitSettings;
pub use minio::{MinioSettings, WEBHOOK_PATH, WebhookSettings};
pub use redis::RedisSettings;
pub use roles::Roles;
pub use secret::Secret;
pub use speech::SpeechSettings;
pub use worker::WorkerSettings;

use std::path::PathBuf;

use clap::Args;
use url::Url;

/// A setting that cannot be used: what, why, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ConfigError {
    fn missing(name: &str, remedy: &str) -> Self {
        Self(format!(
            "{name} is not set. {remedy} (`clipstream dev` starts and sets everything itself)"
        ))
    }
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Postgres")]
pub struct DatabaseSettings {
    /// Postgres, e.g. `postgres://user:password@host:5432/clipstream`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<Secret>,
    /// Most connections of this process, beside two of its own for the heartbeats of leases
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value_t = 20, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(2..))]
    database_max_connections: u32,
}

impl DatabaseSettings {
    pub fn url(&self) -> Result<&str, ConfigError> {
        let url = self.database_url.as_ref().map(Secret::reveal).ok_or_else(|| {
            ConfigError::missing(
                "DATABASE_URL",
                "Set it to the database, e.g. postgres://user:password@host:5432/clipstream",
            )
        })?;
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Ok(url)
        } else {
            Err(ConfigError(
                "DATABASE_URL is not the URL of a Postgres. It must begin with postgres:// \
                 (it is not shown here, since it may hold a password)"
                    .to_owned(),
            ))
        }
    }

    #[must_use]
    pub fn max_connections(&self) -> u32 {
        self.database_max_connections
    }
}

/// Where the set-up keeps programs and models for this user.
#[must_use]
pub fn cache_dir() -> Option<PathBuf> {
    let directory =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")));
    cache.map(|cache| cache.join("clipstream"))
}

/// For commands that talk to a running daemon.
#[derive(Args, Clone)]
#[command(next_help_heading = "The daemon to talk to")]
pub struct ClientSettings {
    /// Where the API is
    #[arg(long, env = "CLIPSTREAM_URL", default_value = "http://127.0.0.1:8000")]
    pub url: Url,
    /// API key, from `clipstream token create`
    #[arg(long, env = "CLIPSTREAM_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
}

/// What is logged, and how. For every command.
#[derive(Args, Clone)]
#[command(next_help_heading = "Logging")]
pub struct LogSettings {
    /// What to log: a level, or levels by target, e.g. clipstream=debug,pipeline=debug,warn
    #[arg(
        long,
        env = "CLIPSTREAM_LOG",
        default_value = "info,actix_server=warn,sqlx=warn",
        global = true,
        value_name = "FILTER"
    )]
    pub log: String,
    /// text, json, or auto: text on a terminal, json otherwise
    #[arg(
        long,
        env = "CLIPSTREAM_LOG_FORMAT",
        default_value = "auto",
        global = true,
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(url: Option<&str>) -> DatabaseSettings {
        DatabaseSettings {
            database_url: url.map(|url| url.parse().expect("any text is a secret")),
            database_max_connections: 20,
        }
    }

    #[test]
    fn a_missing_database_says_how_to_name_one() {
        let error = database(None).url().expect_err("there is none").to_string();
        assert!(error.contains("DATABASE_URL") && error.contains("postgres://"), "{error}");
    }

    #[test]
    fn a_foreign_database_is_refused_without_showing_its_password() {
        let settings = database(Some("mysql://root:hunter2@host/x"));
        let error = settings.url().expect_err("not a Postgres").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
