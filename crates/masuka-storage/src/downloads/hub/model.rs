//! How a model of the hub is named.

use std::fmt;
use std::path::Path;

/// The revision that is meant where none is named.
const MAIN: &str = "main";

/// A model of the hub: `owner/name`, `owner/name@revision`, either with `:file` for a single file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    pub(super) repo: String,
    pub(super) revision: String,
    pub(super) file: Option<String>,
}

impl HubModel {
    /// The model that `text` names, if it has the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, file) = match text.split_once(':') {
            Some((rest, file)) => (rest, Some(file.to_owned())),
            None => (text, None),
        };
        let (repo, revision) = rest.split_once('@').unwrap_or((rest, MAIN));
        let (owner, name) = repo.split_once('/')?;
        let is_plain = |part: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
        };
        let is_file = |file: &String| file.split('/').all(is_plain);
        let fits = [owner, name, revision].into_iter().all(is_plain) && file.iter().all(is_file);
        fits.then(|| Self { repo: repo.into(), revision: revision.into(), file })
    }

    /// For people.
    pub fn name(&self) -> &str {
        &self.repo
    }

    /// What tells it from the repository's other files: the file without path and extension, else the repository.
    pub fn short_name(&self) -> &str {
        let file = self.file.as_deref().and_then(|file| Path::new(file).file_stem()?.to_str());
        file.unwrap_or_else(|| self.repo.rsplit('/').next().unwrap_or(&self.repo))
    }
}

/// As it is parsed; without the revision where that is the usual one.
impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repo, revision, file } = self;
        f.write_str(repo)?;
        if revision != MAIN {
            write!(f, "@{revision}")?;
        }
        file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_as_on_the_hub() {
        let check = |text: &str, expected: Option<(&str, &str, Option<&str>)>| {
            let expected = expected.map(|(repo, revision, file)| HubModel {
                repo: repo.into(),
                revision: revision.into(),
                file: file.map(str::to_owned),
            });
            assert_eq!(HubModel::parse(text), expected, "{text}");
            assert!(expected.is_none_or(|model| model.to_string() == text));
        };
        check("a/b", Some(("a/b", "main", None)));
        check(
            "black-forest-labs/FLUX.1-dev@v1",
            Some(("black-forest-labs/FLUX.1-dev", "v1", None)),
        );
        check("city96/FLUX:q4/x.gguf", Some(("city96/FLUX", "main", Some("q4/x.gguf"))));
        for text in ["a", "a/b/c", "../b", "a/..", "a/b:../c", "a/b@", "/etc/passwd", "a/b c", ""] {
            check(text, None);
        }
    }
}
