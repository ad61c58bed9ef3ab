//! Reads what a program writes, without waiting for it.

use std::io::{PipeReader, Read};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::Broken;

/// The bytes that were read from a pipe, without waiting.
pub(super) struct Collected {
    /// The pipe; `None` after its end.
    pub pipe: Option<PipeReader>,
    /// The number of bytes read.
    pub length: u64,
    /// The first of them.
    pub text: Vec<u8>,
}

impl Collected {
    /// Starts to collect the bytes of a pipe.
    pub fn new(pipe: PipeReader) -> Result<Self, Broken> {
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Broken::system("cannot set up a pipe"))?;
        Ok(Self { pipe: Some(pipe), length: 0, text: Vec::new() })
    }

    /// Reads the available bytes, and keeps the first `kept` bytes of the whole output.
    pub fn read(&mut self, kept: usize) -> Result<(), Broken> {
        let mut part = [0; 1 << 14];
        // At most the content of a pipe, so that a writer cannot keep the reader busy forever.
        for _ in 0..64 {
            let Some(pipe) = &mut self.pipe else { return Ok(()) };
            match pipe.read(&mut part) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    self.length += length as u64;
                    let room = kept.saturating_sub(self.text.len());
                    self.text.extend_from_slice(&part[..length.min(room)]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::System { action: "cannot read a pipe", error }),
            }
        }
        Ok(())
    }
}
