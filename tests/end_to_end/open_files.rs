//! Open files are bounded by the threads, not by the parts of a table.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Output};

use super::bench::Bench;

const MANIFEST: &str = r#"
[run]
name = "run"
[stages.export]
kind = "import"
source = "shards/*.jsonl"
min_size = 0
[stages.license]
kind = "license"
input = "export"
allow = ["mit"]
[stages.quality]
kind = "quality"
input = "license"
line_mean = { on = false }
config_or_test = { on = false }
has_no_keywords = { on = false }
few_assignments = { on = false }
[stages.dedup]
kind = "dedup"
input = "quality"
[stages.split]
kind = "split"
input = "dedup"
fraction = 0.2
[stages.tokenizer]
kind = "tokenizer"
input = "split.train"
vocabulary = 300
[stages.pack]
kind = "pack"
inputs = { train = "split.train", valid = "split.valid", tokenizer = "tokenizer" }
sequence_length = 16
"#;

/// Runs the program with at most so many open files.
fn limited(bench: &Bench, files: u32, arguments: &str) -> Output {
    let script = format!("ulimit -n {files}; exec {} {arguments}", env!("CARGO_BIN_EXE_pipeline"));
    let done = Command::new("/bin/sh").args(["-c", &script]).current_dir(bench.path()).output().unwrap();
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    done
}

#[test]
fn six_hundred_parts_pass_every_stage_sql_and_export_with_few_open_files() {
    let bench = Bench::new(MANIFEST);
    fs::create_dir(bench.path().join("shards")).unwrap();
    for shard in 0..600 {
        let mut lines = String::new();
        for row in 0..3 {
            let content = format!("def function_{shard}_{row}(argument): return argument * {shard}");
            let size = content.len();
            writeln!(
                lines,
                r#"{{"repo_name":"a/{}","path":"{shard}/{row}.py","copies":1,"size":{size},"content":"{content}","license":"mit"}}"#,
                shard % 50
            )
            .unwrap();
        }
        fs::write(bench.path().join(format!("shards/{shard}.jsonl")), lines).unwrap();
    }
    limited(&bench, 128, "run run.toml --quiet");
    let sql = "select count(*), count(e.content), count(distinct e.id) from export e join dedup d on e.id = d.id";
    let counts = limited(&bench, 128, &format!("sql run.toml '{sql}' --format csv"));
    assert_eq!(String::from_utf8_lossy(&counts.stdout).lines().nth(1).unwrap(), "1800,1800,1800");
    limited(&bench, 128, "export run.toml export out");
    assert_eq!(fs::read_dir(bench.path().join("out/documents")).unwrap().count(), 600);
    limited(&bench, 128, "show run.toml dedup");
}
