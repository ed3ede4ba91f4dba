//! What opens something is in no error and in no debug output.

use masuka_storage::config::{BlobConfig, S3Config};
use masuka_storage::database::Database;
use masuka_storage::downloads::{Downloader, Hub, Reach, Wanted};
use masuka_storage::{Error, Storage, StorageConfig};

const WORD: &str = "hunter2";

fn check(what: &str, text: String) {
    assert!(!text.contains(WORD), "{what} tells the secret: {text}");
}

#[test]
fn configurations_show_no_secret() {
    let bucket = S3Config {
        bucket: "masuka".into(),
        endpoint: None,
        region: "auto".into(),
        access_key_id: "ada".into(),
        secret_access_key: WORD.into(),
        prefix: String::new(),
    };
    let config = StorageConfig {
        database_url: Some(format!("postgres://ada:{WORD}@host/x").into()),
        nats_url: Some(format!("nats://ada:{WORD}@host").into()),
        blobs: BlobConfig::S3(bucket),
        ..StorageConfig::local("data".as_ref())
    };
    let shown = format!("{config:?}");
    assert!(shown.contains("masuka") && shown.contains("ada"), "{shown}");
    check("the storage's configuration", shown);
    let token = Some(WORD.into());
    let (endpoint, reach) = ("https://hub.example".parse().unwrap(), Reach::anywhere());
    let hub = Hub { endpoint, token, cache: "cache".into(), reach };
    check("a hub", format!("{hub:?}"));
    let (token, url) = (hub.token, hub.endpoint);
    let wanted = Wanted { url, token, max_bytes: 1, bytes: None, sha256: None };
    check("a download", format!("{wanted:?}"));
}

#[tokio::test]
async fn an_address_of_no_database_is_not_repeated() {
    for (url, expected) in [
        (format!("postgres://ada:{WORD}@host:port/x"), "invalid port number"),
        (format!("postgres://ada:{WORD}@ho st/x"), "invalid domain character"),
        (format!("mysql://ada:{WORD}@host/x"), "of kind `mysql`"),
        (WORD.to_owned(), "supported are"),
    ] {
        let error = Database::open(&url).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        check("a refused DATABASE_URL", format!("{error} {error:?}"));
    }
}

#[tokio::test]
async fn a_download_that_fails_tells_neither_user_nor_signature() {
    let downloader = Downloader::new(Reach::public_and(&[])).unwrap();
    for url in [
        format!("https://ada:{WORD}@a.example/b"),
        format!("http://127.0.0.1/b?X-Amz-Signature={WORD}"),
        format!("ftp://ada:{WORD}@a.example/b"),
    ] {
        let url = url.parse().unwrap();
        let wanted = Wanted { url, token: None, max_bytes: 1, bytes: None, sha256: None };
        let error = downloader.text(&wanted).await.unwrap_err();
        assert!(error.to_string().contains("/b"), "{error}");
        check("a failed download", format!("{error} {error:?}"));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn rows_and_files_are_closed_to_other_users() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap(); // made by a user, or for the starter model
    let storage = Storage::open(&StorageConfig::local(folder.path())).await.unwrap();
    storage.new_upload_path().unwrap();
    for name in ["masuka.db", "masuka.db-wal", "files", "uploads"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} has the mode {mode:o}");
    }
}
