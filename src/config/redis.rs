//! Settings of Redis: one URL, or its parts.

use clap::Args;
use pipeline::queue::QueueConfig;
use url::Url;

use super::{ConfigError, Secret};

#[derive(Args, Clone)]
#[command(next_help_heading = "Redis")]
#[expect(clippy::struct_field_names, reason = "a field is named as its flag")]
pub struct RedisSettings {
    /// Redis, e.g. `redis://:password@host:6379/0`; wins over the settings below
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis_url: Option<Secret>,
    /// Its host
    #[arg(long, env = "REDIS_HOST", default_value = "127.0.0.1", value_name = "HOST")]
    redis_host: String,
    /// Its port
    #[arg(long, env = "REDIS_PORT", default_value_t = 6379, value_name = "PORT")]
    redis_port: u16,
    /// Its password, if it has one
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    redis_password: Option<Secret>,
    /// The number of the database
    #[arg(long, env = "REDIS_DB", default_value_t = 0, value_name = "NUMBER")]
    redis_db: u16,
    /// What every key of ours begins with
    #[arg(long, env = "REDIS_PREFIX", default_value = "clipstream:", value_name = "TEXT")]
    redis_prefix: String,
}

impl RedisSettings {
    pub fn queue(&self) -> Result<QueueConfig, ConfigError> {
        if self.redis_prefix.contains(['{', '}']) {
            return Err(ConfigError(
                "REDIS_PREFIX holds a brace, which decides the slot in a Redis cluster. Leave braces out"
                    .to_owned(),
            ));
        }
        Ok(QueueConfig { url: self.url()?, prefix: self.redis_prefix.clone() })
    }

    fn url(&self) -> Result<String, ConfigError> {
        if let Some(url) = &self.redis_url {
            let parsed = Url::parse(url.reveal()).ok();
            let known = |url: &Url| matches!(url.scheme(), "redis" | "rediss") && url.has_host();
            return match parsed.filter(known) {
                Some(_) => Ok(url.reveal().to_owned()),
                None => Err(ConfigError(
                    "REDIS_URL is not the URL of a Redis, e.g. redis://:password@host:6379/0 \
                     (it is not shown here, since it may hold a password)"
                        .to_owned(),
                )),
            };
        }
        let Self { redis_host: host, redis_port: port, redis_db: db, .. } = self;
        let host = if host.contains(':') {
            format!("[{}]", host.trim_matches(['[', ']']))
        } else {
            host.clone()
        };
        let refuse =
            || ConfigError(format!("REDIS_HOST is {host:?}, which is not the name of a host"));
        let mut url = Url::parse(&format!("redis://{host}:{port}/{db}")).map_err(|_| refuse())?;
        if let Some(password) = &self.redis_password {
            // The password is escaped here; it may hold any character.
            url.set_password(Some(password.reveal())).map_err(|()| refuse())?;
        }
        Ok(url.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        redis: RedisSettings,
    }

    fn url(arguments: &[&str]) -> Result<String, String> {
        let arguments = ["clipstream"].iter().chain(arguments);
        let command = Command::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"));
        command.redis.queue().map(|queue| queue.url).map_err(|error| error.to_string())
    }

    #[test]
    fn the_parts_make_a_url() {
        assert_eq!(url(&[]).as_deref(), Ok("redis://127.0.0.1:6379/0"));
        assert_eq!(
            url(&[
                "--redis-host=cache",
                "--redis-port=7000",
                "--redis-password=p@ss/w",
                "--redis-db=3"
            ])
            .as_deref(),
            Ok("redis://:p%40ss%2Fw@cache:7000/3")
        );
        assert_eq!(url(&["--redis-host=::1"]).as_deref(), Ok("redis://[::1]:6379/0"));
    }

    #[test]
    fn the_url_wins() {
        let all = ["--redis-url=rediss://cache:7000/1", "--redis-host=other"];
        assert_eq!(url(&all).as_deref(), Ok("rediss://cache:7000/1"));
    }

    #[test]
    fn a_foreign_url_is_refused_without_showing_it() {
        let error = url(&["--redis-url=http://:hunter2@cache"]).expect_err("not a Redis");
        assert!(error.contains("REDIS_URL") && !error.contains("hunter2"), "{error}");
    }
}
