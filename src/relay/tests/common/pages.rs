//! The database's files as who has the database key could read them from a raw disk: every page, in use or not, of the
//! database and of its write-ahead log, whatever SQLite itself would show.

use std::{fs, path::Path};

use aws_lc_rs::{
    cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey},
    iv::FixedLength,
};

const PAGE: usize = 4096;
/// At the end of each page: 16 bytes of initialisation vector and an HMAC of 64.
const RESERVED: usize = 80;
const VECTOR: usize = 16;
/// At the start of the first page, in plain.
const SALT: usize = 16;
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// All pages, decrypted.
pub fn decrypted(folder: &Path, key: &[u8; 32]) -> Vec<u8> {
    let read = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
    let database = read("marketrelay.db");
    let first = database.get(..SALT).unwrap_or_default().to_vec();
    let log = read("marketrelay.db-wal");
    let frames = log.get(LOG_HEADER..).unwrap_or_default().chunks_exact(FRAME_HEADER + PAGE);
    let pages = database.chunks_exact(PAGE).chain(frames.map(|frame| &frame[FRAME_HEADER..]));
    pages.flat_map(|page| decrypt(page, key, &first)).collect()
}

fn decrypt(page: &[u8], key: &[u8; 32], salt: &[u8]) -> Vec<u8> {
    let begin = if page.starts_with(salt) { SALT } else { 0 };
    let (content, reserved) = page.split_at(PAGE - RESERVED);
    let vector: [u8; VECTOR] = reserved[..VECTOR].try_into().expect("16 bytes");
    let mut content = content[begin..].to_vec();
    let key = UnboundCipherKey::new(&AES_256, key).expect("a key");
    let key = DecryptingKey::cbc(key).expect("a key");
    let start = DecryptionContext::Iv128(FixedLength::from(vector));
    key.decrypt(&mut content, start).expect("whole blocks");
    content
}
