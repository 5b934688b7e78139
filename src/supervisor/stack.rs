//! The three servers together: started at once, watched together, stopped in reverse order of need.

use std::path::Path;

use super::{
    Death, Minio, MinioServer, Postgres, PostgresServer, Programs, Redis, RedisServer, State,
    SupervisorError, create_private,
};

const MAX_CONNECTIONS: u16 = 100;

/// A private Postgres, Redis and MinIO that all answer.
pub struct Stack {
    pub postgres: PostgresServer,
    pub redis: RedisServer,
    pub minio: MinioServer,
}

impl Stack {
    /// Everything lies under `directory`. MinIO's events go to `webhook_url`. When one cannot start, the others are
    /// killed: they have served nobody yet.
    pub async fn start(
        directory: &Path,
        state: &State,
        cache: Option<&Path>,
        webhook_url: &str,
    ) -> Result<Self, SupervisorError> {
        let programs = Programs::new(&directory.join("bin"), cache);
        let logs = directory.join("logs");
        create_private(&logs)?;
        let postgres = Postgres {
            directory: directory.join("postgres"),
            log: logs.join("postgres.log"),
            port: state.postgres_port,
            password: state.postgres_password.clone(),
            max_connections: MAX_CONNECTIONS,
            durable: true,
        };
        let redis = Redis {
            directory: directory.join("redis"),
            log: logs.join("redis.log"),
            port: state.redis_port,
            password: state.redis_password.clone(),
        };
        let minio = Minio {
            directory: directory.join("minio"),
            log: logs.join("minio.log"),
            port: state.minio_port,
            console_port: state.console_port,
            user: state.minio_user.clone(),
            password: state.minio_password.clone(),
            webhook_url: webhook_url.to_owned(),
            webhook_token: state.webhook_token.clone(),
        };
        let (postgres, redis, minio) = tokio::try_join!(
            postgres.start(&programs),
            redis.start(&programs),
            minio.start(&programs)
        )?;
        Ok(Self { postgres, redis, minio })
    }

    /// The names and process ids, in the order of need.
    #[must_use]
    pub fn processes(&self) -> [(&'static str, i32); 3] {
        [self.postgres.process(), self.redis.process(), self.minio.process()]
            .map(|process| (process.name(), process.pid()))
    }

    /// Waits for the first that ends without being asked.
    pub async fn first_death(&self) -> Death {
        tokio::select! {
            death = self.postgres.process().died() => death,
            death = self.redis.process().died() => death,
            death = self.minio.process().died() => death,
        }
    }

    /// In reverse: MinIO goes first and brings no more events, Postgres last.
    pub async fn stop(self) {
        self.minio.stop().await;
        self.redis.stop().await;
        self.postgres.stop().await;
    }
}
