//! The command-line program; [`pipeline::commands`] documents what it does.

use std::process::ExitCode;

/// Training on the CPU allocates and frees tensors all the time, and this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pipeline::commands::main().into()
}
