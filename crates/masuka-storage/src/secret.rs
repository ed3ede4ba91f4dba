//! Texts that open something: keys, tokens, addresses with passwords.

use std::fmt;

/// A text that is shown nowhere: it has no `Display`, and `Debug` leaves it out, so that no log line and no error can
/// hold it by accident.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text, for whoever must know it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `url` as it may be told: without the user, and without the query, by which addresses are signed.
pub(crate) fn address(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_user_and_query() {
        let check = |url: &str, expected: &str| assert_eq!(address(url), expected, "{url}");
        check("https://a.example/b/c@1.bin?Signature=x#y", "https://a.example/b/c@1.bin");
        check("http://ada:pa@ss@a.example:81", "http://a.example:81");
        check("black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-dev");
    }
}
