//! The environment's words in the crates' terms. Cross-checks are made here, with a message that says what to set.

use std::time::Duration;

use anyhow::{Context, bail};
use masuka_diffusion::devices::DeviceKind;
use masuka_server::ServerOptions;
use masuka_storage::StorageConfig;
use masuka_storage::bus::nats_servers;
use masuka_storage::config::{BlobConfig, S3Config};
use masuka_storage::downloads::{Hub, Reach, Url};

use crate::cli::{ComputeArgs, ServeArgs};
use crate::engine::{self, Compute};
use crate::environment::Environment;
use crate::exit::Usage;

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8000;
/// What R2 calls its only region, and what others than AWS do not look at.
const DEFAULT_REGION: &str = "auto";
/// The largest LoRA of the field is below 2.5 GB.
const MAX_UPLOAD_BYTES: u64 = 4 << 30;

/// Where rows and blobs are kept.
pub fn storage(environment: &Environment) -> anyhow::Result<StorageConfig> {
    let mut config = StorageConfig::local(&environment.data_dir());
    config.database_url.clone_from(&environment.database_url);
    if let Some(url) = &environment.nats_url {
        nats_servers(url.expose()).map_err(|error| Usage(error.to_string()))?;
        config.nats_url = Some(url.clone());
    }
    if let Some(bucket) = &environment.s3_bucket {
        config.blobs = BlobConfig::S3(s3(bucket, environment)?);
    }
    if let Some(gib) = &environment.cache_gib {
        let gib: u32 =
            gib.parse().with_context(|| format!("MASUKA_CACHE_GIB `{gib}` is no whole number"))?;
        config.cache.max_bytes = u64::from(gib) << 30;
    }
    Ok(config)
}

/// What a worker may take of the memory, in bytes; none is what the machine has.
pub fn memory_budget(environment: &Environment) -> anyhow::Result<Option<u64>> {
    let Some(mib) = &environment.memory_mib else { return Ok(None) };
    let mib: u32 =
        mib.parse().with_context(|| format!("MASUKA_MEMORY_MIB `{mib}` is no whole number"))?;
    Ok(Some(u64::from(mib) << 20))
}

fn s3(bucket: &str, environment: &Environment) -> anyhow::Result<S3Config> {
    let missing = |name| Usage(format!("S3_BUCKET is `{bucket}`, but {name} is not set"));
    let (id, key) = (&environment.aws_access_key_id, &environment.aws_secret_access_key);
    Ok(S3Config {
        bucket: bucket.to_owned(),
        endpoint: environment.s3_endpoint_url.clone(),
        region: environment.s3_region.clone().unwrap_or_else(|| DEFAULT_REGION.into()),
        access_key_id: id.clone().ok_or_else(|| missing("AWS_ACCESS_KEY_ID"))?,
        secret_access_key: key.clone().ok_or_else(|| missing("AWS_SECRET_ACCESS_KEY"))?,
        prefix: environment.s3_prefix.clone().unwrap_or_default(),
    })
}

/// Host and port to listen on; beyond this machine only with a key or by an explicit wish.
pub fn address(args: &ServeArgs, environment: &Environment) -> anyhow::Result<(String, u16)> {
    let host = args.host.clone().or_else(|| environment.host.clone());
    let host = host.unwrap_or_else(|| DEFAULT_HOST.into());
    let port = environment.port.as_deref().map(str::parse::<u16>).transpose();
    let port = port.with_context(|| {
        format!("MASUKA_PORT `{}` is no port", environment.port.as_deref().unwrap_or_default())
    })?;
    let port = args.port.or(port).unwrap_or(DEFAULT_PORT);
    let is_open = !is_loopback(&host) && environment.api_key.is_none();
    if is_open && !args.allow_anyone {
        let message = format!(
            "`{host}` can be reached by others and no MASUKA_API_KEY is set; set one, or say --allow-anyone"
        );
        bail!(Usage(message));
    }
    if is_open {
        tracing::warn!(
            "everybody who reaches {host}:{port} may use this server: no MASUKA_API_KEY is set"
        );
    }
    Ok((host, port))
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The hub that base models come from; it may send downloads on to addresses within `reach`.
pub fn hub(environment: &Environment, reach: Reach) -> anyhow::Result<Hub> {
    let endpoint: Url = environment.hf_endpoint().parse().context("HF_ENDPOINT is no address")?;
    if !endpoint.username().is_empty() || endpoint.password().is_some() {
        bail!(Usage("HF_ENDPOINT holds a user's name; a hub knows its users by HF_TOKEN".into()));
    }
    Ok(Hub { endpoint, token: environment.hf_token(), cache: environment.hub_cache(), reach })
}

/// The hub for requests of users: it sends on to the public internet, to itself and to `import_hosts`.
fn hub_for_users(environment: &Environment, import_hosts: &[String]) -> anyhow::Result<Hub> {
    let hub = hub(environment, Reach::anywhere())?;
    let own = hub.endpoint.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let trusted = [import_hosts, &[own]].concat();
    Ok(Hub { reach: Reach::public_and(&trusted), ..hub })
}

/// How the server behaves.
pub fn server(
    id: &str,
    host: &str,
    base_model: String,
    args: &ServeArgs,
    environment: &Environment,
) -> anyhow::Result<ServerOptions> {
    let mut allowed_hosts = list(environment.allowed_hosts.as_deref());
    allowed_hosts.push(host.to_owned());
    let import_hosts = list(environment.import_hosts.as_deref());
    Ok(ServerOptions {
        id: id.to_owned(),
        public_url: environment.public_url.clone(),
        api_key: environment.api_key.clone(),
        allowed_hosts,
        cors_origins: list(environment.cors_origins.as_deref()),
        base_model,
        max_waiting: args.max_waiting,
        max_attempts: args.max_attempts.into(),
        max_pixels: args.max_pixels,
        max_upload_bytes: MAX_UPLOAD_BYTES,
        client_silence: Duration::from_secs(args.client_silence.into()),
        import_dir: environment.import_dir.clone(),
        hub: hub_for_users(environment, &import_hosts)?,
        import_hosts,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// `a, b`, or `["a", "b"]` as the original's settings spell lists.
fn list(text: Option<&str>) -> Vec<String> {
    let text = text.unwrap_or_default().trim();
    if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
        return list;
    }
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Where and how it computes: the flags, then the environment, then what is best here.
pub fn compute(args: &ComputeArgs, environment: &Environment) -> anyhow::Result<Compute> {
    let named = environment.device.as_deref().map(str::parse::<DeviceKind>).transpose();
    let device = match args.device {
        Some(device) => device,
        None => named.context("MASUKA_DEVICE")?.unwrap_or_else(DeviceKind::best),
    };
    let precision = args.dtype.unwrap_or(engine::DEFAULT_PRECISION);
    Ok(Compute { device, precision, offload: args.offload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_both_spellings() {
        assert_eq!(list(Some("a, b,")), ["a", "b"]);
        assert_eq!(list(Some(r#"["http://a:1", "*"]"#)), ["http://a:1", "*"]);
        assert!(list(None).is_empty());
    }
}
