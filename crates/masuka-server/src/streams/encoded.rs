//! Messages as bytes. A thousand listeners of one job are told the same: the first of them encodes it for all.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::Serialize;

/// What was told of an event to whoever heard of it first.
#[derive(Debug)]
pub(crate) struct Encoded<T>(OnceLock<(T, Bytes)>);

impl<T> Default for Encoded<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Clone + PartialEq + Serialize> Encoded<T> {
    /// The bytes of `data`: those that are there, unless this listener is told something else than the first was.
    pub(super) fn bytes(&self, id: Option<i64>, data: &T) -> Bytes {
        let (first, bytes) = self.0.get_or_init(|| (data.clone(), encode(id, data)));
        if first == data { bytes.clone() } else { encode(id, data) }
    }
}

/// A message with its `id`, if it can be resumed from.
pub(super) fn encode(id: Option<i64>, data: &impl Serialize) -> Bytes {
    let mut text = id.map_or_else(String::new, |id| format!("id: {id}\n")).into_bytes();
    text.extend(b"data: ");
    if let Err(error) = serde_json::to_writer(&mut text, data) {
        unreachable!("what streams tell is JSON: {error}");
    }
    text.extend(b"\n\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_the_same_shares_the_bytes_and_who_is_not_gets_his_own() {
        let encoded = Encoded::default();
        let first = encoded.bytes(Some(7), &"a");
        assert_eq!(first, "id: 7\ndata: \"a\"\n\n");
        assert_eq!(encoded.bytes(Some(7), &"a").as_ptr(), first.as_ptr(), "encoded again");
        assert_eq!(encoded.bytes(Some(7), &"b"), "id: 7\ndata: \"b\"\n\n");
        assert_eq!(encode(None, &1), "data: 1\n\n");
    }
}
