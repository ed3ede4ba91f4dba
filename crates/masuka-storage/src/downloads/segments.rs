//! Large files in segments, several at once: one connection seldom fills a line. Each segment waits in memory until those
//! before it are written, so that what lies on disk is always the beginning of the file, hashed as it comes.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};

use super::part::Part;
use super::patience::Patience;
use super::{Arrived, Broken, Downloader, Told, Wanted, check_status, reasons};
use crate::error::Error;

/// How many segments are fetched at once; so many of them are in memory at most.
const AT_ONCE: usize = 4;
const TELL_EVERY: Duration = Duration::from_millis(200);

impl Downloader {
    /// The size of a file of which enough is missing for segments, and whose hash tells whether they belong together.
    pub(super) fn size_for_segments(&self, wanted: &Wanted, part: &Part) -> Option<u64> {
        let size = wanted.bytes.filter(|_| wanted.sha256.is_some())?;
        (size.checked_sub(part.bytes())? > 2 * self.segment_bytes).then_some(size)
    }

    /// All that is missing of a file of `size` bytes.
    pub(super) async fn attempt_in_segments(
        &self,
        wanted: &Wanted,
        size: u64,
        part: &mut Part,
        told: &mut Told<'_>,
    ) -> Result<(), Broken> {
        part.check_room(Some(size))?;
        let arrived = AtomicU64::new(part.bytes());
        let starts = (part.bytes()..size).step_by(self.segment_bytes as usize);
        let ranges = starts.map(|start| start..(start + self.segment_bytes).min(size));
        let segments = ranges.map(|range| self.segment(wanted, range, &arrived));
        let mut segments = stream::iter(segments).buffered(AT_ONCE);
        let mut tell = tokio::time::interval(TELL_EVERY);
        loop {
            tokio::select! {
                segment = segments.next() => match segment {
                    Some(bytes) => part.write(&bytes?).await?,
                    None => return Ok(()),
                },
                _ = tell.tick() => {
                    let bytes = arrived.load(Ordering::Relaxed);
                    if !told(Arrived { bytes, total: Some(size) }) {
                        return Err(Error::Stopped.into());
                    }
                }
            }
        }
    }

    /// The bytes of `range`, by as many connections as it takes.
    async fn segment(
        &self,
        wanted: &Wanted,
        range: Range<u64>,
        arrived: &AtomicU64,
    ) -> Result<Vec<u8>, Broken> {
        let length = (range.end - range.start) as usize;
        let mut bytes = Vec::with_capacity(length);
        let mut patience = Patience::default();
        while bytes.len() < length {
            let before = bytes.len();
            let rest = range.start + before as u64..range.end;
            match self.fill(wanted, rest, &mut bytes, arrived).await {
                Err(Broken::Cut(reason)) => {
                    patience.wait(bytes.len() > before, reason, &wanted.url).await?;
                }
                other => other?,
            }
        }
        Ok(bytes)
    }

    /// One connection's worth of `rest`, appended to `bytes`.
    async fn fill(
        &self,
        wanted: &Wanted,
        rest: Range<u64>,
        bytes: &mut Vec<u8>,
        arrived: &AtomicU64,
    ) -> Result<(), Broken> {
        let header = format!("bytes={}-{}", rest.start, rest.end - 1);
        let mut response = self.ask(wanted, |request| request.header(RANGE, &header)).await?;
        check_status(&response, wanted.url.as_str()).map_err(Broken::of_status)?;
        if !begins_at(&response, rest.start) {
            return Err(Broken::NoRanges);
        }
        let end = bytes.len() + (rest.end - rest.start) as usize;
        while bytes.len() < end {
            let chunk = response.chunk().await.map_err(|e| Broken::Cut(reasons(&e)))?;
            let Some(chunk) = chunk else { return Err(Broken::Cut("it ended early".into())) };
            let fits = chunk.len().min(end - bytes.len());
            bytes.extend_from_slice(&chunk[..fits]);
            arrived.fetch_add(fits as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Whether the answer is the part of the file that was asked for: `Content-Range: bytes 123-456/789`.
fn begins_at(response: &Response, start: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
    response.status() == StatusCode::PARTIAL_CONTENT
        && first.and_then(|first| first.parse().ok()) == Some(start)
}
