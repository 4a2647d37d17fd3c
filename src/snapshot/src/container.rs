use snafu::{Snafu, ensure};

/// The media type of a container.
pub const CONTENT_TYPE: &str = "application/vnd.marketrelay.snapshot";
/// The longest piece, in bytes.
pub const LONGEST_PIECE: usize = 1 << 20;
/// The longest manifest, in bytes.
pub const LONGEST_MANIFEST: usize = 1 << 20;

const HEAD: usize = 4;

/// Why bytes aren't a container.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ContainerError {
    #[snafu(display("the snapshot was cut short"))]
    CutShort,
    #[snafu(display("a piece of the snapshot claims {length} bytes, the most are {LONGEST_PIECE}"))]
    PieceTooLong { length: usize },
    #[snafu(display("the snapshot's manifest is longer than {LONGEST_MANIFEST} bytes"))]
    ManifestTooLong,
}

/// Encrypted data as pieces of a container.
pub fn pieces(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + HEAD * data.len().div_ceil(LONGEST_PIECE));
    for piece in data.chunks(LONGEST_PIECE) {
        out.extend_from_slice(&u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

/// What a container ends with: no more pieces, and the manifest.
pub fn end(manifest: &[u8]) -> Vec<u8> {
    [&[0; HEAD], manifest].concat()
}

/// Takes a container apart as its bytes come, and keeps nothing of the data.
#[derive(Debug)]
pub struct Unpacker {
    state: State,
    manifest: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Head { bytes: [u8; HEAD], have: usize },
    Piece { left: usize },
    Manifest,
}

impl State {
    const START: Self = Self::Head { bytes: [0; HEAD], have: 0 };
}

impl Default for Unpacker {
    fn default() -> Self {
        Self { state: State::START, manifest: Vec::new() }
    }
}

impl Unpacker {
    /// Takes some of `bytes` away, at least one, and gives back those of them that are data, maybe none. To be called until
    /// none is left.
    pub fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<&'a [u8], ContainerError> {
        match &mut self.state {
            State::Head { bytes: head, have } => {
                let (some, rest) = bytes.split_at(bytes.len().min(HEAD - *have));
                head[*have..*have + some.len()].copy_from_slice(some);
                *have += some.len();
                *bytes = rest;
                if *have == HEAD {
                    self.state = piece(u32::from_be_bytes(*head))?;
                }
                Ok(&[])
            }
            State::Piece { left } => {
                let (data, rest) = bytes.split_at(bytes.len().min(*left));
                *left -= data.len();
                *bytes = rest;
                if *left == 0 {
                    self.state = State::START;
                }
                Ok(data)
            }
            State::Manifest => {
                ensure!(self.manifest.len() + bytes.len() <= LONGEST_MANIFEST, ManifestTooLongSnafu);
                self.manifest.extend_from_slice(bytes);
                *bytes = &[];
                Ok(&[])
            }
        }
    }

    /// After the last byte: the manifest.
    pub fn finish(self) -> Result<Vec<u8>, ContainerError> {
        ensure!(matches!(self.state, State::Manifest) && !self.manifest.is_empty(), CutShortSnafu);
        Ok(self.manifest)
    }
}

fn piece(length: u32) -> Result<State, ContainerError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    ensure!(length <= LONGEST_PIECE, PieceTooLongSnafu { length });
    Ok(if length == 0 { State::Manifest } else { State::Piece { left: length } })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Data and manifest of a container that comes in chunks of this length.
    fn unpack(container: &[u8], chunk: usize) -> Result<(Vec<u8>, Vec<u8>), ContainerError> {
        let (mut unpacker, mut data) = (Unpacker::default(), Vec::new());
        for mut bytes in container.chunks(chunk) {
            while !bytes.is_empty() {
                data.extend_from_slice(unpacker.take(&mut bytes)?);
            }
        }
        Ok((data, unpacker.finish()?))
    }

    fn container(data: &[Vec<u8>], manifest: &[u8]) -> Vec<u8> {
        let mut container: Vec<u8> = data.iter().flat_map(|piece| pieces(piece)).collect();
        container.extend(end(manifest));
        container
    }

    #[test]
    fn a_piece_or_a_manifest_that_is_too_long_is_refused_before_it_is_kept() {
        let length = u32::try_from(LONGEST_PIECE + 1).expect("short");
        let error = unpack(&length.to_be_bytes(), 1);
        assert_eq!(error, Err(ContainerError::PieceTooLong { length: LONGEST_PIECE + 1 }));
        let error = unpack(&container(&[], &vec![b'x'; LONGEST_MANIFEST + 1]), 4096);
        assert_eq!(error, Err(ContainerError::ManifestTooLong));
    }

    #[test]
    fn long_data_is_cut_into_pieces_that_are_short_enough() {
        let data = vec![7; 2 * LONGEST_PIECE + 1];
        assert_eq!(
            unpack(&container(std::slice::from_ref(&data), b"{}"), 65_536),
            Ok((data, b"{}".to_vec()))
        );
    }

    proptest! {
        #[test]
        fn data_and_manifest_come_out_as_they_went_in_however_the_bytes_come(
            data in vec(vec(any::<u8>(), 0..50), 0..10), manifest in vec(any::<u8>(), 1..50), chunk in 1usize..70,
        ) {
            let out = unpack(&container(&data, &manifest), chunk);
            prop_assert_eq!(out, Ok((data.concat(), manifest)));
        }

        #[test]
        fn a_container_that_ends_before_its_manifest_is_refused(
            data in vec(vec(any::<u8>(), 1..50), 0..10), at in any::<prop::sample::Index>(), chunk in 1usize..70,
        ) {
            let mut whole = container(&data, b"");
            whole.truncate(at.index(whole.len() + 1));
            prop_assert_eq!(unpack(&whole, chunk), Err(ContainerError::CutShort));
        }

        #[test]
        fn whatever_comes_is_taken_apart_or_refused(bytes in vec(any::<u8>(), 0..200), chunk in 1usize..70) {
            if let Ok((data, manifest)) = unpack(&bytes, chunk) {
                prop_assert!(data.len() + manifest.len() < bytes.len());
            }
        }
    }
}
