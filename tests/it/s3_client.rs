//! An S3 client that is not ours, for what our door refuses to do or leaves to others: objects under foreign keys, and
//! configurations of the bucket as somebody else would write them.

use std::time::{Duration, Instant};

use pipeline::storage::StorageConfig;
use reqwest::{Method, Response, StatusCode};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

const LIFETIME: Duration = Duration::from_mins(1);
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct S3Client {
    bucket: Bucket,
    credentials: Credentials,
    http: reqwest::Client,
}

impl S3Client {
    pub(crate) fn new(config: &StorageConfig) -> Self {
        let (endpoint, name) = (config.endpoint.clone(), config.bucket.clone());
        Self {
            bucket: Bucket::new(endpoint, UrlStyle::Path, name, "us-east-1").expect("a bucket"),
            credentials: Credentials::new(&config.access_key, &config.secret_key),
            http: reqwest::Client::new(),
        }
    }

    pub(crate) async fn put(&self, key: &str, body: &[u8]) {
        let url = self.bucket.put_object(Some(&self.credentials), key).sign(LIFETIME);
        self.send(Method::PUT, url, body.to_vec()).await;
    }

    pub(crate) async fn delete(&self, key: &str) {
        let url = self.bucket.delete_object(Some(&self.credentials), key).sign(LIFETIME);
        self.send(Method::DELETE, url, Vec::new()).await;
    }

    /// Writes the sub-resource of the bucket: `policy`, `notification`, `versioning`.
    pub(crate) async fn put_config(&self, what: &str, document: &str) {
        // An empty key gives the URL of the bucket itself.
        let mut action = self.bucket.put_object(Some(&self.credentials), "");
        action.query_mut().insert(what, "");
        let patience = Instant::now() + PATIENCE;
        loop {
            let url = action.sign(LIFETIME);
            let answer = self.http.put(url).body(document.to_owned()).send().await;
            let answer = answer.expect("an answer");
            // A MinIO that just started does not know its event targets yet.
            if answer.status() == StatusCode::BAD_REQUEST && Instant::now() < patience {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            return drop(accepted(answer).await);
        }
    }

    pub(crate) async fn get_config(&self, what: &str) -> String {
        let mut action = self.bucket.get_object(Some(&self.credentials), "");
        action.query_mut().insert(what, "");
        let answer = self.send(Method::GET, action.sign(LIFETIME), Vec::new()).await;
        answer.text().await.expect("a body")
    }

    async fn send(&self, method: Method, url: url::Url, body: Vec<u8>) -> Response {
        accepted(self.http.request(method, url).body(body).send().await.expect("an answer")).await
    }
}

async fn accepted(answer: Response) -> Response {
    let status = answer.status();
    if status.is_success() {
        return answer;
    }
    panic!("{status}: {}", answer.text().await.expect("a body"));
}
