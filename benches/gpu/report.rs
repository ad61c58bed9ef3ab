//! docs/gpu-checks.md, written from the steps of `check.sh` and the summary of its last run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value};

/// A line of `check.sh --list` or of `summary.jsonl`.
#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    /// Its name.
    step: String,
    /// What the step must show to pass.
    shows: String,
    /// The requested device: `cuda:0`, `cpu`, `null`; empty in results older than this field, all from a GPU.
    #[serde(default)]
    device: String,
    /// `passed`, `failed`, `timed out`, `interrupted`, `no time`, `skipped` or `never run`.
    verdict: String,
    /// How long it took.
    seconds: f64,
    /// The commit of the program that ran, if known.
    #[serde(default)]
    commit: String,
    /// The figures that it printed.
    figures: Vec<Map<String, Value>>,
}

/// The document: every step of `list`, with its last result in `summary`.
///
/// # Errors
/// When a line is not a step.
pub fn document(list: &str, summary: &str) -> Result<String, serde_json::Error> {
    let steps = |text: &str| text.lines().map(serde_json::from_str).collect::<Result<Vec<Step>, _>>();
    let ran = steps(summary)?;
    let steps: Vec<Step> = steps(list)?
        .into_iter()
        .map(|step| match ran.iter().rev().find(|ran| ran.step == step.step) {
            Some(ran) => Step { shows: step.shows, ..ran.clone() },
            None => step,
        })
        .collect();
    let mut text = HEAD.to_owned();
    table(&mut text, &steps);
    // The CPU computes toy sizes.
    let on_gpu: Vec<_> = steps.iter().filter(|step| step.device != "cpu").cloned().collect();
    speed(&mut text, &on_gpu);
    products(&mut text, &on_gpu);
    kernels(&mut text, &steps);
    memory(&mut text, &steps);
    Ok(text)
}

const HEAD: &str = "\
# Checks on a CUDA machine

The tests run on the CPU (Burn's Flex backend) and none of them needs a GPU. What only a GPU can show is checked by
[`benches/gpu/check.sh`](../benches/gpu/check.sh), prepared so that ten minutes on a GPU are enough: nothing is built there.

```console
$ bash benches/gpu/pack.sh                                  # here: target/gpu/bundle.tar.xz, the program with CUDA and all it needs, below 64 MiB
$ tar -xJf bundle.tar.xz && OUT=out bash gpu/check.sh       # there, with a copy of the bundle: an NVIDIA GPU, its driver, libdevice of a CUDA toolkit
$ DEVICE=cpu OUT=target/gpu/cpu bash target/gpu/bundle/gpu/check.sh     # the same script without a GPU, at toy sizes
```

A step that fails or exceeds its limit does not stop later steps. To run only some steps, name them. `out/summary.jsonl` has a line
for each step, and `out/summary.txt` says what to do next. This document is generated from the lines of
[gpu-summary.jsonl](gpu-summary.jsonl), of which the last one of each step counts; to publish results, append theirs:

```console
$ cat out/summary.jsonl >> docs/gpu-summary.jsonl
$ bash benches/gpu/check.sh --list > target/list.jsonl
$ cargo bench --workspace --bench gpu -- report \"$PWD/target/list.jsonl\" \"$PWD/docs/gpu-summary.jsonl\" > docs/gpu-checks.md
```

";

fn table(text: &mut String, steps: &[Step]) {
    *text += "## The last result of each step\n\nOn a GPU, unless the column 'device' says otherwise.\n\n\
              | step | passes if | result | device | commit | seconds | figures |\n|---|---|---|---|---|---|---|\n";
    for step in steps {
        let Step { step: name, shows, verdict, device, seconds, commit, figures } = step;
        let seconds = if verdict == "never run" { String::new() } else { format!("{seconds:.0}") };
        let long =
            ["speed", "peer", "kernels", "products", "launches", "reserved"].iter().any(|long| name.starts_with(long));
        let figures = if long && !figures.is_empty() { "below".to_owned() } else { figures_of(figures) };
        let _ = writeln!(text, "| {name} | {shows} | {verdict} | {device} | {commit} | {seconds} | {figures} |");
    }
}

/// Formats the figures of a step for a table cell.
fn figures_of(figures: &[Map<String, Value>]) -> String {
    let one = |figures: &Map<String, Value>| {
        let plain = figures.iter().filter(|(_, value)| !value.is_array() && !value.is_object());
        plain.map(|(name, value)| format!("{} {}", name.replace('_', " "), short(value))).collect::<Vec<_>>().join(", ")
    };
    figures.iter().map(one).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A value with at most four significant digits.
fn short(value: &Value) -> String {
    match (value.as_str(), value.as_i64(), value.as_f64()) {
        (Some(text), ..) => text.replace('|', "/"),
        (_, Some(number), _) => number.to_string(),
        (.., Some(0.0)) => "0".to_owned(),
        (.., Some(number)) if number.abs() < 1e-3 || number.abs() >= 1e6 => format!("{number:.1e}"),
        (.., Some(number)) => {
            let digits = 3usize.saturating_sub(number.abs().log10().floor().max(0.0) as usize);
            format!("{number:.digits$}")
        }
        _ => value.to_string(),
    }
}

/// Formats a figure of a line, empty if the line lacks it.
fn cell(line: &Map<String, Value>, name: &str) -> String {
    line.get(name).map(short).unwrap_or_default()
}

fn number(line: &Map<String, Value>, name: &str) -> Option<f64> {
    line.get(name).and_then(Value::as_f64)
}

/// The throughput of this program and of PyTorch, and the parts of a step.
fn speed(text: &mut String, steps: &[Step]) {
    let lines = |prefix: &str| {
        let of = steps.iter().filter(|step| step.step.starts_with(prefix));
        of.flat_map(|step| &step.figures).filter(|line| line.contains_key("tokens_per_second")).collect::<Vec<_>>()
    };
    let (mut ours, theirs) = (lines("speed"), lines("peer"));
    // A step prints its line again once its parts are measured.
    let measured: Vec<_> = ours.iter().filter(|line| line.contains_key("parts_ms")).copied().collect();
    let key = |line: &Map<String, Value>| ["parameters", "batch", "precision"].map(|name| line.get(name).cloned());
    ours.retain(|line| line.contains_key("parts_ms") || measured.iter().all(|other| key(other) != key(line)));
    if ours.is_empty() && theirs.is_empty() {
        return;
    }
    // The fastest product of each precision that was measured, in TFLOP/s.
    let products = steps.iter().flat_map(|step| &step.figures);
    let rates = products.flat_map(|line| {
        let own = line.get("precision").and_then(Value::as_str).zip(number(line, "forward"));
        let peers = [("bf16", "bf16_tflops"), ("f32", "tf32_tflops")];
        own.into_iter().chain(peers.into_iter().filter_map(|(precision, name)| Some((precision, number(line, name)?))))
    });
    let mut peaks = BTreeMap::new();
    for (precision, rate) in rates {
        let peak = peaks.entry(precision.to_owned()).or_insert(0.0f64);
        *peak = peak.max(rate);
    }
    *text += "\n## Training\n\n| model | micro-batch | precision | program | tokens/s | ms a step | of the peak | memory | parts of a step in ms |\n\
              |---|---|---|---|---|---|---|---|---|\n";
    for (line, own) in ours.iter().map(|line| (line, true)).chain(theirs.iter().map(|line| (line, false))) {
        let cell = |name: &str| cell(line, name);
        let program = if own { "ours".to_owned() } else { format!("PyTorch, {}", cell("mode")) };
        let parameters = number(line, "parameters").unwrap_or(0.0) / 1e6;
        let operations = number(line, "operations_per_token").or_else(|| {
            ours.iter()
                .find(|ours| ours.get("parameters") == line.get("parameters"))
                .and_then(|ours| number(ours, "operations_per_token"))
        });
        let peak = line.get("precision").and_then(Value::as_str).and_then(|precision| peaks.get(precision));
        let share = match (operations, number(line, "tokens_per_second"), peak) {
            (Some(operations), Some(rate), Some(peak)) => format!("{:.0} %", operations * rate / peak / 1e10),
            _ => String::new(),
        };
        let memory = number(line, "reserved_bytes").unwrap_or(0.0) / f64::from(1 << 30);
        let (step, parts) = match line.get("parts_ms").and_then(Value::as_object) {
            Some(parts) => (cell("step_ms"), figures_of(std::slice::from_ref(parts))),
            None => {
                let part = |part: &str| format!("{part} {}", cell(&format!("{part}_milliseconds")));
                (cell("step_milliseconds"), ["forward", "backward", "optimizer"].map(part).join(", "))
            }
        };
        let _ = writeln!(
            text,
            "| {parameters:.0}M | {} x {} | {} | {program} | {} | {step} | {share} | {memory:.1} GiB | {parts} |",
            cell("batch"),
            cell("sequence"),
            cell("precision"),
            cell("tokens_per_second"),
        );
    }
    let peaks: Vec<_> = peaks.iter().map(|(precision, peak)| format!("{peak:.0} TFLOP/s in {precision}")).collect();
    if !peaks.is_empty() {
        let _ = writeln!(
            text,
            "\n'Of the peak': operations of the model (6 a parameter and 12 · layers · width · sequence a token) over those of the fastest \
             matrix product that was measured, {}.",
            peaks.join(", ")
        );
    }
}

/// The throughput of matrix products, ours and PyTorch's.
fn products(text: &mut String, steps: &[Step]) {
    let lines = |key: &str| {
        steps.iter().flat_map(|step| &step.figures).filter(|line| line.contains_key(key)).collect::<Vec<_>>()
    };
    let (ours, theirs) = (lines("product"), lines("bf16_tflops"));
    if ours.is_empty() && theirs.is_empty() {
        return;
    }
    *text += "\n## Matrix products\n\nTFLOP/s; for PyTorch the product of two row-major matrices.\n\n\
              | program | product | size | precision | forward | by input | by weight |\n|---|---|---|---|---|---|---|\n";
    for line in ours {
        let size =
            line.get("sizes").and_then(Value::as_array).into_iter().flatten().map(short).collect::<Vec<_>>().join("x");
        let [product, precision, forward, input, weight] =
            ["product", "precision", "forward", "by_input", "by_weight"].map(|name| cell(line, name));
        let _ = writeln!(text, "| ours | {product} | {size} | {precision} | {forward} | {input} | {weight} |");
    }
    for line in theirs {
        for (precision, name) in [("bf16", "bf16_tflops"), ("f32 (TF32)", "tf32_tflops"), ("f32", "f32_tflops")] {
            let _ = writeln!(text, "| PyTorch | | {} | {precision} | {} | | |", cell(line, "size"), cell(line, name));
        }
    }
}

/// The kernels of a step on a GPU, the costliest first, or with the null driver, which measures no times.
fn kernels(text: &mut String, steps: &[Step]) {
    for (name, most) in [("kernels", 20), ("launches", usize::MAX)] {
        let Some(step) = steps.iter().find(|step| step.step == name && !step.figures.is_empty()) else { continue };
        let timed = name == "kernels";
        *text += if timed {
            "\n## The costliest kernels of a step\n"
        } else {
            "\n## The kernels of a step, without a GPU\n\nFrom the null driver ([`null_driver.rs`](../benches/gpu/null_driver.rs)), \
             which counts time instead of measuring it, so a GPU may tune other kernels for products.\n"
        };
        let mut rows = 0;
        for line in &step.figures {
            let cell = |name: &str| cell(line, name);
            if line.contains_key("kernels") {
                let time = if timed { format!(", {} ms", cell("ms")) } else { String::new() };
                let [batch, precision, kernels, launches] = ["batch", "precision", "kernels", "launches"].map(cell);
                let _ = writeln!(
                    text,
                    "\n110M parameters, micro-batch {batch}, {precision}: {kernels} kernels, {launches} launches{time}.\n"
                );
                *text += if timed {
                    "| kernel | launches | ms |\n|---|---|---|\n"
                } else {
                    "| kernel | launches |\n|---|---|\n"
                };
                rows = 0;
            } else if rows < most {
                let time = if timed { format!(" {} |", cell("ms")) } else { String::new() };
                let _ = writeln!(text, "| `{}` | {} |{time}", cell("kernel"), cell("launches"));
                rows += 1;
            }
        }
    }
}

/// The memory of each preset, from the null driver.
fn memory(text: &mut String, steps: &[Step]) {
    let Some(step) = steps.iter().find(|step| step.step == "reserved" && !step.figures.is_empty()) else { return };
    *text += "\n## Memory of a training, without a GPU\n\nWhat the allocator reserves for two steps with the null driver.\n\n\
              | parameters | micro-batch | precision | GiB |\n|---|---|---|---|\n";
    for line in &step.figures {
        let [parameters, bytes] = ["parameters", "reserved_bytes"].map(|name| number(line, name).unwrap_or(0.0));
        let (parameters, bytes) = (parameters / 1e6, bytes / f64::from(1 << 30));
        let [batch, sequence, precision] = ["batch", "sequence", "precision"].map(|name| cell(line, name));
        let _ = writeln!(text, "| {parameters:.0}M | {batch} x {sequence} | {precision} | {bytes:.1} |");
    }
}
