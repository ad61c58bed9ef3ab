//! `command` stages: what a program is given, what is made of its output, and the files outside the store.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::bench::{Bench, DATA, shell};

/// A project whose command reads files from two of its directories, and one from elsewhere.
fn project(words: &Path) -> Bench {
    let files = format!("files = [\"scripts/*.sh\", \"nested/../shared/*.txt\", \"{}\"]", words.display());
    let stage = shell("count", "sh \"$0\" > {output:files}/out", &files);
    let bench = Bench::new(&stage.replace("out''']", "out''', \"{source:main.sh}\"]"));
    bench.write("scripts/main.sh", "echo main").write("scripts/other.sh", "echo other").write("nested/x", "");
    bench.write("shared/list.txt", "list");
    bench
}

#[test]
fn a_project_that_moves_runs_nothing_again_and_a_file_that_is_renamed_does() {
    let elsewhere = tempfile::tempdir().unwrap();
    let words = elsewhere.path().join("words.txt");
    fs::write(&words, "words").unwrap();
    let bench = project(&words);
    assert_eq!(bench.run(), ["count"]);
    let bench = bench.moved();
    assert_eq!(bench.plan()["count"], "cached", "{}", bench.pipeline(&["plan", "run.toml"]).stdout);
    fs::rename(bench.path().join("scripts/other.sh"), bench.path().join("scripts/renamed.sh")).unwrap();
    assert_eq!(bench.plan()["count"], "will-run");
    fs::rename(bench.path().join("scripts/renamed.sh"), bench.path().join("scripts/other.sh")).unwrap();
    assert_eq!(bench.plan()["count"], "cached");
    bench.write("shared/list.txt", "words");
    fs::write(&words, "list").unwrap();
    assert_eq!(bench.plan()["count"], "will-run", "two files have exchanged their contents");
}

#[test]
fn a_lock_of_a_command_with_files_reproduces_as_identical() {
    let elsewhere = tempfile::tempdir().unwrap();
    let words = elsewhere.path().join("words.txt");
    fs::write(&words, "words").unwrap();
    let bench = project(&words);
    bench.run();
    let ran = bench.pipeline(&["reproduce", "run", "--allow-commands"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn check_warns_of_sources_that_match_nothing_or_are_directories_at_their_lines() {
    let manifest = "[stages.export]\nkind = \"import\"\nsource = \"data/*.gz\"\n\
                    [stages.unset]\nkind = \"import\"\n\
                    [stages.script]\nkind = \"command\"\nprogram = \"true\"\nfiles = [\n  \"run.toml\",\n  \"scripts\",\n  \"none.py\",\n]\n";
    let bench = Bench::new(manifest);
    bench.write("scripts/a.py", "");
    let checked = bench.pipeline(&["check", "run.toml"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(checked.stdout.contains("3 stages, no errors, 4 warnings"), "{}", checked.stdout);
    let folder = format!("{}/", fs::canonicalize(bench.path()).unwrap().display());
    let mut warnings: Vec<_> = checked.stderr.lines().map(|line| line.replace(&folder, "")).collect();
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "warning: run.toml:11:3: stage 'script': no file matches 'scripts' (it is a directory: add '/*')",
            "warning: run.toml:12:3: stage 'script': no file matches 'none.py'",
            "warning: run.toml:3:1: stage 'export': no file matches 'data/*.gz'",
            "warning: run.toml:4:1: stage 'unset': no source is set",
        ]
    );
    let problems = bench.json(&["check", "run.toml"])["problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), 4);
    let is_placed = |problem: &Value| problem["severity"] == "warning" && problem["places"][0]["line"].is_u64();
    assert!(problems.as_array().unwrap().iter().all(is_placed), "{problems}");
    bench.write("data/a.gz", "").write("none.py", "");
    bench.edit("\"scripts\"", "\"scripts/*\"").edit("[stages.unset]\nkind = \"import\"\n", "");
    let checked = bench.pipeline(&["check", "run.toml"]);
    assert!(checked.stdout.contains("2 stages, no problems") && checked.stderr.is_empty(), "{}", checked.stderr);
}

#[test]
fn an_input_port_cannot_lead_out_of_its_directory() {
    for port in ["../../../x", "a/b", "A", "", "a b", "a'b"] {
        let inputs = format!("inputs = {{ \"{port}\" = \"one\" }}");
        let bench =
            Bench::new(&(shell("one", "echo 1 > {output}/a", "") + &shell("two", "cp -r in {output}", &inputs)));
        let checked = bench.pipeline(&["check", "run.toml"]);
        assert_eq!(checked.code, 2, "{port}");
        assert!(checked.stderr.contains(&format!("invalid port name '{}'", port.escape_debug())), "{}", checked.stderr);
    }
}

/// The data stages, and a command that reads the kept documents.
fn with_reader(script: &str, settings: &str) -> Bench {
    Bench::new(&format!("{DATA}{}", shell("reader", script, settings)))
}

#[test]
fn a_command_reads_a_table_whole_from_a_cache_that_gc_may_empty() {
    let inputs = "inputs = { documents = \"quality\" }";
    let bench = with_reader("cp {input:documents}/*.parquet {output:files}", inputs);
    bench.run();
    let derived = bench.cache().join("derived");
    let count = || fs::read_dir(&derived).into_iter().flatten().count();
    assert_eq!(count(), 2, "a set and its lock");
    let listed = bench.pipeline(&["cache", "ls"]).stdout;
    assert!(listed.contains(" of derived files"), "{listed}");
    assert!(bench.json(&["cache", "ls"])["totals"]["derived"]["bytes"].as_u64() > Some(1000));
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
    let dry = bench.pipeline(&["cache", "gc", "--dry-run"]).stdout;
    assert!(dry.contains("would remove") && dry.contains("of derived files"), "{dry}");
    let first = bench.digests(&["reader"]);
    assert_eq!(bench.pipeline(&["cache", "gc"]).code, 0);
    assert_eq!(count(), 0);
    assert_eq!(bench.run(), [""; 0], "nothing needs it now");
    assert_eq!(bench.run_with(&["--force", "reader"]), ["reader"]);
    assert_eq!(bench.digests(&["reader"]), first);
}

#[test]
fn verify_finds_a_derived_file_that_was_changed_and_repairs_it() {
    let bench = with_reader("cp {input:documents}/*.parquet {output:files}", "inputs = { documents = \"quality\" }");
    bench.run();
    let set = fs::read_dir(bench.cache().join("derived")).unwrap().map(|entry| entry.unwrap().path());
    let set = set.into_iter().find(|path| path.is_dir()).unwrap();
    let file = fs::read_dir(set.join("files")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&file, vec![0; whole.len()]).unwrap();
    let found = bench.pipeline(&["cache", "verify"]);
    assert!(found.code == 4 && found.stdout.contains("was modified"), "{}{}", found.stdout, found.stderr);
    assert_eq!(bench.run_with(&["--force", "reader"]), ["reader"]);
    assert_eq!(fs::read(&file).unwrap(), whole, "it was made again before it was used");
    fs::remove_file(&file).unwrap();
    assert_eq!(bench.pipeline(&["cache", "verify", "--repair"]).code, 0);
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

#[test]
fn documents_that_a_command_writes_feed_the_stages_below_it() {
    let settings = "inputs = { documents = \"quality\" }\noutputs = { kept = \"documents\" }\n";
    let below = "[stages.parts]\nkind = \"split\"\ninput = \"reader\"\nfraction = 0.2\n";
    let bench = with_reader("cp {input:documents}/*.parquet {output}", &format!("{settings}{below}"));
    bench.run();
    let count = |table: &str| {
        let query = format!("select count(*) as n, count(content) as texts, min(id) as least from {table}");
        bench.pipeline(&["sql", "run.toml", &query, "--format", "csv"]).stdout
    };
    assert_eq!(count("reader"), count("quality"));
    assert!(count("\"parts.train\"").lines().nth(1).is_some_and(|line| !line.starts_with("0,")));
    bench.edit("cp {input:documents}/*.parquet {output}", "echo text > {output}/a.parquet");
    let ran = bench.pipeline(&["run", "run.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let expected = "output 'kept' does not contain documents: file 'a.parquet' is not a Parquet file";
    assert!(ran.stderr.contains(expected) && ran.stderr.contains("skipped"), "{}", ran.stderr);
}

#[test]
fn an_export_of_a_stage_with_several_outputs_says_which_tables_belong_together() {
    let bench = Bench::ran();
    assert_eq!(bench.pipeline(&["export", "run.toml", "quality", "out"]).code, 0);
    let card = fs::read_to_string(bench.path().join("out/README.md")).unwrap();
    assert!(card.starts_with("---\nconfigs:\n- config_name: default\n  default: true\n"), "{card}");
    assert!(card.contains("- split: train\n    path: documents/*.parquet\n"), "{card}");
    assert!(card.contains("- config_name: dropped\n") && !card.contains("report/"), "{card}");
    assert_eq!(bench.pipeline(&["export", "run.toml", "split", "lines", "--format", "jsonl"]).code, 0);
    let card = fs::read_to_string(bench.path().join("lines/README.md")).unwrap();
    for (split, path) in [("train", "train/*.jsonl"), ("valid", "valid/*.jsonl")] {
        assert!(card.contains(&format!("- split: {split}\n    path: {path}\n")), "{card}");
    }
    assert_eq!(bench.pipeline(&["export", "run.toml", "split.train", "one"]).code, 0);
    assert!(!bench.path().join("one/README.md").exists());
}

#[test]
fn the_example_of_a_command_in_its_help_is_a_manifest_that_checks() {
    let bench = Bench::new(DATA);
    let page = bench.pipeline(&["stages", "command"]).stdout;
    let block = |language: &str| page.split_once(&format!("```{language}\n")).unwrap().1.split_once("```").unwrap().0;
    bench.write("run.toml", DATA.to_owned() + block("toml")).write("scripts/compiled.py", block("python"));
    let checked = bench.pipeline(&["check", "run.toml"]);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{}", checked.stdout);
    assert!(block("python").contains("sys.argv"));
}
