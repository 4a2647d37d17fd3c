//! What was erased, compressed: in the ConfigMaps of Jobs that restore, and behind the keys in the document.

use std::io::Read;

use marketrelay_api::backup::PastErasures;
use snafu::{ResultExt, Snafu, ensure};

/// As JSON. Compressed it leaves room for the keys of a connection, or for the rest of a ConfigMap, in the 1 MiB that Kubernetes allows
/// both.
pub const MOST: usize = 1_550_000;
/// What claims to be more when it is decompressed isn't ours.
const LARGEST: u64 = 2 * MOST as u64;
/// Of what a frame may refer back to: 8 MiB.
const WINDOW_LOG: u32 = 23;

/// It isn't what [`pack`] made.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ErasuresError {
    #[snafu(display("they can't be compressed or decompressed: {source}"))]
    Compression { source: std::io::Error },
    #[snafu(display("they are larger than they can be"))]
    Large,
    // serde's words show what it has read.
    #[snafu(display("what they say isn't understood (line {line}, column {column})"))]
    Content { line: usize, column: usize },
}

/// JSON, compressed with zstd.
pub fn pack(erasures: &PastErasures) -> Result<Vec<u8>, ErasuresError> {
    let json = serde_json::to_vec(erasures).map_err(not_understood)?;
    zstd::encode_all(&json[..], zstd::DEFAULT_COMPRESSION_LEVEL).context(CompressionSnafu)
}

/// Reads what [`pack`] made; what would become too large is refused before it does.
pub fn unpack(packed: &[u8]) -> Result<PastErasures, ErasuresError> {
    let mut decoder = zstd::Decoder::new(packed).context(CompressionSnafu)?;
    decoder.window_log_max(WINDOW_LOG).context(CompressionSnafu)?;
    let mut json = Vec::new();
    decoder.take(LARGEST + 1).read_to_end(&mut json).context(CompressionSnafu)?;
    ensure!(u64::try_from(json.len()).is_ok_and(|length| length <= LARGEST), LargeSnafu);
    serde_json::from_slice(&json).map_err(not_understood)
}

// By value, as `map_err` gives it.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err is given")]
fn not_understood(error: serde_json::Error) -> ErasuresError {
    ErasuresError::Content { line: error.line(), column: error.column() }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_was_packed_is_read_back_and_anything_else_is_refused() {
        let none = PastErasures::default();
        assert_eq!(unpack(&pack(&none).expect("packed")).expect("read"), none);
        let packed = pack(&none).expect("packed");
        for other in [&packed[..packed.len() - 1], b"{}", b""] {
            assert!(unpack(other).is_err(), "{other:?}");
        }
        let strange = zstd::encode_all(&b"[\"order:secret\"]"[..], 3).expect("compressed");
        let error = unpack(&strange).expect_err("refused").to_string();
        assert!(error.contains("isn't understood") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn what_decompresses_to_more_than_there_can_be_is_refused_before_it_does() {
        let bomb = zstd::encode_all(io::repeat(b' ').take(1 << 27), 3).expect("compressed");
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        assert!(matches!(unpack(&bomb), Err(ErasuresError::Large)));
    }
}
