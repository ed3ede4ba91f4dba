//! Many pictures in one download: a zip that is written while it is sent, one picture in memory at a time. Pictures
//! are compressed already, so the zip only stores them.
//!
//! Format: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.

use axum::body::Body as ResponseBody;
use axum::extract::State;
use axum::http::{HeaderName, header};
use bytes::Bytes;
use flate2::Crc;
use masuka_storage::blobs::{BlobKey, Blobs};
use masuka_storage::entities::output;
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::Body;

const MAX_JOBS: usize = 1000;
/// What fits a zip without the extensions for large ones, with room for its own tables.
const MAX_BYTES: i64 = u32::MAX as i64 - (16 << 20);
/// Names are UTF-8; both are read by every unzipper.
const VERSION: u16 = 20;
/// 1 January 1980, the first date of the format: the same pictures make the same file.
const DATE: u16 = 0x21;

/// Which pictures.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArchiveBody {
    /// Finished jobs.
    ids: Vec<String>,
}

type Zip = ([(HeaderName, &'static str); 2], ResponseBody);

/// Download many pictures as one zip
#[utoipa::path(
    post, path = "/api/generate/archive", tag = "pictures", request_body = ArchiveBody,
    responses(
        (status = 200, description = "The zip", body = Vec<u8>, content_type = "application/zip"),
        Refusals,
    )
)]
pub(crate) async fn archive(
    State(app): State<App>,
    Body(body): Body<ArchiveBody>,
) -> ApiResult<Zip> {
    let count = body.ids.len();
    if !(1..=MAX_JOBS).contains(&count) {
        return Err(ApiError::invalid(
            "ids",
            format!("ids of {count} jobs, 1 to {MAX_JOBS} are accepted"),
        ));
    }
    let mut outputs = Vec::new();
    for id in body.ids.iter().filter(|id| !id.contains('\0')) {
        outputs.extend(app.storage.generations().find(id).await?.outputs);
    }
    if outputs.is_empty() {
        return Err(ApiError::invalid("ids", "ids name no finished picture"));
    }
    if outputs.iter().map(|output| output.bytes).sum::<i64>() > MAX_BYTES {
        return Err(ApiError::invalid("ids", "ids name more than 4 GiB of pictures; choose fewer"));
    }
    let (sender, mut receiver) = mpsc::channel(2);
    let blobs = app.storage.blobs().clone();
    tokio::spawn(async move {
        if let Err(error) = send_zip(&blobs, &outputs, &sender).await {
            // The status is sent already: the connection breaks, and the client sees that the zip is not whole.
            drop(sender.send(Err(std::io::Error::other(error.to_string()))).await);
        }
    });
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"masuka.zip\""),
    ];
    Ok((headers, ResponseBody::from_stream(stream)))
}

/// A client that leaves ends it early.
async fn send_zip(
    blobs: &Blobs,
    outputs: &[output::Model],
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> masuka_storage::Result<()> {
    let mut table = Vec::new();
    let mut offset = 0u32;
    for output in outputs {
        let content = blobs.get(&BlobKey::parse(&output.blob_key)?).await?;
        let entry = Entry::new(output, &content, offset);
        let head = entry.local_header();
        offset += head.len() as u32 + content.len() as u32;
        table.extend(entry.central_header());
        for part in [head.into(), content] {
            if sender.send(Ok(part)).await.is_err() {
                return Ok(());
            }
        }
    }
    table.extend(end_of_table(outputs.len() as u16, table.len() as u32, offset));
    drop(sender.send(Ok(table.into())).await);
    Ok(())
}

/// A picture in a zip.
struct Entry {
    name: String,
    crc: u32,
    bytes: u32,
    offset: u32,
}

impl Entry {
    fn new(output: &output::Model, content: &[u8], offset: u32) -> Self {
        let mut crc = Crc::new();
        crc.update(content);
        let name = format!("{}_{}.png", output.job_id, output.position + 1);
        Self { name, crc: crc.sum(), bytes: content.len() as u32, offset }
    }

    fn local_header(&self) -> Vec<u8> {
        let mut head = b"PK\x03\x04".to_vec();
        head.extend(self.common());
        head.extend(self.name.as_bytes());
        head
    }

    fn central_header(&self) -> Vec<u8> {
        let mut head = b"PK\x01\x02".to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend(self.common());
        head.extend([0; 10]); // comment, disk, attributes
        head.extend(self.offset.to_le_bytes());
        head.extend(self.name.as_bytes());
        head
    }

    /// What both headers hold, up to the lengths of name and extra field.
    fn common(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        for field in [VERSION, 0, 0, 0, DATE] {
            fields.extend(field.to_le_bytes()); // version, flags, stored, time, date
        }
        for field in [self.crc, self.bytes, self.bytes] {
            fields.extend(field.to_le_bytes());
        }
        fields.extend((self.name.len() as u16).to_le_bytes());
        fields.extend(0u16.to_le_bytes());
        fields
    }
}

fn end_of_table(entries: u16, bytes: u32, offset: u32) -> Vec<u8> {
    let mut end = b"PK\x05\x06".to_vec();
    for field in [0, 0, entries, entries] {
        end.extend(field.to_le_bytes());
    }
    end.extend(bytes.to_le_bytes());
    end.extend(offset.to_le_bytes());
    end.extend(0u16.to_le_bytes());
    end
}
