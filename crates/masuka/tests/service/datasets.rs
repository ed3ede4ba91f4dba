//! Pictures to train on: uploaded loose and in zips, captioned, shown, deleted.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::form::Form;
use crate::http::Response;
use crate::support::TestApp;

/// Icons drawn white on blue, each with a caption.
pub fn blueprint(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/datasets/blueprint");
    let entries = std::fs::read_dir(path.join(folder)).expect("the fixture");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// An empty dataset; its address.
pub fn new_dataset(app: &TestApp, trigger: Option<&str>) -> String {
    let body = json!({ "name": "Blueprint", "trigger_word": trigger });
    let created = app.post("/api/datasets/", &body).expect(201);
    format!("/api/datasets/{}", created["id"].as_str().unwrap())
}

pub fn upload(app: &TestApp, dataset: &str, files: &[(String, Vec<u8>)]) -> Value {
    let form = files
        .iter()
        .fold(Form::default(), |form, (name, content)| form.file("files", name, content));
    app.send(form.post(&format!("{dataset}/upload"))).expect(200)
}

fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn plain(width: u32, height: u32, shade: u8) -> RgbImage {
    RgbImage::from_pixel(width, height, Rgb([shade, 90, 30]))
}

fn named(files: &[(&str, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect()
}

/// File and reason of what was left out.
fn rejected(answer: &Value) -> Vec<(String, String)> {
    let all = answer["rejected"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|one| (text(&one["file"]), text(&one["reason"]))).collect()
}

fn captions(app: &TestApp, dataset: &str) -> Vec<Value> {
    let images = app.get(&format!("{dataset}/images")).expect(200);
    images.as_array().unwrap().iter().map(|image| image["caption"].clone()).collect()
}

/// All files below the folder of a dataset.
fn stored(app: &TestApp, dataset: &str) -> usize {
    let folder = app.data(&format!("files/datasets/{}", dataset.rsplit('/').next().unwrap()));
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn wait_until(is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_zip_of_pictures_and_captions_becomes_a_dataset() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let dataset = new_dataset(&app, Some("TOK"));
    let empty = app.get(&dataset).expect(200);
    assert_eq!((&empty["image_count"], &empty["is_processed"]), (&json!(0), &json!(false)));
    let answer = upload(&app, &dataset, &named(&[("blueprint.zip", zip(&blueprint("train")))]));
    assert_eq!((&answer["uploaded_count"], &answer["rejected"]), (&json!(24), &json!([])));
    let first = &answer["files"][0];
    assert!(first["caption"].as_str().unwrap().contains("TOK style"), "{first}");
    assert_eq!(first["warnings"], json!([]));
    let full = app.get(&dataset).expect(200);
    assert_eq!((&full["image_count"], &full["video_count"]), (&json!(24), &json!(0)));
    assert_eq!((&full["is_processed"], &full["captions_generated"]), (&json!(true), &json!(true)));
    assert_eq!(app.get("/api/datasets/").expect(200)[0], full);

    let images = app.get(&format!("{dataset}/images")).expect(200);
    let (image, size) = (&images[0], json!({ "width": 128, "height": 128 }));
    assert_eq!(image["bucket"], size);
    let picture = image::load_from_memory(&app.download(&image["url"]).body).unwrap();
    assert_eq!(picture.width(), image["width"].as_u64().unwrap() as u32);
    let thumbnail = app.download(&image["thumbnail_url"]);
    assert_eq!(thumbnail.header("content-type"), Some("image/jpeg"));
    image::load_from_memory(&thumbnail.body).unwrap();
    let larger = app.get(&format!("{dataset}/images?resolution=256")).expect(200);
    assert_eq!(larger[0]["bucket"], json!({ "width": 256, "height": 256 }));
    assert_eq!(larger[0]["warnings"], json!(["is smaller than 256×256 and will be enlarged"]));

    let again = upload(&app, &dataset, &named(&[("blueprint.zip", zip(&blueprint("train")))]));
    assert_eq!(again["uploaded_count"], 0);
    assert!(rejected(&again).iter().all(|(_, reason)| reason.contains("is the same picture as")));
    assert_eq!(std::fs::read_dir(app.data("uploads")).unwrap().count(), 0, "uploads are left");
}

#[test]
fn what_cannot_be_used_is_listed_and_the_rest_is_kept() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let dataset = new_dataset(&app, None);
    let png = encoded(plain(64, 64, 1), ImageFormat::Png);
    let inside = named(&[
        ("../outside.png", encoded(plain(64, 64, 2), ImageFormat::Png)),
        ("deep/inside.png", encoded(plain(64, 64, 3), ImageFormat::Png)),
        ("deep/inside.txt", b"from the zip".to_vec()),
        ("__MACOSX/deep/._inside.png", b"of the system".to_vec()),
        ("inner.zip", zip(&named(&[("a.png", png.clone())]))),
    ]);
    let files = named(&[
        ("good.png", png.clone()),
        ("good.txt", b"a good one\n".to_vec()),
        ("same pixels.webp", encoded(plain(64, 64, 1), ImageFormat::WebP)),
        ("empty.png", Vec::new()),
        ("broken.png", png[..png.len() / 2].to_vec()),
        ("movie.mp4", b"\0\0\0\x18ftypmp42".to_vec()),
        ("alone.txt", b"whose?".to_vec()),
        ("latin.txt", b"caf\xe9".to_vec()),
        ("pack.zip", zip(&inside)),
        ("half.zip", zip(&inside)[..300].to_vec()),
    ]);
    let answer = upload(&app, &dataset, &files);
    let kept: Vec<_> = answer["files"].as_array().unwrap().iter().map(|f| &f["file"]).collect();
    assert_eq!(kept, ["good.png", "inside.png"]);
    assert_eq!(captions(&app, &dataset), [json!("a good one"), json!("from the zip")]);
    let reasons = rejected(&answer);
    let check = |file: &str, part: &str| {
        let found = reasons.iter().find(|(name, _)| name == file);
        let (_, reason) = found.unwrap_or_else(|| panic!("{file} is not among {reasons:?}"));
        assert!(reason.contains(part), "{file}: {reason}");
    };
    check("same pixels.webp", "is the same picture as `good.png`");
    check("empty.png", "is empty");
    check("broken.png", "is no picture that can be decoded");
    check("movie.mp4", "is no picture that can be decoded");
    check("alone.txt", "is the caption of no picture here");
    check("latin.txt", "is no UTF-8 text");
    check("pack.zip/../outside.png", "leads out of the zip");
    check("pack.zip/inner.zip", "is no picture that can be decoded");
    check("half.zip", "is no zip that can be read");
    assert_eq!(reasons.len(), 9, "{reasons:?}");
    assert_eq!(stored(&app, &dataset), 4, "two pictures with their thumbnails");
    assert_eq!(std::fs::read_dir(app.data("uploads")).unwrap().count(), 0, "uploads are left");
}

#[test]
fn a_bomb_in_a_zip_is_stopped() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let dataset = new_dataset(&app, None);
    let zeros = vec![0; 33 << 20];
    let files = [("good.png", encoded(plain(64, 64, 1), ImageFormat::Png))];
    let mut files = named(&files);
    files.extend((0..6).map(|i| (format!("{i}.png"), zeros.clone())));
    let answer = upload(&app, &dataset, &named(&[("bomb.zip", zip(&files))]));
    assert_eq!(answer["uploaded_count"], 1);
    let (file, reason) = rejected(&answer).pop().unwrap();
    assert_eq!(file, "bomb.zip");
    assert!(reason.contains("far more than its size"), "{reason}");
}

#[test]
fn pictures_are_upright_and_opaque_whatever_their_files_are() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let dataset = new_dataset(&app, None);
    // White left and black right, and an EXIF header that says: turn clockwise.
    let sides = RgbImage::from_fn(160, 80, |x, _| Rgb([if x < 80 { 255 } else { 0 }; 3]));
    let mut turned = encoded(sides, ImageFormat::Jpeg);
    let exif = *b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    drop(turned.splice(2..2, exif));
    let clear = encoded(RgbaImage::from_pixel(64, 64, Rgba([9, 9, 9, 0])), ImageFormat::Png);
    let answer = upload(&app, &dataset, &named(&[("turned.jpg", turned), ("clear.png", clear)]));
    assert_eq!(answer["uploaded_count"], 2, "{answer}");
    let (turned, clear) = (&answer["files"][0], &answer["files"][1]);
    assert_eq!((&turned["width"], &turned["height"]), (&json!(80), &json!(160)));
    assert_eq!(turned["bucket"], json!({ "width": 96, "height": 160 }), "{turned}");
    let open = |file: &Value, url: &str| {
        image::load_from_memory(&app.download(&file[url]).body).unwrap().to_rgb8()
    };
    for url in ["url", "thumbnail_url"] {
        let picture = open(turned, url);
        assert!(picture.get_pixel(40, 10).0[0] > 200 && picture.get_pixel(40, 150).0[0] < 50);
        assert_eq!(open(clear, url).get_pixel(5, 5).0, [255; 3]);
    }
}

#[test]
fn captions_are_edited_one_by_one_and_all_at_once() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let dataset = new_dataset(&app, Some("TOK"));
    let files: Vec<_> =
        (0..3).map(|i| (format!("{i}.png"), encoded(plain(64, 64, i), ImageFormat::Png))).collect();
    let answer = upload(&app, &dataset, &files);
    assert_eq!(answer["files"][0]["warnings"].as_array().unwrap().len(), 1, "only its size");
    let id = |i: usize| answer["files"][i]["id"].as_str().unwrap();
    let image = |i: usize| format!("{dataset}/images/{}", id(i));
    let edited = app.patch(&image(0), &json!({ "caption": " a  dog " })).expect(200);
    assert_eq!(edited["caption"], "a dog");
    let warning = edited["warnings"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(warning, "has a caption without the trigger word `TOK`");

    let all = |body: Value| app.post(&format!("{dataset}/captions"), &body).expect(200);
    assert_eq!(all(json!({ "trigger_word": "TOK" }))["updated_count"], 3);
    assert_eq!(captions(&app, &dataset), ["TOK, a dog", "TOK", "TOK"]);
    assert_eq!(all(json!({ "trigger_word": "TOK" }))["updated_count"], 0);
    let body = json!({ "replace": { "from": "dog", "to": "cat" }, "prefix": "photo of ",
        "suffix": ", at night", "image_ids": [id(0), id(1)] });
    assert_eq!(all(body)["updated_count"], 2);
    let expected = ["photo of TOK, a cat, at night", "photo of TOK, at night", "TOK"];
    assert_eq!(captions(&app, &dataset), expected);
    // A text of the same name that comes later.
    upload(&app, &dataset, &named(&[("2.txt", b"later".to_vec())]));
    assert_eq!(captions(&app, &dataset)[2], "later");
    app.patch(&image(2), &json!({ "caption": "" })).expect(200);
    assert_eq!(captions(&app, &dataset)[2], Value::Null);

    let field = |response: Response| response.expect(422)["error"]["field"].clone();
    let long = json!({ "caption": "x".repeat(4001) });
    assert_eq!(field(app.patch(&image(0), &long)), "caption");
    assert_eq!(field(app.patch(&image(0), &json!({}))), "caption");
    let refused = |body: Value| field(app.post(&format!("{dataset}/captions"), &body));
    assert_eq!(refused(json!({})), "prefix");
    assert_eq!(refused(json!({ "image_ids": ["nobody"], "prefix": "a" })), "image_ids");
    assert_eq!(refused(json!({ "replace": { "from": "", "to": "a" } })), "replace.from");
    assert_eq!(refused(json!({ "trigger_word": "a, b" })), "trigger_word");
    assert_eq!(captions(&app, &dataset)[..2], expected[..2]);
}

#[test]
fn nothing_is_left_of_what_was_deleted() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let dataset = new_dataset(&app, None);
    let files: Vec<_> =
        (0..2).map(|i| (format!("{i}.png"), encoded(plain(64, 64, i), ImageFormat::Png))).collect();
    let answer = upload(&app, &dataset, &files);
    let image = format!("{dataset}/images/{}", answer["files"][0]["id"].as_str().unwrap());
    assert_eq!(app.delete(&image).status, 204);
    app.delete(&image).expect(404);
    app.patch(&image, &json!({ "caption": "a" })).expect(404);
    assert_eq!(app.get(&dataset).expect(200)["image_count"], 1);
    wait_until(|| stored(&app, &dataset) == 2);
    assert_eq!(upload(&app, &dataset, &files[..1])["uploaded_count"], 1, "it may come again");
    assert_eq!(app.delete(&dataset).status, 204);
    for path in [dataset.clone(), format!("{dataset}/images")] {
        app.get(&path).expect(404);
    }
    app.send(Form::default().file("files", "a.png", b"x").post(&format!("{dataset}/upload")))
        .expect(404);
    assert_eq!(app.get("/api/datasets").expect(200), json!([]));
    wait_until(|| !app.data(&format!("files{}", &dataset[4..])).exists());
}

#[test]
fn requests_that_make_no_sense_are_refused_by_field() {
    let app = TestApp::with_flags(&["--no-worker"]);
    let check = |body: Value, field: &str| {
        let refused = app.post("/api/datasets", &body).expect(422);
        assert_eq!(refused["error"]["field"], field, "{body}");
    };
    check(json!({}), "name");
    check(json!({ "name": " " }), "name");
    check(json!({ "name": "x".repeat(201) }), "name");
    check(json!({ "name": "a", "trigger_word": "a, b" }), "trigger_word");
    check(json!({ "name": "a", "metadata": [] }), "metadata");
    check(json!({ "name": "a", "images": 3 }), "images");
    let dataset = new_dataset(&app, None);
    let field = |form: Form| {
        let response = app.send(form.post(&format!("{dataset}/upload")));
        response.expect(422)["error"]["field"].clone()
    };
    assert_eq!(field(Form::default()), "files");
    assert_eq!(field(Form::default().text("caption", "x")), "caption");
    app.post(&format!("{dataset}/upload"), &json!({})).expect(415);
    let resolution = app.get(&format!("{dataset}/images?resolution=7")).expect(422);
    assert_eq!(resolution["error"]["field"], "resolution");
    app.get(&format!("{dataset}/images?base_model=nobody")).expect(404);
    app.get("/api/datasets/nobody").expect(404);
    app.get("/api/datasets/..%2f..%2fetc/images").expect(404);
    assert_eq!(app.get("/api/datasets").expect(200).as_array().unwrap().len(), 1);
}
