//! Manifests from text to typed stages, and every message that a wrong one gives.
//!
//! `tests/manifests/valid/*.toml` load; each `tests/manifests/invalid/*.toml` gives exactly the text of the `.stderr` file
//! beside it (`UPDATE_GOLDEN=1` writes it anew). `kinds.rs` holds the toy kinds that they use.

#[path = "manifests/kinds.rs"]
mod kinds;

use std::fs;
use std::path::{Path, PathBuf};

use contract::{Device, Kind};
use kinds::kinds;
use pipeline::graph::Graph;
use pipeline::manifest::{self, ByteSize, Diagnostics, Manifest, Overrides, StageName};
use proptest::prelude::*;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(name)
}

/// The manifests of a folder, less those that others are laid over.
fn manifests(name: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with('_'));
    files.sort();
    files
}

fn load(path: &Path, sets: &[&str]) -> Result<Manifest, Diagnostics> {
    let overrides = Overrides { sets: sets.iter().map(|set| (*set).to_owned()).collect(), machine: None };
    manifest::load(path, &overrides, &kinds())
}

/// A manifest of this text in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(text: impl AsRef<[u8]>) -> Self {
        Self(tempfile::tempdir().unwrap()).file("m.toml", text)
    }

    fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), text).unwrap();
        self
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("m.toml")
    }

    fn load(&self, sets: &[&str]) -> Result<Manifest, Diagnostics> {
        load(&self.path(), sets)
    }

    /// The messages, with the folder's own name taken out.
    fn errors(&self, sets: &[&str]) -> String {
        let folder = format!("{}/", self.0.path().display());
        self.load(sets).unwrap_err().to_string().replace(&folder, "")
    }
}

fn base() -> String {
    fs::read_to_string(folder("valid/whole.toml")).unwrap()
}

fn name(text: &str) -> StageName {
    text.parse().unwrap()
}

fn spec<'m>(manifest: &'m Manifest, stage: &str, setting: &str) -> &'m Value {
    manifest.stages[stage].stage.spec().get(setting).unwrap_or(&Value::Null)
}

#[test]
fn each_wrong_manifest_gives_its_golden_messages() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let prefix = format!("{}/", folder("invalid").display());
    let mut wrong = Vec::new();
    for path in manifests("invalid") {
        let sets: Vec<String> = fs::read(&path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("# --set ").map(str::to_owned))
            .collect();
        let machine = path.with_extension("machine");
        let overrides = Overrides { sets, machine: machine.is_file().then_some(machine) };
        let text = match manifest::load(&path, &overrides, &kinds()) {
            Ok(_) => panic!("{} loads", path.display()),
            Err(diagnostics) => diagnostics.render(false).replace(&prefix, ""),
        };
        let golden = path.with_extension("stderr");
        if update {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if text != expected {
            wrong.push(format!("--- {}\n{text}+++ expected\n{expected}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 accepts the new messages", wrong.join("\n"));
}

#[test]
fn each_right_manifest_loads_and_every_stage_is_in_the_order() {
    let paths = manifests("valid");
    assert!(!paths.is_empty());
    for path in paths {
        let manifest = load(&path, &[]).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert!(manifest.warnings.is_empty(), "{}", manifest.warnings);
        let order = Graph::of(&manifest).order().to_vec();
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
    assert_eq!(train.settings["learning_rate"].line, line("learning_rate"));
    assert_eq!(train.settings["optimiser.beta"].line, line("optimiser"));
    assert!(train.settings["optimiser.beta"].column > train.settings["optimiser"].column);
    assert_eq!(train.inputs["train"].stage, name("split"));
    assert_eq!(train.inputs["valid"].output, "valid");
    assert_eq!(manifest.seed_place.unwrap().line, line("seed"));
    assert!(train.place.to_string().ends_with(&format!("whole.toml:{}", train.place.line)));
    assert!(manifest.stages["export"].settings.contains_key("allow[1]"));
}

#[test]
fn bare_edges_mean_the_first_input_and_the_first_output() {
    let manifest = load(&folder("valid/whole.toml"), &[]).unwrap();
    let edge = &manifest.stages["split"].inputs["documents"];
    assert_eq!((edge.stage.as_str(), edge.output.as_str()), ("export", "documents"));
}

#[test]
fn without_a_name_a_run_is_called_as_its_file() {
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
    let places = &manifest.stages["train"].settings;
    assert_eq!(places["learning_rate"].to_string(), "--set");
    assert!(places["steps"].to_string().ends_with("m.toml:3"));
    assert!(places["optimiser.name"].file.ends_with("base.toml"));
    let source = &manifest.stages["export"].stage.sources()[0].0;
    assert_eq!(Path::new(source), folder.0.path().join("local/*.json"));
}

#[test]
fn relative_sources_start_at_the_file_that_names_them_and_empty_ones_stay_empty() {
    let text = |source: &str| format!("[stages.a]\nkind = 'import'\nsource = '{source}'\n");
    let source = |folder: &Folder, sets: &[&str]| folder.load(sets).unwrap().stages["a"].stage.sources()[0].0.clone();
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
fn an_integer_is_a_number_and_spelling_makes_no_difference() {
    let folder = Folder::new(base());
    let rates = ["1", "1.0", "1e0", "0x1", "1_0e-1"].map(|rate| {
        let manifest = folder.load(&[&format!("stages.train.learning_rate={rate}")]).unwrap();
        spec(&manifest, "train", "learning_rate").clone()
    });
    assert!(rates.iter().all(|rate| *rate == 1.0), "{rates:?}");
}

#[test]
fn open_kinds_take_further_inputs_and_give_the_outputs_that_they_declare() {
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
fn files_that_are_no_manifests_are_refused_in_words() {
    let missing = Folder::new("").0;
    let errors = load(&missing.path().join("none.toml"), &[]).unwrap_err().to_string();
    assert!(errors.contains("there is no file '"), "{errors}");
    let errors = load(missing.path(), &[]).unwrap_err().to_string();
    assert!(errors.contains("is a folder"), "{errors}");
    for (text, message) in [
        (Vec::new(), "the manifest has no stages"),
        (b"# nothing yet\n".to_vec(), "the manifest has no stages"),
        (b"\n\n[stages]\n".to_vec(), "m.toml:3:1"),
        (b"name = 'caf\xe9'\n".to_vec(), "m.toml:1:12"),
        (vec![b'#'; (1 << 20) + 1], "is larger than 1 MiB"),
        (b"\x00\x01\x02".to_vec(), "m.toml:1:4"),
        (b"extends = 'm.toml'\n".to_vec(), "'extends' goes in a circle: m.toml -> m.toml"),
        (b"extends = 'none.toml'\n".to_vec(), "m.toml:1:11"),
    ] {
        let errors = Folder::new(&text).errors(&[]);
        assert!(errors.contains(message), "{message}: {errors}");
    }
}

#[test]
fn deep_nesting_is_refused_and_overflows_no_stack() {
    for (open, close) in [("[", "]"), ("{ a = ", " }")] {
        let text = format!("[stages.a]\nkind = {}1{}\n", open.repeat(100_000), close.repeat(100_000));
        assert!(Folder::new(text).load(&[]).is_err());
    }
    let dotted = format!("[{}a]\n{}b = 1\n", "a.".repeat(70), "b.".repeat(70));
    assert!(Folder::new(dotted).load(&[]).is_err());
    let header = format!("[{}a]\n", "a.".repeat(100_000));
    assert!(Folder::new(header).load(&[]).is_err());
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
            "'parts' takes an array of strings, found a string",
            "unknown key 'sede'",
            "unknown key 'learning_rte'",
        ]
    );
}

#[test]
fn terminal_escapes_of_a_manifest_are_not_passed_on() {
    let errors = Folder::new("[stages.a]\nkind = 'import'\n\"\\u001b[31mred\" = 1\n").errors(&[]);
    assert!(!errors.contains('\u{1b}'), "{errors:?}");
}

#[test]
fn colours_change_no_word() {
    let diagnostics = load(&folder("invalid/edges.toml"), &[]).unwrap_err();
    let coloured = diagnostics.render(true);
    assert!(coloured.contains('\u{1b}'));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    assert_eq!(plain + rest, diagnostics.render(false));
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

/// What a loaded manifest says: enough to see whether two are the same.
fn outline(manifest: &Manifest) -> String {
    manifest
        .stages
        .values()
        .map(|stage| format!("{} {:?} {:?}\n", stage.name, stage.stage.spec(), stage.inputs.keys()))
        .collect()
}

#[test]
fn comments_and_key_order_change_nothing() {
    let text = base();
    let commented: String = text
        .lines()
        .map(|line| if line.contains('"') { format!("{line}\n") } else { format!("{line} # word\n\n") })
        .collect();
    let (plain, commented) = (Folder::new(&text).load(&[]).unwrap(), Folder::new(commented).load(&[]).unwrap());
    assert_eq!(outline(&plain), outline(&commented));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_byte_gives_a_manifest_or_problems_with_places(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4)
    ) {
        let mut bytes = base().into_bytes();
        for (index, byte, edit) in edits {
            let index = index.index(bytes.len());
            const INTERESTING: &[u8] = b"\"'[]{}=.,#\n\\-_ 0ae\xff";
            let interesting = INTERESTING[usize::from(byte) % INTERESTING.len()];
            match edit {
                0 => bytes[index] = byte,
                1 => bytes[index] = interesting,
                2 => bytes.insert(index, interesting),
                _ => drop(bytes.remove(index)),
            }
        }
        let folder = Folder::new(&bytes);
        if let Err(diagnostics) = folder.load(&[]) {
            prop_assert!(!diagnostics.is_empty());
            for diagnostic in diagnostics.list() {
                prop_assert!(!diagnostic.labels.is_empty(), "{} has no place", diagnostic.message);
                for label in &diagnostic.labels {
                    let place = diagnostics.sources().place(label.span);
                    prop_assert!(place.line >= 1 && place.column >= 1);
                }
            }
            let text = diagnostics.render(false);
            prop_assert!(text.contains("m.toml:") && text.ends_with('\n'));
        }
    }

    #[test]
    fn an_argument_gives_a_manifest_or_problems(argument in "(stages|run|exec|[a-z]{1,3})?(\\.[a-z_\"]{1,6}){0,3}=?.{0,12}") {
        let folder = Folder::new(base());
        if let Err(diagnostics) = folder.load(&[&argument]) {
            prop_assert!(diagnostics.render(false).contains("--set"), "{}", diagnostics);
        }
    }
}
