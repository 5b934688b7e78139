//! The source of a video as its stages read it: each byte comes once over the network, whoever asks; another object is never
//! mixed in; a network that fails is an outage, and what came before it stays. Bytes are counted by a proxy before MinIO.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipeline::media::{Input, InputError};
use pipeline::stages::source::{SourceFile, SourceReader};
use pipeline::stages::{Scratch, StageError};
use pipeline::storage::Storage;
use pipeline::video::{FailureCause, Source};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use crate::proxy::{Proxy, Weather};
use crate::s3_client::S3Client;
use crate::stage_world::StageWorld;

pub(crate) const MIB: usize = 1024 * 1024;
/// Headers and the rounding of what is counted.
const A_LITTLE: u64 = 64 * 1024;

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from((at * 31 + at / 251) % 256).expect("below 256") ^ seed)
        .collect()
}

/// Storage behind a proxy.
pub(crate) struct Network {
    pub(crate) world: StageWorld,
    proxy: Proxy,
    storage: Storage,
    pub(crate) scratch: Scratch,
}

impl Network {
    pub(crate) async fn new() -> Self {
        Self::cutting(0, 0).await
    }

    async fn cutting(after: usize, cuts: usize) -> Self {
        let world = StageWorld::new().await;
        let proxy = Proxy::cutting(&world.storage_config.endpoint, after, cuts).await;
        let mut config = world.storage_config.clone();
        config.endpoint = proxy.endpoint();
        let storage = Storage::new(&config).expect("usable settings");
        let scratch = Scratch::open(world.scratch_root.path().to_owned()).expect("a scratch");
        Self { world, proxy, storage, scratch }
    }

    pub(crate) async fn open(&self, source: &Source) -> SourceFile {
        self.scratch.source(&self.storage, source).await.expect("a source")
    }

    async fn overwrite(&self, source: &Source, body: &[u8]) {
        S3Client::new(&self.world.storage_config).put(&source.key, body).await;
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let root = std::fs::read_dir(self.world.scratch_root.path()).expect("the root");
        let directories = root.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
        directories
            .flat_map(|directory| std::fs::read_dir(directory.path()).expect("a directory"))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| !path.ends_with("lock"))
            .collect()
    }

    /// They are removed by whoever has time.
    pub(crate) async fn until_there_are_files(&self, count: usize) {
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        while self.files().len() != count {
            assert!(std::time::Instant::now() < patience, "not {count}: {:?}", self.files());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// That no more came than these, give or take headers.
    #[track_caller]
    pub(crate) fn carried(&self, bytes: usize) {
        let carried = self.proxy.carried_bytes();
        let span = bytes as u64..bytes as u64 + A_LITTLE;
        assert!(span.contains(&carried), "{carried} bytes came, not {bytes}");
    }
}

async fn read(reader: &mut SourceReader, at: usize, length: usize) -> Result<Vec<u8>, InputError> {
    let length = u32::try_from(length).expect("a short range");
    reader.read(at as u64, length).await.map(|bytes| bytes.to_vec())
}

async fn read_all(mut reader: SourceReader) -> Result<Vec<u8>, InputError> {
    let size = usize::try_from(reader.size_bytes()).expect("a small source");
    let mut bytes = Vec::new();
    while bytes.len() < size {
        // As libav does, and over the edges of blocks.
        let length = (size - bytes.len()).min(200_000);
        bytes.extend(read(&mut reader, bytes.len(), length).await?);
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_block_is_fetched_once_for_all_who_ask_at_the_same_time() {
    let network = Network::new().await;
    let body = pattern(12 * MIB + 777, 0);
    let source = network.world.upload(&body).await;
    let (first, second) = tokio::join!(network.open(&source), network.open(&source));
    let mut asking = JoinSet::new();
    for source in [&first, &first, &second, &second] {
        asking.spawn(read_all(source.reader()));
    }
    let (one, other) = tokio::join!(first.sha256(), second.sha256());
    for read in asking.join_all().await {
        assert!(read.expect("all of it") == body);
    }
    let sum = <[u8; 32]>::from(Sha256::digest(&body));
    assert_eq!((one.expect("a sum"), other.expect("a sum")), (sum, sum));
    network.carried(body.len());
    assert_eq!(network.scratch.source_bytes(), body.len() as u64);
}

#[tokio::test]
async fn what_was_read_in_any_order_is_not_fetched_again_for_the_sum() {
    let network = Network::new().await;
    let body = pattern(9 * MIB, 0);
    let source = network.world.upload(&body).await;
    let file = network.open(&source).await;
    let mut reader = file.reader();
    for at in [6 * MIB + 5, 2 * MIB, 8 * MIB, 3 * MIB - 9] {
        let length = (9 * MIB - at).min(MIB);
        assert!(read(&mut reader, at, length).await.expect("bytes") == body[at..at + length]);
    }
    assert_eq!(file.sha256().await.expect("a sum"), <[u8; 32]>::from(Sha256::digest(&body)));
    network.carried(body.len());
}

#[tokio::test]
async fn to_open_a_source_takes_its_two_ends_and_no_more() {
    let network = Network::new().await;
    let body = pattern(40 * MIB, 0);
    let source = network.world.upload(&body).await;
    let file = network.open(&source).await;
    let mut reader = file.reader();
    read(&mut reader, 39 * MIB + 100, 1000).await.expect("the end");
    read(&mut reader, 0, 1000).await.expect("the beginning");
    network.carried(2 * MIB);
}

#[tokio::test]
async fn whoever_gives_up_stops_nobody_else() {
    let network = Network::new().await;
    let body = pattern(6 * MIB, 0);
    let source = network.world.upload(&body).await;
    let file = network.open(&source).await;
    network.proxy.set_weather(Weather::Silent);
    let (mut hasty, mut patient) = (file.reader(), file.reader());
    let given_up =
        tokio::time::timeout(Duration::from_millis(100), read(&mut hasty, 3 * MIB, 10)).await;
    assert!(given_up.is_err(), "nothing comes yet");
    let waiting = async { read(&mut patient, 3 * MIB, 10).await.expect("bytes") };
    let turning = async { network.proxy.set_weather(Weather::Fair) };
    let (bytes, ()) = tokio::join!(waiting, turning);
    assert_eq!(bytes, &body[3 * MIB..3 * MIB + 10]);
    for end in [0, 6 * MIB - 1] {
        read(&mut patient, end, 1).await.expect("asked for at once, and on its way");
    }
    network.carried(3 * MIB);
}

#[tokio::test]
async fn a_source_that_is_overwritten_between_two_reads_is_never_mixed() {
    let network = Network::new().await;
    let (body, other) = (pattern(8 * MIB, 0), pattern(8 * MIB, 0xff));
    let source = network.world.upload(&body).await;
    let file = network.open(&source).await;
    let mut reader = file.reader();
    assert!(read(&mut reader, 0, MIB).await.expect("bytes") == body[..MIB]);
    network.overwrite(&source, &other).await;
    let lost = |error: &InputError| {
        matches!(error, InputError::Lost { cause: FailureCause::SourceMissing, .. })
    };
    let error = read(&mut reader, 4 * MIB, MIB).await.expect_err("another object");
    assert!(lost(&error), "{error:?}");
    assert!(read(&mut reader, 0, MIB).await.expect("what is here") == body[..MIB]);
    let error = file.sha256().await.expect_err("another object");
    assert!(
        matches!(error, StageError::Fail { cause: FailureCause::SourceMissing, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_forged_etag_does_not_hide_another_size_or_other_bytes() {
    let network = Network::new().await;
    let body = pattern(3 * MIB, 0);
    let source = network.world.upload(&body).await;
    let etag = source.etag.clone().expect("an ETag");
    let s3 = S3Client::new(&network.world.storage_config);
    let forged = [("x-minio-source-etag", etag.as_str())];
    for other in [&pattern(3 * MIB - 1, 1)[..], &pattern(3 * MIB + 1, 1), b"short"] {
        s3.put_with(&source.key, other, &forged).await;
        let head = network.storage.head(&source.key).await.expect("it is there");
        assert_eq!(head.etag, etag, "the forgery works");
        let file = network.open(&source).await;
        let error = file.sha256().await.expect_err("another size");
        assert!(
            matches!(error, StageError::Fail { cause: FailureCause::SourceMissing, .. }),
            "{error:?}"
        );
    }
    s3.put_with(&source.key, &pattern(3 * MIB, 1), &forged).await;
    let known = Source { sha256: Some(Sha256::digest(&body).into()), ..source };
    let error = network.open(&known).await.sha256().await.expect_err("other bytes");
    assert!(
        matches!(error, StageError::Fail { cause: FailureCause::SourceMissing, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_object_that_is_listed_and_cannot_be_read_is_a_permanent_failure() {
    let network = Network::new().await;
    let source = network.world.upload(b"to be replaced").await;
    let s3 = S3Client::new(&network.world.storage_config);
    let key = format!("{}.sealed", source.key);
    let headers = [
        ("x-minio-replication-server-side-encryption-sealed-key", "bm90IGEga2V5"),
        ("x-minio-source-replication-request", "true"),
    ];
    s3.put_with(&key, &pattern(2 * MIB, 0), &headers).await;
    let listed = network.storage.list(&key, "", 1).await.expect("a listing").remove(0);
    let sealed = Source { key, etag: Some(listed.etag), ..source };
    let known = Source { size_bytes: Some(listed.size_bytes), ..sealed.clone() };
    let unknown = Source { size_bytes: None, ..sealed };
    for source in [known, unknown] {
        let ended = match network.scratch.source(&network.storage, &source).await {
            Ok(file) => read(&mut file.reader(), 0, 10).await.map_err(StageError::from),
            Err(error) => Err(error),
        };
        let Err(StageError::Fail { cause: FailureCause::SourceUnreadable, detail }) = ended else {
            panic!("{ended:?}")
        };
        assert!(detail.contains("listed and cannot be read"), "{detail}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_read_on_from_there() {
    let network = Network::cutting(3 * MIB / 2, 3).await;
    let body = pattern(16 * MIB, 0);
    let source = network.world.upload(&body).await;
    let file = network.open(&source).await;
    assert_eq!(file.sha256().await.expect("a sum"), <[u8; 32]>::from(Sha256::digest(&body)));
    assert_eq!(network.proxy.cuts_left(), 0, "the connection was to break three times");
    network.carried(body.len());
}

#[tokio::test]
async fn a_minio_that_is_away_is_an_outage_for_all_and_what_came_before_stays() {
    let network = Network::new().await;
    let body = pattern(6 * MIB, 0);
    let source = network.world.upload(&body).await;
    let file = Arc::new(network.open(&source).await);
    let mut reader = file.reader();
    read(&mut reader, 0, 2 * MIB / 2).await.expect("the beginning");
    read(&mut reader, 5 * MIB, MIB).await.expect("the end");
    network.proxy.set_weather(Weather::Down);
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let mut reader = file.reader();
        asking.spawn(async move { read(&mut reader, 3 * MIB, MIB).await });
    }
    for ended in asking.join_all().await {
        assert!(matches!(ended, Err(InputError::Away(_))), "{ended:?}");
    }
    let error = file.sha256().await.expect_err("nobody is there");
    assert!(matches!(error, StageError::Outage(_)), "{error:?}");
    network.proxy.set_weather(Weather::Fair);
    assert_eq!(file.sha256().await.expect("a sum"), <[u8; 32]>::from(Sha256::digest(&body)));
    network.carried(body.len());
}

/// Takes as long as a range may be silent: 14 seconds.
#[tokio::test]
async fn a_minio_that_falls_silent_is_an_outage_within_the_deadline() {
    let network = Network::new().await;
    let body = pattern(4 * MIB, 0);
    let source = network.world.upload(&body).await;
    let file = network.open(&source).await;
    let mut reader = file.reader();
    read(&mut reader, 0, MIB).await.expect("the beginning");
    network.proxy.set_weather(Weather::Silent);
    let begun = std::time::Instant::now();
    let ended = read(&mut reader, 2 * MIB, MIB).await;
    assert!(matches!(ended, Err(InputError::Away(_))), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    network.proxy.set_weather(Weather::Fair);
    assert_eq!(file.sha256().await.expect("a sum"), <[u8; 32]>::from(Sha256::digest(&body)));
}

#[tokio::test]
async fn a_source_that_is_gone_or_misspelt_is_missing_and_spoils_nothing() {
    let network = Network::new().await;
    let body = pattern(MIB, 0);
    let source = network.world.upload(&body).await;
    let mut gone = source.clone();
    gone.key.push_str(".not-there");
    let unknown = Source { etag: None, size_bytes: None, ..gone.clone() };
    let other_size = Source { size_bytes: Some(8), ..source.clone() };
    let other = "0123456789abcdef0123456789abcdef";
    let overwritten = Source { etag: Some(other.into()), ..source.clone() };
    for source in [gone, unknown, other_size, overwritten] {
        let ended = match network.scratch.source(&network.storage, &source).await {
            Ok(file) => file.sha256().await.map(drop),
            Err(error) => Err(error),
        };
        let error = ended.expect_err("nothing to read");
        assert!(
            matches!(error, StageError::Fail { cause: FailureCause::SourceMissing, .. }),
            "{error:?}"
        );
    }
    let file = network.open(&source).await;
    assert_eq!(file.sha256().await.expect("a sum"), <[u8; 32]>::from(Sha256::digest(&body)));
    let unknown = Source { etag: None, size_bytes: None, ..source };
    assert_eq!(network.open(&unknown).await.size_bytes(), MIB as u64);
}

#[tokio::test]
async fn an_empty_source_has_the_sum_of_nothing() {
    let network = Network::new().await;
    let source = network.world.upload(b"").await;
    let file = network.open(&source).await;
    assert_eq!(file.reader().size_bytes(), 0);
    assert_eq!(file.sha256().await.expect("a sum"), <[u8; 32]>::from(Sha256::digest(b"")));
}
