//! A way to a real registry that is slow, or stands still after so many bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

const PIECE_BYTES: usize = 64 * 1024;

/// One direction of all connections together.
#[derive(Debug)]
pub(crate) struct Flow {
    passed: AtomicU64,
    most: AtomicU64,
    per_second: u64,
}

impl Flow {
    /// As fast as it goes.
    pub(crate) fn free() -> Arc<Self> {
        Self::of(u64::MAX, u64::MAX)
    }

    /// Bytes a second.
    pub(crate) fn slow(per_second: u64) -> Arc<Self> {
        Self::of(per_second, u64::MAX)
    }

    /// Stands still once this much has passed.
    pub(crate) fn stalling(most: u64) -> Arc<Self> {
        Self::of(u64::MAX, most)
    }

    fn of(per_second: u64, most: u64) -> Arc<Self> {
        Arc::new(Self { passed: AtomicU64::new(0), most: AtomicU64::new(most), per_second })
    }

    /// Goes on.
    pub(crate) fn open(&self) {
        self.most.store(u64::MAX, Ordering::SeqCst);
    }

    /// Bytes so far.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    async fn carry(self: Arc<Self>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let Ok(length @ 1..) = from.read(&mut piece).await else { return };
            while self.passed() + length as u64 > self.most.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.passed.fetch_add(length as u64, Ordering::SeqCst);
            if self.per_second < u64::MAX {
                let nanos = length as u64 * 1_000_000_000 / self.per_second;
                tokio::time::sleep(Duration::from_nanos(nanos)).await;
            }
            if to.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
    }
}

/// The way, gone when dropped.
pub(crate) struct Way {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    _serving: JoinSet<()>,
}

/// Opens a way to this registry. `up` is what it is sent, `down` what it says.
pub(crate) fn way(registry: &str, up: Arc<Flow>, down: Arc<Flow>) -> Way {
    let socket = TcpSocket::new_v4().unwrap();
    // Little is under way unseen.
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let (address, registry) = (listener.local_addr().unwrap().to_string(), registry.to_owned());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(&registry).await else { continue };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            connections.spawn(Arc::clone(&up).carry(near_in, far_out));
            connections.spawn(Arc::clone(&down).carry(far_in, near_out));
        }
    });
    Way { address, _serving: serving }
}
