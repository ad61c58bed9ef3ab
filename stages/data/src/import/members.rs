//! A gzip file of one or more members.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::bufread::GzDecoder;

/// Decompresses all members, one after another.
///
/// # Errors
/// [`ErrorKind::UnexpectedEof`] where the file is truncated; [`ErrorKind::InvalidInput`] or [`ErrorKind::InvalidData`] where
/// it is corrupt, or other bytes follow its last member, with a message that says which.
pub(super) struct Members<R: BufRead> {
    /// `None` after the end, or an error.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut member) = self.member.take() {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                self.member = Some(member);
                return Ok(read);
            }
            let mut reader = member.into_inner();
            match reader.fill_buf()?.first() {
                None => break,
                // The first byte of a member's header; whether it is one is found by reading on.
                Some(0x1f) => self.member = Some(GzDecoder::new(reader)),
                Some(_) => return Err(io::Error::new(ErrorKind::InvalidInput, "other bytes follow the gzip data")),
            }
        }
        Ok(0)
    }
}
