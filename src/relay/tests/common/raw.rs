//! The bytes of a database's files, as who has the volume and the database key sees them.

use std::{fs, path::Path};

use aws_lc_rs::{
    cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey},
    iv::FixedLength,
};

const PAGE: usize = 4096;
/// At the end of a page: the initialisation vector and a code.
const RESERVED: usize = 80;
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// What was read.
#[derive(Default)]
pub struct Bytes {
    pub pages: Vec<Vec<u8>>,
}

impl Bytes {
    pub fn contain(&self, bytes: &[u8]) -> bool {
        self.pages.iter().any(|page| page.windows(bytes.len()).any(|window| window == bytes))
    }
}

/// Every page in every file of the folder, live, free, or in the write-ahead log, decrypted with the database key.
pub fn remains(folder: &Path, key: [u8; 32]) -> Bytes {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let (first, step, header) = match name.rsplit('.').next() {
            Some("db") => (0, PAGE, 0),
            Some("db-wal") => (LOG_HEADER, FRAME_HEADER + PAGE, FRAME_HEADER),
            Some("db-shm") => continue,
            _ => panic!("{name} isn't known"),
        };
        let bytes = fs::read(&path).expect("a file");
        for start in (first..bytes.len()).step_by(step) {
            let page = bytes.get(start + header..start + header + PAGE);
            // The first page begins with the salt, which garbles one block of SQLite's own header here.
            pages.extend(page.map(|page| decrypt(page, key)));
        }
    }
    Bytes { pages }
}

fn decrypt(page: &[u8], key: [u8; 32]) -> Vec<u8> {
    let (body, reserved) = page.split_at(page.len() - RESERVED);
    let vector = FixedLength::from(<&[u8; 16]>::try_from(&reserved[..16]).expect("16 bytes"));
    let key = UnboundCipherKey::new(&AES_256, &key).and_then(DecryptingKey::cbc).expect("a key");
    let mut bytes = body.to_vec();
    key.decrypt(&mut bytes, DecryptionContext::Iv128(vector)).expect("whole blocks");
    bytes
}
