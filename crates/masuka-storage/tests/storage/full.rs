//! What a full disk leaves behind: nothing but the refusal.

use masuka_storage::Storage;
use sea_orm::ConnectionTrait;

use crate::store::{Store, generation};

#[tokio::test]
async fn what_is_acknowledged_after_a_full_disk_is_there_for_everybody() {
    let store = Store::new().await;
    if !store.storage.database().is_sqlite() {
        return; // PostgreSQL ends no transaction by itself
    }
    let writer = store.storage.database().writer();
    let generations = store.storage.generations();
    let mut large = generation(0, "starter");
    large.spec.prompt = "x".repeat(1 << 20);
    for _ in 0..3 {
        // No page more than there are; for this connection alone.
        writer.execute_unprepared("PRAGMA max_page_count = 1").await.unwrap();
        let refused = generations.create_all(&[large.clone()], 1000).await.unwrap_err();
        assert!(refused.to_string().contains("disk is full"), "{refused}");
    }
    writer.execute_unprepared("PRAGMA max_page_count = 1000000").await.unwrap(); // there is room again
    let other = Storage::open(&store.config).await.unwrap();
    for storage in [&store.storage, &other] {
        let new = generation(0, "starter");
        let id = new.job.id.clone();
        let stored = storage.generations().create_all(&[new], 1000).await.unwrap();
        assert!(stored.iter().all(Result::is_ok));
        other.queue().find(&id).await.unwrap();
        store.queue().find(&id).await.unwrap();
    }
}
