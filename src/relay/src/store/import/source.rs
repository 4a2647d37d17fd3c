use std::io::{self, BufReader, Read};

use age::DecryptError;
use aws_lc_rs::digest::{Context, SHA256};
use marketrelay_audit::hex;
use marketrelay_snapshot::{Data, FrameError, decompress};
use snafu::{ResultExt, ensure};

use super::{DataSnafu, ImportError, OtherDataSnafu, Result};

/// Encrypted data, summed up while it is read.
pub(super) struct Source<R> {
    from: R,
    sha256: Context,
    bytes: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, sha256: Context::new(&SHA256), bytes: 0 }
    }

    /// Decrypted and decompressed.
    pub(super) fn open(
        &mut self,
        identity: &age::x25519::Identity,
        name: &str,
    ) -> Result<impl Read + use<'_, R>> {
        let opened = age::Decryptor::new_buffered(BufReader::new(self)).and_then(|decryptor| {
            let identity: &dyn age::Identity = identity;
            decryptor.decrypt(std::iter::once(identity))
        });
        let opened = opened.map_err(|source| match source {
            DecryptError::NoMatchingKeys => ImportError::Identity { name: name.to_owned() },
            source => ImportError::Encryption { source },
        })?;
        let decompressed = decompress(BufReader::new(opened));
        decompressed.map_err(|source| FrameError::Read { source }).context(DataSnafu)
    }

    /// Whether that was all, and as the manifest says.
    pub(super) fn check(mut self, said: &Data) -> Result<()> {
        io::copy(&mut self, &mut io::sink())
            .map_err(|source| FrameError::Read { source })
            .context(DataSnafu)?;
        let found = Data { bytes: self.bytes, sha256: hex(self.sha256.finish().as_ref()) };
        let text = |data: &Data| format!("{} bytes, SHA-256 {}", data.bytes, data.sha256);
        ensure!(found == *said, OtherDataSnafu { found: text(&found), said: text(said) });
        Ok(())
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(bytes)?;
        self.sha256.update(&bytes[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
