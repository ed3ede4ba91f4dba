//! Variables from `.env` and `masuka.toml` in the folder that a command is run in. What the process was given counts first,
//! then `.env`, then `masuka.toml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context, bail};
use masuka_storage::Secret;
use toml::{Table, Value};

use super::NAMES;
use crate::exit::Usage;

/// As programs of the original's kind have it: NAME=value, a line each. Other programs' names may stand there too.
pub const DOT_ENV: &str = ".env";
/// Ours alone: `port = 8000`, by the variables' names in small letters, with or without `masuka_`.
pub const TOML: &str = "masuka.toml";

/// What the original was told and MASUKA has no use for.
const RETIRED: [&str; 6] =
    ["REDIS_URL", "SECRET_KEY", "ALGORITHM", "NGROK_AUTH_TOKEN", "SIMPLETUNER_PATH", "DEBUG"];
/// How the names of others of that kind begin.
const RETIRED_PREFIXES: [&str; 4] = ["CELERY_", "DEFAULT_", "TEMP_", "MODELS_"];

/// Names and values that the files of a folder give.
#[derive(Debug, Default)]
pub struct FromFiles {
    /// What is used: the name, its value, and the file's name.
    pub used: BTreeMap<&'static str, (Secret, &'static str)>,
    /// What the original used, in `.env`.
    pub retired: Vec<String>,
}

/// Reads the files of `folder` that are there. No value is part of an error: it may be a secret.
///
/// # Errors
/// When a file cannot be read or understood, or `masuka.toml` names something unknown.
pub fn read(folder: &Path) -> anyhow::Result<FromFiles> {
    let mut found = FromFiles::default();
    if let Some(text) = text_of(&folder.join(TOML))? {
        for (name, value) in settings(&text)? {
            found.used.insert(name, (value.into(), TOML));
        }
    }
    if let Some(text) = text_of(&folder.join(DOT_ENV))? {
        for (name, value) in variables(&text)? {
            if let Some(known) = known(&name) {
                found.used.insert(known, (value.into(), DOT_ENV));
            } else if is_retired(&name) {
                found.retired.push(name);
            }
        }
    }
    Ok(found)
}

fn text_of(file: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => Ok(Some(text.with_context(|| format!("cannot read `{}`", file.display()))?)),
    }
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.iter().map(|(known, _)| *known).find(|known| *known == name)
}

fn is_retired(name: &str) -> bool {
    RETIRED.contains(&name) || RETIRED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Lines that cannot be read are another program's affair, unless one of our names stands there.
fn variables(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for variable in dotenvy::from_read_iter(text.as_bytes()) {
        match variable {
            Ok(variable) => variables.push(variable),
            Err(dotenvy::Error::LineParse(value, _)) => {
                if let Some(name) = names_at(text, &value).next() {
                    let rule = "is not of the form NAME=value; quote a value with spaces";
                    bail!(Usage(format!("`{name}` of `{DOT_ENV}` {rule}")));
                }
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read `{DOT_ENV}`")),
        }
    }
    Ok(variables)
}

/// Our variables in the lines of `text` where `value` stands; an open quote makes one of all lines to the end.
fn names_at<'a>(text: &'a str, value: &'a str) -> impl Iterator<Item = &'static str> + 'a {
    text.match_indices(value).flat_map(move |(at, _)| {
        let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        text[start..at + value.len()].lines().filter_map(name_in)
    })
}

/// Which variable of ours a line sets.
fn name_in(line: &str) -> Option<&'static str> {
    let line = line.trim_start();
    let name = line.strip_prefix("export ").unwrap_or(line).split('=').next()?;
    known(name.trim())
}

fn settings(text: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    let table = text.parse::<Table>().map_err(|error| {
        let line = error.span().map(|span| text[..span.start].lines().count().max(1));
        let line = line.map(|line| format!(" line {line}")).unwrap_or_default();
        Usage(format!("`{TOML}`{line}: {}", error.message()))
    })?;
    let setting = |(key, value): (&String, &Value)| {
        let upper = key.to_uppercase();
        let Some(name) = known(&upper).or_else(|| known(&format!("MASUKA_{upper}"))) else {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| setting_name(name)).collect();
            let message =
                format!("`{key}` of `{TOML}` is no setting; there are {}", names.join(", "));
            bail!(Usage(message));
        };
        let Some(value) = plain(value) else {
            let rule = "is neither text, a whole number, true or false, nor a list of texts";
            bail!(Usage(format!("`{key}` of `{TOML}` {rule}")));
        };
        Ok((name, value))
    };
    table.iter().map(setting).collect()
}

/// As `masuka.toml` spells a variable.
fn setting_name(variable: &str) -> String {
    variable.strip_prefix("MASUKA_").unwrap_or(variable).to_lowercase()
}

/// A value as a variable has it; lists with commas.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(choice) => Some(choice.to_string()),
        Value::Array(list) => {
            let texts = list.iter().map(|item| item.as_str().map(str::to_owned));
            Some(texts.collect::<Option<Vec<_>>>()?.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings_or_variables: anyhow::Result<Vec<impl Sized>>) -> String {
        settings_or_variables.err().expect("an error").to_string()
    }

    #[test]
    fn both_files_are_read_and_the_former_counts() {
        let folder = tempfile::tempdir().unwrap();
        let found = read(folder.path()).unwrap();
        assert!(found.used.is_empty() && found.retired.is_empty());
        let toml =
            "port = 9000\nMASUKA_HOST = \"::1\"\ncors_origins = [\"http://a\", \"http://b\"]";
        fs::write(folder.path().join(TOML), toml).unwrap();
        let env = "# ours\nexport MASUKA_PORT=9001\nREDIS_URL=redis://x\nCELERY_A=1\nPATH=/bin";
        fs::write(folder.path().join(DOT_ENV), env).unwrap();
        let found = read(folder.path()).unwrap();
        let used = found.used.iter().map(|(name, (value, file))| (*name, value.expose(), *file));
        let expected = [
            ("CORS_ORIGINS", "http://a,http://b", TOML),
            ("MASUKA_HOST", "::1", TOML),
            ("MASUKA_PORT", "9001", DOT_ENV),
        ];
        assert_eq!(used.collect::<Vec<_>>(), expected);
        assert_eq!(found.retired, ["REDIS_URL", "CELERY_A"]);
    }

    #[test]
    fn lines_of_other_programs_stop_nobody() {
        let found = variables("THEIRS=two words\nMASUKA_PORT=9000\nIT=don't").unwrap();
        assert_eq!(found, [("MASUKA_PORT".to_owned(), "9000".to_owned())]);
    }

    #[test]
    fn errors_tell_where_but_no_value() {
        for text in ["MASUKA_API_KEY=my secret words", "A=don't\nexport MASUKA_API_KEY=secret"] {
            let message = refused(variables(text));
            assert!(message.contains("`MASUKA_API_KEY` of `.env`"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
        let message = refused(settings("port = 1\napi_key = secret"));
        assert!(message.contains("line 2") && !message.contains("secret"), "{message}");
        let message = refused(settings("prot = 8000"));
        assert!(message.contains("`prot`") && message.contains("port, "), "{message}");
        let message = refused(settings("port = 1.5"));
        assert!(message.contains("`port` of `masuka.toml` is neither"), "{message}");
    }
}
