//! Files from elsewhere: resumed, capped, checked, and never from where a user may not look.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use masuka_storage::Error;
use masuka_storage::downloads::{Downloaded, Downloader, Reach, Wanted};
use sha2::{Digest, Sha256};

use crate::elsewhere::{Elsewhere, Reply};

fn content() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder and the path of a file in it that is not there yet.
fn target() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    (folder, path)
}

fn wanted(url: &str) -> Wanted {
    Wanted { url: url.parse().unwrap(), token: None, max_bytes: 1 << 30, bytes: None, sha256: None }
}

async fn fetch(reach: Reach, wanted: &Wanted, path: &Path) -> Result<Downloaded, Error> {
    Downloader::new(reach).unwrap().fetch(wanted, path, &mut |_| true).await
}

fn reason(result: Result<Downloaded, Error>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn a_download_that_is_cut_goes_on_where_it_was() {
    let connections = AtomicUsize::new(0);
    let server = Elsewhere::start(move |_| {
        let first = connections.fetch_add(1, Ordering::SeqCst) < 2;
        Reply::File { bytes: content(), cut_after: first.then_some(500_000) }
    });
    let (_folder, path) = target();
    let wanted = Wanted { sha256: Some(sha256(&content())), ..wanted(&server.url("/file")) };
    let downloaded = fetch(Reach::anywhere(), &wanted, &path).await.unwrap();
    assert_eq!((downloaded.bytes, downloaded.sha256), (1_200_000, sha256(&content())));
    assert_eq!(std::fs::read(&path).unwrap(), content());
    let from: Vec<_> = server.asked().iter().map(|asked| asked.from).collect();
    assert_eq!(from, [0, 500_000, 1_000_000]);
}

/// As [`wanted`], of a file that is known before.
fn known(url: &str) -> Wanted {
    let (bytes, sha256) = (Some(content().len() as u64), Some(sha256(&content())));
    Wanted { bytes, sha256, ..wanted(url) }
}

async fn fetch_in_segments(wanted: &Wanted, path: &Path) -> Result<Downloaded, Error> {
    let downloader = Downloader::new(Reach::anywhere()).unwrap().in_segments_of(100_000);
    downloader.fetch(wanted, path, &mut |_| true).await
}

#[tokio::test]
async fn a_large_file_comes_in_segments_each_of_which_may_be_cut() {
    let server = Elsewhere::start(|_| Reply::File { bytes: content(), cut_after: Some(70_000) });
    let (_folder, path) = target();
    std::fs::write(&path, &content()[..150_000]).unwrap();
    let downloaded = fetch_in_segments(&known(&server.url("/")), &path).await.unwrap();
    assert_eq!((downloaded.bytes, downloaded.sha256), (1_200_000, sha256(&content())));
    assert_eq!(std::fs::read(&path).unwrap(), content());
    let mut from: Vec<_> = server.asked().iter().map(|asked| asked.from).collect();
    from.sort_unstable();
    assert_eq!(
        from[..4],
        [150_000, 220_000, 250_000, 320_000],
        "what lay there, and half segments"
    );
    assert!(server.asked().iter().all(|asked| asked.to.is_some()));
}

#[tokio::test]
async fn a_server_without_ranges_sends_the_file_in_one_piece() {
    let text = "weights ".repeat(100_000);
    let reply = text.clone();
    let server = Elsewhere::start(move |_| Reply::Status(200, reply.clone()));
    let (_folder, path) = target();
    let (bytes, hash) = (Some(text.len() as u64), Some(sha256(text.as_bytes())));
    let wanted = Wanted { bytes, sha256: hash, ..wanted(&server.url("/")) };
    fetch_in_segments(&wanted, &path).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == text.into_bytes());
    assert!(server.asked()[0].to.is_some(), "a segment was asked for first");
    assert_eq!(server.asked().last().map(|asked| asked.to), Some(None), "then the whole");
}

#[tokio::test]
async fn segments_of_another_file_are_found_out() {
    let mut other = content();
    other[1_000_000] ^= 1;
    let server = Elsewhere::start(move |_| Reply::file(&other));
    let (_folder, path) = target();
    let reason = reason(fetch_in_segments(&known(&server.url("/")), &path).await);
    assert!(reason.contains("sha256"), "{reason}");
    assert!(!path.exists());
}

#[tokio::test]
async fn segments_that_never_come_leave_what_came_before() {
    let server = Elsewhere::start(|asked| match asked.from {
        500_000.. => Reply::Status(404, "gone".into()),
        _ => Reply::file(&content()),
    });
    let (_folder, path) = target();
    let error = fetch_in_segments(&known(&server.url("/")), &path).await.unwrap_err();
    assert!(matches!(error, Error::Download { status: Some(404), .. }), "{error}");
    let kept = std::fs::read(&path).unwrap();
    assert!(kept.len() >= 200_000 && kept == content()[..kept.len()], "{} bytes", kept.len());
}

#[tokio::test]
async fn what_an_earlier_process_left_is_used() {
    let server = Elsewhere::start(|_| Reply::file(&content()));
    let (_folder, path) = target();
    std::fs::write(&path, &content()[..700_000]).unwrap();
    let downloaded = fetch(Reach::anywhere(), &wanted(&server.url("/")), &path).await.unwrap();
    assert_eq!(downloaded.sha256, sha256(&content()));
    assert_eq!(server.asked()[0].from, 700_000);
}

#[tokio::test]
async fn a_damaged_file_is_named_and_removed() {
    let server = Elsewhere::start(|_| Reply::file(b"something else"));
    let (_folder, path) = target();
    let wanted = Wanted { sha256: Some(sha256(&content())), ..wanted(&server.url("/")) };
    let reason = reason(fetch(Reach::anywhere(), &wanted, &path).await);
    assert!(reason.contains("sha256") && reason.contains("download it again"), "{reason}");
    assert!(!path.exists());
}

#[tokio::test]
async fn more_than_is_accepted_is_not_even_begun() {
    let server = Elsewhere::start(|_| Reply::Long(2 << 30));
    let (_folder, path) = target();
    let reason = reason(fetch(Reach::anywhere(), &wanted(&server.url("/")), &path).await);
    assert!(reason.contains("longer than the 1073741824 bytes"), "{reason}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[tokio::test]
async fn a_disk_without_room_is_refused_before_it_is_full() {
    let server = Elsewhere::start(|_| Reply::Long(1 << 60));
    let (_folder, path) = target();
    let wanted = Wanted { max_bytes: u64::MAX, ..wanted(&server.url("/")) };
    let reason = reason(fetch(Reach::anywhere(), &wanted, &path).await);
    assert!(reason.contains("the disk is full"), "{reason}");
}

#[tokio::test]
async fn a_token_does_not_follow_to_another_host() {
    let other = Elsewhere::start(|_| Reply::file(b"weights"));
    let there = other.url("/cdn");
    let hub = Elsewhere::start(move |asked| match asked.path.as_str() {
        "/a" => Reply::Redirect("/b".into()),
        _ => Reply::Redirect(there.clone()),
    });
    let (_folder, path) = target();
    let wanted = Wanted { token: Some("secret".into()), ..wanted(&hub.url("/a")) };
    fetch(Reach::anywhere(), &wanted, &path).await.unwrap();
    assert!(hub.asked().iter().all(|asked| asked.token.as_deref() == Some("Bearer secret")));
    assert_eq!(other.asked()[0].token, None);
}

#[tokio::test]
async fn private_addresses_are_out_of_reach_by_name_number_and_redirect() {
    let server = Elsewhere::start(|_| Reply::file(b"secrets of this machine"));
    let port = server.address.port();
    let (_folder, path) = target();
    let public = Reach::public_and(&[]);
    for host in ["127.0.0.1", "localhost", "[::1]", "0x7f.1"] {
        let url = wanted(&format!("http://{host}:{port}/"));
        let reason = reason(fetch(public.clone(), &url, &path).await);
        assert!(reason.contains("is a private address"), "{host}: {reason}");
    }
    let to = format!("http://localhost:{port}/");
    let trusted = Elsewhere::start(move |_| Reply::Redirect(to.clone()));
    let only_by_number = Reach::public_and(&["127.0.0.1".to_owned()]);
    let reason = reason(fetch(only_by_number, &wanted(&trusted.url("/")), &path).await);
    assert!(reason.contains("`localhost` is a private address"), "{reason}");
    assert_eq!(trusted.asked().len(), 1, "the redirect itself was asked for, once");
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[tokio::test]
async fn an_answer_that_is_no_file_is_told_with_its_status() {
    let server = Elsewhere::start(|_| Reply::Status(404, "nothing".into()));
    let (_folder, path) = target();
    let error = fetch(Reach::anywhere(), &wanted(&server.url("/")), &path).await.unwrap_err();
    assert!(matches!(error, Error::Download { status: Some(404), .. }), "{error}");
    assert_eq!(server.asked().len(), 1, "asking again would not help");
}
