//! The bytes of a command's outputs for fixed inputs, against `golden_outputs.txt`.
//!
//! A digest that changes means that equal inputs and settings no longer give equal bytes: bump `REVISION`, so that the
//! outputs are made anew, and write down the new digests. The program writes what the stage hands it: arguments, names
//! of files, environment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use command::Command;
use contract::Stage;
use contract::harness::Harness;
use serde_json::json;

/// Writes down all that it is given.
const SCRIPT: &str = r#"
for argument in "$@"; do printf '%s\n' "$argument"; done > out/report/arguments
find in -print | LC_ALL=C sort > out/report/files
printf '%s\n' "$NOTE" > out/report/note
env | sed 's/=.*//' | grep -v -e '^PWD$' -e '^_$' -e '^SHLVL$' -e '^OLDPWD$' | LC_ALL=C sort > out/report/variables
mkdir -p out/words/deep
tr a-z A-Z < in/words/list > out/words/deep/list
"#;

#[test]
fn outputs_have_the_bytes_that_their_revision_had() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    let first = json!({ "program": "sh", "arguments": ["-c", "printf 'one\\ntwo\\n' > {output}/list"] });
    let words = harness.run::<Command>(first).unwrap();
    harness.connect("words", &words["files"]);
    let second = json!({
        "program": "sh",
        "arguments": ["-c", SCRIPT, "name", "{input:words}", "{output:report}", "{{x}}", "a b"],
        "environment": { "NOTE": "from {input:words}" },
        "outputs": { "report": "report", "words": "files" },
        "pass": ["PATH"],
    });
    let made = harness.run::<Command>(second).unwrap();
    let mut found = String::new();
    for (port, tree) in words.iter().chain(&made) {
        found += &format!("command.{port} {}\n", &tree.digest.to_string()[..16]);
    }
    let golden = include_str!("golden_outputs.txt");
    assert_eq!(found, golden, "bump the REVISION of {}, then write the left side to golden_outputs.txt", Command::KIND);
}
