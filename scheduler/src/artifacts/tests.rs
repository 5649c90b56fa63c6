//! The store's promises, on a real folder.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::{Blake3, BuildId};
use archyard_proto::v1::BlobPart;
use bytes::Bytes;

use super::{Artifacts, Error, Options, Upload};

fn open(dir: &tempfile::TempDir, bytes: u64) -> Arc<Artifacts> {
    Arc::new(Artifacts::open(dir.path(), Options { bytes, kept: Duration::from_secs(60) }).unwrap())
}

fn build(number: u128) -> BuildId {
    BuildId::from_parts(1, number)
}

fn part(blob: &'static [u8]) -> BlobPart {
    BlobPart {
        digest: Bytes::copy_from_slice(Blake3::of(blob).as_bytes()),
        size_bytes: blob.len() as u64,
        data: Bytes::from_static(blob),
        last: true,
    }
}

fn upload(store: &Arc<Artifacts>, of: BuildId, blobs: &[&'static [u8]]) -> Result<u64, Error> {
    let mut upload = Upload::new(Arc::clone(store), of);
    for blob in blobs {
        upload.take(vec![part(blob)])?;
    }
    upload.finish().map(|stored| stored.bytes)
}

#[test]
fn a_blob_goes_with_the_last_build_that_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 1_000);
    assert_eq!(upload(&store, build(1), &[b"shared", b"one"]).unwrap(), 9);
    let wanted = [Blake3::of(b"shared"), Blake3::of(b"two")];
    assert_eq!(store.missing(build(2), &wanted).unwrap(), [Blake3::of(b"two")]);
    upload(&store, build(2), &[b"two"]).unwrap();
    assert_eq!(store.kept_bytes(), 12);

    store.release(build(1)).unwrap();
    assert!(store.blobs().has(Blake3::of(b"shared")) && !store.blobs().has(Blake3::of(b"one")));
    assert_eq!(store.kept_bytes(), 9);
    store.release(build(1)).unwrap();
    store.release(build(2)).unwrap();
    assert_eq!((store.kept_bytes(), store.builds().unwrap().len()), (0, 0));
    assert!(!store.blobs().has(Blake3::of(b"shared")));
}

#[test]
fn a_later_scheduler_finds_what_was_kept_and_drops_what_nobody_needs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 1_000);
    upload(&store, build(1), &[b"kept"]).unwrap();
    // As if the scheduler had died between placing a blob and keeping it for its build.
    std::fs::write(store.blobs().path(Blake3::of(b"orphan")), b"orphan").unwrap();
    drop(store);
    let store = open(&dir, 1_000);
    assert_eq!((store.kept_bytes(), store.builds().unwrap()), (4, vec![build(1)]));
    assert!(store.blobs().has(Blake3::of(b"kept")) && !store.blobs().has(Blake3::of(b"orphan")));
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_its_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 10);
    let error = upload(&store, build(1), &[b"12345678", b"more"]).unwrap_err();
    assert!(matches!(error, Error::Full { kept: 8, most: 10, size: 4 }), "{error}");
    assert!(error.to_string().contains("--artifacts-size"));
    assert_eq!((store.kept_bytes(), store.builds().unwrap().len()), (0, 0));
    upload(&store, build(1), &[b"1234567890"]).unwrap();
    assert_eq!(upload(&store, build(2), &[b"1234567890"]).unwrap(), 0, "what is here needs no room");
}

#[test]
fn an_artifact_that_begins_as_a_manifest_does_is_a_blob_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 1_000);
    upload(&store, build(1), &[b"\x08\x01 and more"]).unwrap();
    assert!(store.blobs().has(Blake3::of(b"\x08\x01 and more")));
}

#[test]
fn a_lie_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 1_000);
    let mut lie = Upload::new(Arc::clone(&store), build(1));
    let part = BlobPart { data: Bytes::from_static(b"other"), ..part(b"right") };
    assert!(matches!(lie.take(vec![part]), Err(Error::Blobs(_))));
    drop(lie);
    assert_eq!((store.kept_bytes(), store.builds().unwrap().len()), (0, 0));
    assert_eq!(std::fs::read_dir(dir.path().join("artifacts/blobs/incoming")).unwrap().count(), 0);
}
