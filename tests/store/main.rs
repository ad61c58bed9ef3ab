//! The store: what is kept, what is found damaged, what a kill leaves, and two users at once.

mod bench;
mod builds;
mod care;
mod damage;
mod kills;
mod locks;
mod opening;
mod room;
mod runs;
mod sources;
