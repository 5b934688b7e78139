//! An S3 client that is not ours, for what our door refuses to do or leaves to others: objects under foreign keys, and
//! configurations of the bucket as somebody else would write them.

use std::time::{Duration, Instant};

use pipeline::storage::StorageConfig;
use reqwest::{Method, Response, StatusCode};
use rusty_s3::actions::CreateMultipartUpload;
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
        self.put_with(key, body, &[]).await;
    }

    /// With these headers, signed.
    pub(crate) async fn put_with(&self, key: &str, body: &[u8], headers: &[(&str, &str)]) {
        let mut action = self.bucket.put_object(Some(&self.credentials), key);
        for (name, value) in headers {
            action.headers_mut().insert(name.to_string(), value.to_string());
        }
        let mut request = self.http.put(action.sign(LIFETIME)).body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        accepted(request.send().await.expect("an answer")).await;
    }

    /// An object of three things: bytes, another object so many times, and bytes; MinIO copies what it has.
    pub(crate) async fn compose(
        &self,
        key: &str,
        first: &[u8],
        middle: &str,
        times: u16,
        last: &[u8],
    ) {
        let credentials = Some(&self.credentials);
        let created = self.bucket.create_multipart_upload(credentials, key).sign(LIFETIME);
        let created = self.send(Method::POST, created, Vec::new()).await;
        let created = created.text().await.expect("a body");
        let created = CreateMultipartUpload::parse_response(&created).expect("an upload");
        let mut tags = Vec::new();
        for number in 1..=times + 2 {
            let mut part = self.bucket.upload_part(credentials, key, number, created.upload_id());
            let answer = if (2..times + 2).contains(&number) {
                let from = format!("{}/{middle}", self.bucket.name());
                part.headers_mut().insert("x-amz-copy-source", from.clone());
                let request = self.http.put(part.sign(LIFETIME));
                accepted(request.header("x-amz-copy-source", from).send().await.expect("an answer"))
                    .await
            } else {
                let body = if number == 1 { first } else { last };
                self.send(Method::PUT, part.sign(LIFETIME), body.to_vec()).await
            };
            tags.push(if let Some(tag) = answer.headers().get("etag") {
                tag.to_str().expect("a tag").trim_matches('"').to_owned()
            } else {
                let copied = answer.text().await.expect("a body");
                let tag = copied.split("<ETag>").nth(1).expect("a tag");
                let tag = tag.split("</ETag>").next().expect("its end");
                tag.replace("&#34;", "").replace("&quot;", "").replace('"', "")
            });
        }
        let tags = tags.iter().map(String::as_str);
        let whole =
            self.bucket.complete_multipart_upload(credentials, key, created.upload_id(), tags);
        let (url, body) = (whole.sign(LIFETIME), whole.body());
        self.send(Method::POST, url, body.into_bytes()).await;
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
