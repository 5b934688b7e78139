//! What a running stack tells: a banner for the person, `dev.env` for their programs. Both say the same.

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;

use url::Url;

use super::directory::Directory;
use super::{BUCKET, PREFIX, REGION};
use crate::config::WEBHOOK_PATH;
use crate::supervisor::{Stack, State};

/// Names and values, in the order of the file.
pub(super) struct Notice {
    variables: Vec<(&'static str, String)>,
    console: String,
    metrics: SocketAddr,
    env: PathBuf,
}

impl Notice {
    pub(super) fn new(
        directory: &Directory,
        state: &State,
        stack: &Stack,
        url: &Url,
        metrics: SocketAddr,
        api_key: &str,
    ) -> Self {
        let endpoint = stack.minio.endpoint();
        let (user, password) = (&state.minio_user, &state.minio_password);
        let base = url.as_str().trim_end_matches('/');
        let variables = vec![
            ("CLIPSTREAM_URL", base.to_owned()),
            ("CLIPSTREAM_API_KEY", api_key.to_owned()),
            ("DATABASE_URL", stack.postgres.url()),
            ("REDIS_URL", stack.redis.url()),
            ("REDIS_PREFIX", PREFIX.to_owned()),
            ("MINIO_ENDPOINT", endpoint.clone()),
            ("MINIO_ACCESS_KEY", user.clone()),
            ("MINIO_SECRET_KEY", password.clone()),
            ("MINIO_BUCKET", BUCKET.to_owned()),
            ("MINIO_REGION", REGION.to_owned()),
            ("MINIO_WEBHOOK_URL", format!("{base}{WEBHOOK_PATH}")),
            ("MINIO_WEBHOOK_TOKEN", state.webhook_token.clone()),
            ("MC_HOST_clipstream", endpoint.replacen("://", &format!("://{user}:{password}@"), 1)),
        ];
        Self { variables, console: stack.minio.console(), metrics, env: directory.env() }
    }

    /// The file first: whoever reads the banner may use it at once.
    pub(super) fn publish(&self, directory: &Directory) -> anyhow::Result<()> {
        directory.write_env(&self.file())?;
        stdout().write_all(self.banner().as_bytes())?;
        stdout().flush()?;
        Ok(())
    }

    /// For `set -a; . dev.env`. Every value is of letters that a shell leaves alone.
    fn file(&self) -> String {
        const HEAD: &str = "# Written by clipstream dev; removed when it stops. Holds secrets.\n";
        let lines = self.variables.iter().map(|(name, value)| format!("{name}={value}\n"));
        std::iter::once(HEAD.to_owned()).chain(lines).collect()
    }

    fn banner(&self) -> String {
        let value = |wanted: &str| {
            let found = self.variables.iter().find(|(name, _)| *name == wanted);
            found.map_or("", |(_, value)| value.as_str())
        };
        let env = self.env.display();
        format!(
            "
  clipstream is ready (private servers on this machine, not for production)

  API             {url}
  API key         {key}
  MinIO           {minio}
  MinIO console   {console}   ({user} / {secret})
  Postgres        {database}
  Redis           {redis}
  Webhook         {webhook}   (token {token})
  Metrics         http://{metrics}/metrics

  For your programs:   set -a; . '{env}'; set +a
  Upload a video:      clipstream upload FILE --watch
  Watch the pipeline:  psql \"$DATABASE_URL\" -c 'select * from pipeline_status'
  Stop:                Ctrl-C (the data stays; `clipstream dev reset` wipes it)

",
            url = value("CLIPSTREAM_URL"),
            key = value("CLIPSTREAM_API_KEY"),
            minio = value("MINIO_ENDPOINT"),
            console = self.console,
            user = value("MINIO_ACCESS_KEY"),
            secret = value("MINIO_SECRET_KEY"),
            database = value("DATABASE_URL"),
            redis = value("REDIS_URL"),
            webhook = value("MINIO_WEBHOOK_URL"),
            token = value("MINIO_WEBHOOK_TOKEN"),
            metrics = self.metrics,
        )
    }
}
