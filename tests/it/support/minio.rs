//! A MinIO of one test alone, killed and removed when the test ends.

use std::fs;
use std::path::PathBuf;

use clipstream::supervisor::{Minio, MinioServer, free_port, random_hex};
use pipeline::storage::StorageConfig;
use url::Url;

use super::world;

/// A MinIO with an empty bucket, without policy or event rules.
pub(crate) struct TestMinio {
    pub(crate) endpoint: Url,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) bucket: String,
    server: MinioServer,
}

impl TestMinio {
    pub(crate) fn storage_config(&self) -> StorageConfig {
        StorageConfig {
            endpoint: self.endpoint.clone(),
            public_endpoint: self.endpoint.clone(),
            region: "us-east-1".to_owned(),
            bucket: self.bucket.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
        }
    }

    /// Its process id: for tests that stop it, or make it hang.
    pub(crate) fn pid(&self) -> i32 {
        self.server.process().pid()
    }
}

impl Drop for TestMinio {
    fn drop(&mut self) {
        self.server.kill_and_wait();
        // What cannot be removed now goes with the directory of the run.
        drop(fs::remove_dir_all(&self.server.config().directory));
    }
}

/// Its webhook targets lead nowhere.
pub(crate) async fn minio() -> TestMinio {
    minio_with_webhook("http://127.0.0.1:9/webhooks/minio/upload-complete", "nobody listens").await
}

/// It could not make sense of its webhook targets, and so has none.
pub(crate) async fn minio_without_targets() -> TestMinio {
    minio_with_webhook("", "").await
}

/// Both its webhook targets lead to `webhook_url`.
pub(crate) async fn minio_with_webhook(webhook_url: &str, webhook_token: &str) -> TestMinio {
    let bucket = "clipstream";
    let directory = new_directory();
    // A directory that is there before the start is a bucket.
    fs::create_dir_all(directory.join("objects").join(bucket)).expect("a bucket");
    let minio = Minio {
        log: directory.join("minio.log"),
        directory,
        port: free_port().expect("a port"),
        console_port: free_port().expect("a port"),
        user: "clipstream".to_owned(),
        password: random_hex().expect("random bytes"),
        webhook_url: webhook_url.to_owned(),
        webhook_token: webhook_token.to_owned(),
    };
    let server = minio.start(&world::programs()).await.unwrap_or_else(|error| panic!("{error}"));
    TestMinio {
        endpoint: server.endpoint().parse().expect("a URL"),
        access_key: server.config().user.clone(),
        secret_key: server.config().password.clone(),
        bucket: bucket.to_owned(),
        server,
    }
}

fn new_directory() -> PathBuf {
    world::directory().join(format!("minio-{}", random_hex().expect("random bytes")))
}
