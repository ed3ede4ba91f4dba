//! Blobs in S3, R2, or what speaks like them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::signer::Signer;
use reqwest::Method;

use super::signed_url::{ROUND_SECONDS, VALID_SECONDS};
use crate::downloads::use_ring;
use crate::error::Result;
use crate::secret::Secret;

/// A store that does not answer for so long counts as gone.
const RETRY_WITHIN: Duration = Duration::from_secs(20);
const RETRIES: usize = 4;
/// URLs that are kept, so that browsers see the same for a while.
const MAX_KEPT: usize = 10_000;

/// Which bucket, and who may use it.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// The service's address; `None` is AWS.
    pub endpoint: Option<String>,
    /// The region; R2 says `auto`.
    pub region: String,
    /// The key's name.
    pub access_key_id: String,
    /// The key itself.
    pub secret_access_key: Secret,
    /// What all keys begin with, where several installations share a bucket.
    pub prefix: String,
}

impl S3Config {
    pub(super) fn open(&self) -> Result<AmazonS3> {
        use_ring();
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_WITHIN,
            ..RetryConfig::default()
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_access_key_id(&self.access_key_id)
            .with_secret_access_key(self.secret_access_key.expose())
            .with_retry(retry);
        if let Some(endpoint) = &self.endpoint {
            let endpoint = endpoint.trim_end_matches('/');
            builder =
                builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http:"));
        }
        Ok(builder.build()?)
    }
}

/// Signs URLs of a bucket, each kept for as long as it is to stay the same.
#[derive(Clone)]
pub(super) struct S3Urls {
    store: Arc<AmazonS3>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    round: i64,
    urls: HashMap<String, String>,
}

impl fmt::Debug for S3Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Urls")
    }
}

impl S3Urls {
    pub fn new(store: Arc<AmazonS3>) -> Self {
        Self { store, kept: Arc::default() }
    }

    /// The URL of `path` that is valid for at least an hour; `None` if it cannot be signed without waiting.
    pub fn sign(&self, path: &object_store::path::Path, now_seconds: i64) -> Option<String> {
        let round = now_seconds / ROUND_SECONDS;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.round != round || kept.urls.len() >= MAX_KEPT {
            *kept = Kept { round, urls: HashMap::new() };
        }
        if let Some(url) = kept.urls.get(path.as_ref()) {
            return Some(url.clone());
        }
        let valid = Duration::from_secs((VALID_SECONDS + ROUND_SECONDS).unsigned_abs());
        // With keys that are known nothing is waited for: signing is arithmetic.
        let url = self.store.signed_url(Method::GET, path, valid).now_or_never()?.ok()?.to_string();
        kept.urls.insert(path.to_string(), url.clone());
        Some(url)
    }
}
