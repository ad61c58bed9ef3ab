//! The store: what is kept, what is found damaged, what a kill leaves, and two users at once.

mod adopt;
mod crash;
mod damage;
mod fixture;
mod lock;
mod open;
mod runs;
mod sources;
