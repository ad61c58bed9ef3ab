//! The program. What it does is in [`pipeline::commands`].

use std::process::ExitCode;

/// Training on the CPU allocates and frees tensors all the time; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pipeline::commands::main().into()
}
