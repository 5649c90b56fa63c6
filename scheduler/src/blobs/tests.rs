//! Uploads and downloads through the store, as the services use it.

use std::sync::Arc;

use archyard_model::{Blake3, ContextEntry, ContextManifest, EntryKind, Plan, limits};
use archyard_proto::v1 as proto;
use bytes::Bytes;

use super::{Error, Ingest, Reader, Store, Stored};
use crate::testing;

struct Farm {
    dir: tempfile::TempDir,
    store: Arc<Store>,
}

fn farm() -> Farm {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    Farm { dir, store }
}

fn part(content: &[u8]) -> proto::BlobPart {
    proto::BlobPart {
        digest: Bytes::copy_from_slice(Blake3::of(content).as_bytes()),
        size_bytes: content.len() as u64,
        data: Bytes::copy_from_slice(content),
        last: true,
    }
}

fn upload(farm: &Farm, contents: &[&[u8]]) -> Result<Stored, Error> {
    let mut ingest = Ingest::new(Arc::clone(&farm.store));
    ingest.take(proto::UploadRequest { parts: contents.iter().map(|content| part(content)).collect() })?;
    ingest.finish()
}

fn download(farm: &Farm, wanted: &[Blake3]) -> Result<Vec<proto::DownloadResponse>, Error> {
    let mut reader = Reader::new(Arc::clone(&farm.store), wanted.to_vec());
    let mut messages = Vec::new();
    while let Some(message) = reader.read()? {
        messages.push(message);
    }
    Ok(messages)
}

fn manifest(files: &[&[u8]]) -> (ContextManifest, Vec<u8>) {
    let entries = files
        .iter()
        .enumerate()
        .map(|(n, content)| ContextEntry {
            path: format!("f{n}").into_bytes(),
            mode: 0o644,
            modified_s: 1,
            modified_ns: 0,
            xattrs: Vec::new(),
            kind: EntryKind::File { size: content.len() as u64, digest: Blake3::of(content) },
        })
        .collect();
    let manifest = ContextManifest::new(entries).unwrap();
    let bytes = manifest.encode();
    (manifest, bytes)
}

fn plan(manifest: &ContextManifest, encoded: &[u8], dockerfile: &[u8]) -> Plan {
    Plan { context: manifest.to_ref(encoded), dockerfile: Blake3::of(dockerfile), ..testing::plan() }
}

#[track_caller]
fn leaves_nothing(farm: &Farm, digests: &[Blake3]) {
    assert_eq!(farm.store.missing(digests), digests);
    assert_eq!(std::fs::read_dir(farm.dir.path().join("blobs/incoming")).unwrap().count(), 0);
}

#[test]
fn what_goes_up_comes_down_in_order() {
    let farm = farm();
    let large = vec![7; 3 * limits::BLOB_MESSAGE_BYTES + 5];
    let mut ingest = Ingest::new(Arc::clone(&farm.store));
    for (at, piece) in large.chunks(limits::BLOB_MESSAGE_BYTES).enumerate() {
        let part = proto::BlobPart {
            digest: Bytes::copy_from_slice(Blake3::of(&large).as_bytes()),
            size_bytes: if at == 0 { large.len() as u64 } else { 0 },
            data: Bytes::copy_from_slice(piece),
            last: at == 3,
        };
        ingest.take(proto::UploadRequest { parts: vec![part] }).unwrap();
    }
    ingest.take(proto::UploadRequest { parts: vec![part(b"small"), part(b"")] }).unwrap();
    assert_eq!(ingest.finish().unwrap(), Stored { blobs: 3, bytes: large.len() as u64 + 5 });

    let wanted = [Blake3::of(b""), Blake3::of(&large), Blake3::of(b"small")];
    let messages = download(&farm, &wanted).unwrap();
    let mut got: Vec<(Blake3, u64, Vec<u8>)> = Vec::new();
    for message in messages {
        let data: usize = message.parts.iter().map(|part| part.data.len()).sum();
        assert!(data <= limits::BLOB_MESSAGE_BYTES);
        for part in message.parts {
            let digest = Blake3::try_from(&*part.digest).unwrap();
            match got.last_mut() {
                Some((last, _, bytes)) if *last == digest => bytes.extend_from_slice(&part.data),
                _ => got.push((digest, part.size_bytes, part.data.to_vec())),
            }
        }
    }
    assert_eq!(got.iter().map(|(digest, ..)| *digest).collect::<Vec<_>>(), wanted);
    assert!(
        got.iter().all(|(digest, size, bytes)| Blake3::of(bytes) == *digest && *size == bytes.len() as u64)
    );
}

#[test]
fn what_is_here_already_costs_nothing() {
    let farm = farm();
    assert_eq!(upload(&farm, &[b"a", b"b", b"a"]).unwrap(), Stored { blobs: 2, bytes: 2 });
    assert_eq!(upload(&farm, &[b"a", b"b"]).unwrap(), Stored::default());
}

#[test]
fn many_files_are_synced_at_once() {
    let farm = farm();
    let contents: Vec<Vec<u8>> = (0..100u32).map(|n| n.to_le_bytes().to_vec()).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    assert_eq!(upload(&farm, &contents).unwrap(), Stored { blobs: 100, bytes: 400 });
    let digests: Vec<Blake3> = contents.iter().map(|content| Blake3::of(content)).collect();
    assert_eq!(farm.store.missing(&digests), []);
}

#[test]
fn a_broken_upload_leaves_nothing() {
    let farm = farm();
    let digest = Blake3::of(b"whole");
    let wrong = [
        (
            proto::BlobPart { data: Bytes::from_static(b"other"), ..part(b"whole") },
            "changed while it was sent",
        ),
        (proto::BlobPart { size_bytes: 4, ..part(b"whole") }, "announced with 4"),
        (proto::BlobPart { size_bytes: 6, ..part(b"whole") }, "ended after 5"),
        (proto::BlobPart { digest: Bytes::from_static(b"short"), ..part(b"whole") }, "32 bytes"),
        (proto::BlobPart { size_bytes: limits::CONTEXT_BYTES + 1, ..part(b"whole") }, ".dockerignore"),
    ];
    for (part, problem) in wrong {
        let mut ingest = Ingest::new(Arc::clone(&farm.store));
        let error = ingest.take(proto::UploadRequest { parts: vec![part] }).unwrap_err();
        assert!(
            matches!(&error, Error::Invalid(invalid) if invalid.to_string().contains(problem)),
            "{error}"
        );
        drop(ingest);
        leaves_nothing(&farm, &[digest]);
    }
    // The client went away in the middle of a blob, after a whole one.
    let mut ingest = Ingest::new(Arc::clone(&farm.store));
    let cut = proto::BlobPart { data: Bytes::from_static(b"who"), last: false, ..part(b"whole") };
    ingest.take(proto::UploadRequest { parts: vec![part(b"first"), cut.clone()] }).unwrap();
    drop(ingest);
    leaves_nothing(&farm, &[Blake3::of(b"first"), digest]);
    let mut ingest = Ingest::new(Arc::clone(&farm.store));
    ingest.take(proto::UploadRequest { parts: vec![cut.clone()] }).unwrap();
    assert!(ingest.take(proto::UploadRequest { parts: vec![part(b"other")] }).is_err(), "blobs were mixed");
    drop(ingest);
    let mut ingest = Ingest::new(Arc::clone(&farm.store));
    ingest.take(proto::UploadRequest { parts: vec![cut] }).unwrap();
    assert!(ingest.finish().unwrap_err().to_string().contains("ended after 3 of 5"));
    leaves_nothing(&farm, &[digest]);
}

#[test]
fn zeros_take_no_room_on_the_disk() {
    use std::os::unix::fs::MetadataExt as _;
    let farm = farm();
    // More than 8 MiB with one byte in the middle, and zeros at the end.
    let mut content = vec![0; 8 * limits::BLOB_MESSAGE_BYTES + 77];
    content[5_000_000] = 1;
    let digest = Blake3::of(&content);
    let mut ingest = Ingest::new(Arc::clone(&farm.store));
    for from in (0..content.len()).step_by(999_999) {
        let to = content.len().min(from + 999_999);
        let part = proto::BlobPart {
            digest: Bytes::copy_from_slice(digest.as_bytes()),
            size_bytes: content.len() as u64,
            data: Bytes::copy_from_slice(&content[from..to]),
            last: to == content.len(),
        };
        ingest.take(proto::UploadRequest { parts: vec![part] }).unwrap();
    }
    assert_eq!(ingest.finish().unwrap(), Stored { blobs: 1, bytes: content.len() as u64 });
    assert!(farm.store.read_whole(digest).unwrap() == content);
    let occupied = std::fs::metadata(farm.store.path(digest)).unwrap().blocks() * 512;
    assert!(occupied <= 64 * 1024, "{occupied} bytes on the disk");
}

#[test]
fn a_message_past_its_limit_is_refused() {
    let farm = farm();
    let large = vec![0; limits::BLOB_MESSAGE_BYTES + 1];
    let error = upload(&farm, &[&large]).unwrap_err();
    assert!(error.to_string().contains("1048576"), "{error}");
}

#[test]
fn a_manifest_is_here_only_with_all_it_names() {
    let farm = farm();
    let (context, encoded) = manifest(&[b"one", b"two"]);
    let plan = plan(&context, &encoded, b"FROM scratch");
    upload(&farm, &[&encoded, b"one", b"FROM scratch"]).unwrap();
    assert_eq!(farm.store.missing(&[Blake3::of(&encoded)]), [Blake3::of(&encoded)]);
    let error = farm.store.claim_plan(&plan).unwrap_err();
    assert!(matches!(error, Error::Missing { first, count: 1 } if first == Blake3::of(b"two")), "{error}");

    // Another client brings the file: the manifest that waited counts.
    upload(&farm, &[b"two"]).unwrap();
    drop(farm.store.claim_plan(&plan).unwrap());
    assert_eq!(farm.store.missing(&[Blake3::of(&encoded)]), []);
}

#[test]
fn files_and_manifest_may_come_in_one_upload_in_any_order() {
    let farm = farm();
    let (context, encoded) = manifest(&[b"one", b"two"]);
    upload(&farm, &[&encoded, b"two", b"one", b"FROM scratch"]).unwrap();
    assert_eq!(farm.store.missing(&[Blake3::of(&encoded)]), []);
    let plan = plan(&context, &encoded, b"FROM scratch");
    drop(farm.store.claim_plan(&plan).unwrap());
    // From now on the marker answers; a lost one costs another look and no more.
    std::fs::remove_dir_all(farm.dir.path().join("blobs/verified")).unwrap();
    std::fs::create_dir(farm.dir.path().join("blobs/verified")).unwrap();
    drop(farm.store.claim_plan(&plan).unwrap());
    assert_eq!(std::fs::read_dir(farm.dir.path().join("blobs/verified")).unwrap().count(), 1);
}

#[test]
fn a_plan_must_say_what_its_manifest_says() {
    let farm = farm();
    let (context, encoded) = manifest(&[b"one"]);
    upload(&farm, &[&encoded, b"one", b"FROM scratch"]).unwrap();
    let mut wrong = plan(&context, &encoded, b"FROM scratch");
    wrong.context.files = 2;
    let error = farm.store.claim_plan(&wrong).unwrap_err();
    assert!(matches!(&error, Error::Invalid(invalid) if invalid.field == "plan.context.digest"), "{error}");
    let no_dockerfile = plan(&context, &encoded, b"FROM elsewhere");
    assert!(matches!(farm.store.claim_plan(&no_dockerfile), Err(Error::Missing { count: 1, .. })));
    let mut no_manifest = plan(&context, b"not one", b"FROM scratch");
    no_manifest.context.manifest_digest = Blake3::of(b"one");
    assert!(matches!(farm.store.claim_plan(&no_manifest), Err(Error::Invalid(_))));
}

#[test]
fn a_users_own_file_may_look_like_a_manifest() {
    let farm = farm();
    upload(&farm, &[&[0x08, 0x01, 0xff, 0xff]]).unwrap();
    assert_eq!(farm.store.missing(&[Blake3::of(&[0x08, 0x01, 0xff, 0xff])]), []);
}

#[test]
fn the_first_missing_blob_of_a_download_is_named() {
    let farm = farm();
    upload(&farm, &[b"here"]).unwrap();
    let error = download(&farm, &[Blake3::of(b"here"), Blake3::of(b"gone")]).unwrap_err();
    assert!(matches!(error, Error::NotFound(digest) if digest == Blake3::of(b"gone")), "{error}");
}
