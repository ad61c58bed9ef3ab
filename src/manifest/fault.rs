//! The settings of one stage that did not fit: left out, so that the rest can be read and the kind's own check run.
//!
//! What the kind then finds may be a consequence of the default that stands in for one of them. A problem is passed over
//! when it lies at, above or below a setting that was left out, or names one ("at most steps"): told late is better than
//! told falsely.

use std::collections::{BTreeMap, BTreeSet};

/// What did not fit, in the order in which it was found.
#[derive(Debug, Default)]
pub(super) struct Faults {
    paths: Vec<String>,
    /// Arrays that lost items, and the indices of those that they kept.
    shortened: Vec<(String, Vec<usize>)>,
}

impl Faults {
    /// A setting that did not fit.
    pub fn add(&mut self, path: impl Into<String>) {
        self.paths.push(path.into());
    }

    /// Whether this very setting is among them.
    pub fn holds(&self, path: &str) -> bool {
        self.paths.iter().any(|fault| fault == path)
    }

    /// An array of which only these items fit.
    pub fn shorten(&mut self, path: impl Into<String>, kept: Vec<usize>) {
        self.shortened.push((path.into(), kept));
    }

    /// Takes back what was found after the first `length` of each.
    pub fn take_after(&mut self, (paths, shortened): (usize, usize)) -> Self {
        Self { paths: self.paths.split_off(paths), shortened: self.shortened.split_off(shortened) }
    }

    /// How much was found, for [`Faults::take_after`].
    pub fn length(&self) -> (usize, usize) {
        (self.paths.len(), self.shortened.len())
    }

    /// Adds what another walk found.
    pub fn append(&mut self, mut later: Self) {
        self.paths.append(&mut later.paths);
        self.shortened.append(&mut later.shortened);
    }

    /// The same, to be asked about problems.
    pub fn left_out(self) -> LeftOut {
        let paths: BTreeSet<_> = self.paths.into_iter().map(|path| plain(&path)).collect();
        let steps = paths.iter().flat_map(|path| path.split(['.', '['])).filter(|step| !step.ends_with(']'));
        let names = steps.map(str::to_owned).collect();
        let shortened = self.shortened.into_iter().map(|(path, kept)| (plain(&path), kept)).collect();
        LeftOut { paths, names, shortened }
    }
}

/// What was left out of the settings that a kind checked.
#[derive(Debug)]
pub(super) struct LeftOut {
    paths: BTreeSet<String>,
    /// Every key on the way to one of them.
    names: BTreeSet<String>,
    shortened: BTreeMap<String, Vec<usize>>,
}

impl LeftOut {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path in the manifest of a setting that the kind names: it saw arrays without the items left out.
    pub fn written(&self, path: &str) -> String {
        let mut written = String::new();
        let mut rest = path;
        while let Some((before, (index, after))) =
            rest.split_once('[').and_then(|(before, after)| Some((before, after.split_once(']')?)))
        {
            written.push_str(before);
            let kept = self.shortened.get(&written).zip(index.parse::<usize>().ok());
            let index = kept.and_then(|(kept, index)| kept.get(index)).map_or(index.to_owned(), usize::to_string);
            written.push_str(&format!("[{index}]"));
            rest = after;
        }
        written + rest
    }

    /// Whether a problem at `path` may be a consequence of what was left out.
    pub fn explains(&self, path: &str, message: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let above = path.match_indices(['.', '[']).map(|(end, _)| &path[..end]).chain([path]);
        let below = |separator: char| {
            let prefix = format!("{path}{separator}");
            self.paths.range(prefix.clone()..).next().is_some_and(|next| next.starts_with(&prefix))
        };
        path.is_empty()
            || above.into_iter().any(|above| self.paths.contains(above))
            || below('.')
            || below('[')
            || words(message).any(|word| self.names.contains(word))
    }
}

/// The words of a message that could be keys.
pub(super) fn words(message: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    message.split(move |c| !part(c)).filter(|word| !word.is_empty())
}

/// Kinds name a key as it is; the manifest quotes it where TOML does.
fn plain(path: &str) -> String {
    path.replace('"', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(paths: &[&str]) -> LeftOut {
        let mut faults = Faults::default();
        paths.iter().for_each(|path| faults.add(*path));
        faults.shorten("allow", vec![1, 3]);
        faults.shorten("allow[3].of", vec![2]);
        faults.left_out()
    }

    #[test]
    fn problems_at_above_and_below_a_fault_or_about_it_are_its_consequences() {
        let faults = left_out(&["rules.ratio.threshold", "allow[2]", "environment.\"LANG.C\""]);
        for path in ["", "rules", "rules.ratio.threshold", "rules.ratio.threshold.x", "allow", "environment.LANG.C"] {
            assert!(faults.explains(path, "is wrong"), "{path}");
        }
        for path in ["rules.ratio.enabled", "rules.rat", "allow[1]", "allow[20]", "all", "environment.PATH"] {
            assert!(!faults.explains(path, "is wrong"), "{path}");
        }
        assert!(faults.explains("rules.ratio.enabled", "must be at most threshold"));
        assert!(!left_out(&[]).explains("", "is wrong"));
    }

    #[test]
    fn an_item_is_found_where_it_is_written_though_others_before_it_were_left_out() {
        let faults = left_out(&["allow[0]"]);
        for (seen, written) in [
            ("allow[0]", "allow[1]"),
            ("allow[1].of[0].x", "allow[3].of[2].x"),
            ("other[1]", "other[1]"),
            ("allow[7]", "allow[7]"),
            ("allow[", "allow["),
            ("steps", "steps"),
        ] {
            assert_eq!(faults.written(seen), written);
        }
    }
}
