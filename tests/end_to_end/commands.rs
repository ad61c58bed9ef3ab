//! The other subcommands.

use std::fs;

use serde_json::Value;

use crate::bench::Bench;

#[test]
fn init_writes_a_manifest_that_plans_and_never_overwrites() {
    let bench = Bench::new("precious");
    assert_eq!(bench.pipeline(&["init", "run.toml"]).code, 2);
    assert_eq!(fs::read_to_string(bench.path().join("run.toml")).unwrap(), "precious");
    assert_eq!(bench.pipeline(&["init", "fresh.toml"]).code, 0);
    let plan = bench.pipeline(&["plan", "fresh.toml"]);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    assert!(plan.stdout.contains("will run  train"), "{}", plan.stdout);
}

#[test]
fn init_writes_the_schema_that_its_manifest_names_and_overwrites_no_other() {
    let bench = Bench::new("");
    fs::create_dir(bench.path().join("new")).unwrap();
    let init = |path: &str| {
        let ran = bench.pipeline(&["init", path]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stderr
    };
    assert_eq!(init("new/a.toml"), "wrote new/a.toml and new/pipeline.schema.json; now: pipeline run new/a.toml\n");
    let manifest = fs::read_to_string(bench.path().join("new/a.toml")).unwrap();
    let named = manifest.lines().next().unwrap().strip_prefix("#:schema ").unwrap();
    let schema = || fs::read_to_string(bench.path().join("new").join(named)).unwrap();
    assert_eq!(schema(), bench.pipeline(&["stages", "--schema"]).stdout);
    assert_eq!(init("new/b.toml"), "wrote new/b.toml; now: pipeline run new/b.toml\n", "it is there already");
    bench.write("new/pipeline.schema.json", "theirs");
    let warned = init("new/c.toml");
    assert!(
        warned.contains("new/pipeline.schema.json already exists and is not the schema of this version"),
        "{warned}"
    );
    assert!(warned.contains("pipeline stages --schema > new/pipeline.schema.json"), "{warned}");
    assert_eq!(schema(), "theirs");
}

#[test]
fn stages_lists_every_kind_with_its_settings_and_defaults() {
    let bench = Bench::new("");
    let list = bench.pipeline(&["stages"]);
    for kind in [
        "sample",
        "import",
        "license",
        "quality",
        "dedup",
        "split",
        "tokenizer",
        "pack",
        "train",
        "eval-loss",
        "eval-completions",
        "problems",
        "sample-code",
        "run-code",
        "eval-code",
        "command",
    ] {
        assert!(list.stdout.lines().any(|line| line.starts_with(kind)), "{kind} is missing in\n{}", list.stdout);
        let page = bench.pipeline(&["stages", kind]);
        assert_eq!(page.code, 0);
        assert!(page.stdout.contains("outputs"), "{}", page.stdout);
    }
    let page = bench.pipeline(&["stages", "quality"]);
    assert!(page.stdout.contains("\n  line_max.threshold = 1000\n"), "{}", page.stdout);
    assert!(page.stdout.contains("(a number, at least 0 and at most 1)"), "{}", page.stdout);
    for (kind, permitted) in [
        ("pack", "      \"sequences\": The documents, and then the sequences"),
        ("train", "one of \"gpt2\", \"gpt2-xl\"|      \"gpt2\": 12 layers"),
        ("license", "(an array of strings, each one of \"agpl-3.0\", "),
        ("eval-completions", "  prompts[].max_length = 64\n"),
        ("command", "  timeout_seconds\n"),
    ] {
        let page = bench.pipeline(&["stages", kind]).stdout;
        assert!(permitted.split('|').any(|one| page.contains(one)), "{permitted} is missing in\n{page}");
    }
    let unknown = bench.pipeline(&["stages", "qualty"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("did you mean 'quality'"), "{}", unknown.stderr);
}

#[test]
fn every_help_text_has_an_example() {
    let bench = Bench::new("");
    let all = "run plan check why show export cache/ls cache/verify cache/gc reproduce diff runs status replay logs graph \
               sql generate score completions stages init";
    for command in all.split_whitespace() {
        let words: Vec<_> = command.split('/').chain(["--help"]).collect();
        let help = bench.pipeline(&words);
        assert!(help.stdout.contains("Example"), "{command}: {}", help.stdout);
    }
    // Every command is in the list.
    let help = bench.pipeline(&["--help"]).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for line in commands.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        assert!(name == "help" || all.contains(name), "{name} is in no test");
    }
}

#[test]
fn show_and_export_give_what_a_stage_holds() {
    let bench = Bench::small();
    bench.run();
    let shown = bench.pipeline(&["show", "run.toml", "split.train"]);
    assert!(shown.stdout.contains("repo_name") && shown.stdout.contains("content"), "{}", shown.stdout);
    assert!(bench.pipeline(&["show", "run.toml", "pack.train"]).stdout.contains("of 64 tokens"));
    assert!(bench.pipeline(&["show", "run.toml", "quality.report"]).stdout.contains("line_max"));

    let shown = bench.pipeline(&["show", "run.toml", "split.train", "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let rows = shown["outputs"]["train"]["table"]["rows"].as_u64().unwrap();
    let exported = bench.pipeline(&["export", "run.toml", "split.train", "out", "--format", "jsonl"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    let files = fs::read_dir(bench.path().join("out")).unwrap();
    let lines: Vec<_> = files
        .flat_map(|file| {
            fs::read_to_string(file.unwrap().path()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(lines.len() as u64, rows);
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    for column in ["id", "repo_name", "path", "copies", "size", "license", "content"] {
        assert!(!first[column].is_null(), "{column} is missing");
    }
    assert_eq!(bench.pipeline(&["export", "run.toml", "split.train", "out"]).code, 2, "a full folder is not touched");

    assert_eq!(bench.pipeline(&["export", "run.toml", "train.model", "model"]).code, 0);
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(bench.path().join("model").join(file).is_file(), "{file}");
    }
}

#[test]
fn a_stage_that_does_not_exist_is_answered_with_a_suggestion() {
    let bench = Bench::small();
    for command in [
        &["show", "run.toml", "licence"][..],
        &["why", "run.toml", "licence"],
        &["run", "run.toml", "--until", "licence"],
    ] {
        let ran = bench.pipeline(command);
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains("did you mean 'license'"), "{}", ran.stderr);
    }
}
