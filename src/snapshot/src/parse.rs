//! Reading what a frame holds; it is all there already.

/// The bytes don't fit the format.
#[derive(Debug)]
pub(crate) struct ParseError;

pub(crate) type Parse<T> = Result<T, ParseError>;

/// What is left of a frame.
pub(crate) struct Parser<'a>(pub(crate) &'a [u8]);

impl<'a> Parser<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Parse<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(ParseError)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Parse<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(ParseError)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn byte(&mut self) -> Parse<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Parse<usize> {
        self.array().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    pub(crate) fn u32(&mut self) -> Parse<usize> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| ParseError)
    }

    pub(crate) fn text(&mut self, length: usize) -> Parse<&'a str> {
        std::str::from_utf8(self.bytes(length)?).map_err(|_| ParseError)
    }

    /// A text that [`write_name`] wrote.
    pub(crate) fn name(&mut self) -> Parse<&'a str> {
        let length = self.u16()?;
        self.text(length)
    }

    pub(crate) fn end(&self) -> Parse<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ParseError) }
    }
}

/// Whoever calls has made sure that it isn't too long.
pub(crate) fn write_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(name.as_bytes());
}
