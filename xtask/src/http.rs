//! Two small HTTP clients: one question over a Unix socket, for an Engine, and one
//! for a registry on loopback. Neither speaks TLS or follows a proxy, so neither
//! can leave the machine.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The body of `GET path` over a Unix socket.
///
/// # Errors
/// When nobody answers within two seconds, or not with status 200.
pub fn get_unix(socket: &Path, path: &str) -> Result<String> {
    let limit = Some(Duration::from_secs(2));
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    // 1.0: the answer is neither chunked nor kept open.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("no answer from {}", socket.display()))?;
    parse(&answer).with_context(|| format!("GET {path} at {}", socket.display()))
}

fn parse(answer: &str) -> Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).context("the answer is not HTTP")?;
    if status != "200" {
        bail!("status {status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

/// A client for a registry on loopback. Statuses are the caller's to judge.
#[must_use]
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_by_their_status() {
        assert_eq!(parse("HTTP/1.0 200 OK\r\nA: b\r\n\r\nOK").unwrap(), "OK");
        assert!(parse("HTTP/1.0 500 Oh\r\n\r\nno").unwrap_err().to_string().contains("500: no"));
        assert!(parse("SSH-2.0").is_err());
    }

    #[test]
    fn a_missing_socket_is_named() {
        let error = get_unix(Path::new("/nonexistent/socket"), "/_ping").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/socket"));
    }
}
