//! Which proxy a request goes through, by the variables that curl and Go know.
//!
//! Filled by hand: ureq takes one proxy for every scheme, ALL_PROXY first, and in NO_PROXY knows neither subdomains of a
//! name without a dot before it, nor ports, networks and spaces.

use std::net::IpAddr;

use tare_tool::environment::Environment;
use ureq::Proxy;
use ureq::http::Uri;

use crate::error::Error;
use crate::reference::is_loopback;

/// The proxies of an environment. Loopback hosts are always reached directly.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exempt: Vec<Exempt>,
}

/// An entry of NO_PROXY.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exempt {
    All,
    /// `10.0.0.0/8`
    Network(IpAddr, u32),
    /// The hosts below a name, and where it is written without a dot that host itself.
    Host {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads HTTPS_PROXY and HTTP_PROXY, ALL_PROXY in place of either, and NO_PROXY; lower case goes first, as with curl.
    ///
    /// # Errors
    /// When a variable is no URL of an HTTP proxy. The message does not show it, because it may hold a password.
    pub fn read(env: &Environment) -> Result<Self, Error> {
        let find = |name: &str| {
            let lower = name.to_lowercase();
            env.text(&lower).map(|value| (lower, value)).or_else(|| Some((name.to_owned(), env.text(name)?)))
        };
        let proxy = |name: &str| -> Result<Option<Proxy>, Error> {
            let Some((name, value)) = find(name).or_else(|| find("ALL_PROXY")) else { return Ok(None) };
            let proxy = Proxy::new(&value).ok().filter(|proxy| {
                matches!(proxy.protocol(), ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https)
            });
            let wrong = || Error::Input(format!("the variable {name} is no URL of an HTTP proxy"));
            proxy.ok_or_else(wrong).map(Some)
        };
        let exempt = find("NO_PROXY").map_or_else(String::new, |(_, value)| value);
        Ok(Self {
            http: proxy("HTTP_PROXY")?,
            https: proxy("HTTPS_PROXY")?,
            exempt: exempt.split([',', ' ']).filter_map(Exempt::parse).collect(),
        })
    }

    /// The proxy for a URL.
    pub(crate) fn of(&self, url: &str) -> Option<&Proxy> {
        let uri: Uri = url.parse().ok()?;
        let is_tls = uri.scheme_str() == Some("https");
        let proxy = if is_tls { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = uri.host()?.trim_matches(['[', ']']).to_lowercase();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let is_own = is_loopback(&host) || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let direct = is_own || self.exempt.iter().any(|exempt| exempt.has(&host, port));
        (!direct).then_some(proxy)
    }
}

impl Exempt {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((network, length)) = text.split_once('/') {
            return Some(Self::Network(network.parse().ok()?, length.parse().ok()?));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self::Network(address, if address.is_ipv4() { 32 } else { 128 }));
        }
        let (name, port) = match text.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
            Some((name, Ok(port))) => (name, Some(port)),
            _ => (text.as_str(), None),
        };
        let below = name.strip_prefix("*.").or_else(|| name.strip_prefix('.'));
        let itself = below.is_none();
        let name = below.unwrap_or(name).to_owned();
        Some(Self::Host { name, itself, port })
    }

    fn has(&self, host: &str, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(network, length) => match (network, host.parse()) {
                (IpAddr::V4(network), Ok(IpAddr::V4(address))) => same_start(
                    u128::from(network.to_bits()) << 96,
                    u128::from(address.to_bits()) << 96,
                    *length,
                ),
                (IpAddr::V6(network), Ok(IpAddr::V6(address))) => {
                    same_start(network.to_bits(), address.to_bits(), *length)
                }
                _ => false,
            },
            Self::Host { name, itself, port: only } => {
                let is_below = || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                only.is_none_or(|only| only == port) && ((*itself && host == name) || is_below())
            }
        }
    }
}

/// Whether two addresses have their first bits in common.
fn same_start(one: u128, other: u128, bits: u32) -> bool {
    let differing = one ^ other;
    differing.leading_zeros() >= bits.min(128)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Proxies::read(&Environment { variables, current_dir: PathBuf::new(), parallelism: 1 })
    }

    fn host_for(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let proxies = proxies(variables).unwrap();
        proxies.of(url).map(|proxy| proxy.host().to_owned())
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let both =
            [("HTTPS_PROXY", "http://tls:1"), ("http_proxy", "plain:1"), ("HTTP_PROXY", "http://other:1")];
        let all = [("ALL_PROXY", "http://all:1"), ("HTTP_PROXY", "")];
        for (variables, url, expected) in [
            (&both[..], "https://ghcr.io/v2/", Some("tls")),
            (&both, "http://r.example/v2/", Some("plain")),
            (&both[..1], "http://r.example/v2/", None),
            (&all, "https://ghcr.io/", Some("all")),
            (&all, "http://r.example/", Some("all")),
            (&both, "http://127.0.0.1:5000/", None),
            (&both, "https://localhost:5000/", None),
            (&both, "https://[::1]:5000/", None),
            (&[], "https://ghcr.io/", None),
        ] {
            assert_eq!(host_for(variables, url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn no_proxy_names_hosts_subdomains_ports_and_networks() {
        for (exempt, url, direct) in [
            ("example.com", "https://example.com/", true),
            ("example.com", "https://R.Example.com/", true),
            ("example.com", "https://badexample.com/", false),
            (".example.com", "https://r.example.com/", true),
            (".example.com", "https://example.com/", false),
            ("*.example.com", "https://r.example.com/", true),
            ("a, r.example", "https://r.example/", true),
            ("r.example:5000", "https://r.example:5000/", true),
            ("r.example:5000", "https://r.example/", false),
            ("r.example:443", "https://r.example/", true),
            ("10.1.0.0/16", "https://10.1.2.3/", true),
            ("10.1.0.0/16", "https://10.2.2.3/", false),
            ("10.1.2.3", "https://10.1.2.3:5000/", true),
            ("fd00::/8", "https://[fd00::1]/", true),
            ("*", "https://ghcr.io/", true),
            ("", "https://ghcr.io/", false),
        ] {
            let variables = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", exempt)];
            assert_eq!(host_for(&variables, url).is_none(), direct, "{exempt}: {url}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_an_error_that_hides_the_value() {
        for value in ["socks5://u:secret@p:1", "http://", "ftp://secret"] {
            let error = proxies(&[("HTTPS_PROXY", value)]).err().unwrap().to_string();
            assert_eq!(error, "the variable HTTPS_PROXY is no URL of an HTTP proxy");
        }
    }
}
