//! What a program finds and what is taken of it, for fixed settings and inputs.
//!
//! The golden text is what the program itself saw: its arguments, its environment, its folder. Where it changes, equal
//! keys no longer mean equal outputs: bump `REVISION`, so that outputs are made anew, and write down the new text.

use std::fs;

use command::Command;
use contract::harness::Harness;
use contract::{InputTree, Stage};
use serde_json::{Value, json};

/// Tells what a program finds, with the shell's own means (braces are doubled, as arguments need them).
const PROGRAM: &str = r#"
for argument; do echo "argument $argument"; done
for name in GREETING PATH HOME USER LANG; do eval "echo \"variable $name=\${{$name-unset}}\""; done
for path in * in/* in/*/* in/*/*/* out/*; do
    if [ -h "$path" ]; then echo "link $path"; elif [ -d "$path" ]; then echo "folder $path"; else echo "file $path"; fi
done
read -r line || echo "standard input is empty"
while read -r word; do echo "word $word"; done < in/words/list
"#;

fn run(harness: &mut Harness, settings: Value) -> std::collections::BTreeMap<String, InputTree> {
    harness.run::<Command>(settings).unwrap()
}

#[test]
fn a_program_sees_and_gives_what_this_revision_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    let script = "mkdir -p out/files/deep && echo one > out/files/list && echo two > out/files/deep/er";
    let words = run(&mut harness, json!({ "program": "sh", "arguments": ["-c", script] }));
    harness.connect("words", &words["files"]);
    let program = format!("exec > out/report/seen\n{PROGRAM}echo 1 > out/rows/deep; echo 2 > out/rows/er");
    let outputs = run(
        &mut harness,
        json!({
            "program": "/bin/sh",
            "arguments": ["-c", program, "name", "{input:words}", "{output:report}", "two words", "{{*}}"],
            "outputs": { "report": "report", "rows": "files" },
            "environment": { "GREETING": "hello {output:rows}", "PATH": "/nowhere" },
            "pass": [],
        }),
    );
    let file = outputs["report"].required("seen").unwrap();
    let golden = "\
argument in/words
argument out/report
argument two words
argument {*}
variable GREETING=hello out/rows
variable PATH=/nowhere
variable HOME=unset
variable USER=unset
variable LANG=unset
folder in
folder out
folder in/words
folder in/words/deep
link in/words/list
link in/words/deep/er
folder out/report
folder out/rows
standard input is empty
word one
";
    assert_eq!(Command::REVISION, 1);
    assert_eq!(fs::read_to_string(&file.location).unwrap(), golden, "bump the REVISION of command");
    let digests = [&words["files"], &outputs["report"], &outputs["rows"]].map(|tree| tree.digest.short());
    assert_eq!(digests, ["021ca5532062", "a7502f67b547", "6f828d3a9fbb"], "bump the REVISION of command");
}
