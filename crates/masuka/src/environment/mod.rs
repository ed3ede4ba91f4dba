//! The variables of the environment. This is the only folder that reads them.

mod files; // variables from `.env` and `masuka.toml`

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use masuka_storage::Secret;

pub use files::FromFiles;

/// Every variable that a user may set, and whether its value is a secret.
const NAMES: [(&str, bool); 27] = [
    ("MASUKA_DATA_DIR", false),
    ("MASUKA_BASE_MODEL", false),
    ("MASUKA_DEVICE", false),
    ("MASUKA_CPU_LEVEL", false),
    ("MASUKA_MEMORY_MIB", false),
    ("MASUKA_HOST", false),
    ("MASUKA_PORT", false),
    ("MASUKA_API_KEY", true),
    ("MASUKA_PUBLIC_URL", false),
    ("MASUKA_ALLOWED_HOSTS", false),
    ("MASUKA_IMPORT_DIR", false),
    ("MASUKA_IMPORT_HOSTS", false),
    ("MASUKA_CACHE_GIB", false),
    ("MASUKA_LOG", false),
    ("CORS_ORIGINS", false),
    ("DATABASE_URL", true),
    ("NATS_URL", true),
    ("S3_BUCKET", false),
    ("S3_ENDPOINT_URL", false),
    ("S3_REGION", false),
    ("S3_PREFIX", false),
    ("AWS_ACCESS_KEY_ID", false),
    ("AWS_SECRET_ACCESS_KEY", true),
    ("HF_TOKEN", true),
    ("HF_ENDPOINT", false),
    ("HF_HUB_CACHE", false),
    ("HF_HOME", false),
];

/// Tells candle to share out no sums and to make matrix products with as many threads as there are, unless the user said
/// otherwise. Its helpers spin while they wait and take the processor from the kernels' own (a step of training on the
/// starter takes twice as long), and without a number it reads `/proc/cpuinfo` for every product.
///
/// # Safety
/// The process must have no other thread yet.
pub unsafe fn keep_candle_quiet() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    for (name, value) in [("CANDLE_NUM_THREADS", "1"), ("RAYON_NUM_THREADS", threads.as_str())] {
        if env::var_os(name).is_none() {
            // SAFETY: the caller's promise.
            unsafe { env::set_var(name, value) };
        }
    }
}

/// Gives this process, and those that it starts, the variables that stand in the files of the current folder and that it was
/// not given otherwise.
///
/// # Errors
/// When a file cannot be read or understood.
///
/// # Safety
/// The process must have no other thread yet.
pub unsafe fn read_files() -> anyhow::Result<FromFiles> {
    let mut files = files::read(Path::new("."))?;
    files.used.retain(|name, _| is_unset(name));
    for (name, (value, _)) in &files.used {
        // SAFETY: the caller's promise.
        unsafe { env::set_var(name, value.expose()) };
    }
    Ok(files)
}

fn is_unset(name: &str) -> bool {
    env::var_os(name).is_none_or(|value| value.is_empty())
}

/// A variable in force.
#[derive(Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value, unless that is a secret.
    pub value: Option<String>,
    /// Where it stands: a file, or `environment`.
    pub source: &'static str,
}

/// All variables in force, of which `files` gave some.
pub fn settings(files: &FromFiles) -> Vec<Setting> {
    let set = NAMES.iter().filter(|(name, _)| !is_unset(name));
    let setting = |(name, is_secret): &(&'static str, bool)| Setting {
        name,
        value: (!is_secret).then(|| env::var_os(name).unwrap_or_default().display().to_string()),
        source: files.used.get(name).map_or("environment", |(_, file)| file),
    };
    set.map(setting).collect()
}

/// What the environment says, as it says it; values are checked where they are used.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `MASUKA_DATA_DIR`.
    data_dir: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    xdg_data_home: Option<PathBuf>,
    /// The user's home folder.
    home: Option<PathBuf>,
    /// `MASUKA_BASE_MODEL`: a folder, a file or `starter`.
    pub base_model: Option<String>,
    /// `MASUKA_DEVICE`: cpu, cuda or metal.
    pub device: Option<String>,
    /// `MASUKA_CPU_LEVEL`: the highest level of processor instructions to use.
    pub cpu_level: Option<String>,
    /// `MASUKA_HOST`: the address to listen on.
    pub host: Option<String>,
    /// `MASUKA_PORT`.
    pub port: Option<String>,
    /// `MASUKA_API_KEY`: who asks must know it.
    pub api_key: Option<Secret>,
    /// `MASUKA_PUBLIC_URL`: how clients reach the server behind a proxy.
    pub public_url: Option<String>,
    /// `MASUKA_ALLOWED_HOSTS`: names in `Host`, separated by commas.
    pub allowed_hosts: Option<String>,
    /// `CORS_ORIGINS`: pages elsewhere that may ask, separated by commas or as a JSON list.
    pub cors_origins: Option<String>,
    /// `MASUKA_IMPORT_DIR`: the folder whose files may be imported by path.
    pub import_dir: Option<PathBuf>,
    /// `MASUKA_IMPORT_HOSTS`: private names and addresses from which files may be imported, separated by commas.
    pub import_hosts: Option<String>,
    /// `DATABASE_URL`: SQLite or PostgreSQL.
    pub database_url: Option<Secret>,
    /// `NATS_URL`: carries signals between machines.
    pub nats_url: Option<Secret>,
    /// `S3_BUCKET`: files are kept there instead of in the data folder.
    pub s3_bucket: Option<String>,
    /// `S3_ENDPOINT_URL`: R2, or whatever else speaks S3.
    pub s3_endpoint_url: Option<String>,
    /// `S3_REGION`.
    pub s3_region: Option<String>,
    /// `S3_PREFIX`: what all keys begin with.
    pub s3_prefix: Option<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub aws_access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub aws_secret_access_key: Option<Secret>,
    /// `MASUKA_CACHE_GIB`: how much of a bucket may be copied to this machine.
    pub cache_gib: Option<String>,
    /// `MASUKA_MEMORY_MIB`: what a worker may take; `None` is what the machine has.
    pub memory_mib: Option<String>,
    /// `MASUKA_LOG`: error, warn, info, debug or trace.
    pub log: Option<String>,
    /// Whether `HF_TOKEN` is set; its value is read only for a download.
    pub hf_token_is_set: bool,
    /// `HF_ENDPOINT`: a mirror of the hub.
    hf_endpoint: Option<String>,
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    hf_cache: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's environment.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| env::var_os(name), env::home_dir())
    }

    /// Empty values count as unset, as shells treat them.
    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let value = |name| lookup(name).filter(|value| !value.is_empty());
        let text = |name| value(name).map(|value| value.to_string_lossy().into_owned());
        let secret = |name| text(name).map(Secret::from);
        Self {
            data_dir: value("MASUKA_DATA_DIR").map(PathBuf::from),
            xdg_data_home: value("XDG_DATA_HOME").map(PathBuf::from),
            home,
            base_model: text("MASUKA_BASE_MODEL"),
            device: text("MASUKA_DEVICE"),
            cpu_level: text("MASUKA_CPU_LEVEL"),
            host: text("MASUKA_HOST"),
            port: text("MASUKA_PORT"),
            api_key: secret("MASUKA_API_KEY"),
            public_url: text("MASUKA_PUBLIC_URL"),
            allowed_hosts: text("MASUKA_ALLOWED_HOSTS"),
            cors_origins: text("CORS_ORIGINS"),
            import_dir: value("MASUKA_IMPORT_DIR").map(PathBuf::from),
            import_hosts: text("MASUKA_IMPORT_HOSTS"),
            database_url: secret("DATABASE_URL"),
            nats_url: secret("NATS_URL"),
            s3_bucket: text("S3_BUCKET"),
            s3_endpoint_url: text("S3_ENDPOINT_URL"),
            s3_region: text("S3_REGION"),
            s3_prefix: text("S3_PREFIX"),
            aws_access_key_id: text("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key: secret("AWS_SECRET_ACCESS_KEY"),
            cache_gib: text("MASUKA_CACHE_GIB"),
            memory_mib: text("MASUKA_MEMORY_MIB"),
            log: text("MASUKA_LOG"),
            hf_token_is_set: value("HF_TOKEN").is_some(),
            hf_endpoint: text("HF_ENDPOINT"),
            hf_cache: value("HF_HUB_CACHE")
                .map(PathBuf::from)
                .or_else(|| value("HF_HOME").map(|home| PathBuf::from(home).join("hub"))),
        }
    }

    /// The same, but for a data folder that a flag names.
    pub fn with_data_dir(&self, data_dir: Option<&Path>) -> Self {
        let data_dir = data_dir.map(Path::to_owned).or_else(|| self.data_dir.clone());
        Self { data_dir, ..self.clone() }
    }

    /// The hub that models are installed from.
    pub fn hf_endpoint(&self) -> &str {
        self.hf_endpoint.as_deref().unwrap_or("https://huggingface.co")
    }

    /// `HF_TOKEN`, read from the process's environment; only who downloads from the hub keeps it.
    pub fn hf_token(&self) -> Option<Secret> {
        env::var("HF_TOKEN").ok().filter(|token| !token.is_empty()).map(Secret::from)
    }

    /// Where models of the hub are kept.
    pub fn hub_cache(&self) -> PathBuf {
        self.hf_cache.clone().unwrap_or_else(|| self.data_dir().join("models/hub"))
    }

    /// Where everything that outlives a command is kept.
    pub fn data_dir(&self) -> PathBuf {
        let in_home =
            if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
        let of_user = || self.home.as_ref().map(|home| home.join(in_home));
        let shared = self.xdg_data_home.clone().or_else(of_user);
        let fallback = || shared.unwrap_or_else(env::temp_dir).join("masuka");
        self.data_dir.clone().unwrap_or_else(fallback)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    fn check(variables: &[(&str, &str)], expected: &str) {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let environment = Environment::from_lookup(lookup, Some("/home/ada".into()));
        assert_eq!(environment.data_dir(), PathBuf::from(expected));
    }

    #[test]
    fn every_variable_that_is_read_may_stand_in_a_file() {
        let asked = RefCell::new(BTreeSet::new());
        Environment::from_lookup(
            |name| {
                asked.borrow_mut().insert(name.to_owned());
                None
            },
            None,
        );
        let of_the_system = |name: &&str| *name != "XDG_DATA_HOME";
        let asked = asked.into_inner();
        let known: BTreeSet<_> = NAMES.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            asked.iter().map(String::as_str).filter(of_the_system).collect::<BTreeSet<_>>(),
            known
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let environment =
            Environment::from_lookup(|name| Some(format!("word of {name}").into()), None);
        let shown = format!("{environment:?}");
        assert!(shown.contains("word of S3_BUCKET"), "{shown}");
        for (name, _) in NAMES.iter().filter(|(_, is_secret)| *is_secret) {
            assert!(!shown.contains(&format!("word of {name}")), "{name}: {shown}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_data_folder_follows_the_nearest_variable() {
        check(&[], "/home/ada/.local/share/masuka");
        check(&[("XDG_DATA_HOME", "/xdg")], "/xdg/masuka");
        check(&[("XDG_DATA_HOME", "/xdg"), ("MASUKA_DATA_DIR", "/data")], "/data");
        check(&[("MASUKA_DATA_DIR", "")], "/home/ada/.local/share/masuka");
    }
}
