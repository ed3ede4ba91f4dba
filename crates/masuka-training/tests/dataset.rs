//! Folders of pictures as users have them.

use std::path::Path;

use masuka_training::dataset::Dataset;

fn picture(folder: &Path, name: &str, caption: Option<&str>) {
    let path = folder.join(name);
    image::RgbImage::new(32, 48).save(&path).expect("a picture");
    if let Some(caption) = caption {
        std::fs::write(path.with_extension("txt"), caption).expect("a caption");
    }
}

#[test]
fn good_pictures_are_kept_and_bad_ones_are_listed_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    picture(path, "b.png", Some("  a red\nthing, TOK style \n"));
    picture(path, "a.jpg", Some("a thing, TOK style"));
    picture(path, "c.png", None);
    std::fs::write(path.join("broken.png"), b"\x89PNG\r\n\x1a\nrest").expect("a file");
    std::fs::write(path.join("empty.webp"), b"").expect("a file");
    std::fs::write(path.join("notes.md"), b"no picture").expect("a file");
    let dataset = Dataset::open(path, Some("TOK")).expect("a data set");
    let kept: Vec<_> = dataset
        .pictures
        .iter()
        .map(|p| (p.path.file_name().expect("a name").to_str().expect("text"), p.caption.as_str()))
        .collect();
    let expected =
        [("a.jpg", "a thing, TOK style"), ("b.png", "a red thing, TOK style"), ("c.png", "TOK")];
    assert_eq!(kept, expected);
    assert_eq!((dataset.pictures[0].width, dataset.pictures[0].height), (32, 48));
    let reasons: Vec<_> = dataset.rejected.iter().map(|r| r.reason.as_str()).collect();
    assert!(reasons[0].contains("no picture that can be decoded"), "{reasons:?}");
    assert_eq!(reasons[1..], ["is empty"]);
}

#[track_caller]
fn check(fill: impl FnOnce(&Path), trigger: Option<&str>, expected: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    let error = Dataset::open(folder.path(), trigger).expect_err(expected).to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn folders_that_cannot_be_trained_on_say_why() {
    check(|_| (), None, "holds no picture (.png, .jpg, .jpeg, .webp)");
    check(
        |folder| std::fs::write(folder.join("a.png"), b"").expect("a file"),
        None,
        "holds no picture that can be used: `a.png` is empty (0 more)",
    );
    check(|folder| picture(folder, "a.png", None), None, "has no caption (a .txt of its name)");
    check(
        |folder| {
            picture(folder, "a.png", Some("a dog"));
            picture(folder, "b.png", Some("a cat"));
            picture(folder, "c.png", Some("TOK"));
        },
        Some("TOK"),
        "holds 2 captions without the trigger word `TOK`, the first is `a dog` of `a.png`",
    );
    check(
        |folder| std::fs::remove_dir(folder).expect("it is removed"),
        None,
        "does not exist; name a folder",
    );
}
