//! Set-up of bucket, policy and event rules on a real MinIO: made, repaired, left alone, and what is missing named.

use pipeline::storage::{
    DURABLE_TARGET, Ensured, IMMEDIATE_TARGET, Precondition, SetupState, Storage, StorageKey,
    webhook_targets,
};
use pipeline::video::VideoId;
use reqwest::StatusCode;

use crate::s3_client::S3Client;
use crate::support::minio;

async fn read_without_key(storage: &Storage, key: &StorageKey) -> StatusCode {
    reqwest::get(storage.public_url(key)).await.expect("an answer").status()
}

#[tokio::test]
async fn a_bucket_is_made_once() {
    let minio = minio().await;
    let mut config = minio.storage_config();
    config.bucket = "clips".into();
    let storage = Storage::new(&config).expect("usable settings");
    assert_eq!(storage.inspect_bucket().await.expect("an answer"), SetupState::Absent);
    assert_eq!(storage.ensure_bucket().await.expect("made"), Ensured::Made);
    assert_eq!(storage.ensure_bucket().await.expect("there"), Ensured::Present);
}

#[tokio::test]
async fn anybody_may_read_playback_and_thumbnails_and_nothing_else() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("usable settings");
    let video = VideoId::new();
    let public = [
        StorageKey::Poster { video },
        StorageKey::MasterPlaylist { video },
        StorageKey::Segment { video, attempt: 1, rendition: "480p".into(), number: 1 },
    ];
    let private = [
        StorageKey::Source { video, extension: "mp4" },
        StorageKey::Transcript { video },
        StorageKey::Embeddings { video },
    ];
    for key in public.iter().chain(&private) {
        storage.put(key, "x".into(), &Precondition::None).await.expect("written");
        assert_eq!(read_without_key(&storage, key).await, StatusCode::FORBIDDEN, "{key}");
    }
    assert_eq!(storage.ensure_policy().await.expect("made"), Ensured::Made);
    assert_eq!(storage.ensure_policy().await.expect("there"), Ensured::Present);
    for key in &public {
        assert_eq!(read_without_key(&storage, key).await, StatusCode::OK, "{key}");
    }
    for key in &private {
        assert_eq!(read_without_key(&storage, key).await, StatusCode::FORBIDDEN, "{key}");
    }
}

#[tokio::test]
async fn a_policy_of_somebody_else_is_completed_and_kept() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("usable settings");
    let s3 = S3Client::new(&minio.storage_config());
    s3.put_config(
        "policy",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
            "Action":"s3:GetObject","Resource":"arn:aws:s3:::clipstream/docs/*"}]}"#,
    )
    .await;
    assert_eq!(storage.inspect_policy().await.expect("an answer"), SetupState::Different);
    assert_eq!(storage.ensure_policy().await.expect("repaired"), Ensured::Repaired);
    let policy = s3.get_config("policy").await;
    assert!(policy.contains("clipstream/docs/*"), "{policy}");
    assert_eq!(storage.ensure_policy().await.expect("there"), Ensured::Present);
}

#[tokio::test]
async fn both_event_rules_are_made_with_exactly_the_four_events() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("usable settings");
    let all =
        |state: Ensured| webhook_targets().into_iter().map(|t| (t, state)).collect::<Vec<_>>();
    let report = storage.ensure_notifications(&webhook_targets()).await.expect("made");
    assert_eq!(report.rules, all(Ensured::Made));
    assert!(report.missing.is_empty() && report.foreign == 0, "{report:?}");

    let written = S3Client::new(&minio.storage_config()).get_config("notification").await;
    assert_eq!(written.matches("<QueueConfiguration>").count(), 2, "{written}");
    assert_eq!(written.matches("<Event>").count(), 8, "{written}");
    for event in ["Put", "Post", "Copy", "CompleteMultipartUpload"] {
        let event = format!("<Event>s3:ObjectCreated:{event}</Event>");
        assert_eq!(written.matches(&event).count(), 2, "{event} in {written}");
    }
    assert_eq!(written.matches("<Value>raw-uploads/</Value>").count(), 2, "{written}");

    let again = storage.ensure_notifications(&webhook_targets()).await.expect("there");
    assert_eq!(again.rules, all(Ensured::Present));
}

fn rule(id: &str, target: &str, event: &str, prefix: &str) -> String {
    format!(
        "<QueueConfiguration><Id>{id}</Id><Queue>arn:minio:sqs::{target}:webhook</Queue>\
         <Event>{event}</Event><Filter><S3Key><FilterRule><Name>prefix</Name>\
         <Value>{prefix}</Value></FilterRule></S3Key></Filter></QueueConfiguration>"
    )
}

fn document(rules: &str) -> String {
    format!("<NotificationConfiguration>{rules}</NotificationConfiguration>")
}

#[tokio::test]
async fn a_rule_by_hand_for_our_target_is_repaired_and_a_foreign_one_is_kept() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("usable settings");
    let s3 = S3Client::new(&minio.storage_config());
    // What `mc event add --event put` makes, and a rule of somebody else with characters that XML escapes.
    let by_hand = rule("mc", DURABLE_TARGET, "s3:ObjectCreated:*", "raw-uploads/");
    let foreign = rule("a &lt;b&gt;", IMMEDIATE_TARGET, "s3:ObjectRemoved:Delete", "docs/x&amp;y");
    s3.put_config("notification", &document(&(by_hand + &foreign))).await;

    let ours = vec![DURABLE_TARGET.to_owned()];
    let found = storage.inspect_notifications(&ours).await.expect("an answer");
    assert_eq!(found, [(DURABLE_TARGET.to_owned(), SetupState::Different)]);
    let report = storage.ensure_notifications(&ours).await.expect("repaired");
    assert_eq!(report.rules, [(DURABLE_TARGET.to_owned(), Ensured::Repaired)]);
    assert_eq!(report.foreign, 1);

    let written = s3.get_config("notification").await;
    assert!(written.contains("docs/x&amp;y"), "{written}");
    assert!(written.contains("s3:ObjectRemoved:Delete"), "{written}");
    assert!(!written.contains("Tagging"), "{written}");
    let again = storage.ensure_notifications(&ours).await.expect("there");
    assert_eq!(again.rules, [(DURABLE_TARGET.to_owned(), Ensured::Present)]);
}

#[tokio::test]
async fn a_rule_without_a_filter_is_read_and_kept() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("usable settings");
    let s3 = S3Client::new(&minio.storage_config());
    let bare = format!(
        "<QueueConfiguration><Queue>arn:minio:sqs::{IMMEDIATE_TARGET}:webhook</Queue>\
         <Event>s3:ObjectRemoved:Delete</Event></QueueConfiguration>"
    );
    s3.put_config("notification", &document(&bare)).await;
    let report = storage.ensure_notifications(&[DURABLE_TARGET.to_owned()]).await.expect("made");
    assert_eq!(report.foreign, 1);
    let written = s3.get_config("notification").await;
    assert!(written.contains("s3:ObjectRemoved:Delete"), "{written}");
}

#[tokio::test]
async fn a_target_that_minio_does_not_have_is_named_and_the_other_still_gets_its_rule() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("usable settings");
    let targets = ["ELSEWHERE".to_owned(), DURABLE_TARGET.to_owned()];
    let report = storage.ensure_notifications(&targets).await.expect("a report");
    assert_eq!(report.rules, [(DURABLE_TARGET.to_owned(), Ensured::Made)]);
    let missing: Vec<&str> = report.missing.iter().map(|target| target.id.as_str()).collect();
    assert_eq!(missing, ["ELSEWHERE"]);
    let found = storage.inspect_notifications(&targets).await.expect("an answer");
    assert_eq!(found[0].1, SetupState::Absent);
    assert_eq!(found[1].1, SetupState::Right);
}
