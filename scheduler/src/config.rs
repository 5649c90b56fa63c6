//! How a scheduler is set up. Everything is checked here, before anything is opened or bound.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use archyard_model::{Invalid, limits};

use crate::{artifacts, retention};

/// All settings of a scheduler.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything it keeps lies. One scheduler at a time.
    pub data_dir: PathBuf,
    /// Where it listens; at least one place.
    pub listen: Vec<Listen>,
    /// Mutual TLS on every TCP listener.
    pub tls: Option<TlsConfig>,
    /// `host[:port]` of registries that may be spoken to without TLS, for every build; loopback may anyway.
    pub insecure_registries: Vec<String>,
    /// How much of what workers leave for clients is kept, and how long.
    pub artifacts: artifacts::Options,
    /// How much of everything else is kept, and how long.
    pub retention: retention::Options,
    /// Times that tests shorten.
    pub times: Times,
}

/// A place to listen: `unix:PATH` or `ADDRESS:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A socket that only its owner may open.
    Unix(PathBuf),
    /// With TLS, unless it is loopback and none is set up. Port 0 takes a free one.
    Tcp(SocketAddr),
}

/// Mutual TLS with the farm's own CA.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// Names and addresses by which clients and workers reach this scheduler, beside loopback.
    pub names: Vec<String>,
}

/// What workers, clients and registries are given time for.
#[derive(Debug, Clone)]
pub struct Times {
    /// How often workers say that they live.
    pub heartbeat: Duration,
    /// Silence after which a worker is lost, and its attempts are tried again.
    pub lease: Duration,
    /// After a recovery no lease expires before this has passed.
    pub recovery_grace: Duration,
    /// How long a worker may take to answer an offered lease.
    pub lease_answer: Duration,
    /// How long a job may wait while no worker runs its platform.
    pub no_worker: Duration,
    /// How long a build waits for its client's credentials.
    pub credentials: Duration,
    /// How long resolving all bases of a build may take.
    pub lock: Duration,
    /// How long open calls may take to end when the scheduler stops.
    pub shutdown: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            heartbeat: limits::HEARTBEAT,
            lease: limits::LEASE,
            recovery_grace: limits::RECOVERY_GRACE,
            lease_answer: limits::LEASE_ANSWER,
            no_worker: limits::NO_WORKER_PATIENCE,
            credentials: limits::CREDENTIALS_PATIENCE,
            lock: limits::LOCK_TIMEOUT,
            shutdown: Duration::from_secs(5),
        }
    }
}

impl Times {
    /// Those that the core goes by.
    pub(crate) fn core(&self) -> crate::core::Times {
        crate::core::Times {
            lease: self.lease,
            grace: self.recovery_grace,
            lease_answer: self.lease_answer,
            no_worker: self.no_worker,
            credentials: self.credentials,
        }
    }
}

impl Config {
    /// A scheduler on these listeners, with everything else as it is by default.
    pub fn new(data_dir: PathBuf, listen: Vec<Listen>) -> Self {
        Self {
            data_dir,
            listen,
            tls: None,
            insecure_registries: Vec::new(),
            artifacts: artifacts::Options::default(),
            retention: retention::Options::default(),
            times: Times::default(),
        }
    }

    /// Refuses what cannot work, or would let strangers in.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        if self.listen.is_empty() {
            return Err(Invalid::new(
                "--listen",
                "",
                "a scheduler listens somewhere; give unix:PATH or ADDRESS:PORT",
            ));
        }
        for listen in &self.listen {
            if let Listen::Tcp(address) = listen
                && self.tls.is_none()
                && !address.ip().is_loopback()
            {
                return Err(Invalid::new(
                    "--listen",
                    address,
                    "without TLS anybody who reaches it could run builds; add --tls, or listen on 127.0.0.1 or unix:PATH",
                ));
            }
        }
        self.retention.check()?;
        if self.times.heartbeat.is_zero() || self.times.heartbeat * 2 > self.times.lease {
            return Err(Invalid::new(
                "--lease",
                format!("{:?}", self.times.lease),
                format!(
                    "a worker beats every {:?}; give it time for at least two beats",
                    self.times.heartbeat
                ),
            ));
        }
        if let Some(registry) =
            self.insecure_registries.iter().find(|name| name.is_empty() || name.contains('/'))
        {
            return Err(Invalid::new("--insecure-registry", registry, "expected HOST[:PORT]"));
        }
        Ok(())
    }
}

impl Listen {
    /// The same, whatever folder a process works in: the path of a socket is made absolute.
    ///
    /// # Errors
    /// When this process's own folder is gone.
    pub fn resolved(self) -> std::io::Result<Self> {
        Ok(match self {
            Self::Unix(path) => Self::Unix(std::path::absolute(path)?),
            tcp @ Self::Tcp(_) => tcp,
        })
    }
}

impl FromStr for Listen {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix("unix:") {
            Some("") => Err(Invalid::new("--listen", text, "the path of the socket is missing")),
            Some(path) => Ok(Self::Unix(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                Invalid::new(
                    "--listen",
                    text,
                    "expected unix:PATH or ADDRESS:PORT with an IP address, as in 127.0.0.1:7420 or [::]:7420",
                )
            }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str) -> Config {
        Config::new("/nowhere".into(), vec![listen.parse().unwrap()])
    }

    #[test]
    fn an_open_listener_needs_tls() {
        for open in ["0.0.0.0:7420", "10.0.0.1:7420", "[::]:7420"] {
            let error = config(open).check().unwrap_err();
            assert!(error.to_string().contains("--tls") && error.value == open, "{error}");
            let with_tls = Config { tls: Some(TlsConfig::default()), ..config(open) };
            assert!(with_tls.check().is_ok());
        }
        for closed in ["127.0.0.1:7420", "[::1]:7420", "unix:/run/archyard.sock"] {
            assert!(config(closed).check().is_ok(), "{closed}");
        }
    }

    #[test]
    fn says_what_a_listener_looks_like() {
        for bad in ["", "unix:", "farm.example:7420", "7420", "127.0.0.1"] {
            let error = bad.parse::<Listen>().unwrap_err();
            assert_eq!(error.field, "--listen", "{bad}");
        }
        assert!(Config::new("/nowhere".into(), Vec::new()).check().is_err());
        assert_eq!("unix:/a".parse::<Listen>().unwrap().to_string(), "unix:/a");
    }
}
