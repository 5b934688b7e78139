//! Settings of MinIO: where it is, whose keys we use, and how its events reach us.

use clap::Args;
use pipeline::storage::StorageConfig;
use url::Url;

use super::endpoint::endpoint;
use super::{ConfigError, Secret};

/// Where the daemon takes events.
pub const WEBHOOK_PATH: &str = "/webhooks/minio/upload-complete";

/// A guess at the token must not be worth the try.
const MIN_TOKEN_LENGTH: usize = 16;

#[derive(Args, Clone)]
#[command(next_help_heading = "MinIO")]
#[expect(clippy::struct_field_names, reason = "a field is named as its flag")]
pub struct MinioSettings {
    /// MinIO: a URL, a host or host:port
    #[arg(long, env = "MINIO_ENDPOINT", value_name = "ENDPOINT")]
    minio_endpoint: Option<String>,
    /// Its port, where the endpoint does not name one [default: 9000]
    #[arg(long, env = "MINIO_PORT", value_name = "PORT")]
    minio_port: Option<u16>,
    /// Whether to use TLS, where the endpoint is not a URL [default: false]
    #[arg(long, env = "MINIO_USE_SSL", value_name = "BOOL", value_parser = boolean)]
    minio_use_ssl: Option<bool>,
    /// Another name of `MINIO_USE_SSL`
    #[arg(long, env = "MINIO_SECURE", value_name = "BOOL", value_parser = boolean)]
    minio_secure: Option<bool>,
    /// Access key; needs to read and write the bucket
    #[arg(long, env = "MINIO_ACCESS_KEY", hide_env_values = true, value_name = "KEY")]
    minio_access_key: Option<String>,
    /// Secret key; better set in the environment, arguments are seen by everyone on the machine
    #[arg(long, env = "MINIO_SECRET_KEY", hide_env_values = true, value_name = "KEY")]
    minio_secret_key: Option<Secret>,
    /// The bucket of sources and results
    #[arg(long, env = "MINIO_BUCKET", default_value = "clipstream", value_name = "NAME")]
    minio_bucket: String,
    /// Its region
    #[arg(long, env = "MINIO_REGION", default_value = "us-east-1", value_name = "NAME")]
    minio_region: String,
    /// Where users reach MinIO, if elsewhere: the host in presigned and public URLs
    #[arg(long, env = "MINIO_PUBLIC_ENDPOINT", value_name = "URL")]
    minio_public_endpoint: Option<String>,
}

impl MinioSettings {
    pub fn storage(&self) -> Result<StorageConfig, ConfigError> {
        let given = self.minio_endpoint.as_deref().ok_or_else(|| {
            ConfigError::missing("MINIO_ENDPOINT", "Set it to MinIO, e.g. http://127.0.0.1:9000")
        })?;
        let reached = endpoint("MINIO_ENDPOINT", given, self.minio_port, self.tls()?)?;
        let public_endpoint = match &self.minio_public_endpoint {
            Some(public) => endpoint("MINIO_PUBLIC_ENDPOINT", public, None, None)?,
            None => reached.clone(),
        };
        let access_key = self.minio_access_key.clone().ok_or_else(|| {
            ConfigError::missing(
                "MINIO_ACCESS_KEY",
                "Set it to a user of MinIO with access to the bucket",
            )
        })?;
        let secret_key = self.minio_secret_key.as_ref().ok_or_else(|| {
            ConfigError::missing("MINIO_SECRET_KEY", "Set it to the secret of MINIO_ACCESS_KEY")
        })?;
        check_bucket(&self.minio_bucket)?;
        Ok(StorageConfig {
            endpoint: reached,
            public_endpoint,
            region: self.minio_region.clone(),
            bucket: self.minio_bucket.clone(),
            access_key,
            secret_key: secret_key.reveal().to_owned(),
        })
    }

    fn tls(&self) -> Result<Option<bool>, ConfigError> {
        match (self.minio_use_ssl, self.minio_secure) {
            (Some(one), Some(other)) if one != other => Err(ConfigError(format!(
                "MINIO_USE_SSL is {one} and MINIO_SECURE is {other}. They are two names of one setting: unset one"
            ))),
            (one, other) => Ok(one.or(other)),
        }
    }
}

#[derive(Args, Clone)]
#[command(next_help_heading = "MinIO's events")]
pub struct WebhookSettings {
    /// Where MinIO reaches this daemon: the whole URL, with its path /webhooks/minio/upload-complete
    #[arg(long, env = "MINIO_WEBHOOK_URL", value_name = "URL")]
    minio_webhook_url: Option<Url>,
    /// The token that MinIO sends with each event, at least 16 characters
    #[arg(long, env = "MINIO_WEBHOOK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    minio_webhook_token: Option<Secret>,
}

impl WebhookSettings {
    /// Where MinIO reaches us: the whole URL with its path.
    pub fn url(&self) -> Result<Url, ConfigError> {
        let example = format!(
            "Set it to where MinIO reaches this daemon, e.g. http://clipstream:8000{WEBHOOK_PATH}"
        );
        let url = self
            .minio_webhook_url
            .clone()
            .ok_or_else(|| ConfigError::missing("MINIO_WEBHOOK_URL", &example))?;
        if !matches!(url.scheme(), "http" | "https") || url.path() == "/" {
            return Err(ConfigError(format!("MINIO_WEBHOOK_URL is {url}. {example}")));
        }
        Ok(url)
    }

    /// The shared bearer token.
    pub fn token(&self) -> Result<&str, ConfigError> {
        let remedy = "Set it, here and in MinIO, to a random text: openssl rand -hex 24";
        let token = self
            .minio_webhook_token
            .as_ref()
            .ok_or_else(|| ConfigError::missing("MINIO_WEBHOOK_TOKEN", remedy))?
            .reveal();
        // MinIO splits the token at white space, and with more than one space sends no header at all.
        if token.len() < MIN_TOKEN_LENGTH || !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err(ConfigError(format!(
                "MINIO_WEBHOOK_TOKEN is too short or holds white space or other unusual characters. {remedy}"
            )));
        }
        Ok(token)
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

fn check_bucket(name: &str) -> Result<(), ConfigError> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if (3..=63).contains(&name.len()) && name.chars().all(letters) {
        return Ok(());
    }
    Err(ConfigError(format!(
        "MINIO_BUCKET is {name:?}, which S3 does not allow. Use 3 to 63 of a-z, 0-9, dash and dot"
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        minio: MinioSettings,
        #[command(flatten)]
        webhook: WebhookSettings,
    }

    fn parse(arguments: &[&str]) -> Command {
        let arguments = ["clipstream"].iter().chain(arguments);
        Command::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_complete_set_becomes_a_storage() {
        let command = parse(&[
            "--minio-endpoint=minio",
            "--minio-secure=yes",
            "--minio-access-key=key",
            "--minio-secret-key=secret",
            "--minio-public-endpoint=https://cdn.example.org",
        ]);
        let storage = command.minio.storage().expect("complete");
        assert_eq!(storage.endpoint.as_str(), "https://minio:9000/");
        assert_eq!(storage.public_endpoint.as_str(), "https://cdn.example.org/");
        assert_eq!(storage.bucket, "clipstream");
    }

    #[test]
    fn each_missing_setting_is_named() {
        let mut arguments = Vec::new();
        for (missing, next) in [
            ("MINIO_ENDPOINT", "--minio-endpoint=minio"),
            ("MINIO_ACCESS_KEY", "--minio-access-key=key"),
            ("MINIO_SECRET_KEY", "--minio-secret-key=secret"),
        ] {
            let error = parse(&arguments).minio.storage().expect_err("something is missing");
            assert!(error.to_string().contains(missing), "{error}");
            arguments.push(next);
        }
        assert!(parse(&arguments).minio.storage().is_ok());
    }

    #[test]
    fn two_names_of_one_setting_must_agree() {
        let command =
            parse(&["--minio-use-ssl=true", "--minio-secure=0", "--minio-endpoint=minio"]);
        let error = command.minio.storage().expect_err("they differ").to_string();
        assert!(error.contains("MINIO_USE_SSL") && error.contains("MINIO_SECURE"), "{error}");
    }

    #[test]
    fn a_token_that_minio_would_not_send_is_refused() {
        for token in ["hunter2", "with a space in the middle"] {
            let command = parse(&[&format!("--minio-webhook-token={token}")]);
            let error = command.webhook.token().expect_err("unusable").to_string();
            assert!(!error.contains(token) && error.contains("openssl"), "{error}");
        }
    }

    #[test]
    fn the_webhook_needs_its_path() {
        let command = parse(&["--minio-webhook-url=http://clipstream:8000"]);
        assert!(command.webhook.url().is_err());
        let command = parse(&["--minio-webhook-url=http://proxy/clipstream/events"]);
        assert!(command.webhook.url().is_ok(), "a proxy may have paths of its own");
    }

    #[test]
    fn a_bucket_name_that_s3_refuses_is_refused_at_start() {
        for name in ["ab", "Clips", "clip_stream"] {
            assert!(check_bucket(name).is_err(), "{name}");
        }
    }
}
