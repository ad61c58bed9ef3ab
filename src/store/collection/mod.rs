//! Inventory, leases and removal: what is in the store, what is in use, and how the rest is removed.
//!
//! A running process leases the trees that it uses ([`Leases`]). [`Store::inventory`](crate::store::Store::inventory) lists
//! everything, [`Store::removals`](crate::store::Store::removals) computes what `cache gc` removes and [`GcGuard`] removes it,
//! [`Store::verify_all`](crate::store::Store::verify_all) hashes and repairs everything.

mod gc;
mod inventory;
mod lease;
mod verify;

pub use gc::{GcGuard, GcOptions, GcRoot, Removals, RemovedBuild, Retained};
pub use inventory::{Inventory, Totals};
pub use lease::{Lease, LeaseInfo, Leases, StoreGuard};
pub use verify::Verification;
