use crate::parse::{Parse, ParseError, Parser};

/// A value of a row, as SQLite has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// None.
    Null,
    /// A whole number.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;

impl<'a> Value<'a> {
    /// How many bytes [`write`](Self::write) adds.
    pub(crate) fn length(self) -> usize {
        match self {
            Self::Null => 1,
            Self::Integer(_) | Self::Real(_) => 9,
            Self::Text(text) => 5 + text.len(),
            Self::Blob(bytes) => 5 + bytes.len(),
        }
    }

    /// Whoever calls has made sure that it isn't too long.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(NULL),
            Self::Integer(number) => {
                out.push(INTEGER);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Real(number) => {
                out.push(REAL);
                out.extend_from_slice(&number.to_bits().to_be_bytes());
            }
            Self::Text(text) => write_bytes(out, TEXT, text.as_bytes()),
            Self::Blob(bytes) => write_bytes(out, BLOB, bytes),
        }
    }

    pub(crate) fn parse(from: &mut Parser<'a>) -> Parse<Self> {
        Ok(match from.byte()? {
            NULL => Self::Null,
            INTEGER => Self::Integer(i64::from_be_bytes(from.array()?)),
            REAL => Self::Real(f64::from_bits(u64::from_be_bytes(from.array()?))),
            TEXT => {
                let length = from.u32()?;
                Self::Text(from.text(length)?)
            }
            BLOB => {
                let length = from.u32()?;
                Self::Blob(from.bytes(length)?)
            }
            _ => return Err(ParseError),
        })
    }
}

fn write_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}
