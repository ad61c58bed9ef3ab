//! The stage `dedup` over real tables: what is written, and that nothing but the documents matters to it.

mod again;
mod bench;
mod copies;
mod real_export;
mod settings;
mod written;
