//! Which addresses may be asked. What a user types must not reach what only this machine can see: its own services, the
//! local network, a cloud's metadata. Names are judged by the address that the connection is made to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::{Error, Result};

const REFUSAL: &str = "is a private address";

/// Which addresses may be asked.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Names and addresses that are trusted whatever they lead to; `None` trusts all.
    trusted: Option<Arc<[String]>>,
}

impl Reach {
    /// Public addresses, and these names and addresses besides.
    pub fn public_and(trusted: &[String]) -> Self {
        Self { trusted: Some(trusted.into()) }
    }

    /// All addresses: for what the administrator configured.
    pub fn anywhere() -> Self {
        Self { trusted: None }
    }

    /// Whether this address may be asked, as far as it tells without looking up its name.
    pub(super) fn check(&self, url: &Url) -> Result<()> {
        if !["http", "https"].contains(&url.scheme()) {
            let reason = format!("`{}:` is neither http: nor https:", url.scheme());
            return Err(Error::download(url, reason));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::download(url, "addresses with a user's name are not accepted"));
        }
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) if !self.trusts(bare) && !is_public(address) => {
                Err(Error::download(url, refusal(bare)))
            }
            _ => Ok(()),
        }
    }

    /// Whether a connection failed because of its address.
    pub(super) fn is_refusal(&self, reason: &str) -> bool {
        reason.contains(REFUSAL)
    }

    fn trusts(&self, host: &str) -> bool {
        self.trusted.as_ref().is_none_or(|trusted| trusted.iter().any(|known| known == host))
    }
}

fn refusal(host: &str) -> String {
    format!("`{host}` {REFUSAL}; the administrator can allow it with MASUKA_IMPORT_HOSTS={host}")
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let trusted = this.trusts(&host);
            let allowed: Vec<SocketAddr> =
                found.filter(|address| trusted || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(io::Error::other(refusal(&host)).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By the IANA IPv4 Special-Purpose Address Registry.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b)) // shared by carriers
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 88 && c == 99) // relays of 6to4
        || (a == 198 && (18..20).contains(&b)) // benchmarks
        || a >= 224; // multicast, reserved, broadcast
    !is_special
}

/// Global unicast but for what carries another address inside.
fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let [first, second, ..] = address.segments();
    let is_global = first & 0xe000 == 0x2000; // 2000::/3
    let is_special = (first == 0x2001 && (second < 0x200 || second == 0xdb8)) // Teredo and others, documentation
        || first == 0x2002 // 6to4
        || first == 0x3fff; // documentation
    is_global && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "2002:7f00:1::",
            "2001::1",
            "64:ff9b::7f00:1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn addresses_are_judged_however_they_are_spelt() {
        let reach = Reach::public_and(&["10.0.0.5".to_owned()]);
        let check = |url: &str| reach.check(&url.parse().unwrap());
        for refused in [
            "http://127.0.0.1/a",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "file:///etc/passwd",
            "ftp://1.1.1.1/",
            "http://user:word@1.1.1.1/",
        ] {
            assert!(check(refused).is_err(), "{refused}");
        }
        for allowed in ["https://1.1.1.1/", "http://10.0.0.5/", "https://huggingface.co/x"] {
            assert!(check(allowed).is_ok(), "{allowed}");
        }
    }
}
