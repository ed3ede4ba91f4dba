//! URLs that let whoever has them read one file for a while. All servers over one database sign alike.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::BlobKey;

/// A URL is valid for at least this long.
pub(super) const VALID_SECONDS: i64 = 60 * 60;
/// Within this time a file has one URL, so that browsers can keep what they have fetched.
pub(super) const ROUND_SECONDS: i64 = 15 * 60;

/// Signs and checks.
#[derive(Clone)]
pub struct UrlSigner {
    /// Knows the secret, and nothing of a message yet.
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UrlSigner")
    }
}

impl UrlSigner {
    /// Signs with `secret`.
    pub fn new(secret: &str) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
        Self { mac: mac.unwrap_or_else(|_| unreachable!("HMAC takes secrets of any length")) }
    }

    /// Path and query that let in from `now_seconds` on: `/files/{key}?expires=…&signature=…`.
    pub fn sign(&self, key: &BlobKey, now_seconds: i64) -> String {
        let expires = (now_seconds / ROUND_SECONDS + 1) * ROUND_SECONDS + VALID_SECONDS;
        let signature = hex(&self.mac(key, expires).finalize().into_bytes());
        format!("/files/{key}?expires={expires}&signature={signature}")
    }

    /// Whether `signature` is ours; in constant time. Whether it has expired is another question.
    pub fn is_valid(&self, key: &BlobKey, expires: i64, signature: &str) -> bool {
        let Some(bytes) = unhex(signature) else { return false };
        self.mac(key, expires).verify_slice(&bytes).is_ok()
    }

    /// A word for `purpose` that nobody guesses who does not know the secret.
    pub(crate) fn word(&self, purpose: &str) -> String {
        let mut mac = self.mac.clone();
        mac.update(purpose.as_bytes());
        hex(&mac.finalize().into_bytes()[..16])
    }

    /// Method, key and expiry under the secret.
    fn mac(&self, key: &BlobKey, expires: i64) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        for part in ["GET\n", key.as_str(), "\n", &expires.to_string()] {
            mac.update(part.as_bytes());
        }
        mac
    }
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        digits.push(digit(byte >> 4));
        digits.push(digit(byte & 15));
    }
    digits
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (i64, String) {
        let (expires, signature) =
            url.split_once("expires=").unwrap().1.split_once("&signature=").unwrap();
        (expires.parse().unwrap(), signature.to_owned())
    }

    #[test]
    fn a_url_lets_in_to_one_file_for_at_least_an_hour() {
        let signer = UrlSigner::new("secret");
        let key = BlobKey::parse("generated/a/1/image_1.png").unwrap();
        let (expires, signature) = parts(&signer.sign(&key, 1_000_000));
        assert!((1_003_600..=1_004_500).contains(&expires));
        assert!(signer.is_valid(&key, expires, &signature));
        assert!(!signer.is_valid(&key, expires + 1, &signature), "a longer life");
        let other = BlobKey::parse("generated/a/1/image_2.png").unwrap();
        assert!(!signer.is_valid(&other, expires, &signature), "another file");
        assert!(!UrlSigner::new("other").is_valid(&key, expires, &signature), "another secret");
        for forged in
            ["", "0", "zz", "é", &signature[2..], &signature.replace(&signature[..2], "00")]
        {
            assert!(!signer.is_valid(&key, expires, forged), "{forged}");
        }
    }

    #[test]
    fn the_url_of_a_file_stays_the_same_for_a_quarter_of_an_hour() {
        let signer = UrlSigner::new("secret");
        let key = BlobKey::parse("a").unwrap();
        assert_eq!(signer.sign(&key, 900_000), signer.sign(&key, 900_899));
        assert_ne!(signer.sign(&key, 900_000), signer.sign(&key, 900_900));
    }
}
