//! `GET /v1/videos`, `/v1/videos/{id}` and `/v1/videos/{id}/similar`: what an owner sees of their videos.
//! Reads only. A video of somebody else is answered like one that does not exist.

use actix_web::{HttpResponse, web};
use pipeline::video::{VideoId, VideoState};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Shared;
use super::auth::Owner;
use super::problem::{Code, Problem};
use super::view;

const DEFAULT_PAGE: u32 = 20;
const MAX_PAGE: u32 = 100;
const DEFAULT_SIMILAR: u32 = 10;
const MAX_SIMILAR: u32 = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    state: Option<VideoState>,
}

/// Newest first, in pages.
pub(super) async fn list(
    shared: web::Data<Shared>,
    owner: Owner,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = limit(query.limit, DEFAULT_PAGE, MAX_PAGE)?;
    let before = query.cursor.as_deref().map(cursor).transpose()?;
    let state = query.state;
    let db = shared.state.db.clone();
    // One more than asked for says whether there is a next page.
    let mut videos = shared
        .run(async move { db.list_videos(owner.0, state, before, limit + 1).await })
        .await??;
    let more = videos.len() > limit as usize;
    videos.truncate(limit as usize);
    let next = videos.last().filter(|_| more).map(|last| last.video.0.simple().to_string());
    Ok(HttpResponse::Ok().json(view::page(videos, next)))
}

pub(super) async fn show(
    shared: web::Data<Shared>,
    owner: Owner,
    video: web::Path<VideoId>,
) -> Result<HttpResponse, Problem> {
    let db = shared.state.db.clone();
    let found = shared
        .run(async move {
            let Some(detail) = db.video_detail(owner.0, *video).await? else { return Ok(None) };
            let keys: Vec<String> =
                view::linked_keys(&detail).iter().map(ToString::to_string).collect();
            let announced = db.announced_objects(owner.0, &keys).await?;
            Ok::<_, Problem>(Some((detail, announced)))
        })
        .await??;
    let (detail, announced) = found.ok_or_else(Problem::no_such_video)?;
    Ok(HttpResponse::Ok().json(view::video(detail, &announced, &shared.state.storage)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SimilarQuery {
    limit: Option<u32>,
}

#[derive(Serialize)]
struct Similar {
    video_id: VideoId,
    /// Whether the video has a vector at all: it has none before its embeddings stage, or without pictures.
    embedded: bool,
    items: Vec<SimilarItem>,
}

#[derive(Serialize)]
struct SimilarItem {
    video_id: VideoId,
    title: Option<String>,
    filename: Option<String>,
    /// Cosine, -1 to 1; 1 is the same look.
    similarity: f32,
}

/// The owner's videos that look most alike, best first. A duplicate is asked for by its original's vector.
pub(super) async fn similar(
    shared: web::Data<Shared>,
    owner: Owner,
    video: web::Path<VideoId>,
    query: web::Query<SimilarQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = limit(query.limit, DEFAULT_SIMILAR, MAX_SIMILAR)?;
    let video = *video;
    let db = shared.state.db.clone();
    let answer = shared
        .run(async move {
            let Some(detail) = db.video_detail(owner.0, video).await? else { return Ok(None) };
            let neighbours = db.similar(owner.0, detail.shows(), limit as usize).await?;
            let embedded = neighbours.is_some();
            let neighbours = neighbours.unwrap_or_default();
            let ids: Vec<VideoId> = neighbours.iter().map(|(id, _)| *id).collect();
            let mut names = db.video_names(owner.0, &ids).await?;
            let items = neighbours
                .into_iter()
                .map(|(id, similarity)| {
                    let name = names.remove(&id).unwrap_or_default();
                    SimilarItem {
                        video_id: id,
                        title: name.title,
                        filename: name.filename,
                        similarity,
                    }
                })
                .collect();
            Ok::<_, Problem>(Some(Similar { video_id: video, embedded, items }))
        })
        .await??;
    Ok(HttpResponse::Ok().json(answer.ok_or_else(Problem::no_such_video)?))
}

fn limit(asked: Option<u32>, default: u32, max: u32) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(default);
    if (1..=max).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::new(Code::InvalidRequest, format!("`limit` must be 1 to {max}.")))
    }
}

fn cursor(text: &str) -> Result<VideoId, Problem> {
    Uuid::try_parse(text).map(VideoId).map_err(|_| {
        Problem::new(Code::InvalidRequest, "`cursor` must be a `next_cursor` of an earlier page.")
    })
}
