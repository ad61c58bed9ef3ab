//! Checks of settings that several stage kinds share.

use std::fmt::Display;

use contract::Problem;

/// Finds the first repeated value of the list setting `name`.
pub fn repeated<T: PartialEq + Display>(name: &str, values: &[T]) -> Option<Problem> {
    let place = (1..values.len()).find(|place| values[..*place].contains(&values[*place]))?;
    Some(Problem::new(format!("{name}[{place}]"), format!("{} is listed twice", values[place])))
}
