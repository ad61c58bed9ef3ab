//! `pipeline generate`: the text of a manifest's model, of a run's, and of an exported one; prompts typed at a terminal.

use std::fs;
use std::io::{BufWriter, Read, Write};
use std::process::{Command, Stdio};

use model::initial::initial_values;
use model::{Gpt2, Gpt2Config, folder};

use crate::bench::Bench;

/// [`Bench::small`], run once, with the model exported to `model`.
fn with_model() -> Bench {
    let bench = Bench::small();
    bench.run();
    let exported = bench.pipeline(&["export", "run.toml", "train.model", "model"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    bench
}

/// The text that `generate` prints with these arguments, for one completion unless they say how many.
fn generated(bench: &Bench, arguments: &[&str]) -> String {
    let one: &[&str] = if arguments.contains(&"-n") { &[] } else { &["-n", "1"] };
    let ran = bench.pipeline(&[&["generate"], arguments, one, &["--device", "cpu"]].concat());
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran.stdout
}

/// Replaces the model by one with random weights that reads `positions` tokens.
fn replace_by_random_model(bench: &Bench, positions: usize) {
    let dir = bench.path().join("model");
    let tokenizer: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("tokenizer.json")).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap().len() + 8;
    let config = Gpt2Config { vocabulary, positions, width: 64, layers: 2, heads: 2, end_of_text: None };
    let device = model::device::resolve(contract::Device::Cpu).unwrap();
    let values = |tensor: &_| Ok::<_, std::convert::Infallible>(initial_values(&config, 1, tensor));
    let Ok(model) = Gpt2::new(&config, &device, values);
    fs::remove_file(dir.join("config.json")).unwrap();
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    fs::write(dir.join("config.json"), folder::config_json(&config).to_string()).unwrap();
    let mut file = BufWriter::new(fs::File::create(dir.join("model.safetensors")).unwrap());
    folder::write_weights(&config, &model, &mut file).unwrap();
}

#[test]
fn a_model_completes_a_prompt_from_anywhere_with_equal_text() {
    let bench = with_model();
    let prompt = "def add(a, b):\n";
    let text = generated(&bench, &["run.toml", prompt]);
    assert!(text.starts_with(prompt), "{text}");
    bench.write("prompt.py", prompt);
    for arguments in [
        &["model", prompt][..],
        &["model/", "--file", "prompt.py"],
        &["run.toml", prompt, "--stage", "train", "--seed", "1"],
        &["run", prompt],
        &["run.1", prompt, "--stage", "train"],
        &["cache/runs/run/latest/run.lock", prompt],
    ] {
        assert_eq!(generated(&bench, arguments), text, "{arguments:?}");
    }

    let json =
        bench.json(&["generate", "model", prompt, "--device", "cpu", "-n", "3", "--max-tokens", "5", "--no-stop"]);
    let completions = json["completions"].as_array().unwrap();
    assert_eq!((&json["prompt"], completions.len()), (&prompt.into(), 3));
    assert!(completions.iter().all(|completion| completion["tokens"].as_u64().unwrap() <= 5), "{json}");
    let greedy = generated(&bench, &["model", prompt, "--temperature", "0", "--no-stop"]);
    let other_seed = ["model", prompt, "--temperature", "0", "--no-stop", "--seed", "2"];
    assert_eq!(generated(&bench, &other_seed), greedy);
}

#[test]
fn a_text_that_is_printed_as_it_is_generated_is_that_of_the_json() {
    let bench = with_model();
    for (number, settings) in
        [&["--no-stop"][..], &[], &["--temperature", "1.5", "--no-stop"], &["--stop", "e", "--stop", " a"]]
            .into_iter()
            .enumerate()
    {
        let seed = number.to_string();
        for prompt in ["", "import os\n", "x = \"\u{e9}\""] {
            let arguments = [&["model", prompt, "-n", "1", "--seed", &seed, "--max-tokens", "40"], settings].concat();
            let json = bench.json(&[&["generate"], &arguments[..], &["--device", "cpu"]].concat());
            let text = json["completions"][0]["text"].as_str().unwrap();
            let printed = contract::printable(&format!("{prompt}{text}\n"), &['\t']);
            assert_eq!(generated(&bench, &arguments), printed, "{arguments:?}");
        }
    }
}

#[test]
fn the_settings_of_the_book_are_the_defaults() {
    let bench = with_model();
    let prompt = "def area_of_rectangle(a: float, b: float):\n    \"\"\"Return the area.\"\"\"";
    let mut explicit = vec!["model", prompt, "--temperature", "0.4", "--top-p", "0.95", "--top-k", "0", "--seed", "1"];
    explicit.extend(["--max-tokens", "64"]);
    for stop in ["\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif"] {
        explicit.extend(["--stop", stop]);
    }
    explicit.extend(["-n", "4"]);
    let defaults = |arguments: &[&str]| {
        bench.json(&[&["generate", "model", prompt, "--device", "cpu"], arguments].concat())["completions"].clone()
    };
    let text = generated(&bench, &explicit);
    assert!(text.starts_with(&format!("== 1 of 4\n{prompt}")) && text.contains("\n\n== 4 of 4\n"), "{text}");
    assert_eq!(bench.pipeline(&["generate", "model", prompt, "--device", "cpu"]).stdout, text);
    assert_eq!(defaults(&[]).as_array().unwrap().len(), 4);
    assert_eq!(defaults(&["--temperature", "0"]).as_array().unwrap().len(), 1, "all would be the same");
    let json = bench.json(&["generate", "model", prompt, "--max-length", "64", "--no-stop", "--temperature", "0"]);
    let ended = json["completions"][0]["ended"].as_str().unwrap();
    assert!(["max-length", "end-of-text"].contains(&ended), "{json}");
}

/// Runs `pipeline generate` with `arguments` in a terminal. Each step waits until the terminal has shown its first text, then types its
/// second. Returns the exit code, standard output (which is not the terminal) and what the terminal showed; `None`, with a reason, without Python.
fn in_terminal(bench: &Bench, arguments: &[&str], steps: &[(&str, &str)]) -> Option<(i32, String, String)> {
    const DRIVER: &str = r#"
import json, os, pty, select, signal, sys
program, arguments, steps = json.load(sys.stdin)
read_out, write_out = os.pipe()
pid, terminal = pty.fork()
if pid == 0:
    os.dup2(write_out, 1)
    os.execv(program, [program, *arguments])
os.close(write_out)
shown, out, at, open_ends = b"", b"", 0, [terminal, read_out]
while open_ends:
    # A text that never comes fails the test instead of hanging it.
    ready, _, _ = select.select(open_ends, [], [], 300)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    for end in ready:
        try:
            data = os.read(end, 65536)
        except OSError:
            data = b""
        if not data:
            open_ends.remove(end)
        elif end == terminal:
            shown += data
        else:
            out += data
    while steps:
        kind, text, typed = steps[0]
        seen = shown if kind == "shown" else out
        place = seen.find(text.encode(), at if kind == "shown" else 0)
        if place < 0:
            break
        if kind == "shown":
            at = place + len(text.encode())
        steps.pop(0)
        os.write(terminal, typed.encode())
_, status = os.waitpid(pid, 0)
json.dump([os.waitstatus_to_exitcode(status), out.decode(), shown.decode(), len(steps)], sys.stdout)
"#;
    let spawned = Command::new("python3").args(["-c", DRIVER]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut python) = spawned else {
        eprintln!("skipped: there is no python3 to open a terminal with");
        return None;
    };
    let steps: Vec<_> = steps
        .iter()
        .map(|(text, typed)| match text.strip_prefix("stdout:") {
            Some(text) => ("out", text, *typed),
            None => ("shown", *text, *typed),
        })
        .collect();
    let absolute = bench.path().join("model");
    let arguments: Vec<&str> =
        ["generate", absolute.to_str().unwrap()].into_iter().chain(arguments.iter().copied()).collect();
    let task = serde_json::json!([env!("CARGO_BIN_EXE_pipeline"), arguments, steps]);
    python.stdin.take().unwrap().write_all(task.to_string().as_bytes()).unwrap();
    let mut answer = String::new();
    python.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    python.wait().unwrap();
    let (code, out, shown, left): (i32, String, String, usize) = serde_json::from_str(&answer).unwrap();
    assert_eq!(left, 0, "a text never came; standard output:\n{out}\nterminal:\n{shown}");
    Some((code, out, shown))
}

#[test]
fn prompts_are_asked_for_at_a_terminal() {
    let bench = with_model();
    let settings = ["--device", "cpu", "--no-stop", "--max-tokens", "12"];
    // Two lines with an empty one between; lines that Ctrl-C discards; a prompt that is too long; the end of the input.
    let first = "def f(x):\n\n    y = x";
    let typed = format!("{first}\n.\n");
    let too_long = "x = 1\n".repeat(100) + ".\n";
    let steps = [
        (">>> ", &*typed),
        (">>> ", "not this\n"),
        ("... ", "nor this\x03"),
        (">>> ", "import os\n.\n"),
        (">>> ", &too_long),
        ("but the model reads at most 64", ""),
        (">>> ", "\x04"),
    ];
    let Some((code, out, shown)) = in_terminal(&bench, &settings, &steps) else { return };
    let completion = |prompt: &str| {
        let text = generated(&bench, &[&["model", prompt], &settings[2..]].concat());
        text.strip_prefix(prompt).unwrap().to_owned()
    };
    assert_eq!(out, completion(first) + &completion("import os"), "{shown}");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("a line with only '.' completes it"), "{shown}");
}

#[test]
fn ctrl_c_ends_a_completion_and_not_the_program() {
    let bench = with_model();
    replace_by_random_model(&bench, 1 << 16);
    let settings = ["--device", "cpu", "--no-stop", "--temperature", "0", "--max-tokens", "65000"];
    // The random model writes until it is stopped. Its text begins, Ctrl-C ends it, and the program asks for another prompt.
    let text = generated(&bench, &["model", "x", "--no-stop", "--temperature", "0", "--max-tokens", "20"]);
    let beginning = text.trim_end().strip_prefix('x').unwrap();
    let begun = format!("stdout:{beginning}");
    let steps = [(">>> ", "x\n.\n"), (&*begun, "\x03"), ("stopped", ""), (">>> ", "\x04")];
    let Some((code, out, shown)) = in_terminal(&bench, &settings, &steps) else { return };
    assert_eq!(code, 0, "{shown}");
    assert!(out.starts_with(beginning), "{out}");
}

#[test]
fn a_model_whose_files_are_damaged_is_refused() {
    let bench = with_model();
    let model = bench.path().join("model");
    let refused = |message: &str| {
        let ran = bench.pipeline(&["generate", "model", "x", "--device", "cpu"]);
        assert!(ran.code == 1 && ran.stderr.contains(message), "{message}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{message}");
    };
    let damaged = |name: &str, change: &dyn Fn(Vec<u8>) -> Option<Vec<u8>>, message: &str| {
        let path = model.join(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        if let Some(changed) = change(bytes.clone()) {
            fs::write(&path, changed).unwrap();
        }
        refused(message);
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).unwrap();
    };
    damaged("config.json", &|_| None, "config.json");
    damaged("config.json", &|_| Some(b"{".to_vec()), "config.json");
    damaged("config.json", &|_| Some(b"{\"model_type\": \"llama\"}".to_vec()), "config.json");
    damaged("model.safetensors", &|_| None, "model.safetensors");
    damaged("model.safetensors", &|_| Some(Vec::new()), "model.safetensors");
    damaged("model.safetensors", &|mut bytes| Some(bytes.split_off(100)), "model.safetensors");
    damaged(
        "model.safetensors",
        &|mut bytes| {
            bytes.truncate(bytes.len() - 4);
            Some(bytes)
        },
        "model.safetensors",
    );
    damaged("tokenizer.json", &|_| None, "tokenizer.json");
    damaged("tokenizer.json", &|_| Some(b"[]".to_vec()), "tokenizer.json");
    damaged("tokenizer.json", &|_| Some(vec![0xff; 100]), "tokenizer.json");
    // A tokenizer of another model: its vocabulary does not fit.
    let larger = |bytes: Vec<u8>| {
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let size = json["model"]["vocab"].as_object().unwrap().len();
        let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
        let next = vocabulary.values().filter_map(serde_json::Value::as_u64).max().unwrap() + 1;
        for number in 0..100 {
            vocabulary.insert(format!("zz{}", size + number), (next + number as u64).into());
        }
        Some(json.to_string().into_bytes())
    };
    damaged("tokenizer.json", &larger, "but the model's vocabulary has 400");
    generated(&bench, &["model", "x"]);
}

#[test]
fn a_closed_standard_output_ends_the_command_without_an_error() {
    let bench = with_model();
    replace_by_random_model(&bench, 1 << 16);
    let mut child =
        bench.start(&["generate", "model", "x", "--no-stop", "--temperature", "0", "--max-tokens", "65000"]);
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""));
}

#[test]
fn what_cannot_be_completed_is_refused() {
    let bench = Bench::small();
    bench.write("latin1", b"caf\xe9").write("model.safetensors", b"");
    for (arguments, code, message) in [
        (&["run.toml", "x"][..], 1, "stage 'train' has no output yet"),
        (&["run.toml", "x", "--stage", "pack"], 2, "stage 'pack' does not produce a model"),
        (&["none", "x"], 2, "'none' is neither a directory, a manifest nor a run"),
        (&["none.toml", "x"], 2, "none.toml"),
        (&[".", "x", "--set", "run.seed=2"], 2, "--set needs a manifest, found a directory"),
        (&[".", "x", "--stage", "train"], 2, "--stage needs a manifest, found a directory"),
        (&["run.toml", "--file", "missing"], 1, "cannot open 'missing': "),
        (&["run.toml", "--file", "."], 1, "cannot read the prompt from '.': "),
        (&["run.toml", "--file", "latin1"], 2, "the prompt in 'latin1' is not valid UTF-8: byte 4"),
        (&["model.safetensors", "x"], 2, "'model.safetensors' is a file of a model, expected the model's directory"),
        (&["run.toml", "x", "--max-length", "9", "--max-tokens", "9"], 2, "cannot be used with"),
        (&[".", "x"], 1, "has no tokenizer.json"),
        (&["run.toml", "x", "--file", "y"], 2, "cannot be used with"),
        (&["run.toml", "x", "--temperature", "nan"], 2, "expected a number from 0 to 1000"),
        (&["run.toml", "x", "--temperature", "-1"], 2, "expected a number from 0 to 1000"),
        (&["run.toml", "x", "--top-p", "0"], 2, "expected a number above 0"),
        (&["run.toml", "x", "-n", "0"], 2, "invalid value '0'"),
    ] {
        let ran = bench.pipeline(&[&["generate"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_run_without_a_model_and_a_prompt_without_room_are_refused() {
    let bench = with_model();
    let long = "x = 1\n".repeat(100);
    for (arguments, code, message) in [
        (&["run.9", "x"][..], 2, "run 'run' has no number 9"),
        (&["rum", "x"], 2, "did you mean 'run'?"),
        (&["run.1", "x", "--stage", "pack"], 2, "stage 'pack' does not produce a model"),
        (&["run.1", "x", "--stage", "trian"], 2, "did you mean 'train'?"),
        (&["run.1", "x", "--as", "other"], 2, "--as needs a manifest, found a run"),
        (&["model", &long], 2, "but the model reads at most 64"),
        (&["model", "a b c d e f g", "--max-length", "3"], 2, "leaves no room for a completion within --max-length 3"),
    ] {
        let ran = bench.pipeline(&[&["generate"], arguments, &["--device", "cpu"]].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
    }
}
