//! Bytes that are read once for several readers.

use std::io::{self, Read, Write};

use archyard_model::Sha256;
use sha2::Digest as _;

/// What a compressor makes of bytes depends on how it is fed: always in blocks of this size.
const BLOCK_BYTES: usize = 128 * 1024;

/// A stream of which everything goes into a sink: in whole blocks, however the bytes arrive and are read.
pub(super) struct Tee<R> {
    inner: R,
    /// The block that is being read.
    block: Vec<u8>,
}

impl<R: Read> Tee<R> {
    /// Reads the first block, which no sink has yet.
    pub(super) fn new(inner: R) -> io::Result<Self> {
        let mut tee = Self { inner, block: Vec::with_capacity(BLOCK_BYTES) };
        tee.fill()?;
        Ok(tee)
    }

    /// The first block.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.block
    }

    /// Reads everything, from the beginning, into `sink`.
    pub(super) fn reader<'a, W: Write>(&'a mut self, sink: &'a mut W) -> Reader<'a, R, W> {
        Reader { tee: self, sink, at: 0, is_written: false, broken: None }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.block.clear();
        self.inner.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut self.block).map(drop)
    }
}

/// Reads a [`Tee`].
pub(super) struct Reader<'a, R, W> {
    tee: &'a mut Tee<R>,
    sink: &'a mut W,
    /// How much of the block was given out.
    at: usize,
    /// Whether the sink has the block.
    is_written: bool,
    /// What a reader was told, who may not tell it on.
    broken: Option<io::Error>,
}

impl<R: Read, W: Write> Reader<'_, R, W> {
    /// The block that is to be given out; empty at the end.
    fn block(&mut self) -> io::Result<&[u8]> {
        if self.is_written && self.at == self.tee.block.len() && self.at > 0 {
            self.tee.fill()?;
            (self.at, self.is_written) = (0, false);
        }
        if !self.is_written {
            self.sink.write_all(&self.tee.block)?;
            self.is_written = true;
        }
        Ok(&self.tee.block[self.at..])
    }

    /// Reads what nobody has read, to the end.
    pub(super) fn drain(mut self) -> io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        loop {
            match self.block()?.len() {
                0 => return Ok(()),
                count => self.at += count,
            }
        }
    }
}

impl<R: Read, W: Write> Read for Reader<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.broken.is_some() {
            return Err(io::Error::other("the layer broke off"));
        }
        match self.block() {
            Ok(block) => {
                let count = block.len().min(buffer.len());
                buffer[..count].copy_from_slice(&block[..count]);
                self.at += count;
                Ok(count)
            }
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                self.broken = Some(error);
                Err(told)
            }
        }
    }
}

/// Passes on what is written, or read, and knows its digest and length.
pub(super) struct Hashing<T> {
    inner: T,
    hasher: sha2::Sha256,
    length: u64,
}

impl<T> Hashing<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, hasher: sha2::Sha256::new(), length: 0 }
    }

    pub(super) fn finish(self) -> (Sha256, u64, T) {
        (Sha256::from_bytes(self.hasher.finalize().into()), self.length, self.inner)
    }

    pub(super) fn inner(&self) -> &T {
        &self.inner
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.note(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.note(&buffer[..count]);
        Ok(count)
    }
}
