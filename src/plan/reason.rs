//! Why a stage is stale: typed, with old and new values and the line of the manifest that holds the new one.

use contract::Digest;
use serde::Serialize;
use serde_json::Value;

use crate::key::Difference;
use crate::manifest::{Manifest, Place, StageDeclaration, StageName};
use crate::store::HolderInfo;

/// One reason why a stage will run or may run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// No build of it is on record.
    NeverBuilt,
    /// A setting (or the seed) differs from the last build. A side that is `None` had the default.
    SettingChanged {
        /// Its path: `learning_rate`, `rules.line_max.threshold`.
        setting: String,
        /// Its value in the last build.
        old: Option<Value>,
        /// Its value now.
        new: Option<Value>,
        /// Where the manifest sets it now.
        place: Option<Place>,
    },
    /// The kind of the stage, or the kind's own revision, differs from the last build.
    KindChanged {
        /// As `license revision 1`.
        old: String,
        /// As `license revision 2`.
        new: String,
    },
    /// An input port reads other content than the last build did.
    InputChanged {
        /// The port.
        port: String,
        /// The stage that feeds it now.
        from: Option<StageName>,
        /// What the last build read.
        old: Option<Digest>,
        /// What it reads now.
        new: Option<Digest>,
    },
    /// The files outside the store hold other content than the last build read.
    SourcesChanged {
        /// Files whose content the last build did not read.
        added: usize,
        /// Files that the last build read and that are gone.
        removed: usize,
    },
    /// Files outside the store are missing: none is set, none matches, or one cannot be read.
    SourceMissing {
        /// Which, and in what way.
        problem: String,
    },
    /// No reason to run: the files outside the store are gone, and its last build is taken for theirs.
    SourcesAbsent,
    /// Its output is on record but damaged.
    Damaged {
        /// What is wrong with it.
        what: String,
    },
    /// Nothing differs from its last build, whose record is gone from the store.
    Removed,
    /// An upstream stage will run or may run; if its output changes, this stage runs too.
    Upstream {
        /// The stages it depends on directly that are not cached.
        stages: Vec<StageName>,
    },
    /// Another process builds a stage above now, and may build this one too when it is through with that.
    UpstreamHeld {
        /// The stages it depends on directly that wait for another process, or are below such a stage.
        stages: Vec<StageName>,
    },
    /// Another process builds the same key now; `run` waits for it and then finds its output.
    Held {
        /// Who, for what, since when, where that process could write it down.
        holder: Option<HolderInfo>,
    },
    /// Another stage of the plan has the same key: what that one builds serves both.
    SameKey {
        /// The other stage.
        stage: StageName,
    },
    /// Another stage of the plan, of which not all is known yet, may turn out to have the same key.
    MaybeSameKey {
        /// The other stage.
        stage: StageName,
    },
    /// Another stage of the plan misses the same bytes: where it gives them again first, this one is whole.
    SharedDamage {
        /// The other stage.
        stage: StageName,
    },
    /// `--force`.
    Forced,
}

impl Reason {
    /// Differences of keys as reasons: sources folded into one, settings with their place in the manifest.
    pub fn of(manifest: &Manifest, stage: &StageDeclaration, differences: &[Difference]) -> Vec<Self> {
        let mut reasons = Vec::new();
        let mut kind: [Option<String>; 2] = [None, None];
        let (mut added, mut removed) = (0, 0);
        for difference in differences {
            let Difference { path, old, new } = difference;
            let digest = |side: &Option<serde_json::Value>| side.as_ref()?.as_str()?.parse::<Digest>().ok();
            if let Some(setting) = difference.setting() {
                let place = stage.setting(setting).cloned();
                let setting = setting.to_owned();
                reasons.push(Self::SettingChanged { setting, old: old.clone(), new: new.clone(), place });
            } else if let Some(port) = path.strip_prefix("inputs.") {
                let from = stage.inputs.get(port).map(|edge| edge.stage.clone());
                reasons.push(Self::InputChanged { port: port.to_owned(), from, old: digest(old), new: digest(new) });
            } else if path == "sources" {
                added += usize::from(new.is_some());
                removed += usize::from(old.is_some());
            } else if path == "seed" {
                let setting = "run.seed".to_owned();
                let place = manifest.seed_place.clone();
                reasons.push(Self::SettingChanged { setting, old: old.clone(), new: new.clone(), place });
            } else {
                for (side, value) in kind.iter_mut().zip([old, new]) {
                    let text = value.as_ref().map(ToString::to_string).unwrap_or_default();
                    *side = Some(format!("{}{path} {}", side.take().map(|text| text + ", ").unwrap_or_default(), text));
                }
            }
        }
        if added + removed > 0 {
            reasons.insert(0, Self::SourcesChanged { added, removed });
        }
        if let [Some(old), Some(new)] = kind {
            reasons.insert(0, Self::KindChanged { old, new });
        }
        reasons
    }

    /// A line for people.
    pub fn text(&self) -> String {
        match self {
            Self::NeverBuilt => "never built".to_owned(),
            Self::SettingChanged { setting, old, new, place } => {
                let place = place.as_ref().map(|place| format!("  {place}")).unwrap_or_default();
                format!("{setting}: {} -> {}{place}", shown(old.as_ref()), shown(new.as_ref()))
            }
            Self::KindChanged { old, new } => format!("kind: {old} -> {new}"),
            Self::InputChanged { port, from, old, new } => {
                let from = from.as_ref().map(|stage| format!(" from {stage}")).unwrap_or_default();
                let digest =
                    |digest: &Option<Digest>| digest.map_or_else(|| "nothing".to_owned(), |digest| digest.short());
                format!("input {port}{from}: {} -> {}", digest(old), digest(new))
            }
            Self::SourcesChanged { added, removed } => {
                // One that came for one that went is one that changed, as far as its bytes tell.
                let changed = *added.min(removed);
                let parts = [(changed, "changed"), (added - changed, "new"), (removed - changed, "gone")];
                let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
                format!("source files: {}", parts.collect::<Vec<_>>().join(", "))
            }
            Self::SourceMissing { problem } => problem.clone(),
            Self::SourcesAbsent => "its source files are not there: the output is that of its last build".to_owned(),
            Self::Damaged { what } => format!("damaged in the store: {what}"),
            Self::Removed => "its last build is no longer in the store".to_owned(),
            Self::Upstream { stages } => {
                let names: Vec<_> = stages.iter().map(ToString::to_string).collect();
                format!("only if {} changes its output", names.join(" or "))
            }
            Self::UpstreamHeld { stages } => {
                let names: Vec<_> = stages.iter().map(ToString::to_string).collect();
                format!("unless another process builds it, which is at work on {}", names.join(" and "))
            }
            Self::Held { holder: Some(holder) } => format!("waiting for {holder}"),
            Self::Held { holder: None } => "waiting for another process".to_owned(),
            Self::SameKey { stage } => format!("the same key as {stage}, which is built once"),
            Self::MaybeSameKey { stage } => format!("it may turn out to have the key of {stage}, which is built once"),
            Self::SharedDamage { stage } => {
                format!("unless {stage}, which misses the same bytes, gives them again first")
            }
            Self::Forced => "forced".to_owned(),
        }
    }
}

/// A setting's value as TOML would spell it; the default has no value.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "default".to_owned(),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(float) if number.is_f64() && (float.abs() < 1e-3 || float.abs() >= 1e7) && float != 0.0 => {
                format!("{float:e}")
            }
            _ => number.to_string(),
        },
        Some(value) => value.to_string(),
    }
}
