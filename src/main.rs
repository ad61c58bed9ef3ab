//! The command-line program; [`pipeline::commands`] documents what it does.

use std::process::ExitCode;

/// Training on the CPU constantly allocates and frees tensors, and this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pipeline::commands::main().into()
}
