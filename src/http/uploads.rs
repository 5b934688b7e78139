//! `POST /v1/videos`: from an announcement to a row and a presigned PUT. No byte of a clip passes through here.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, mime, web};
use pipeline::db::videos::NewUpload;
use pipeline::storage::key::source_extension;
use pipeline::storage::{PresignedPut, StorageKey, UPLOAD_URL_LIFETIME};
use pipeline::video::VideoId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Shared;
use super::auth::Owner;
use super::problem::{Problem, Violation};

const MAX_FILENAME_CHARS: usize = 255;
const MAX_TITLE_CHARS: usize = 200;
const MAX_STREAM_ID_CHARS: usize = 128;
const MAX_CONTENT_TYPE_BYTES: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Announcement {
    filename: String,
    /// In bytes; the presigned URL takes exactly so many.
    size: u64,
    content_type: String,
    title: Option<String>,
    stream_id: Option<String>,
}

#[derive(Serialize)]
struct Created {
    video_id: VideoId,
    upload: Upload,
}

#[derive(Serialize)]
struct Upload {
    method: &'static str,
    url: String,
    /// Exactly these: they are signed.
    headers: serde_json::Map<String, serde_json::Value>,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

pub(super) async fn create(
    shared: web::Data<Shared>,
    owner: Owner,
    announcement: web::Json<Announcement>,
) -> Result<HttpResponse, Problem> {
    let announcement = announcement.into_inner();
    let max_size_bytes = shared.state.max_size_bytes;
    let content_type = check(&announcement, max_size_bytes).map_err(Problem::violations)?;
    let video = VideoId::new();
    let extension = source_extension(&announcement.filename);
    let key = StorageKey::Source { video, extension };
    // Signing needs no network: MinIO may be away, and the URL works when it is back.
    let storage = &shared.state.storage;
    let mut put = storage.presign_put(&key, announcement.size, &content_type, UPLOAD_URL_LIFETIME);
    // Signatures go by seconds, and Postgres keeps no nanoseconds: the same time everywhere.
    put.expires_at -= Duration::from_nanos(put.expires_at.nanosecond().into());
    let upload = NewUpload {
        video,
        owner: owner.0,
        bucket: storage.bucket().to_owned(),
        key: key.to_string(),
        filename: announcement.filename,
        title: announcement.title,
        stream_id: announcement.stream_id,
        content_type,
        size_bytes: announcement.size,
        expires_at: put.expires_at,
    };
    let db = shared.state.db.clone();
    shared.run(async move { db.create_upload(&upload).await }).await??;
    tracing::info!(video.id = %video, owner.id = %owner.0, size_bytes = announcement.size, "an upload was announced");
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/v1/videos/{video}")))
        .json(Created { video_id: video, upload: upload_of(put) }))
}

fn upload_of(put: PresignedPut) -> Upload {
    Upload {
        method: "PUT",
        url: put.url.into(),
        headers: put.headers.into_iter().map(|(name, value)| (name, value.into())).collect(),
        expires_at: put.expires_at,
    }
}

/// The content type to sign, or everything that is wrong.
fn check(announcement: &Announcement, max_size_bytes: u64) -> Result<String, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut rule = |pointer, broken: Option<String>| {
        violations.extend(broken.map(|detail| Violation { pointer, detail }));
    };
    rule("/filename", text(&announcement.filename, MAX_FILENAME_CHARS));
    rule("/size", size(announcement.size, max_size_bytes));
    rule("/title", announcement.title.as_deref().and_then(|title| text(title, MAX_TITLE_CHARS)));
    rule(
        "/stream_id",
        announcement.stream_id.as_deref().and_then(|id| text(id, MAX_STREAM_ID_CHARS)),
    );
    let content_type = content_type(&announcement.content_type);
    rule(
        "/content_type",
        content_type.is_none().then(|| {
            format!(
                "must be a media type such as video/mp4, of at most {MAX_CONTENT_TYPE_BYTES} bytes."
            )
        }),
    );
    match content_type {
        Some(content_type) if violations.is_empty() => Ok(content_type),
        _ => Err(violations),
    }
}

fn text(value: &str, max_chars: usize) -> Option<String> {
    let acceptable = !value.trim().is_empty()
        && value.chars().count() <= max_chars
        && !value.chars().any(char::is_control);
    (!acceptable)
        .then(|| format!("must be 1 to {max_chars} characters, none of them a control character."))
}

fn size(bytes: u64, most: u64) -> Option<String> {
    (!(1..=most).contains(&bytes)).then(|| format!("must be 1 to {most} bytes."))
}

/// The media type as it will be signed, if it is one: concrete, and fit for a header.
fn content_type(value: &str) -> Option<String> {
    let value = value.trim();
    let parsed: mime::Mime = value.parse().ok()?;
    (value.len() <= MAX_CONTENT_TYPE_BYTES
        && !parsed.subtype().as_str().is_empty()
        && parsed.type_() != mime::STAR
        && parsed.subtype() != mime::STAR
        && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
    .then(|| parsed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 30;

    fn announcement() -> Announcement {
        Announcement {
            filename: "Ü +&#?%.mp4".into(),
            size: 1,
            content_type: "video/mp4".into(),
            title: None,
            stream_id: Some("live/1".into()),
        }
    }

    fn pointers(announcement: &Announcement) -> Vec<&'static str> {
        check(announcement, MOST)
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|violation| violation.pointer)
            .collect()
    }

    #[test]
    fn odd_file_names_and_both_ends_of_the_size_are_accepted() {
        for size in [1, MOST] {
            assert!(check(&Announcement { size, ..announcement() }, MOST).is_ok(), "{size}");
        }
        let filename = "ü".repeat(MAX_FILENAME_CHARS);
        assert!(check(&Announcement { filename, ..announcement() }, MOST).is_ok());
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let wrong = Announcement {
            filename: "a\nb.mp4".into(),
            size: 0,
            content_type: "video".into(),
            title: Some(" ".into()),
            stream_id: Some("x".repeat(MAX_STREAM_ID_CHARS + 1)),
        };
        assert_eq!(
            pointers(&wrong),
            ["/filename", "/size", "/title", "/stream_id", "/content_type"]
        );
        assert_eq!(pointers(&Announcement { size: MOST + 1, ..announcement() }), ["/size"]);
    }

    #[test]
    fn a_content_type_is_one_concrete_media_type_that_fits_a_header() {
        for good in ["video/mp4", "VIDEO/MP4", "application/octet-stream", "video/webm; codecs=vp9"]
        {
            assert!(content_type(good).is_some(), "{good}");
        }
        let long = format!("video/{}", "x".repeat(MAX_CONTENT_TYPE_BYTES));
        for bad in
            ["", "video", "video/", "*/*", "video/*", "video/mp4\r\nx: y", "vidéo/mp4", &long]
        {
            assert!(content_type(bad).is_none(), "{bad}");
        }
    }
}
