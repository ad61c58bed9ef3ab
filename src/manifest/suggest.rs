//! "Did you mean": the known name most similar to an unknown one.

/// The maximum number of compared candidates, so that a hostile manifest with a hundred thousand stages still gets an answer.
pub(super) const MOST: usize = 500;

/// Returns the candidate that `written` most likely misspells: at most one edit (insertion, deletion, substitution or transposition) per
/// three characters, ignoring case and the difference between `-` and `_`.
pub fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let plain = |text: &str| text.replace('-', "_").to_lowercase();
    let written = plain(written);
    let length = written.chars().count();
    candidates
        .into_iter()
        .take(MOST)
        // Longer names cannot match, and would take quadratic time.
        .filter(|candidate| length <= 3 * candidate.len() + 3)
        .map(|candidate| (strsim::damerau_levenshtein(&written, &plain(candidate)), candidate))
        .filter(|(edits, candidate)| {
            let longer = length.max(candidate.chars().count());
            *edits <= longer.div_ceil(3) && *edits < longer
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The maximum number of names in a hint.
const LISTED: usize = 30;

/// Returns a hint for an unknown name: the nearest known one, else all of them after `known`.
pub fn hint<'c>(written: &str, known: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) -> Option<String> {
    if let Some(candidate) = nearest(written, candidates.clone()) {
        return Some(format!("did you mean '{candidate}'?"));
    }
    let all: Vec<_> = candidates.into_iter().take(LISTED + 1).collect();
    let more = if all.len() > LISTED { ", ..." } else { "" };
    (!all.is_empty()).then(|| format!("{known}: {}{more}", all[..all.len().min(LISTED)].join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_are_recognised_and_other_words_are_not() {
        let known = ["learning_rate", "steps", "batch"];
        for (written, meant) in [
            ("learning_rte", Some("learning_rate")),
            ("learning-rate", Some("learning_rate")),
            ("Steps", Some("steps")),
            ("stpes", Some("steps")),
            ("bach", Some("batch")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }
}
