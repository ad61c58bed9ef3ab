//! The reasons that a stage is stale: typed, with the old and the new value and the position of the setting in the manifest.

use std::time::SystemTime;

use contract::{Checkpoint, Digest, Unit, shortened_pair};
use serde::Serialize;
use serde_json::Value;

use super::build_name::BuildName;
use crate::events::figures;
use crate::key::{KeyDifference, KeyPath};
use crate::manifest::{Manifest, Place, StageDeclaration, StageName};
use crate::store::LockHolder;

/// The maximum number of listed differences from the closest build.
const LISTED: usize = 3;

/// A reason that a stage will run or may run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// No run of this name has built it or used a build of it.
    NeverBuilt {
        /// The nearest build of another run.
        closest: Option<BuildName>,
        /// The differences of its key.
        differences: Vec<Reason>,
    },
    /// A build of this key was interrupted and continues from its checkpoint.
    Resumes {
        /// Units done.
        done: u64,
        /// Units in total.
        total: u64,
        /// The unit of both.
        unit: Unit,
        /// Seconds since the checkpoint was written.
        age: u64,
        /// The estimated seconds for the rest, if known.
        left: Option<f64>,
    },
    /// A setting (or the seed) differs from the build compared with.
    SettingChanged {
        /// Its path: `learning_rate`, `rules.line_max.threshold`.
        setting: String,
        /// Its value in that build; `None` if it had none, or a default that is no longer known.
        old: Option<Value>,
        /// Its value now; `None` if it has none.
        new: Option<Value>,
        /// Whether the old value is the kind's default.
        old_is_default: bool,
        /// Whether the new value is the kind's default.
        new_is_default: bool,
        /// The position of the setting in the manifest.
        place: Option<Place>,
    },
    /// The kind of the stage, or the kind's own revision, differs from the build compared with.
    KindChanged {
        /// Formatted as `license revision 1`, or `revision 1` if the kind is the same.
        old: String,
        /// Formatted like `old`.
        new: String,
    },
    /// An input port reads different content from that in the build compared with.
    InputChanged {
        /// The port.
        port: String,
        /// The stage that it is connected to now.
        from: Option<StageName>,
        /// The tree that it read in that build.
        old: Option<Digest>,
        /// The tree that it reads now.
        new: Option<Digest>,
    },
    /// The content of files outside the store differs from that in the build compared with.
    SourcesChanged {
        /// The number of files with content that was not read in that build.
        added: usize,
        /// The number of files that were read in that build and no longer exist with that content.
        removed: usize,
    },
    /// Files outside the store are missing: no pattern is set, a pattern matches no file, or a file cannot be read.
    SourceMissing {
        /// The files and the error.
        problem: String,
    },
    /// The files outside the store are missing, and the last build is used; not a reason to run.
    SourcesAbsent,
    /// Its output is in the store but damaged.
    Damaged {
        /// The damage.
        what: String,
    },
    /// Nothing differs from its last build, but that build is no longer in the store.
    Removed,
    /// An upstream stage will run or may run; if its output changes, this stage runs too.
    Upstream {
        /// The direct dependencies that are not cached.
        stages: Vec<StageName>,
    },
    /// Another process builds an upstream stage now, and may build this one afterwards.
    UpstreamHeld {
        /// The direct dependencies that wait for that process, or are downstream of a stage that does.
        stages: Vec<StageName>,
    },
    /// Another process builds the same key now; `run` waits for it and then uses its output.
    Held {
        /// The process, its stage and its start time, if the process has written them.
        holder: Option<LockHolder>,
    },
    /// Another stage of the plan has the same key: one build serves both.
    SameKey {
        /// The other stage.
        stage: StageName,
    },
    /// Another stage of the plan, whose inputs are not known yet, may have the same key.
    MaybeSameKey {
        /// The other stage.
        stage: StageName,
    },
    /// The output of another stage of the plan lacks the same blobs: if that stage is rebuilt first, this output is complete again.
    SharedDamage {
        /// The other stage.
        stage: StageName,
    },
    /// The stage is listed in `--force`.
    Forced,
}

impl Reason {
    /// Returns the reason for resuming from a checkpoint, whose age is computed from `now`.
    pub fn resumes(checkpoint: &Checkpoint, now: SystemTime) -> Self {
        let Checkpoint { done, total, unit, saved, .. } = *checkpoint;
        let age = now.duration_since(saved).unwrap_or_default().as_secs();
        Self::Resumes { done, total, unit, age, left: checkpoint.seconds_left() }
    }

    /// Converts differences of keys to reasons: sources are combined into one reason; settings get their position in the manifest and the
    /// values of their defaults. If the kind differs, that is the only reason: the settings of another kind are not comparable.
    pub fn of(manifest: &Manifest, stage: &StageDeclaration, differences: &[KeyDifference]) -> Vec<Self> {
        let side = |path: KeyPath| differences.iter().find(|difference| difference.path == path);
        let (kind, revision) = (side(KeyPath::Kind), side(KeyPath::Revision));
        if kind.is_some() || revision.is_some() {
            let text = |value: fn(&KeyDifference) -> &Option<Value>| {
                let kind = kind.and_then(|kind| Some(value(kind).as_ref()?.as_str()?.to_owned()));
                let revision = revision.and_then(|revision| Some(format!("revision {}", value(revision).as_ref()?)));
                kind.into_iter().chain(revision).collect::<Vec<_>>().join(" ")
            };
            let changed = Self::KindChanged { old: text(|one| &one.old), new: text(|one| &one.new) };
            if kind.is_some() {
                return vec![changed];
            }
            // The defaults of another revision are not known.
            let rest = differences.iter().filter(|difference| difference.path != KeyPath::Revision);
            return [changed].into_iter().chain(Self::of_equal_kinds(manifest, stage, rest, false)).collect();
        }
        Self::of_equal_kinds(manifest, stage, differences.iter(), true)
    }

    fn of_equal_kinds<'d>(
        manifest: &Manifest,
        stage: &StageDeclaration,
        differences: impl Iterator<Item = &'d KeyDifference>,
        equal_revisions: bool,
    ) -> Vec<Self> {
        let mut reasons = Vec::new();
        let (mut added, mut removed) = (0, 0);
        for difference in differences {
            let KeyDifference { path, old, new } = difference;
            let digest = |side: &Option<Value>| side.as_ref()?.as_str()?.parse::<Digest>().ok();
            match path {
                KeyPath::Setting(setting) => {
                    let default = stage.kind.default_of(setting);
                    let (old_is_default, new_is_default) = (old.is_none(), new.is_none() && default.is_some());
                    let (old_is_default, old) = match equal_revisions {
                        true => (old_is_default && default.is_some(), old.clone().or(default.clone())),
                        false => (old_is_default, old.clone()),
                    };
                    reasons.push(Self::SettingChanged {
                        setting: setting.clone(),
                        old,
                        new: new.clone().or(default),
                        old_is_default,
                        new_is_default,
                        place: stage.setting(setting),
                    });
                }
                KeyPath::Input(port) => {
                    let from = stage.inputs.get(port).map(|edge| edge.stage.clone());
                    reasons.push(Self::InputChanged { port: port.clone(), from, old: digest(old), new: digest(new) });
                }
                KeyPath::Sources => {
                    added += usize::from(new.is_some());
                    removed += usize::from(old.is_some());
                }
                KeyPath::Machine(fact) => reasons.push(Self::SettingChanged {
                    setting: path.to_string(),
                    old: old.clone(),
                    new: new.clone(),
                    old_is_default: false,
                    new_is_default: false,
                    place: stage.setting(fact),
                }),
                KeyPath::Kind | KeyPath::Revision | KeyPath::Seed => reasons.push(Self::SettingChanged {
                    setting: format!("run.{path}"),
                    old: old.clone(),
                    new: new.clone(),
                    old_is_default: false,
                    new_is_default: false,
                    place: manifest.seed_place.clone(),
                }),
            }
        }
        if added + removed > 0 {
            reasons.insert(0, Self::SourcesChanged { added, removed });
        }
        reasons
    }

    /// Returns whether the reason is a difference from an earlier build.
    pub(super) const fn compares(&self) -> bool {
        matches!(
            self,
            Self::SettingChanged { .. }
                | Self::KindChanged { .. }
                | Self::InputChanged { .. }
                | Self::SourcesChanged { .. }
        )
    }

    /// Formats the reason as one line.
    pub fn text(&self) -> String {
        match self {
            Self::SettingChanged { place: Some(place), .. } => format!("{}  {place}", self.difference()),
            _ => self.difference(),
        }
    }

    /// Formats the reason without its position in the manifest.
    pub fn difference(&self) -> String {
        match self {
            Self::NeverBuilt { closest: None, .. } => "never built".to_owned(),
            Self::NeverBuilt { closest: Some(build), differences } => {
                let named = differences.iter().take(LISTED).map(Self::difference).collect::<Vec<_>>().join(", ");
                let more = match differences.len().saturating_sub(LISTED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("never built (closest build: {}, differs in {named}{more})", build.text())
            }
            Self::Resumes { done, total, unit, age, left } => {
                let at = match unit {
                    Unit::Steps => format!("step {} of {}", figures::count(*done), figures::count(*total)),
                    unit => figures::amount(*done, Some(*total), *unit),
                };
                let left = left.map(|left| format!(", about {} left", figures::clock(left))).unwrap_or_default();
                format!("resumes at {at} (checkpoint {} old){left}", figures::age(*age))
            }
            Self::SettingChanged { setting, old, new, old_is_default, new_is_default, .. } => {
                format!("{setting}: {}", change((old.as_ref(), *old_is_default), (new.as_ref(), *new_is_default)))
            }
            Self::KindChanged { old, new } => format!("kind: {old} -> {new}"),
            Self::InputChanged { port, from, old, new } => {
                let from = from.as_ref().map(|stage| format!(" from {stage}")).unwrap_or_default();
                let digest =
                    |digest: &Option<Digest>| digest.map_or_else(|| "nothing".to_owned(), |digest| digest.short());
                format!("input {port}{from}: {} -> {}", digest(old), digest(new))
            }
            Self::SourcesChanged { added, removed } => {
                // An added and a removed file count as one changed file: only the digests are known.
                let changed = *added.min(removed);
                let parts = [(changed, "changed"), (added - changed, "new"), (removed - changed, "gone")];
                let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
                format!("source files: {}", parts.collect::<Vec<_>>().join(", "))
            }
            Self::SourceMissing { problem } => problem.clone(),
            Self::SourcesAbsent => "its source files are missing: the output of its last build is used".to_owned(),
            Self::Damaged { what } => format!("damaged in the store: {what}"),
            Self::Removed => "its build is no longer in the store".to_owned(),
            Self::Upstream { stages } => {
                let names: Vec<_> = stages.iter().map(ToString::to_string).collect();
                format!("only if {} changes its output", names.join(" or "))
            }
            Self::UpstreamHeld { stages } => {
                let names: Vec<_> = stages.iter().map(ToString::to_string).collect();
                format!("unless the process that now builds {} builds it too", names.join(" and "))
            }
            Self::Held { holder: Some(holder) } => format!("waiting for {holder}"),
            Self::Held { holder: None } => "waiting for another process".to_owned(),
            Self::SameKey { stage } => format!("the same key as {stage}, which is built once"),
            Self::MaybeSameKey { stage } => format!("may have the same key as {stage}, which is built once"),
            Self::SharedDamage { stage } => {
                format!("unless {stage} rebuilds the same blobs first")
            }
            Self::Forced => "forced".to_owned(),
        }
    }
}

/// Formats a change of a setting; each value is paired with whether it is the default: `0.1 -> 32768 (default)`. A default of unknown value
/// is shown as `default`, a missing value as `none`. Long values are shortened to the part that differs.
pub fn change(old: (Option<&Value>, bool), new: (Option<&Value>, bool)) -> String {
    let word = |(value, is_default): (Option<&Value>, bool)| match value {
        Some(_) if is_default => " (default)",
        _ => "",
    };
    let (shown_old, shown_new) = (shown(old.0, old.1), shown(new.0, new.1));
    let [shown_old, shown_new] = shortened_pair(&shown_old, &shown_new);
    format!("{shown_old}{} -> {shown_new}{}", word(old), word(new))
}

fn shown(value: Option<&Value>, is_default: bool) -> String {
    match value {
        None if is_default => "default".to_owned(),
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(float) if number.is_f64() && (float.abs() < 1e-3 || float.abs() >= 1e7) && float != 0.0 => {
                format!("{float:e}")
            }
            _ => number.to_string(),
        },
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_resumed_build_shows_its_position_the_age_of_its_checkpoint_and_the_time_left() {
        let saved = SystemTime::UNIX_EPOCH;
        let text = |checkpoint: Checkpoint, age| Reason::resumes(&checkpoint, saved + Duration::from_secs(age)).text();
        let checkpoint = Checkpoint { done: 65, total: 300, unit: Unit::Steps, seconds: 93.0, saved };
        assert_eq!(text(checkpoint, 120), "resumes at step 65 of 300 (checkpoint 2 min old), about 5:36 left");
        assert_eq!(
            text(Checkpoint { seconds: 0.0, ..checkpoint }, 7),
            "resumes at step 65 of 300 (checkpoint 7 s old)"
        );
        let start = Checkpoint { done: 0, total: 12_000, ..checkpoint };
        assert_eq!(text(start, 3 * 3600), "resumes at step 0 of 12,000 (checkpoint 3 h old)");
        let rows = Checkpoint { unit: Unit::Rows, ..checkpoint };
        assert_eq!(text(rows, 180_000), "resumes at 65 of 300 rows (checkpoint 2 d old), about 5:36 left");
        let earlier = Reason::resumes(&checkpoint, saved - Duration::from_secs(9)).text();
        assert!(earlier.contains("checkpoint 0 s old"), "a clock that was set back: {earlier}");
    }
}
