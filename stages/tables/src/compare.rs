//! The changes between two builds of a stage, in rows.

use std::cmp::Ordering;

use contract::Inputs;
use contract::figures::counted;

use crate::table::Table;

/// Describes how many rows more or fewer each changed table of documents has: `kept: 20 rows fewer`.
/// `None` if none differs or none can be read.
pub fn rows_compared(before: &Inputs, after: &Inputs) -> Option<String> {
    let differing = after.iter().filter_map(|(port, tree)| {
        let old = before.get(port).filter(|old| old.digest != tree.digest)?;
        let (old, new) = (Table::open(old).ok()?.rows(), Table::open(tree).ok()?.rows());
        Some(match new.cmp(&old) {
            Ordering::Less => format!("{port}: {} fewer", counted(old - new, "row")),
            Ordering::Equal => format!("{port}: different rows, the same number"),
            Ordering::Greater => format!("{port}: {} more", counted(new - old, "row")),
        })
    });
    let texts: Vec<_> = differing.collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}
