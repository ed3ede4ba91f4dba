//! Names of files that mean the same in a folder, in S3 and in a URL: lower case, digits, `.`, `_`, `-` and `/`.

use std::fmt;

use crate::error::{Error, Result};

const MAX_CHARS: usize = 512;

/// The key of a file: `generated/{job}/{epoch}/image_1.png`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey(String);

impl BlobKey {
    /// The key that `text` is.
    ///
    /// # Errors
    /// [`Error::BlobKey`] when it has other characters, empty parts, or parts that begin with a dot.
    pub fn parse(text: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let is_part =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(fits);
        if text.len() > MAX_CHARS || !text.split('/').all(is_part) {
            return Err(Error::BlobKey(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// A picture of a job; the epoch keeps a worker that lost its lease from writing over another's file.
    ///
    /// # Errors
    /// [`Error::BlobKey`] when `job_id` is no id.
    pub fn picture(job_id: &str, epoch: i64, name: &str) -> Result<Self> {
        Self::parse(&format!("generated/{job_id}/{epoch}/{name}"))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type of its content, by its name.
    pub fn content_type(&self) -> &'static str {
        match self.0.rsplit('.').next() {
            Some("png") => "image/png",
            Some("jpg") => "image/jpeg",
            Some("webp") => "image/webp",
            Some("json") => "application/json",
            _ => "application/octet-stream",
        }
    }

    pub(super) fn path(&self) -> object_store::path::Path {
        object_store::path::Path::from(self.0.as_str())
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_names() {
        for text in ["generated/a-1/3/image_1.png", "a", "models/x/y.safetensors"] {
            assert_eq!(BlobKey::parse(text).unwrap().as_str(), text);
            assert_eq!(BlobKey::parse(text).unwrap().path().as_ref(), text, "stored as it is");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let long = "a".repeat(513);
        for text in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            "..",
            "a/../b",
            "a/./b",
            "a/.hidden",
            "a\\b",
            "a b",
            "ü",
            "A",
            "a%2e",
            "a\0b",
            "a\n",
            long.as_str(),
        ] {
            assert!(BlobKey::parse(text).is_err(), "{text:?}");
        }
    }
}
