//! LoRA from elsewhere: uploaded, downloaded, or copied from the import folder; examined, then entered.

use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::StatusCode;
use masuka_storage::blobs::BlobKey;
use masuka_storage::downloads::{Downloader, Reach, Url, Wanted};
use masuka_storage::entities::lora_model;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::models::{MAX_TEXT_BYTES, check_text};
use crate::app::{App, Links};
use crate::desk::{LoraFacts, TensorCounts};
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::{Body, is_json};
use crate::temporary::TemporaryFile;
use crate::views::model::{ImportBody, ImportForm, ImportedView, ModelView};

/// Import a LoRA
///
/// Any convention of the field, as a file in a form, or as JSON with the `url` of a file or its `path` in the server's
/// import folder. Tensors that fit nowhere refuse the import unless `allow_partial` is set.
#[utoipa::path(
    post, path = "/api/models/import", tag = "models",
    request_body(content(
        (ImportForm = "multipart/form-data"),
        (ImportBody = "application/json")
    )),
    responses(
        (status = 201, description = "Imported", body = ImportedView),
        Refusals,
    )
)]
pub(crate) async fn import_model(
    State(app): State<App>,
    links: Links,
    request: Request,
) -> ApiResult<(StatusCode, Json<ImportedView>)> {
    let upload = match is_json(request.headers()) {
        true => fetch(&app, Body::from_request(request, &app).await?.0).await?,
        false => Upload::receive(&app, form(request, &app).await?).await?,
    };
    let base = app.base_model(upload.base_model.as_deref()).await?;
    let base_model = base.id.clone();
    let (app_here, path) = (app.clone(), upload.path()?.to_owned());
    let examined =
        tokio::task::spawn_blocking(move || app_here.desk.examine_lora(&path, &base)).await;
    let facts = examined
        .map_err(|_| ApiError::invalid("file", "this file makes the reader panic"))?
        .map_err(|message| ApiError::invalid("file", message))?;
    check_facts(&facts, upload.allow_partial)?;
    let id = Uuid::now_v7().to_string();
    let key = BlobKey::parse(&format!("models/{id}/lora.safetensors"))?;
    app.storage.blobs().put_file(&key, upload.path()?).await?;
    let tensors = facts.tensors;
    let model =
        app.storage.lora_models().enter(upload.into_row(id, &key, &base_model, facts)).await?;
    app.tell_changed("models");
    let model = ModelView::new(model, &links)?;
    Ok((StatusCode::CREATED, Json(ImportedView { model, tensors })))
}

fn check_facts(facts: &LoraFacts, allow_partial: bool) -> ApiResult<()> {
    if facts.tensors.applied == 0 {
        let message =
            "file holds no LoRA for this base model: none of its tensors would have an effect";
        return Err(ApiError::invalid("file", message));
    }
    match &facts.first_unknown {
        Some(first) if !allow_partial => {
            let TensorCounts { applied, ignored, unknown } = facts.tensors;
            let fits = if unknown == 1 { "tensor that fits" } else { "tensors that fit" };
            let message = format!(
                "file has {unknown} {fits} nowhere, the first is `{first}`, beside {applied} in effect and {ignored} \
                 without effect; allow_partial takes the rest"
            );
            Err(ApiError::invalid("file", message))
        }
        _ => Ok(()),
    }
}

async fn form(request: Request, app: &App) -> ApiResult<Multipart> {
    let form = Multipart::from_request(request, app).await;
    let message =
        |e| format!("{e}; send multipart/form-data with a file, or JSON with a url or path");
    form.map_err(|e| ApiError::unsupported_type(message(e)))
}

/// The file that a URL or a path names.
async fn fetch(app: &App, body: ImportBody) -> ApiResult<Upload> {
    let texts = [
        ("name", &body.name),
        ("trigger_word", &body.trigger_word),
        ("base_model", &body.base_model),
    ];
    for (field, text) in texts {
        check_text(field, text.as_deref().unwrap_or_default())?;
    }
    let mut upload = match (&body.url, &body.path) {
        (Some(url), None) => from_url(app, url).await?,
        (None, Some(path)) => from_import_folder(app, path).await?,
        _ => {
            let message = "one of url and path is needed: where the .safetensors file is";
            return Err(ApiError::invalid("url", message));
        }
    };
    upload.name = body.name;
    upload.trigger_word = body.trigger_word;
    upload.base_model = body.base_model;
    upload.allow_partial = body.allow_partial.unwrap_or(false);
    Ok(upload)
}

/// Downloads a file; addresses that are not public are out of reach, at every redirect.
async fn from_url(app: &App, url: &str) -> ApiResult<Upload> {
    let message = |e| format!("url `{url}` is no address: {e}");
    let url: Url = url.parse().map_err(|e| ApiError::invalid("url", message(e)))?;
    let file_name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or("lora");
    let mut upload = Upload { file_name: file_name.to_owned(), ..Upload::default() };
    let file = upload.file.insert(TemporaryFile::new(app)?);
    let max_bytes = app.options.max_upload_bytes;
    let wanted = Wanted { url, token: None, max_bytes, bytes: None, sha256: None };
    let downloader = Downloader::new(Reach::public_and(&app.options.import_hosts))?;
    let closing = app.closing.clone();
    let mut goes_on = |_| !*closing.borrow();
    let downloaded = downloader.fetch(&wanted, file.path(), &mut goes_on).await?;
    (upload.bytes, upload.sha256) = (downloaded.bytes, downloaded.sha256);
    Ok(upload)
}

/// What `path` names in the import folder; no path leads out of it.
pub(super) fn in_import_folder(app: &App, path: &str) -> ApiResult<PathBuf> {
    let Some(folder) = &app.options.import_dir else {
        let message = "path cannot be imported: this server has no import folder; its administrator sets one with MASUKA_IMPORT_DIR";
        return Err(ApiError::invalid("path", message));
    };
    let nothing = |_| not_in_import_folder(path);
    let folder = folder.canonicalize().map_err(nothing)?;
    // Links and `..` are resolved first, then judged.
    let found = folder.join(path).canonicalize().map_err(nothing)?;
    if found.starts_with(&folder) { Ok(found) } else { Err(not_in_import_folder(path)) }
}

fn not_in_import_folder(path: &str) -> ApiError {
    ApiError::invalid("path", format!("path `{path}` is no file of the import folder"))
}

/// Copies a file of the import folder.
async fn from_import_folder(app: &App, path: &str) -> ApiResult<Upload> {
    let nothing = |_: std::io::Error| not_in_import_folder(path);
    let found = in_import_folder(app, path)?;
    if !found.is_file() {
        return Err(not_in_import_folder(path));
    }
    let mut upload = Upload { file_name: path.to_owned(), ..Upload::default() };
    let mut file = tokio::fs::File::open(&found).await.map_err(nothing)?;
    let mut writer = upload.create_file(app).await?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut chunk).await.map_err(nothing)?;
        if count == 0 {
            break;
        }
        writer.write(&mut upload, app, &chunk[..count]).await?;
    }
    writer.finish(&mut upload).await?;
    Ok(upload)
}

/// An import as it arrives; its file goes away with it.
#[derive(Default)]
struct Upload {
    file: Option<TemporaryFile>,
    file_name: String,
    bytes: u64,
    sha256: String,
    name: Option<String>,
    trigger_word: Option<String>,
    base_model: Option<String>,
    allow_partial: bool,
}

impl Upload {
    async fn receive(app: &App, mut form: Multipart) -> ApiResult<Self> {
        let mut upload = Self::default();
        while let Some(field) = form.next_field().await.map_err(|e| ApiError::broken_body(&e))? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "file" => upload.take_file(app, field).await?,
                "name" => upload.name = Some(text(field, &name).await?),
                "trigger_word" => upload.trigger_word = Some(text(field, &name).await?),
                "base_model" => upload.base_model = Some(text(field, &name).await?),
                "allow_partial" => {
                    let value = text(field, &name).await?;
                    let message = format!("allow_partial `{value}` is not one of true, false");
                    upload.allow_partial =
                        value.parse().map_err(|_| ApiError::invalid("allow_partial", message))?;
                }
                _ => {
                    let message = format!(
                        "unknown field `{name}`, expected one of file, name, trigger_word, base_model, allow_partial"
                    );
                    return Err(ApiError::invalid(&name, message));
                }
            }
        }
        upload.path()?;
        Ok(upload)
    }

    /// Takes the file as it comes.
    async fn take_file(&mut self, app: &App, mut field: Field<'_>) -> ApiResult<()> {
        self.file_name = field.file_name().unwrap_or("lora").to_owned();
        let mut writer = self.create_file(app).await?;
        while let Some(chunk) = field.chunk().await.map_err(|e| ApiError::broken_body(&e))? {
            writer.write(self, app, &chunk).await?;
        }
        writer.finish(self).await
    }

    async fn create_file(&mut self, app: &App) -> ApiResult<FileWriter> {
        let file = self.file.insert(TemporaryFile::new(app)?);
        let path = file.path().to_owned();
        let created = tokio::fs::File::create(&path).await;
        let file = created.map_err(|e| masuka_storage::Error::io(&path, e))?;
        Ok(FileWriter { path, file, hash: Sha256::new() })
    }

    fn path(&self) -> ApiResult<&Path> {
        let file = self.file.as_ref().map(TemporaryFile::path);
        file.ok_or_else(|| ApiError::invalid("file", "file is missing; send a .safetensors file"))
    }

    fn into_row(
        self,
        id: String,
        key: &BlobKey,
        base_model: &str,
        facts: LoraFacts,
    ) -> lora_model::Model {
        let stem = Path::new(&self.file_name).file_stem();
        let stem = stem.map_or("lora".into(), |stem| stem.to_string_lossy().into_owned());
        lora_model::Model {
            id,
            name: self.name.filter(|name| !name.trim().is_empty()).unwrap_or(stem),
            version: "1.0".into(),
            model_type: "flux_image".into(),
            base_model: Some(base_model.to_owned()),
            trigger_word: self.trigger_word.or(facts.trigger_word),
            notes: None,
            rank: facts.rank.and_then(|rank| rank.try_into().ok()),
            alpha: facts.alpha,
            bytes: self.bytes.try_into().unwrap_or(i64::MAX),
            sha256: self.sha256,
            format: facts.format,
            metadata: json!({ "tensors": facts.tensors, "header": facts.header }).to_string(),
            blob_key: key.to_string(),
            training_session_id: None,
            created_at_ms: 0,
            deleted_at_ms: None,
        }
    }
}

/// Writes a file to disk as it comes, counting and hashing it.
struct FileWriter {
    path: PathBuf,
    file: tokio::fs::File,
    hash: Sha256,
}

impl FileWriter {
    async fn write(&mut self, upload: &mut Upload, app: &App, chunk: &[u8]) -> ApiResult<()> {
        upload.bytes += chunk.len() as u64;
        let limit = app.options.max_upload_bytes;
        if upload.bytes > limit {
            return Err(ApiError::too_large(format!("the file is longer than {limit} bytes")));
        }
        self.hash.update(chunk);
        let written = self.file.write_all(chunk).await;
        Ok(written.map_err(|e| masuka_storage::Error::io(&self.path, e))?)
    }

    async fn finish(mut self, upload: &mut Upload) -> ApiResult<()> {
        self.file.flush().await.map_err(|e| masuka_storage::Error::io(&self.path, e))?;
        upload.sha256 = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(())
    }
}

/// A text of the form; no more of it is read than may be.
async fn text(mut field: Field<'_>, name: &str) -> ApiResult<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|e| ApiError::broken_body(&e))? {
        bytes.extend(chunk);
        if bytes.len() > MAX_TEXT_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    check_text(name, &text)?;
    Ok(text)
}
