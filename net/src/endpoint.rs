//! Where a farm is to be found, as users write it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use archyard_model::Invalid;

/// The address of a scheduler: `unix:/run/archyard.sock`, `http://127.0.0.1:7420`, `https://farm.example:7443`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// Without TLS: only ever loopback.
    Http {
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
    /// With mutual TLS.
    Https {
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
}

impl Endpoint {
    /// Whether a client certificate is needed to reach it.
    pub fn needs_tls(&self) -> bool {
        matches!(self, Self::Https { .. })
    }

    /// The same, whatever folder a process works in: the path of a socket is made absolute.
    ///
    /// # Errors
    /// When this process's own folder is gone.
    pub fn resolved(self) -> std::io::Result<Self> {
        Ok(match self {
            Self::Unix(path) => Self::Unix(std::path::absolute(path)?),
            other => other,
        })
    }
}

impl FromStr for Endpoint {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |problem: &str| Invalid::new("endpoint", text, problem);
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(wrong("the path of the socket is missing, as in unix:/run/archyard.sock")),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let (secure, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => {
                return Err(wrong("expected unix:PATH, http://127.0.0.1:PORT or https://HOST:PORT"));
            }
        };
        let (host, port) = rest
            .trim_end_matches('/')
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .ok_or_else(|| wrong("the port is missing or not one of 1 to 65535; write HOST:PORT"))?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner
                .strip_suffix(']')
                .filter(|inner| inner.parse::<Ipv6Addr>().is_ok())
                .ok_or_else(|| wrong("an IPv6 address is written as [::1]:PORT"))?,
            None => host,
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if host.parse::<Ipv6Addr>().is_err() && (host.is_empty() || !host.bytes().all(plain)) {
            return Err(wrong(
                "the host is neither a name nor an address; write HOST:PORT and nothing after it",
            ));
        }
        if port == 0 {
            return Err(wrong("port 0 is nobody's; write the port the scheduler printed"));
        }
        let host = host.to_owned();
        if secure {
            return Ok(Self::Https { host, port });
        }
        if !is_loopback(&host) {
            return Err(wrong(
                "plain http is for this machine only; write https://HOST:PORT and give --tls-dir",
            ));
        }
        Ok(Self::Http { host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Http { host, port } => ("http", host, port),
            Self::Https { host, port } => ("https", host, port),
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in [
            "unix:/run/archyard.sock",
            "http://127.0.0.1:7420",
            "http://[::1]:7420",
            "http://localhost:1",
            "https://farm.example:7443",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("unix:///a".parse::<Endpoint>().unwrap(), Endpoint::Unix("/a".into()));
    }

    #[test]
    fn a_sockets_path_is_made_absolute() {
        let resolved = "unix:run/s.sock".parse::<Endpoint>().unwrap().resolved().unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(resolved, Endpoint::Unix(here.join("run/s.sock")));
        let https: Endpoint = "https://farm.example:7443".parse().unwrap();
        assert_eq!(https.clone().resolved().unwrap(), https);
    }

    #[test]
    fn refuses_with_a_remedy() {
        for (bad, remedy) in [
            ("", "expected unix:PATH"),
            ("farm.example:7443", "expected unix:PATH"),
            ("unix:", "path of the socket"),
            ("https://farm.example", "port is missing"),
            ("https://farm.example:70000", "port is missing"),
            ("https://farm.example:0", "port 0"),
            ("https://:1", "neither a name nor an address"),
            ("https://a/b:1", "neither a name nor an address"),
            ("https://[::1:1", "IPv6"),
            ("http://farm.example:7420", "https://"),
        ] {
            let error = bad.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(remedy), "{bad}: {error}");
        }
    }
}
