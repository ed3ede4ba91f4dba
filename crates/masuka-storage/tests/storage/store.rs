//! A storage of its own for each test, and what all tests do with it.
//!
//! With `MASUKA_TEST_POSTGRES=postgres://…`, as `scripts/with-postgres` sets it, each test gets a database there.

use masuka_storage::config::{BlobConfig, S3Config};
use masuka_storage::generations::{GenerationSpec, NewGeneration};
use masuka_storage::queue::{ClaimRequest, ClaimedJob, GENERATION, JobStatus, NewJob, Queue};
use masuka_storage::{Secret, Storage, StorageConfig};
use sea_orm::ConnectionTrait;

/// A storage in a folder that goes away with it.
pub struct Store {
    pub storage: Storage,
    pub config: StorageConfig,
    _folder: tempfile::TempDir,
}

/// A fresh database on the server of the tests, if there is one.
async fn new_postgres_database() -> Option<Secret> {
    let server = std::env::var("MASUKA_TEST_POSTGRES").ok()?;
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    let connection = sea_orm::Database::connect(format!("{server}/postgres")).await.unwrap();
    connection.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    connection.close().await.unwrap();
    Some(format!("{server}/{name}").into())
}

/// A part of its own of the bucket of the tests, if there is one.
fn new_bucket() -> Option<S3Config> {
    Some(S3Config {
        bucket: "masuka".into(),
        endpoint: Some(std::env::var("MASUKA_TEST_S3").ok()?),
        region: "auto".into(),
        access_key_id: "masuka".into(),
        secret_access_key: "masuka-secret".into(),
        prefix: uuid::Uuid::new_v4().to_string(),
    })
}

impl Store {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = StorageConfig::local(folder.path());
        config.database_url = new_postgres_database().await;
        if let Some(bucket) = new_bucket() {
            config.blobs = BlobConfig::S3(bucket);
        }
        let storage = Storage::open(&config).await.unwrap();
        Self { storage, config, _folder: folder }
    }

    pub fn queue(&self) -> Queue {
        self.storage.queue()
    }

    /// Queues a picture and gives its id.
    pub async fn enqueue(&self, priority: i64, base_model: &str) -> String {
        let new = generation(priority, base_model);
        let id = new.job.id.clone();
        let results = self.storage.generations().create_all(&[new], 1000).await.unwrap();
        results.into_iter().for_each(|result| result.unwrap());
        id
    }

    /// Claims as `worker`, which has `loaded` loaded.
    pub async fn claim(&self, worker: &str, loaded: Option<&str>) -> Option<ClaimedJob> {
        let request = ClaimRequest {
            worker_id: worker.into(),
            queues: vec![GENERATION.into()],
            loaded_model: loaded.map(Into::into),
            lacks: Vec::new(),
            except: Vec::new(),
        };
        self.queue().claim(&request).await.unwrap()
    }

    pub async fn status(&self, id: &str) -> JobStatus {
        self.queue().find(id).await.unwrap().status().unwrap()
    }

    /// The kinds of all events of a job, in order.
    pub async fn told(&self, id: &str) -> Vec<String> {
        let events =
            masuka_storage::events::since(self.storage.database(), 0, Some(id), 100).await.unwrap();
        events.into_iter().map(|event| event.kind).collect()
    }
}

pub fn generation(priority: i64, base_model: &str) -> NewGeneration {
    NewGeneration {
        spec: GenerationSpec {
            prompt: "Red apple, 100%_sure".into(),
            negative_prompt: None,
            true_cfg_scale: 1.0,
            sampler: "euler".into(),
            loras: Vec::new(),
            num_images: 1,
            num_inference_steps: 2,
            guidance_scale: 3.5,
            width: 128,
            height: 128,
            seed: 7,
            base_model: base_model.into(),
            config: serde_json::Map::new(),
        },
        job: NewJob {
            id: uuid::Uuid::now_v7().to_string(),
            queue: GENERATION,
            kind: "generate_image",
            base_model: base_model.into(),
            priority,
            max_attempts: 2,
        },
    }
}
