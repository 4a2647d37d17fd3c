//! The format of backups, as docs/backup-format.md describes it. Pure: no clock, no file, no network.
//!
//! [`Writer`] and [`Reader`] are the data before it is compressed ([`compress`]) and encrypted, [`Unpacker`] and
//! [`pieces`] are how a relay hands it over, [`SignedManifest`] says what is in it.

mod compressed;
mod container;
mod frame;
#[cfg(test)]
mod frame_tests;
mod manifest;
mod parse;
mod reader;
mod value;
mod writer;

pub use compressed::{compress, decompress};
pub use container::{CONTENT_TYPE, ContainerError, LONGEST_MANIFEST, LONGEST_PIECE, Unpacker, end, pieces};
pub use frame::{Begin, FrameError, LONGEST_NAME, LONGEST_ROW, MOST};
pub use manifest::{Data, FORMAT, Manifest, ManifestError, OfHold, SignedManifest, Table};
pub use reader::{Item, Reader};
pub use value::Value;
pub use writer::Writer;
