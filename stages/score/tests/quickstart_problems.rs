//! The quickstart's own problems, those that `sample` writes: their tests accept the reference solutions and nothing that is
//! trivially wrong.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use contract::{Cancel, Progress};
use score::cache::Cache;
use score::evaluator::run_samples;
use score::problems::{Problem, Spec};
use score::samples::Sample;
use score::temperature::Temperature;
use score::truncate::Preset;
use support::{has_sandbox, options};

fn problems() -> Vec<Problem> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../data/src/sample/problems.jsonl"));
    score::problems::read(&path, &path, &Spec::default()).unwrap()
}

#[test]
fn each_level_has_problems() {
    let mut levels = BTreeMap::new();
    for problem in problems() {
        *levels.entry(problem.task_id.split('/').next().unwrap().to_owned()).or_insert(0) += 1;
    }
    println!("{levels:?}");
    assert_eq!(levels.keys().collect::<Vec<_>>(), ["change", "new", "template", "words"]);
    assert!(levels.values().all(|count| *count >= 10) && levels.values().sum::<usize>() >= 50, "{levels:?}");
}

/// Also tests the reference solutions and the empty completions, as every evaluation does.
#[test]
fn no_problem_is_solved_by_a_constant_or_by_a_parameter() {
    if !has_sandbox() {
        return;
    }
    let problems = problems();
    let mut samples = Vec::new();
    for (number, problem) in problems.iter().enumerate() {
        samples.extend((0..).zip(trivial(problem)).map(|(index, text)| Sample {
            problem: number,
            text,
            is_whole: false,
            temperature: Temperature::new(None).unwrap(),
            index,
            stop: None,
        }));
    }
    println!("{} trivial samples", samples.len());
    let (cancel, progress, mut cache) = (Cancel::default(), Progress::default(), Cache::in_memory());
    for preset in [Preset::Bigcode, Preset::None, Preset::Codeparrot, Preset::Evalplus] {
        let options = options(preset, 2);
        let samples = if preset == Preset::Bigcode { std::mem::take(&mut samples) } else { Vec::new() };
        let results =
            run_samples(&options.sandbox().unwrap(), &problems, samples, &options, &mut cache, &cancel, &progress)
                .unwrap();
        let test = results.facts.self_test;
        assert_eq!((test.canonical_passed, test.empty_passed), (problems.len() as u64, 0));
        let passed = results.samples.iter().filter(|sample| sample.result.passed());
        let passed: Vec<_> = passed.map(|sample| (&problems[sample.problem].task_id, &sample.text)).collect();
        assert!(passed.is_empty(), "{passed:?}");
    }
}

/// Bodies that return each value that an assertion expects, a usual constant, or a parameter.
fn trivial(problem: &Problem) -> Vec<String> {
    let expected = problem.tests.lines().filter_map(|line| {
        let (_, value) =
            line.trim().strip_prefix("assert ")?.rsplit_once(" == ").or_else(|| line.rsplit_once(" is "))?;
        Some(value.to_owned())
    });
    let definition = problem.prompt.lines().rfind(|line| line.trim().starts_with("def ")).unwrap_or_default();
    let parameters = definition.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches("):"));
    let names = parameters.split(", ").filter_map(|parameter| parameter.split([':', '=']).next());
    let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
    let mut values: Vec<_> =
        ["None", "True", "False", "[]"].into_iter().map(str::to_owned).chain(expected).chain(names).collect();
    values.sort();
    values.dedup();
    let solution = problem.canonical_solution.trim_start_matches('\n');
    let indent = &solution[..solution.len() - solution.trim_start().len()];
    values.into_iter().map(|value| format!("{indent}return {value}\n")).collect()
}
