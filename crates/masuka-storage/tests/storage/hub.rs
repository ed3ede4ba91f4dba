//! Base models from a hub: fetched once, whole, and with a word about what to do where that is not possible.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use masuka_storage::downloads::{Hub, HubModel, Reach};
use masuka_storage::{Error, Secret};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::elsewhere::{Asked, Elsewhere, Reply};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files of a small model; the weights are the hub's large files.
fn files() -> BTreeMap<&'static str, Vec<u8>> {
    let weights: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    BTreeMap::from([
        ("README.md", b"not needed".to_vec()),
        ("flux.safetensors", vec![1; 5000]),
        ("model_index.json", b"{}".to_vec()),
        ("transformer/config.json", b"{\"guidance_embeds\": true}".to_vec()),
        ("transformer/diffusion_pytorch_model.safetensors", weights),
    ])
}

/// What the hub tells about them.
fn listing(damage: &str) -> String {
    let sibling = |(name, content): (&str, Vec<u8>)| {
        let large = name.ends_with(".safetensors");
        let sha = if name == damage { "0".repeat(64) } else { sha256(&content) };
        let lfs = large.then(|| json!({ "sha256": sha, "size": content.len() }));
        json!({ "rfilename": name, "size": content.len(), "blobId": &sha256(name.as_bytes())[..40], "lfs": lfs })
    };
    json!({ "sha": SHA, "siblings": files().into_iter().map(sibling).collect::<Vec<_>>() })
        .to_string()
}

/// A hub that sends large files from another host, and cuts each connection there after some bytes.
struct FakeHub {
    hub: Elsewhere,
    cdn: Elsewhere,
}

impl FakeHub {
    fn start(
        damage: &'static str,
        refuse: impl Fn(&Asked) -> Option<u16> + Send + 'static,
    ) -> Self {
        let cdn = Elsewhere::start(|asked| {
            let name = asked.path.strip_prefix("/cdn/").unwrap();
            Reply::File { bytes: files()[name].clone(), cut_after: Some(300_000) }
        });
        let large = cdn.url("/cdn/");
        let hub = Elsewhere::start(move |asked| {
            if let Some(status) = refuse(asked) {
                return Reply::Status(status, "no".into());
            }
            if asked.path == "/api/models/owner/flux/revision/main?blobs=true" {
                return Reply::Status(200, listing(damage));
            }
            let prefix = format!("/owner/flux/resolve/{SHA}/");
            let name = asked.path.strip_prefix(&prefix).expect("a file of the revision");
            match name.ends_with(".safetensors") {
                true => Reply::Redirect(format!("{large}{name}")),
                false => Reply::file(&files()[name]),
            }
        });
        Self { hub, cdn }
    }

    fn client(&self, folder: &std::path::Path, token: Option<&str>) -> Hub {
        Hub {
            endpoint: self.hub.url("").parse().unwrap(),
            token: token.map(Secret::from),
            cache: folder.to_owned(),
            reach: Reach::anywhere(),
        }
    }
}

fn model() -> HubModel {
    HubModel::parse("owner/flux").unwrap()
}

#[tokio::test]
async fn a_model_is_fetched_whole_once_and_in_the_layout_of_the_hub() {
    let fake = FakeHub::start("", |_| None);
    let folder = tempfile::tempdir().unwrap();
    let hub = fake.client(folder.path(), Some("secret"));
    let mut last = None;
    let mut told = |progress: &_| {
        last = Some(Clone::clone(progress));
        true
    };
    let snapshot = hub.install(&model(), &mut told).await.unwrap();
    let needed = [
        "model_index.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
    ];
    for name in needed {
        assert!(std::fs::read(snapshot.join(name)).unwrap() == files()[name], "{name}");
    }
    assert!(!snapshot.join("README.md").exists() && !snapshot.join("flux.safetensors").exists());
    let kept = folder.path().join("models--owner--flux");
    assert_eq!(snapshot, kept.join("snapshots").join(SHA));
    assert_eq!(std::fs::read_to_string(kept.join("refs/main")).unwrap(), SHA);
    assert!(kept.join("blobs").join(sha256(&files()[needed[2]])).is_file());
    let total: usize = needed.iter().map(|name| files()[name].len()).sum();
    assert_eq!(
        last.map(|last: masuka_storage::downloads::Installing| last.total),
        Some(total as u64)
    );
    assert!(fake.cdn.asked().len() > 2, "the connection was cut and taken up again");
    assert!(
        fake.cdn.asked().iter().all(|asked| asked.token.is_none()),
        "the token stays with the hub"
    );
    assert!(fake.hub.asked().iter().all(|asked| asked.token.as_deref() == Some("Bearer secret")));

    let before = (fake.hub.asked().len(), fake.cdn.asked().len());
    assert_eq!(hub.install(&model(), &mut |_| true).await.unwrap(), snapshot);
    let after = (fake.hub.asked().len(), fake.cdn.asked().len());
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 0), "only the list was asked for");
}

#[tokio::test]
async fn what_was_stopped_goes_on_where_it_was() {
    let fake = FakeHub::start("", |_| None);
    let folder = tempfile::tempdir().unwrap();
    let hub = fake.client(folder.path(), None);
    let stopped = hub.install(&model(), &mut |progress| progress.bytes < 400_000).await;
    assert!(matches!(stopped, Err(Error::Stopped)));
    let before = fake.cdn.asked().len();
    hub.install(&model(), &mut |_| true).await.unwrap();
    assert!(fake.cdn.asked()[before].from >= 300_000, "{:?}", fake.cdn.asked());
}

#[tokio::test]
async fn a_gated_model_says_what_to_do_with_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start("", |asked| asked.token.is_none().then_some(401));
    let refused = fake.client(folder.path(), None).install(&model(), &mut |_| true).await;
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("accept its licence at") && message.contains("set HF_TOKEN"),
        "{message}"
    );
    assert!(message.contains("/owner/flux"), "{message}");
    fake.client(folder.path(), Some("good")).install(&model(), &mut |_| true).await.unwrap();

    let fake = FakeHub::start("", |_| Some(403));
    let refused = fake.client(folder.path(), Some("bad")).install(&model(), &mut |_| true).await;
    assert!(refused.unwrap_err().to_string().contains("HF_TOKEN is not accepted"));
    let fake = FakeHub::start("", |_| Some(404));
    let refused = fake.client(folder.path(), None).install(&model(), &mut |_| true).await;
    assert!(refused.unwrap_err().to_string().contains("has no revision `main`"));
}

#[tokio::test]
async fn damaged_weights_are_refused_and_fetched_anew() {
    let name = "transformer/diffusion_pytorch_model.safetensors";
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start(name, |_| None);
    let refused = fake.client(folder.path(), None).install(&model(), &mut |_| true).await;
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("its sha256 is") && message.contains("download it again"),
        "{message}"
    );
    let good = FakeHub::start("", |_| None);
    good.client(folder.path(), None).install(&model(), &mut |_| true).await.unwrap();
}

#[tokio::test]
async fn a_model_larger_than_the_disk_is_refused_before_its_first_byte() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let hub = Elsewhere::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let weights = json!({
            "rfilename": "transformer/model.safetensors",
            "size": 1u64 << 60,
            "lfs": { "sha256": "a".repeat(64) },
        });
        let index = json!({ "rfilename": "model_index.json", "size": 2, "blobId": "b".repeat(40) });
        Reply::Status(200, json!({ "sha": SHA, "siblings": [index, weights] }).to_string())
    });
    let folder = tempfile::tempdir().unwrap();
    let endpoint = hub.url("").parse().unwrap();
    let client =
        Hub { endpoint, token: None, cache: folder.path().to_owned(), reach: Reach::anywhere() };
    let refused = client.install(&model(), &mut |_| true).await.unwrap_err().to_string();
    assert!(refused.contains("the disk is full") && refused.contains("HF_HOME"), "{refused}");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "only the list");
}

#[tokio::test]
async fn a_single_file_is_named_after_its_model() {
    let fake = FakeHub::start("", |_| None);
    let folder = tempfile::tempdir().unwrap();
    let hub = fake.client(folder.path(), None);
    let file = HubModel::parse("owner/flux:flux.safetensors").unwrap();
    let path = hub.install(&file, &mut |_| true).await.unwrap();
    assert!(std::fs::read(path).unwrap() == files()["flux.safetensors"]);
    let nothing = HubModel::parse("owner/flux:nothing.gguf").unwrap();
    let message = hub.install(&nothing, &mut |_| true).await.unwrap_err().to_string();
    assert!(message.contains("has no file `nothing.gguf`"), "{message}");
}
