//! What listens at an address, asked only after a connection failed: it tells a wrong scheme from other trouble.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How an HTTP/2 client without TLS begins: the preface, and empty settings.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Tls,
    Plain,
}

/// Asks. None where the answer is neither, or none comes.
pub(crate) async fn sniff(host: &str, port: u16) -> Option<Spoken> {
    timeout(PATIENCE, greet(host, port)).await.ok()?.ok().and_then(|answer| recognize(&answer))
}

async fn greet(host: &str, port: u16) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(GREETING).await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn recognize(answer: &[u8; 5]) -> Option<Spoken> {
    match answer {
        // An alert: version 3, and two bytes of length.
        [0x15, 3, ..] => Some(Spoken::Tls),
        // Settings are the first frame of every HTTP/2 server.
        [0, _, _, 4, _] | b"HTTP/" => Some(Spoken::Plain),
        _ => None,
    }
}
