//! Files by key, in a local folder and, with `scripts/with-s3`, in a bucket: the same is expected of both.

use std::io::{Read, Write};
use std::net::TcpStream;

use futures_util::TryStreamExt;
use masuka_storage::blobs::BlobKey;
use masuka_storage::{Error, Link};
use sea_orm::ConnectionTrait;

use crate::store::Store;

fn key(text: &str) -> BlobKey {
    BlobKey::parse(text).unwrap()
}

/// More than two parts of an upload.
fn large() -> Vec<u8> {
    (0..5_000_000u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn what_was_put_is_there_whole_and_in_parts() {
    let store = Store::new().await;
    let blobs = store.storage.blobs();
    blobs.put(&key("a/b/picture.png"), "0123456789").await.unwrap();
    assert_eq!(blobs.get(&key("a/b/picture.png")).await.unwrap(), "0123456789");
    assert_eq!(blobs.size(&key("a/b/picture.png")).await.unwrap(), Some(10));
    let part = blobs.stream(&key("a/b/picture.png"), Some(3..6)).await.unwrap();
    assert_eq!((part.total_bytes, part.range.clone()), (10, 3..6));
    let bytes: Vec<_> = part.bytes.try_collect().await.unwrap();
    assert_eq!(bytes.concat(), b"345");
    let rest = blobs.stream(&key("a/b/picture.png"), Some(8..100)).await.unwrap();
    assert_eq!(rest.range, 8..10);
    blobs.put(&key("a/b/picture.png"), "again").await.unwrap();
    assert_eq!(blobs.get(&key("a/b/picture.png")).await.unwrap(), "again");
}

#[tokio::test]
async fn what_is_not_there_is_told_so() {
    let store = Store::new().await;
    let blobs = store.storage.blobs();
    assert!(matches!(blobs.get(&key("a/nothing")).await, Err(Error::NotFound { .. })));
    assert!(matches!(blobs.stream(&key("a/nothing"), None).await, Err(Error::NotFound { .. })));
    assert_eq!(blobs.size(&key("a/nothing")).await.unwrap(), None);
    assert_eq!(blobs.list(&key("a")).await.unwrap(), []);
    blobs.delete(&key("a/nothing")).await.unwrap();
    assert_eq!(blobs.delete_all(&key("a")).await.unwrap(), 0);
}

#[tokio::test]
async fn a_large_file_arrives_in_parts_and_is_the_same() {
    let store = Store::new().await;
    let blobs = store.storage.blobs();
    let file = store.config.data_dir.join("large");
    std::fs::write(&file, large()).unwrap();
    blobs.put_file(&key("models/x/lora.safetensors"), &file).await.unwrap();
    assert_eq!(blobs.size(&key("models/x/lora.safetensors")).await.unwrap(), Some(20_000_000));
    assert!(blobs.get(&key("models/x/lora.safetensors")).await.unwrap() == large());
    std::fs::write(&file, []).unwrap();
    blobs.put_file(&key("models/x/empty"), &file).await.unwrap();
    assert_eq!(blobs.get(&key("models/x/empty")).await.unwrap(), "");
}

#[tokio::test]
async fn a_folder_is_listed_and_deleted_without_its_neighbours() {
    let store = Store::new().await;
    let blobs = store.storage.blobs();
    for name in ["generated/a/1/x", "generated/a/2/y", "generated/ab/1/z"] {
        blobs.put(&key(name), "12345").await.unwrap();
    }
    let listed = blobs.list(&key("generated/a")).await.unwrap();
    let mut names: Vec<_> = listed.iter().map(|(key, bytes)| (key.as_str(), *bytes)).collect();
    names.sort_unstable();
    assert_eq!(names, [("generated/a/1/x", 5), ("generated/a/2/y", 5)]);
    assert_eq!(blobs.delete_all(&key("generated/a")).await.unwrap(), 2);
    assert_eq!(blobs.list(&key("generated")).await.unwrap().len(), 1);
}

/// What a bucket answers to a URL; sent by hand, as a browser would.
fn get(url: &str) -> (u16, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn a_link_stays_the_same_for_a_while_and_a_forged_one_opens_nothing() {
    let store = Store::new().await;
    store.storage.blobs().put(&key("generated/a/1/x.png"), "a picture").await.unwrap();
    let now = 1_700_000_000_i64;
    let link = |seconds: i64| store.storage.link(&key("generated/a/1/x.png"), now + seconds);
    assert_eq!(link(0), link(60));
    match link(0) {
        Link::Here(path) => {
            assert!(path.starts_with("/files/generated/a/1/x.png?expires="), "{path}");
            assert_ne!(link(0), link(3600));
        }
        Link::Elsewhere(url) => {
            let (status, answer) = get(&url);
            assert!(status == 200 && answer.ends_with("a picture"), "{answer}");
            assert!(answer.to_lowercase().contains("content-type: image/png"), "{answer}");
            assert_eq!(get(&url.replace("x.png", "y.png")).0, 403);
            assert_eq!(get(url.split_once('?').unwrap().0).0, 403);
        }
    }
}

#[tokio::test]
async fn files_and_rows_are_compared_and_orphans_removed() {
    let store = Store::new().await;
    let (storage, blobs) = (&store.storage, store.storage.blobs());
    let (done, waiting) = (store.enqueue(0, "a").await, store.enqueue(0, "a").await);
    let picture = |job: &str, name: &str| key(&format!("generated/{job}/1/{name}"));
    let insert = |name: &str, sha256: &str| {
        let sql = "INSERT INTO outputs (job_id, position, blob_key, seed, width, height, bytes, sha256) \
                   VALUES ($1, $2, $3, 1, 1, 1, 3, $4)";
        let position = i64::from(name.as_bytes()[0]);
        let blob_key = picture(&done, name).to_string();
        storage
            .database()
            .statement(sql, [done.clone().into(), position.into(), blob_key.into(), sha256.into()])
    };
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for (name, sha256) in [("good", abc), ("missing", abc), ("damaged", &"0".repeat(64))] {
        storage.database().writer().execute_raw(insert(name, sha256)).await.unwrap();
    }
    storage.queue().cancel(&done).await.unwrap();
    for (job, name) in
        [(&done, "good"), (&done, "damaged"), (&done, "orphan"), (&waiting, "on-its-way")]
    {
        blobs.put(&picture(job, name), "abc").await.unwrap();
    }
    blobs.put(&key("models/new/lora.safetensors"), "being imported").await.unwrap();
    let found = storage.compare(true).await.unwrap();
    assert_eq!(found.orphans, [(picture(&done, "orphan"), 3)]);
    assert_eq!(found.missing, [picture(&done, "missing")]);
    assert_eq!(found.damaged, [picture(&done, "damaged")]);
    assert!(
        storage.compare(false).await.unwrap().damaged.is_empty(),
        "contents were not asked for"
    );
    assert_eq!(storage.remove_orphans(&found).await.unwrap(), 1);
    let left = storage.compare(false).await.unwrap();
    assert!(left.orphans.is_empty() && !left.is_empty(), "{left:?}");
}
