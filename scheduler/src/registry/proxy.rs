//! The proxy that this machine reaches registries through, if its environment names one.
//!
//! The HTTP client would read the same variables by itself, but then send loopback through the proxy too, which no
//! other container tool does.

use oci_client::client::ClientConfig;

/// What never goes through a proxy, whatever `NO_PROXY` says.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// A client's settings with the proxies of the environment.
pub(super) fn from_env() -> ClientConfig {
    from(|name| std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase())).ok())
}

fn from(variable: impl Fn(&str) -> Option<String>) -> ClientConfig {
    let named = |name| variable(name).or_else(|| variable("ALL_PROXY")).filter(|proxy| !proxy.is_empty());
    let no_proxy = match variable("NO_PROXY") {
        Some(hosts) if !hosts.is_empty() => format!("{hosts},{LOOPBACK}"),
        _ => LOOPBACK.to_owned(),
    };
    ClientConfig {
        http_proxy: named("HTTP_PROXY"),
        https_proxy: named("HTTPS_PROXY"),
        no_proxy: Some(no_proxy),
        ..ClientConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_never_proxied() {
        let config = from(|name| match name {
            "HTTP_PROXY" => Some("http://proxy.example:3128".to_owned()),
            "NO_PROXY" => Some("registry.example".to_owned()),
            _ => None,
        });
        assert_eq!(config.http_proxy.as_deref(), Some("http://proxy.example:3128"));
        assert_eq!(config.https_proxy, None);
        assert_eq!(config.no_proxy.as_deref(), Some("registry.example,localhost,127.0.0.0/8,::1"));
        let config = from(|name| (name == "ALL_PROXY").then(|| "http://all.example".to_owned()));
        assert_eq!(config.http_proxy, config.https_proxy);
    }
}
