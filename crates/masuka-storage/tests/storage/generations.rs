//! What users see of their pictures: lists, deletion, and what another process sees after a restart.

use crate::store::{Store, generation};
use masuka_storage::blobs::BlobKey;
use masuka_storage::generations::{Cursor, Filter, GroupCommit};
use masuka_storage::queue::JobStatus;
use masuka_storage::{Error, Storage, StorageConfig};
use sea_orm::ConnectionTrait;

async fn ids(store: &Store, filter: &Filter) -> Vec<String> {
    let found = store.storage.generations().list(filter, 10).await.unwrap();
    found.into_iter().map(|generation| generation.id).collect()
}

#[tokio::test]
async fn lists_are_newest_first_and_pages_join_without_gap() {
    let store = Store::new().await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.insert(0, store.enqueue(0, "a").await);
    }
    let generations = store.storage.generations();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = generations.list(&Filter { after, ..Filter::default() }, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        let cursor = Cursor { created_at_ms: last.created_at_ms, id: last.id.clone() };
        after = Cursor::decode(&cursor.encode());
        assert_eq!(after.as_ref(), Some(&cursor));
        seen.extend(page.into_iter().map(|generation| generation.id));
    }
    assert_eq!(seen, expected);
    assert_eq!(Cursor::decode("nonsense"), None);
}

#[tokio::test]
async fn lists_can_be_filtered() {
    let store = Store::new().await;
    let (a, b) = (store.enqueue(0, "a").await, store.enqueue(0, "b").await);
    store.storage.generations().set_favorite(&a, true).await.unwrap();
    store.queue().cancel(&b).await.unwrap();
    let filter = Filter::default;
    let check = async |filter: Filter, expected: &[&String]| {
        let found = ids(&store, &filter).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
    };
    check(Filter { base_model: Some("a".into()), ..filter() }, &[&a]).await;
    check(Filter { favorite: Some(true), ..filter() }, &[&a]).await;
    check(Filter { favorite: Some(false), ..filter() }, &[&b]).await;
    check(Filter { status: Some(JobStatus::Cancelled), ..filter() }, &[&b]).await;
    check(Filter { text: Some("APPLE".into()), ..filter() }, &[&b, &a]).await;
    check(Filter { text: Some("100%_".into()), ..filter() }, &[&b, &a]).await;
    check(Filter { text: Some("1%sure".into()), ..filter() }, &[]).await;
    check(Filter { model_id: Some("x".into()), ..filter() }, &[]).await;
    check(Filter { created_before_ms: Some(1), ..filter() }, &[]).await;
    check(Filter { created_after_ms: Some(1), ..filter() }, &[&b, &a]).await;
}

#[tokio::test]
async fn deleted_is_gone_at_once_can_be_restored_and_is_erased_later() {
    let store = Store::new().await;
    let id = store.enqueue(0, "a").await;
    let generations = store.storage.generations();
    generations.delete(&id).await.unwrap();
    assert!(matches!(generations.find(&id).await, Err(Error::NotFound { .. })));
    assert!(ids(&store, &Filter::default()).await.is_empty());
    assert_eq!(store.status(&id).await, JobStatus::Cancelled, "its job must not run");
    generations.restore(&id).await.unwrap();
    generations.find(&id).await.unwrap();
    assert!(matches!(generations.restore(&id).await, Err(Error::NotFound { .. })));

    let blobs = store.storage.blobs();
    let key = BlobKey::picture(&id, 1, "image_1.png").unwrap();
    blobs.put(&key, "picture").await.unwrap();
    generations.delete(&id).await.unwrap();
    let half = store.enqueue(0, "a").await; // its files were erased before a power cut, its rows were not
    generations.delete(&half).await.unwrap();
    assert_eq!(generations.erase_deleted(blobs).await.unwrap(), 0, "too early");
    let sql = "UPDATE generations SET deleted_at_ms = deleted_at_ms - 31000";
    store.storage.database().writer().execute_unprepared(sql).await.unwrap();
    assert!(matches!(generations.restore(&id).await, Err(Error::NotFound { .. })), "too late");
    assert_eq!(generations.erase_deleted(blobs).await.unwrap(), 2);
    assert_eq!(blobs.size(&key).await.unwrap(), None);
    for id in [id, half] {
        assert!(matches!(store.queue().find(&id).await, Err(Error::NotFound { .. })));
        assert!(store.told(&id).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gathered_requests_are_stored_each_with_its_own_answer() {
    let store = Store::new().await;
    let group = GroupCommit::new(store.storage.generations(), 30);
    let requests = (0..40).map(|_| group.create(generation(0, "a")));
    let results = futures_util::future::join_all(requests).await;
    let refused = results.iter().filter(|r| matches!(r, Err(Error::QueueFull { .. }))).count();
    assert_eq!((refused, results.iter().filter(|r| r.is_ok()).count()), (10, 30));
    assert_eq!(store.queue().depth().await.unwrap().waiting, 30);
}

#[tokio::test]
async fn another_process_finds_what_was_acknowledged() {
    let store = Store::new().await;
    let id = store.enqueue(0, "a").await;
    let other = Storage::open(&store.config).await.unwrap();
    assert_eq!(other.generations().find(&id).await.unwrap().spec().unwrap().seed, 7);
    let key = BlobKey::parse("a").unwrap();
    assert_eq!(other.signer().sign(&key, 0), store.storage.signer().sign(&key, 0), "one secret");
}

#[tokio::test]
async fn other_databases_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = StorageConfig::local(folder.path());
    config.database_url = Some("mysql://localhost/x".into());
    let error = Storage::open(&config).await.unwrap_err().to_string();
    assert!(error.contains("DATABASE_URL of kind `mysql`; supported are"), "{error}");
}
