//! Manifests from text to typed stages, and every message of an invalid one.
//!
//! `tests/manifests/valid/*.toml` load; each `tests/manifests/invalid/*.toml` is rejected with exactly the text of the `.stderr`
//! file beside it (`UPDATE_GOLDEN=1` rewrites it), read with the `--set` arguments of its comments and the `.machine` file
//! beside it. `kinds.rs` holds the toy kinds that they use. All `valid/spelling-*.toml` mean the same. Files that
//! others extend start with `_`.

#[path = "manifests/folder.rs"]
mod folder;
#[path = "manifests/golden.rs"]
mod golden;
#[path = "manifests/hostile.rs"]
mod hostile;
#[path = "manifests/kinds.rs"]
mod kinds;
#[path = "manifests/spelling.rs"]
mod spelling;

use std::fs;
use std::path::Path;

use contract::{Device, Kind};
use folder::{Folder, base, folder, load, manifests, name, spec};
use golden::assert_golden;
use kinds::kinds;
use pipeline::manifest::{self, ByteSize, Overrides, Place};
use serde_json::Value;

#[test]
fn each_invalid_manifest_has_its_golden_messages() {
    assert_golden(&folder("invalid"), &manifests("invalid"), |path| {
        let sets: Vec<String> = fs::read(path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("# --set ").map(str::to_owned))
            .collect();
        let machine = path.with_extension("machine");
        let overrides = Overrides { sets, machine: machine.is_file().then_some(machine) };
        manifest::load(path, &overrides, &kinds())
    });
}

#[test]
fn each_valid_manifest_loads_and_every_stage_is_in_the_order() {
    let paths = manifests("valid");
    assert!(!paths.is_empty());
    for path in paths {
        let manifest = load(&path, &[]).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert!(manifest.warnings.is_empty(), "{}", manifest.warnings);
        // Written stage by stage, yet equal to one document.
        let resolved = manifest.resolved();
        let whole = toml::to_string_pretty(&toml::from_str::<toml::Table>(&resolved).unwrap()).unwrap();
        assert_eq!(resolved, whole, "{}", path.display());
        let order = manifest.graph.order().to_vec();
        assert_eq!(order.len(), manifest.stages.len());
        for (place, stage) in order.iter().enumerate() {
            for edge in manifest.stages[stage].inputs.values() {
                assert!(order[..place].contains(&edge.stage), "{stage} comes before {}", edge.stage);
            }
        }
    }
}

#[test]
fn a_manifest_keeps_its_settings_with_their_places() {
    let manifest = load(&folder("valid/whole.toml"), &[]).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.seed), ("toy-run", 7));
    assert_eq!(manifest.exec.threads, Some(2));
    assert_eq!(manifest.exec.memory, Some(ByteSize(2 << 30)));
    assert_eq!(manifest.exec.device, Some(Device::Cuda(1)));
    let text = base();
    let line = |start: &str| text.lines().position(|line| line.starts_with(start)).unwrap() + 1;
    let train = &manifest.stages["train"];
    assert_eq!(train.place.line, line("[stages.train]"));
    assert_eq!(train.setting("learning_rate").unwrap().line, line("learning_rate"));
    assert_eq!(train.setting("optimiser.beta").unwrap().line, line("optimiser"));
    assert!(train.setting("optimiser.beta").unwrap().column > train.setting("optimiser").unwrap().column);
    assert_eq!(train.inputs["train"].stage, name("split"));
    assert_eq!(train.inputs["valid"].output, "valid");
    assert_eq!(manifest.seed_place.unwrap().line, line("seed"));
    let Place { line, column, .. } = &train.place;
    assert!(train.place.to_string().ends_with(&format!("whole.toml:{line}:{column}")));
    assert!(manifest.stages["export"].setting("allow[1]") > manifest.stages["export"].setting("allow[0]"));
}

#[test]
fn bare_edges_mean_the_first_input_and_the_first_output() {
    let manifest = load(&folder("valid/whole.toml"), &[]).unwrap();
    let edge = &manifest.stages["split"].inputs["documents"];
    assert_eq!((edge.stage.as_str(), edge.output.as_str()), ("export", "documents"));
}

#[test]
fn without_a_name_a_run_is_named_after_its_file() {
    let manifest = Folder::new("[stages.a]\nkind = 'import'\n").load(&[]).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.seed), ("m", 1));
}

#[test]
fn a_later_layer_wins_and_tables_merge() {
    let folder = Folder::new("extends = 'base.toml'\n[stages.train]\nsteps = 9\noptimiser.beta = 0.5\n")
        .file("base.toml", base())
        .file("machine.toml", "[exec]\nthreads = 5\n[stages.export]\nsource = 'local/*.json'\n[stages.other]\nx = 1\n");
    let manifest = folder.load(&["stages.train.learning_rate=6e-4", "run.seed=3"]).unwrap();
    assert_eq!(spec(&manifest, "train", "steps"), 9);
    assert_eq!(spec(&manifest, "train", "learning_rate"), 6e-4);
    assert_eq!(spec(&manifest, "train", "optimiser")["beta"], 0.5);
    assert_eq!(spec(&manifest, "train", "optimiser")["name"], "adamw");
    assert_eq!((manifest.seed, manifest.name.as_str()), (3, "toy-run"));
    assert_eq!((manifest.exec.threads, manifest.exec.memory), (Some(5), Some(ByteSize(2 << 30))));
    let place = |setting: &str| manifest.stages["train"].setting(setting).unwrap();
    assert_eq!(place("learning_rate").to_string(), "--set");
    assert!(place("steps").to_string().ends_with("m.toml:3:1"));
    assert!(place("optimiser.name").file.ends_with("base.toml"));
    let source = &manifest.stages["export"].stage.sources()[0];
    assert_eq!(Path::new(&source.to_string()), folder.0.path().join("local/*.json"));
    assert_eq!(source.folder().as_deref(), Some(folder.0.path()));
}

#[test]
fn relative_sources_start_at_the_file_that_names_them_and_empty_ones_stay_empty() {
    let text = |source: &str| format!("[stages.a]\nkind = 'import'\nsource = '{source}'\n");
    let source = |folder: &Folder, sets: &[&str]| folder.load(sets).unwrap().stages["a"].stage.sources()[0].to_string();
    let folder = Folder::new(text("./data/[a-c]*.json"));
    assert_eq!(source(&folder, &[]), format!("{}/data/[a-c]*.json", folder.0.path().display()));
    for whole in ["", "/data/*.json", "s3://bucket/*.json"] {
        assert_eq!(source(&Folder::new(text(whole)), &[]), whole);
    }
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        source(&folder, &["stages.a.source=data/file-*.json.gz"]),
        format!("{}/data/file-*.json.gz", here.display())
    );
    assert_eq!(source(&folder, &["stages.a.source="]), "");
    let cache = Folder::new("[exec]\ncache = 'store'\n[stages.a]\nkind = 'import'\n");
    assert_eq!(cache.load(&[]).unwrap().exec.cache, Some(cache.0.path().join("store")));
}

#[test]
fn open_kinds_accept_further_inputs_and_have_the_outputs_that_they_declare() {
    let manifest = load(&folder("valid/whole.toml"), &[]).unwrap();
    let shell = &manifest.stages["shell"];
    assert_eq!(shell.inputs["anything"].stage, name("train"));
    assert_eq!(manifest.stages["judge"].inputs["report"].output, "score");
}

#[test]
fn a_warning_lets_the_manifest_load() {
    let folder = Folder::new(base()).file("machine.toml", "[stages.exprot]\nsource = 'x'\n");
    let manifest = folder.load(&[]).unwrap();
    let text = manifest.warnings.to_string();
    assert!(text.contains("did you mean 'export'?") && text.contains("warning: 1 warning in "), "{text}");
}

#[test]
fn problems_of_all_layers_come_at_once_in_the_order_of_the_files() {
    let folder = Folder::new("extends = 'base.toml'\n[stages.train]\nstesp = 9\n[stages.split]\nparts = 'x'\n")
        .file("base.toml", base().replace("seed = 7", "sede = 7"));
    let errors = folder.load(&["stages.train.learning_rte=1"]).unwrap_err();
    let messages: Vec<_> = errors.list().iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "unknown key 'stesp'",
            "'parts' expects an array of strings, found a string",
            "unknown key 'sede'",
            "unknown key 'learning_rte'",
        ]
    );
}

#[test]
fn problems_end_with_their_number_and_have_no_colours() {
    let text = load(&folder("invalid/edges.toml"), &[]).unwrap_err().to_string();
    assert!(text.ends_with("edges.toml\n") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_schema_resolves_and_lists_every_setting() {
    let kinds = kinds();
    let schema = manifest::schema(&kinds);
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&schema, &mut found);
    assert!(found.len() > kinds.len());
    for reference in found {
        assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    let listed = |kind: &Kind, part: &Value| {
        let stage = &schema["$defs"][format!("stage.{}", kind.name)]["properties"];
        let keys = part["properties"].as_object().map(|settings| settings.keys().cloned().collect::<Vec<_>>());
        keys.unwrap_or_default().into_iter().all(|key| stage.get(key).is_some())
    };
    assert!(kinds.iter().all(|kind| listed(kind, &kind.spec_schema) && listed(kind, &kind.exec_schema)));
    assert_eq!(schema["$defs"]["stage.train"]["required"], serde_json::json!(["kind", "steps", "optimiser"]));
}

#[test]
fn problems_that_a_kind_finds_are_reported_once_each_setting_is_valid() {
    let text = base().replace("learning_rate = 5e-4", "learning_rate = 5e-4\nmin_learning_rate = 1\nwarmup = 200_000");
    let folder = Folder::new(text);
    let messages = |sets: &[&str]| -> Vec<String> {
        folder.load(sets).unwrap_err().list().iter().map(|problem| problem.message.clone()).collect()
    };
    let (rate, warmup) =
        ("invalid 'min_learning_rate': must be at most learning_rate", "invalid 'warmup': must be at most steps");
    assert_eq!(messages(&[]), [rate, warmup]);
    for (set, problem) in [
        ("stages.train.schedule=true", "'schedule' expects an array of tables, found a boolean"),
        ("stages.train.steps=\"x\"", "'steps' expects an integer, found a string"),
        ("stages.train.learning_rte=2", "unknown key 'learning_rte'"),
    ] {
        assert_eq!(messages(&[set]), [problem]);
    }
}

#[test]
fn problems_of_many_stages_come_in_the_order_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.toml");
    let stage = |number: usize| format!("[stages.s{:02}]\nkind = \"nope\"\n", (number * 7) % 40);
    fs::write(&path, (0..40).map(stage).collect::<String>()).unwrap();
    let problems = manifest::load(&path, &Overrides::default(), &kinds()).unwrap_err().placed();
    let lines: Vec<_> = problems.iter().map(|problem| problem.places[0].place.line).collect();
    assert_eq!(lines, (0..40).map(|number| 2 * number + 2).collect::<Vec<_>>());
}
