//! Checks of what this machine provides for stages.

use contract::MachineCheck;

use crate::manifest::{Place, StageDeclaration, StageName};

/// A requirement of a stage on the machine, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedMachineCheck {
    /// The stage.
    pub stage: StageName,
    /// The position of the setting that it concerns, else of the stage.
    pub place: Place,
    /// What was found.
    pub text: String,
    /// What to do if something is missing.
    pub missing: Option<String>,
}

impl LocatedMachineCheck {
    /// Formats the result with the stage.
    pub fn message(&self) -> String {
        format!("stage '{}': {}", self.stage, self.text)
    }

    /// Formats the check as one line.
    pub fn full_text(&self) -> String {
        let hint = self.missing.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default();
        format!("{}: {}{hint}", self.place, self.message())
    }
}

/// Checks the requirements of a stage on this machine.
pub fn of(stage: &StageDeclaration) -> Vec<LocatedMachineCheck> {
    let located = |MachineCheck { setting, text, missing }| LocatedMachineCheck {
        stage: stage.name.clone(),
        place: stage.setting(setting).unwrap_or_else(|| stage.place.clone()),
        text,
        missing,
    };
    stage.stage.check_machine().into_iter().map(located).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use contract::{Context, Kind, Ports, Result, Stage};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::manifest::{self, Overrides};

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Spec {
        #[serde(default)]
        modern: bool,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Exec {}

    /// A stage that cannot run here if it is modern.
    struct Picky;

    impl Stage for Picky {
        type Spec = Spec;
        type Exec = Exec;
        const KIND: &'static str = "picky";
        const REVISION: u32 = 1;

        fn ports() -> Ports {
            Ports::new()
        }

        fn check_machine(spec: &Spec, _: &Exec) -> Vec<MachineCheck> {
            match spec.modern {
                true => vec![MachineCheck::missing("modern", "the machine is old", "buy another")],
                false => vec![MachineCheck::provided("", "the machine will do")],
            }
        }

        fn run(_: &Spec, _: &Exec, _: &Context) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_missing_is_placed_at_the_setting_that_needs_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.toml");
        fs::write(&path, "[stages.a]\nkind = \"picky\"\n[stages.b]\nkind = \"picky\"\nmodern = true\n").unwrap();
        let manifest = manifest::load(&path, &Overrides::default(), &[Kind::of::<Picky>()]).unwrap();
        let checks: Vec<_> = manifest.stages.values().flat_map(of).collect();
        let texts: Vec<_> = checks.iter().map(LocatedMachineCheck::full_text).collect();
        let at = |line: u64| format!("{}:{line}", path.display());
        assert_eq!(checks[0].missing, None);
        assert!(texts[0].starts_with(&at(1)) && texts[0].ends_with(": stage 'a': the machine will do"), "{texts:?}");
        assert!(texts[1].starts_with(&at(5)), "{texts:?}");
        assert!(texts[1].ends_with(": stage 'b': the machine is old: buy another"), "{texts:?}");
    }
}
