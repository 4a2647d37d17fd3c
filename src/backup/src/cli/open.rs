//! Reading a backup's data: hash, decryption, decompression, rows, in constant memory.

use std::{
    fs,
    io::{self, BufReader, Read},
    path::Path,
};

use age::{Decryptor, Identity, IdentityFile};
use aws_lc_rs::digest::{Context, SHA256};
use futures::{StreamExt, TryStreamExt};
use marketrelay_audit::hex;
use marketrelay_keyring::{SecretKey, archive_identity};
use marketrelay_snapshot::{Item, Manifest, Reader, decompress};
use snafu::{OptionExt, ResultExt, Whatever, ensure_whatever};
use tokio_util::io::{StreamReader, SyncIoBridge};
use zeroize::Zeroizing;

use super::progress::Progress;
use crate::{BackupId, store::Store};

const BUFFER: usize = 256 << 10;

/// What opens the data.
pub type Identities = Vec<Box<dyn Identity + Send + Sync>>;

/// Reads a file as `age-keygen` writes them, or with the text alone; or with a hold's key, which its archives' identity follows
/// from.
pub fn identities(path: &Path) -> Result<Identities, Whatever> {
    let shown = path.display();
    let bytes = fs::read(path).map(Zeroizing::new);
    let bytes = bytes.with_whatever_context(|error| format!("can't read {shown}: {error}"))?;
    if let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice()) {
        let identity = archive_identity(&SecretKey::from(key));
        let identity = identity.with_whatever_context(|| format!("{shown} can't be used as a hold's key"))?;
        return Ok(vec![Box::new(identity)]);
    }
    let read = IdentityFile::from_buffer(BufReader::new(bytes.as_slice()));
    let read = read.with_whatever_context(|error| format!("{shown} holds no identity: {error}"))?;
    let identities = read.into_identities();
    let identities =
        identities.with_whatever_context(|error| format!("{shown} holds no identity: {error}"))?;
    ensure_whatever!(!identities.is_empty(), "{shown} holds no identity, AGE-SECRET-KEY-1…");
    Ok(identities)
}

/// Downloads the data and has `read` read it, then compares all of it with the manifest.
pub async fn download<T: Send + 'static>(
    store: &Store,
    id: &BackupId,
    manifest: &Manifest,
    read: impl FnOnce(&mut dyn Read) -> Result<T, Whatever> + Send + 'static,
) -> Result<T, Whatever> {
    let data = store.data(id).await.with_whatever_context(|error| error.to_string())?;
    let data = StreamReader::new(data.map_err(io::Error::other).boxed());
    let bridge = SyncIoBridge::new(data);
    let mut from = Hashed {
        from: bridge,
        sha256: Context::new(&SHA256),
        bytes: 0,
        progress: Progress::new(manifest.data.bytes),
    };
    let expected = manifest.data.clone();
    let done = tokio::task::spawn_blocking(move || {
        let done = read(&mut from);
        // What is read may be wrong because the data is: then that is what to say.
        io::copy(&mut from, &mut io::sink())
            .with_whatever_context(|error| format!("the download has failed: {error}"))?;
        let (bytes, sha256) = (from.bytes, hex(from.sha256.finish().as_ref()));
        ensure_whatever!(
            bytes == expected.bytes && sha256 == expected.sha256,
            "the data was altered: {bytes} bytes with SHA-256 {sha256}, the manifest says {} bytes with {}",
            expected.bytes,
            expected.sha256
        );
        done
    });
    done.await.whatever_context("the reader has failed")?
}

struct Hashed<R> {
    from: R,
    sha256: Context,
    bytes: u64,
    progress: Progress,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.sha256.update(&buffer[..read]);
        self.bytes += read as u64;
        self.progress.at(self.bytes);
        Ok(read)
    }
}

/// Decrypts, and shows `visit` what is in it; every table is compared with the manifest.
pub fn rows(
    from: &mut dyn Read,
    identities: &Identities,
    manifest: &Manifest,
    mut visit: impl FnMut(Item<'_>) -> Result<(), Whatever>,
) -> Result<(), Whatever> {
    let decryptor = Decryptor::new_buffered(BufReader::with_capacity(BUFFER, from));
    let decryptor =
        decryptor.with_whatever_context(|error| format!("the data isn't encrypted by age: {error}"))?;
    let identities = identities.iter().map(|identity| &**identity as &dyn Identity);
    let plain = decryptor.decrypt(identities).with_whatever_context(|error| {
        format!("this identity doesn't open it, the one named {} does: {error}", manifest.identity)
    })?;
    let plain = decompress(BufReader::with_capacity(BUFFER, plain));
    let plain = plain.with_whatever_context(|error| format!("the data can't be decompressed: {error}"))?;
    let mut reader = Reader::new(plain).with_whatever_context(|error| error.to_string())?;
    while let Some(item) = reader.next().with_whatever_context(|error| error.to_string())? {
        visit(item)?;
    }
    reader.check(manifest).with_whatever_context(|error| error.to_string())
}
