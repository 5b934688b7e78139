//! The operator's commands as a person runs them: the binary, its output, its exit code.

use std::process::Output;

use pipeline::stage::Stage;
use pipeline::video::FailureCause;
use serde_json::Value;
use uuid::Uuid;

use crate::db_actors::{arrived, claimed, detected, job_of, state};
use crate::support::{Daemon, TestDatabase, database, minio};

fn run(test: &TestDatabase, arguments: &[&str]) -> Output {
    let mut command = Daemon::command();
    command.args(arguments).env("DATABASE_URL", &test.url).output().expect("it runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_listed_explained_and_run_again() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::Transcode).await;
    let cause = FailureCause::DeadlineExceeded;
    test.db.fail(&lease, cause, "60 min\nwere over").await.expect("an answer");
    arrived(&test.db).await;
    let id = video.to_string();

    let dead = run(&test, &["jobs", "dead"]);
    assert_eq!(dead.status.code(), Some(0), "{}", text(&dead));
    let lines = text(&dead);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(
        lines.contains(&id) && lines.contains("deadline_exceeded: 60 min were over"),
        "{lines}"
    );
    let listed = json(&run(&test, &["jobs", "list", "--json"]));
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(5), "{listed}");
    let pending = ["jobs", "list", "--json", "--state=pending", "--stage=duplicate_detection"];
    assert_eq!(json(&run(&test, &pending))["items"].as_array().map(Vec::len), Some(1));

    let shown = run(&test, &["jobs", "show", &id]);
    let lines = text(&shown);
    assert!(lines.starts_with("It failed at") && lines.contains("fewer slots"), "{lines}");
    let shown = json(&run(&test, &["jobs", "show", &id, "--json"]));
    assert_eq!(shown["attempts"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["attempts"][1]["outcome"], "failed");

    let refused = run(&test, &["jobs", "retry", &id, "speech_to_text"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    let again = run(&test, &["jobs", "retry", &id]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(text(&again).contains("runs again, as attempt 2"), "{}", text(&again));
    assert_eq!(state(test.pool(), video).await, "processing");
    let nothing = run(&test, &["jobs", "retry", &id]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing).contains("No stage of"), "{}", text(&nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_takes_all_that_is_open_and_an_unknown_video_is_not_found() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    claimed(&test.db, test.pool(), video, Stage::SpeechToText).await;
    let cancelled = run(&test, &["jobs", "cancel", &video.to_string()]);
    assert_eq!(cancelled.status.code(), Some(0), "{}", text(&cancelled));
    assert_eq!(state(test.pool(), video).await, "failed");
    let open: i64 =
        sqlx::query_scalar("select count(*) from jobs where state in ('pending', 'running')")
            .fetch_one(test.pool())
            .await
            .expect("a count");
    assert_eq!(open, 0);

    let nobody = Uuid::now_v7().to_string();
    for order in
        [&["jobs", "retry", &nobody, "transcode"], &["jobs", "cancel", &nobody, "transcode"]]
    {
        let answer = run(&test, order);
        assert_eq!(answer.status.code(), Some(3), "{}", text(&answer));
        assert!(text(&answer).contains("clipstream jobs list"), "{}", text(&answer));
    }
    assert_eq!(run(&test, &["jobs", "show", &nobody]).status.code(), Some(3));
    assert_eq!(run(&test, &["jobs", "cancel", &nobody]).status.code(), Some(3));
    let wrong = run(&test, &["jobs", "cancel", &nobody, "transcoding"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong).contains("speech_to_text"), "{}", text(&wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_listed_paused_and_resumed() {
    let test = database().await;
    arrived(&test.db).await;
    let list = run(&test, &["queues"]);
    assert_eq!(list.status.code(), Some(0), "{}", text(&list));
    assert_eq!(text(&list).lines().count(), 5, "{}", text(&list));
    let pause =
        ["queues", "pause", "duplicate_detection", "--reason", "the disk is full", "--json"];
    let paused = json(&run(&test, &pause));
    let queue = &paused["items"][0];
    assert_eq!((&queue["stage"], &queue["due"]), (&"duplicate_detection".into(), &1.into()));
    assert_eq!(queue["paused_because"], "the disk is full");
    assert!(queue["paused_at"].is_string() && queue["oldest_seconds"].is_number());
    let resumed = json(&run(&test, &["queues", "resume", "duplicate_detection", "--json"]));
    assert!(resumed["items"][0]["paused_at"].is_null(), "{resumed}");
    let again = run(&test, &["queues", "resume", "duplicate_detection"]);
    assert!(text(&again).contains("was not paused"), "{}", text(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_reconcile_tells_and_changes_nothing_and_a_real_one_announces() {
    let (test, minio) = tokio::join!(database(), minio());
    let storage = pipeline::storage::Storage::new(&minio.storage_config()).expect("settings");
    let s3 = crate::s3_client::S3Client::new(&minio.storage_config());
    s3.put("raw-uploads/forgotten.mp4", b"clip").await;
    let reconcile = |arguments: &[&str]| {
        let mut command = Daemon::command();
        command.arg("reconcile").args(arguments).args(["--json", "--grace-seconds=0"]);
        command
            .env("DATABASE_URL", &test.url)
            .env("MINIO_ENDPOINT", minio.endpoint.as_str())
            .env("MINIO_ACCESS_KEY", &minio.access_key)
            .env("MINIO_SECRET_KEY", &minio.secret_key);
        json(&command.output().expect("it runs"))
    };
    assert_eq!(storage.list("raw-uploads/", "", 10).await.expect("a listing").len(), 1);

    for _ in 0..2 {
        let dry = reconcile(&["--dry-run"]);
        assert_eq!(dry["items"][0]["key"], "raw-uploads/forgotten.mp4", "{dry}");
        assert!(dry["items"][0]["video_id"].is_null() && dry["dry_run"] == true);
    }
    let rows = "select (select count(*) from videos) + (select count(*) from reconcile_cursor)";
    let rows: i64 = sqlx::query_scalar(rows).fetch_one(test.pool()).await.expect("a count");
    assert_eq!(rows, 0, "a dry run changes nothing");

    let wet = reconcile(&[]);
    assert!(wet["items"][0]["video_id"].is_string(), "{wet}");
    assert_eq!(reconcile(&[])["items"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_refuses_to_be_cancelled_does_not_keep_the_others_running() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    // A refusal of the function itself, for the first of three.
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as $$
         begin raise exception 'not this one' using errcode = 'CS409'; end $$;
         create trigger refuse before update on jobs for each row
           when (new.stage = 'transcode' and new.state = 'cancelled') execute function refuse()",
    )
    .execute(test.pool())
    .await
    .expect("a refusal");

    let cancelled = run(&test, &["jobs", "cancel", &video.to_string()]);

    assert_eq!(cancelled.status.code(), Some(1), "{}", text(&cancelled));
    assert!(text(&cancelled).contains("not this one"), "{}", text(&cancelled));
    let states: Vec<String> = sqlx::query_scalar(
        "select state from jobs where video_id = $1 and stage <> 'transcode' order by stage",
    )
    .bind(video.0)
    .fetch_all(test.pool())
    .await
    .expect("states");
    assert_eq!(states, ["done", "cancelled", "cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_shares_and_a_videos_priority_are_set_and_seen() {
    let test = database().await;
    let (first, second) = (arrived(&test.db).await, arrived(&test.db).await);

    let usage = run(&test, &["owners", "set", "default"]);
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage));
    let unknown = run(&test, &["owners", "set", "nobody", "--weight=2"]);
    assert_eq!(unknown.status.code(), Some(3), "{}", text(&unknown));
    let out_of_range = run(&test, &["owners", "set", "default", "--weight=101"]);
    assert_eq!(out_of_range.status.code(), Some(2), "{}", text(&out_of_range));
    let set = run(&test, &["owners", "set", "default", "--weight=3", "--max-inflight=1"]);
    assert!(text(&set).contains("weight 3, at most 1 jobs"), "{}", text(&set));

    // The first is in flight, so the second waits for it, and says so.
    let due = test.db.due(Stage::DuplicateDetection, 10).await.expect("due");
    assert_eq!(due.len(), 1);
    let listed = json(&run(&test, &["owners", "list", "--json"]));
    let owner = &listed["items"][0];
    assert_eq!((&owner["in_flight"], &owner["waiting"]), (&1.into(), &1.into()), "{listed}");
    assert_eq!((&owner["weight"], &owner["max_inflight"]), (&3.into(), &1.into()), "{listed}");
    let shown = text(&run(&test, &["jobs", "show", &second.to_string()]));
    assert!(shown.contains("default has 1 jobs") && shown.contains("max_inflight 1"), "{shown}");
    let shown = text(&run(&test, &["jobs", "show", &first.to_string()]));
    assert!(!shown.contains("max_inflight"), "{shown}");

    let free = run(&test, &["owners", "set", "default", "--max-inflight=0"]);
    assert!(text(&free).contains("weight 3, without a limit"), "{}", text(&free));
    let shown = text(&run(&test, &["jobs", "show", &second.to_string()]));
    assert!(shown.contains("waits for its turn"), "{shown}");
    let table = text(&run(&test, &["owners", "list"]));
    assert!(table.starts_with("OWNER") && table.contains("default"), "{table}");

    let third = arrived(&test.db).await;
    let raised = run(&test, &["jobs", "priority", &third.to_string(), "2"]);
    assert_eq!(raised.status.code(), Some(0), "{}", text(&raised));
    let lowered = run(&test, &["jobs", "priority", &second.to_string(), "-1"]);
    assert_eq!(lowered.status.code(), Some(0), "{}", text(&lowered));
    let order = test.db.due(Stage::DuplicateDetection, 10).await.expect("due");
    let wanted = [third, second];
    for (job, video) in order.iter().zip(wanted) {
        assert_eq!(job_of(test.pool(), video, Stage::DuplicateDetection).await, *job);
    }
    let nobody = run(&test, &["jobs", "priority", &Uuid::now_v7().to_string(), "1"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", text(&nobody));
}
