//! The table format: written, read back, filtered, exported.
#[test]
fn placeholder() {}
