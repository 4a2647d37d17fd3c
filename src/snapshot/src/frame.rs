//! What writer and reader of frames share.

use aws_lc_rs::digest::{Context, SHA256};
use marketrelay_audit::hex;
use snafu::Snafu;

/// What uncompressed data begins with.
pub(crate) const MAGIC: &[u8] = b"marketrelay data 1\n";

pub(crate) const BEGIN: u8 = 1;
pub(crate) const TABLE: u8 = 2;
pub(crate) const ROW: u8 = 3;
pub(crate) const TABLE_END: u8 = 4;
pub(crate) const END: u8 = 5;

/// Before what a frame holds: its kind and its length.
pub(crate) const HEAD: usize = 5;
/// A row's frame holds at most so many bytes.
pub const LONGEST_ROW: usize = 16 << 20;
/// Any other one holds at most so many.
pub(crate) const LONGEST_OTHER: usize = 16 << 10;
/// Tables, and columns of one.
pub const MOST: usize = 64;
/// The longest name of a table or a column, in bytes.
pub const LONGEST_NAME: usize = 64;

/// What data says first: which backup it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The backup's id.
    pub backup: String,
    /// The connection's identity.
    pub connection_id: String,
    /// The version of the database's schema.
    pub schema: u32,
}

/// Why data can't be written or read.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FrameError {
    #[snafu(display("the backup's data can't be written: {source}"))]
    Write { source: std::io::Error },
    #[snafu(display("the backup's data can't be read: {source}"))]
    Read { source: std::io::Error },
    #[snafu(display("the backup's data was cut short"))]
    CutShort,
    #[snafu(display("the data isn't a backup's of a format that this program knows"))]
    Format,
    #[snafu(display("the backup's data is damaged: {what}"))]
    Damaged { what: String },
    #[snafu(display("the backup's data has {what} that is longer than the format allows"))]
    TooLong { what: &'static str },
    #[snafu(display("the backup's data isn't what its manifest says: {what}"))]
    Contradiction { what: String },
}

/// A frame without what it holds.
pub(crate) fn head(kind: u8, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind, a, b, c, d]
}

/// Names of tables and columns are lowercase words.
pub(crate) fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(letter)
}

pub(crate) fn sha256() -> Context {
    Context::new(&SHA256)
}

pub(crate) fn hex_of(context: Context) -> String {
    hex(context.finish().as_ref())
}
