//! Bad input: each a clear result, nothing lost.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::bench::{Bench, Ran, shell};

/// An import and a license filter over `data/*`.
pub const IMPORT: &str = r#"
[run]
name = "run"
[stages.export]
kind = "import"
source = "data/*"
min_size = 0
[stages.license]
kind = "license"
input = "export"
allow = ["mit"]
[stages.dedup]
kind = "dedup"
input = "license"
"#;

pub fn row(repository: &str, content: &str) -> String {
    let size = content.len();
    serde_json::json!({
        "repo_name": repository, "path": "a.py", "copies": "1", "size": size.to_string(), "content": content, "license": "mit"
    })
    .to_string()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

pub fn program(number: usize) -> String {
    (0..40).map(|line| format!("value_{number}_{line} = compute_{line}({number})\n")).collect()
}

#[test]
fn a_missing_source_is_named_by_plan_and_run() {
    let bench = Bench::new(IMPORT);
    let plan = bench.pipeline(&["plan", "run.toml"]);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    assert!(plan.stdout.contains("no file matches"), "{}", plan.stdout);
    let run = bench.pipeline(&["run", "run.toml"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("no file matches") && run.stderr.contains("hint: "), "{}", run.stderr);
}

#[test]
fn a_truncated_gzip_fails_with_file_line_and_hint_and_can_be_let_through_counted() {
    let bench = Bench::new(IMPORT);
    let lines: Vec<_> = (0..200).map(|number| row(&format!("o/r{number}"), &program(number))).collect();
    let whole = gzip(&(lines.join("\n") + "\n"));
    bench.write("data/shard.json.gz", &whole[..whole.len() * 2 / 3]);
    let run = bench.pipeline(&["run", "run.toml"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("shard.json.gz:") && run.stderr.contains("hint: "), "{}", run.stderr);
    // A shard is not a row.
    assert_eq!(bench.pipeline(&["run", "run.toml", "--set", "stages.export.max_bad_rows=5"]).code, 1);
    bench.run_with(&["--set", "stages.export.max_bad_shards=1"]);
    let shown = bench.pipeline(&["show", "run.toml", "export.rejected", "--set", "stages.export.max_bad_shards=1"]);
    assert!(shown.stdout.contains("1 row;"), "{}", shown.stdout);
}

#[test]
fn an_export_of_only_duplicates_keeps_one_with_a_witness_for_each_other() {
    let bench = Bench::new(IMPORT);
    let lines: Vec<_> = (0..50).map(|number| row(&format!("o/r{number}"), &program(1))).collect();
    bench.write("data/shard.json", lines.join("\n"));
    bench.run();
    let shown = bench.pipeline(&["show", "run.toml", "dedup"]);
    assert!(shown.stdout.contains("  1 row;") && shown.stdout.contains("  49 rows;"), "{}", shown.stdout);
}

#[test]
fn an_empty_shard_gives_empty_tables_down_the_line() {
    let bench = Bench::new(IMPORT);
    bench.write("data/shard.json.gz", gzip(""));
    bench.run();
    let shown = bench.pipeline(&["show", "run.toml", "dedup.documents"]);
    assert!(shown.stdout.contains("0 rows"), "{}", shown.stdout);
}

#[test]
fn a_line_of_a_hundred_megabytes_is_a_bad_row_with_its_line() {
    let bench = Bench::new(IMPORT);
    let long = row("o/long", &"x = 1\n".repeat(100 << 20 >> 3));
    bench.write("data/shard.json.gz", gzip(&[row("o/a", &program(1)), long, row("o/b", &program(2))].join("\n")));
    let run = bench.pipeline(&["run", "run.toml"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("shard.json.gz:2"), "{}", run.stderr);
    bench.run_with(&["--set", "stages.export.max_bad_rows=1"]);
}

#[test]
fn a_failed_stage_stops_only_what_needs_it_and_the_rest_is_kept() {
    let manifest = r#"
[stages.good]
kind = "sample"
repositories = 2
[stages.bad]
kind = "command"
program = "/bin/sh"
arguments = ["-c", "echo the reason >&2; exit 3"]
[stages.after_good]
kind = "import"
input = "good"
[stages.after_bad]
kind = "command"
inputs = { files = "bad" }
program = "/bin/true"
"#;
    let bench = Bench::new(manifest);
    let ran = bench.pipeline(&["run", "run.toml", "--json", "--keep-going"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!(ran.stages("stage-finished"), ["after_good", "good"]);
    assert_eq!(ran.stages("stage-failed"), ["bad"]);
    assert_eq!(ran.stages("stage-skipped"), ["after_bad"]);
    assert!(ran.stdout.contains("the reason"), "{}", ran.stdout);
    let plan = bench.plan();
    assert_eq!((plan["after_good"].as_str(), plan["bad"].as_str()), ("cached", "will-run"));
}

#[test]
fn a_source_that_changes_while_it_is_read_keeps_the_output_out_of_the_store() {
    let manifest = r#"
[stages.slow]
kind = "command"
program = "/bin/sh"
arguments = ["-c", "echo more >> '@FILE@'; echo done > {output:files}/result"]
files = ["input.txt"]
"#;
    let bench = Bench::new("");
    bench.write("input.txt", "first\n");
    let file = bench.path().join("input.txt").display().to_string();
    bench.write("run.toml", manifest.replace("@FILE@", &file));
    let ran = bench.pipeline(&["run", "run.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("input.txt") && ran.stderr.contains("changed while"), "{}", ran.stderr);
    assert_eq!(bench.plan()["slow"], "will-run");
}

#[test]
fn a_typo_at_each_depth_of_the_manifest_is_shown_with_its_line_and_a_suggestion() {
    let bench = Bench::new(
        "[rnu]\nname = \"x\"\n[run]\nsede = 1\n[stages.a]\nkind = \"sampel\"\n[stages.b]\nkind = \"quality\"\n\
         input = \"d\"\nline_max = { treshold = 5 }\n[stages.c]\nkind = \"license\"\ninput = \"b.documnets\"\nallow = [\"mti\"]\n",
    );
    let ran = bench.pipeline(&["plan", "run.toml"]);
    assert_eq!(ran.code, 2);
    for expected in [
        "run.toml:1:",
        "run.toml:4:",
        "run.toml:6:",
        "run.toml:9:",
        "run.toml:10:",
        "run.toml:13:",
        "run.toml:14:",
        "'run'",
        "'seed'",
        "'sample'",
        "'threshold'",
        "'documents'",
        "did you mean \"mit\"?",
    ] {
        assert!(ran.stderr.contains(expected), "{expected} is missing in\n{}", ran.stderr);
    }
}

#[test]
fn a_source_that_has_its_old_content_again_when_the_stage_is_done_is_not_trusted_either() {
    let bench = Bench::new("");
    let place = |name: &str| bench.path().join(name).display().to_string();
    let wait = |name: &str| format!("while [ ! -e '{}' ]; do sleep 0.02; done", place(name));
    let script = format!(
        "touch '{}'; {}; cat '{}' > {{output:files}}/out; touch '{}'; {}",
        place("begun"),
        wait("spoilt"),
        place("text"),
        place("read"),
        wait("restored")
    );
    bench.write("run.toml", shell("reader", &script, "files = [\"text\"]"));
    bench.write("text", "old");
    // Longer than what is not trusted anyway.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let child = bench.start(&["run", "run.toml"]);
    let until = |name: &str| {
        while !bench.path().join(name).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    until("begun");
    bench.write("text", "evil").write("spoilt", "");
    until("read");
    bench.write("text", "old").write("restored", "");
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("it changed while the stage read it"), "{}", ran.stderr);
    assert!(bench.plan().values().all(|state| state != "cached"));
}
