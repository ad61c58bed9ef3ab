//! A gzip file of one or more members.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::bufread::GzDecoder;

/// Decompresses all members, one after another.
///
/// # Errors
/// Returns [`ErrorKind::UnexpectedEof`] if the file is truncated, and [`ErrorKind::InvalidInput`] or [`ErrorKind::InvalidData`] if
/// it is corrupt or other bytes follow its last member, with a message.
pub(super) struct Members<R: BufRead> {
    /// The current member; `None` after the end of the last one.
    member: Option<GzDecoder<R>>,
    /// An error that cannot be retried: the decoder would report the next read as the end of its member.
    failed: Option<ErrorKind>,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)), failed: None }
    }

    /// Continues reading. The member stays in place until its end is reached, so that an interrupted read can be retried.
    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let next = member.get_mut().fill_buf()?.first().copied();
            let ended = self.member.take();
            match next {
                None => break,
                // The first byte of a member's header; whether a header follows is determined by reading on.
                Some(0x1f) => self.member = ended.map(|member| GzDecoder::new(member.into_inner())),
                Some(_) => return Err(io::Error::new(ErrorKind::InvalidInput, "other bytes follow the gzip data")),
            }
        }
        Ok(0)
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(kind) = self.failed {
            return Err(kind.into());
        }
        let read = self.read_on(buffer);
        self.failed = read.as_ref().err().map(io::Error::kind).filter(|kind| *kind != ErrorKind::Interrupted);
        read
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Gives a byte at a time; before the byte at `at` it fails once.
    struct Faulty {
        bytes: Cursor<Vec<u8>>,
        fault: Option<(u64, ErrorKind)>,
    }

    impl Read for Faulty {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.fault.take_if(|(at, _)| *at == self.bytes.position()) {
                Some((_, kind)) => Err(kind.into()),
                None => {
                    let length = buffer.len().min(1);
                    self.bytes.read(&mut buffer[..length])
                }
            }
        }
    }

    #[test]
    fn an_interrupted_read_goes_on_and_no_other_error_looks_like_the_end() -> io::Result<()> {
        let mut bytes = Vec::new();
        for text in ["one\n", "two\n"] {
            let mut member = GzEncoder::new(&mut bytes, Compression::default());
            member.write_all(text.as_bytes())?;
            member.finish()?;
        }
        for at in 0..=bytes.len() as u64 {
            let members = |kind| {
                let faulty = Faulty { bytes: Cursor::new(bytes.clone()), fault: Some((at, kind)) };
                BufReader::new(Members::new(BufReader::with_capacity(1, faulty)))
            };
            let mut text = String::new();
            members(ErrorKind::Interrupted).read_to_string(&mut text)?;
            assert_eq!(text, "one\ntwo\n", "interrupted before byte {at}");

            let mut reader = members(ErrorKind::TimedOut);
            for attempt in 0..3 {
                let found = reader.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
                assert_eq!(found, Err(ErrorKind::TimedOut), "before byte {at}, attempt {attempt}");
            }
        }
        Ok(())
    }
}
