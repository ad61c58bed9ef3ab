//! Progress on a terminal while a command hashes files.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// Returns a bar for hashed bytes, removed on drop: `hashing the store: 1.20 GiB  812.50 MiB/s`. A bar is drawn only on a
/// terminal, and not before the first byte.
pub(super) fn hash_progress(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}: {binary_bytes}  {binary_bytes_per_sec}")
        .expect("the template is a valid constant");
    ProgressBar::no_length().with_style(style).with_message(what).with_finish(ProgressFinish::AndClear)
}
