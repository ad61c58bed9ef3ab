//! The stage kind `train`, run through the harness.

mod bench;
mod equal_bytes;
mod event_file;
mod golden;
mod interruption;
mod learning;
mod refusal;
