//! Tests that docs/gpu-checks.md reports exactly what the last run of `benches/gpu/check.sh` on a GPU showed.

#[path = "../report.rs"]
mod report;

use std::path::Path;
use std::process::Command;

fn list() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("check.sh");
    let output = Command::new("bash").arg(script).arg("--list").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_document_is_that_of_the_last_summary() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let summary = std::fs::read_to_string(docs.join("gpu-summary.jsonl")).unwrap();
    let expected = report::document(&list(), &summary).unwrap();
    let document = std::fs::read_to_string(docs.join("gpu-checks.md")).unwrap();
    assert_eq!(document, expected, "write docs/gpu-checks.md anew (its first paragraphs say how)");
}

#[test]
fn a_step_that_never_ran_says_so() {
    let document = report::document(&list(), "").unwrap();
    let rows: Vec<_> = document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| step")).collect();
    assert!(rows.len() > 15, "every step has a row: {}", rows.len());
    assert!(rows.iter().all(|row| row.contains("| never run |")), "{rows:?}");
}

#[test]
fn the_last_run_of_a_step_counts() {
    let line = |verdict: &str, seconds: f64| {
        format!(
            r#"{{"step":"smoke","shows":"x","device":"cuda:1","verdict":"{verdict}","seconds":{seconds},"figures":[{{"loss":4.5746}}]}}"#
        )
    };
    let summary = format!("{}\n{}\n", line("failed", 2.0), line("passed", 3.0));
    let document = report::document(&list(), &summary).unwrap();
    let row = document.lines().find(|row| row.starts_with("| smoke |")).unwrap();
    assert!(row.contains("| passed | cuda:1 |  | 3 | loss 4.575 |"), "{row}");
}

#[test]
fn figures_of_the_cpu_are_in_no_table_of_a_gpu() {
    let line = |device: &str| {
        format!(
            r#"{{"step":"speed-f32","shows":"x","device":"{device}","verdict":"passed","seconds":1,"figures":[{{"tokens_per_second":7,"parameters":1e6}}]}}"#
        )
    };
    let has_table = |device: &str| report::document(&list(), &line(device)).unwrap().contains("## Training");
    assert!(has_table("cuda:0") && !has_table("cpu"));
}
