//! The bytes of a command's outputs for fixed inputs, against `golden_outputs.txt`.
//!
//! A digest that changes means that equal inputs and settings no longer give equal bytes: bump `REVISION`, so that the
//! outputs are made anew, and write down the new digests. The programs write what the stage hands them: arguments, names
//! of files, environment, a table. Where `plain` changes, raise the version in `workspace::PLAIN` too: stores hold the old files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use command::Command;
use contract::harness::Harness;
use contract::{Context, Digest, PortType, Ports, Result, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tables::{Document, ShardWriter};

/// Writes down all that it is given.
const SCRIPT: &str = r#"
for argument in "$@"; do printf '%s\n' "$argument"; done > out/report/arguments
find in -print | LC_ALL=C sort > out/report/files
printf '%s\n' "$NOTE" > out/report/note
env | sed 's/=.*//' | grep -v -e '^PWD$' -e '^_$' -e '^SHLVL$' -e '^OLDPWD$' | LC_ALL=C sort > out/report/variables
mkdir -p out/words/deep
tr a-z A-Z < in/words/list > out/words/deep/list
"#;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Nothing {}

/// A table of three documents.
struct Documents;

impl Stage for Documents {
    type Spec = Nothing;
    type Exec = Nothing;
    const KIND: &'static str = "documents";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        Ports::new().output("documents", PortType::Documents, "")
    }

    fn run(_: &Nothing, _: &Nothing, context: &Context) -> Result<()> {
        let mut shard = ShardWriter::new(context.outputs.tree("documents")?, Digest::of(b"shard"));
        for (path, license, content) in [("a.py", Some("mit"), "a\n"), ("b.py", None, ""), ("c.py", Some("isc"), "c\n")]
        {
            shard.push(&Document {
                repo_name: "a/b",
                path,
                copies: 1,
                size: content.len() as i64,
                license,
                content,
            })?;
        }
        shard.finish()
    }
}

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
    let documents = harness.run::<Documents>(json!({})).unwrap();
    harness.connect("documents", &documents["documents"]);
    let script = "for port in plain rows table; do cp in/documents/*.parquet out/$port; done";
    let third = json!({
        "program": "sh", "arguments": ["-c", script],
        "outputs": { "plain": "files", "rows": "rows", "table": "documents" },
    });
    let tables = harness.run::<Command>(third).unwrap();
    let mut found = String::new();
    for (port, tree) in words.iter().chain(&made).chain(&tables) {
        found += &format!("command.{port} {}\n", &tree.digest.to_string()[..16]);
    }
    let golden = include_str!("golden_outputs.txt");
    assert_eq!(found, golden, "bump the REVISION of {}, then write the left side to golden_outputs.txt", Command::KIND);
}
