use std::io::{self, BufRead, Write};

use zstd::stream::{read::Decoder, write::Encoder};

const LEVEL: i32 = 3;
/// A window of 1 MiB: what a relay has to spare.
const WINDOW: u32 = 20;
/// The largest one that is read, 8 MiB, as RFC 8878 recommends.
const LARGEST_WINDOW: u32 = 23;

/// Compresses a backup's data on its way.
pub fn compress<W: Write>(to: W) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(to, LEVEL)?;
    encoder.window_log(WINDOW)?;
    Ok(encoder)
}

/// Undoes [`compress`], in bounded memory whatever comes.
pub fn decompress<R: BufRead>(from: R) -> io::Result<Decoder<'static, R>> {
    let mut decoder = Decoder::with_buffer(from)?;
    decoder.window_log_max(LARGEST_WINDOW)?;
    Ok(decoder)
}
