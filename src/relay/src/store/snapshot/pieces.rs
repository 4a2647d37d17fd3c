use std::io::{self, Write};

use aws_lc_rs::digest::{Context, SHA256};
use marketrelay_audit::hex;
use marketrelay_snapshot::{Data, end, pieces};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    runtime::Handle,
    time::{Instant, timeout_at},
};

/// Bytes that are sent at once.
const PIECE: usize = 64 * 1024;

/// Takes encrypted data from a thread and hands it over as pieces; whoever reads slowly is waited for, until the deadline.
pub(super) struct Pieces {
    to: DuplexStream,
    runtime: Handle,
    until: Instant,
    buffer: Vec<u8>,
    sha256: Context,
    bytes: u64,
}

impl Pieces {
    pub(super) fn new(to: DuplexStream, runtime: Handle, until: Instant) -> Self {
        let (buffer, sha256) = (Vec::with_capacity(PIECE), Context::new(&SHA256));
        Self { to, runtime, until, buffer, sha256, bytes: 0 }
    }

    /// Sends what is left; all that was sent.
    pub(super) fn finish(&mut self) -> io::Result<Data> {
        self.hand_over()?;
        let sha256 = hex(self.sha256.clone().finish().as_ref());
        Ok(Data { bytes: self.bytes, sha256 })
    }

    /// The manifest ends it.
    pub(super) fn end(mut self, manifest: &[u8]) -> io::Result<()> {
        self.send(&end(manifest))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.sha256.update(&self.buffer);
        self.bytes += self.buffer.len() as u64;
        let piece = pieces(&self.buffer);
        self.buffer.clear();
        self.send(&piece)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (to, until) = (&mut self.to, self.until);
        // The timer is the runtime's, too.
        let sent = self.runtime.block_on(async { timeout_at(until, to.write_all(bytes)).await });
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = &bytes[..bytes.len().min(PIECE - self.buffer.len())];
        self.buffer.extend_from_slice(some);
        if self.buffer.len() == PIECE {
            self.hand_over()?;
        }
        Ok(some.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
