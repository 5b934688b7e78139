//! Sources on disk: fetched once for all who ask, checked, and gone with the last user.

use std::fs;
use std::path::PathBuf;

use pipeline::stages::{Scratch, StageError};
use pipeline::video::FailureCause;
use sha2::{Digest, Sha256};

use crate::stage_world::StageWorld;

const CLIP: &[u8] = b"some clip";

#[tokio::test]
async fn all_who_ask_at_once_share_one_file_that_goes_with_the_last() {
    let world = StageWorld::new().await;
    let source = world.upload(CLIP).await;
    let scratch = Scratch::open(world.scratch_root.path().to_owned()).expect("a scratch");
    let ask = || scratch.source(&world.storage, &source);
    let (first, second, third) = tokio::join!(ask(), ask(), ask());
    let files = [first, second, third].map(|file| file.expect("the source"));
    assert!(files.iter().all(|file| file.path() == files[0].path()), "one download for all");
    assert_eq!(fs::read(files[0].path()).expect("the file"), CLIP);
    assert_eq!(files[0].size_bytes(), CLIP.len() as u64);
    assert_eq!(files[0].sha256(), <[u8; 32]>::from(Sha256::digest(CLIP)));

    let path: PathBuf = files[0].path().to_owned();
    let [last, others @ ..] = files;
    drop(others);
    assert!(path.exists(), "somebody still uses it");
    drop(last);
    assert!(!path.exists());
    let again = ask().await.expect("the source once more");
    assert_eq!(fs::read(again.path()).expect("the file"), CLIP);
}

#[tokio::test]
async fn a_source_that_was_overwritten_or_is_gone_is_missing() {
    let world = StageWorld::new().await;
    let scratch = Scratch::open(world.scratch_root.path().to_owned()).expect("a scratch");
    let source = world.upload(CLIP).await;

    let mut other_size = source.clone();
    other_size.size_bytes = Some(8);
    let mut other_bytes = source.clone();
    other_bytes.sha256 = Some([1; 32]);
    let mut gone = source.clone();
    gone.key.push_str(".not-there");
    let mut overwritten = source.clone();
    overwritten.etag = Some("0123456789abcdef0123456789abcdef".into());
    for source in [other_size, other_bytes, gone, overwritten] {
        let Err(error) = scratch.source(&world.storage, &source).await else {
            panic!("{source:?}")
        };
        assert!(
            matches!(error, StageError::Fail { cause: FailureCause::SourceMissing, .. }),
            "{error:?}"
        );
    }
    drop(scratch);
    assert!(world.scratch_is_empty(), "what was fetched in vain is gone too");
}

#[tokio::test]
async fn a_failed_download_does_not_spoil_the_next() {
    let world = StageWorld::new().await;
    let scratch = Scratch::open(world.scratch_root.path().to_owned()).expect("a scratch");
    let source = world.upload(CLIP).await;
    let mut misspelt = source.clone();
    misspelt.key.push_str(".not-there");
    assert!(scratch.source(&world.storage, &misspelt).await.is_err());
    assert!(scratch.source(&world.storage, &source).await.is_ok());
}
