//! A network that swallows everything and closes nothing: no statement waits for the kernel to give up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::db::{Db, DbError};
use pipeline::job::WorkerId;
use pipeline::stage::Stage;
use pipeline::video::{OwnerId, VideoId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

use crate::db_actors::{LEASE, arrived, claimed};
use crate::support::database;

/// Carries bytes one way for as long as it may; then it keeps the connection and is silent.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    silent: watch::Receiver<bool>,
    most_bytes: usize,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut carried = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        carried += read;
        if *silent.borrow() || carried > most_bytes {
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// The URL of a way to the same database that falls silent, when told so or after so many bytes towards the client; it
/// ends with the tasks.
async fn through_a_proxy(
    url: &str,
    silent: watch::Receiver<bool>,
    most_bytes: usize,
) -> (String, JoinSet<()>) {
    let mut url = Url::parse(url).expect("a URL");
    let port = url.port().expect("a port of our own");
    let target = (url.host_str().expect("a host").to_owned(), port);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    url.set_port(Some(port)).expect("it has a host");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut ways = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&target).await.expect("the server is up");
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            ways.spawn(carry(from_client, to_server, silent.clone(), usize::MAX));
            ways.spawn(carry(from_server, to_client, silent.clone(), most_bytes));
        }
    });
    (url.into(), tasks)
}

#[tokio::test]
async fn a_statement_into_a_silent_network_ends_and_the_pool_heals() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
    let (silent, hears) = watch::channel(false);
    let (url, _proxy) = through_a_proxy(&test.url, hears, usize::MAX).await;
    let db = Arc::new(Db::connect(&url, 2).expect("a URL"));
    db.ping().await.expect("an answer");

    silent.send_replace(true);
    let begun = Instant::now();
    let quick = Duration::from_secs(6);
    let heartbeat = db.heartbeat(lease.worker, &[lease], quick).await;
    assert!(matches!(heartbeat, Err(DbError::Unavailable(_))), "{heartbeat:?}");
    assert!(begun.elapsed() < quick * 2 / 3, "in time for another: {:?}", begun.elapsed());

    let begun = Instant::now();
    let mut asking = JoinSet::new();
    for _ in 0..3 {
        let db = Arc::clone(&db);
        asking.spawn(async move { db.claim(lease.job, WorkerId::new(), LEASE, LEASE).await });
    }
    for claim in asking.join_all().await {
        assert!(matches!(claim, Err(DbError::Unavailable(_))), "{claim:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());

    silent.send_replace(false);
    let begun = Instant::now();
    while db.ping().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15), "the pool keeps silent connections");
    }
}

#[tokio::test]
async fn a_search_ends_when_the_network_falls_silent_in_the_middle_of_its_rows() {
    let test = database().await;
    sqlx::query(
        "with v as (
           insert into videos (id, owner_id, bucket, object_key, announced_by, state)
           select gen_random_uuid(), $1, 'clipstream', 'raw-uploads/' || n, 'api', 'ready'
             from generate_series(1, 4000) n
           returning id)
         insert into embeddings (video_id, engine, model, owner_id, dims, scale, vector, attempt)
         select id, 'builtin', 'look-1', $1, 256, 0.01, decode(repeat('07', 256), 'hex'), 1 from v",
    )
    .bind(OwnerId::DEFAULT.0)
    .execute(test.pool())
    .await
    .expect("a megabyte of vectors");
    let video: Uuid = sqlx::query_scalar("select video_id from embeddings limit 1")
        .fetch_one(test.pool())
        .await
        .expect("a video");
    let (_silent, hears) = watch::channel(false);
    let (url, _proxy) = through_a_proxy(&test.url, hears, 300_000).await;
    let db = Db::connect(&url, 1).expect("a URL");

    let begun = Instant::now();
    let search = db.similar(OwnerId::DEFAULT, VideoId(video), 5);
    let answer = tokio::time::timeout(Duration::from_secs(15), search).await.expect("an end");

    assert!(matches!(answer, Err(DbError::Unavailable(_))), "{answer:?}");
    assert!(begun.elapsed() > Duration::from_secs(5), "it had begun: {:?}", begun.elapsed());
}
