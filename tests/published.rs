//! What is published stays true: keys of the committed manifests, the schema, the README, the tables of docs/.
//!
//! `UPDATE_GOLDEN=1 cargo test --release --test published` writes the golden files anew. A changed key means that
//! everyone's builds of that stage are stale: say so in the commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::exit::Exit;
use pipeline::key::KeyInput;
use pipeline::kinds::kinds;
use pipeline::manifest::Overrides;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn manifests() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("manifests")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    files
}

/// Compares with a golden file, or writes it where UPDATE_GOLDEN is set.
fn assert_golden(path: &Path, actual: &str, what: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, actual).unwrap();
    }
    let golden = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(actual, golden, "{what}; UPDATE_GOLDEN=1 writes {}", path.display());
}

#[test]
fn keys_of_the_committed_manifests_are_as_published() {
    assert!(manifests().len() >= 3);
    for path in manifests() {
        let manifest = pipeline::manifest::load(&path, &Overrides::default(), &kinds())
            .unwrap_or_else(|errors| panic!("{errors}"));
        // The part of each key that the manifest determines: what a stage reads is left out.
        let key = |name| {
            let stage = &manifest.stages[name];
            let input = KeyInput {
                kind: stage.kind.name,
                revision: stage.kind.revision,
                settings: stage.stage.spec(),
                seed: stage.kind.seeded.then_some(manifest.seed),
                inputs: &BTreeMap::new(),
                sources: &[],
                machine: &BTreeMap::new(),
            };
            format!("{name} {}\n", input.key())
        };
        let keys: String = manifest.graph.order().iter().map(key).collect();
        let golden = root().join("tests/keys").join(path.file_stem().unwrap()).with_extension("txt");
        assert_golden(&golden, &keys, "keys changed: bump the kind's REVISION only if its output did");
    }
}

#[test]
fn defaults_of_every_kind_are_as_published() {
    let defaults = |kind: &contract::Kind| {
        let properties = kind.spec_schema["properties"].as_object().cloned().unwrap_or_default();
        let defaults: BTreeMap<_, _> =
            properties.iter().map(|(name, property)| (name.clone(), property.get("default").cloned())).collect();
        format!("{} revision {}\n{}\n", kind.name, kind.revision, serde_json::to_string_pretty(&defaults).unwrap())
    };
    let all: String = kinds().iter().map(defaults).collect();
    let what = "a default changed: bump the kind's REVISION";
    assert_golden(&root().join("tests/keys/defaults.txt"), &all, what);
}

#[test]
fn the_schema_is_that_of_the_types() {
    let schema = format!("{:#}\n", pipeline::manifest::schema(&kinds()));
    assert_golden(&root().join("manifests/schema.json"), &schema, "the schema drifted from the types");
}

/// A validator names what is wrong in a value only where there are no alternatives.
#[test]
fn the_schema_has_no_alternatives_but_the_kinds() {
    fn alternatives(schema: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(members) => {
                found.extend(
                    ["oneOf", "anyOf"].iter().filter(|name| members.contains_key(**name)).map(|_| path.to_owned()),
                );
                members.iter().for_each(|(name, member)| alternatives(member, &format!("{path}/{name}"), found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| alternatives(item, path, found)),
            _ => {}
        }
    }
    let schema = pipeline::manifest::schema(&kinds());
    let mut found = Vec::new();
    alternatives(&schema, "", &mut found);
    assert_eq!(found, Vec::<String>::new());
    let by_kind = schema["$defs"]["stage"]["allOf"].as_array().unwrap();
    for (kind, branch) in kinds().iter().zip(by_kind) {
        assert_eq!(branch["if"]["properties"]["kind"]["const"], kind.name);
        let target = branch["then"]["$ref"].as_str().unwrap().trim_start_matches('#');
        assert_eq!(schema.pointer(target).unwrap()["additionalProperties"], false);
    }
}

#[test]
fn the_exit_codes_page_is_the_table_of_the_program() {
    let page = fs::read_to_string(root().join("docs/exit-codes.md")).unwrap();
    for (exit, meaning) in Exit::ALL {
        let row = format!("| {} | {meaning} |", exit.code());
        assert!(page.contains(&row), "docs/exit-codes.md has no row {row:?}");
    }
}

#[test]
fn the_readme_names_the_two_commands_and_no_file_that_is_not_there() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("\ncargo run --release --locked -- run manifests/quickstart.toml\n"));
    assert!(readme.lines().any(|line| line.starts_with("cargo test --release")));
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
        let file = link.split('#').next().unwrap_or_default();
        assert!(root().join(file).exists(), "README.md links to {link}");
    }
}

#[test]
fn no_page_has_a_placeholder_left() {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|file| file.unwrap().path());
    for page in docs.chain([root().join("README.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        let is_placeholder = |word: &&str| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        let left: Vec<_> = text.split('@').skip(1).filter(is_placeholder).collect();
        assert!(left.is_empty(), "{} still says {left:?}", page.display());
    }
}

#[test]
fn every_committed_manifest_plans_without_data() {
    for path in manifests() {
        let cache = tempfile::tempdir().unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pipeline"))
            .args(["plan", "--cache"])
            .arg(cache.path().join("none"))
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        assert!(!cache.path().join("none").exists());
    }
}

#[test]
fn a_resolved_manifest_reads_back_to_the_same_stages() {
    for path in manifests() {
        let load = |path: &Path| {
            let loaded = pipeline::manifest::load(path, &Overrides::default(), &kinds());
            loaded.unwrap_or_else(|errors| panic!("{errors}"))
        };
        let manifest = load(&path);
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.toml");
        fs::write(&copy, manifest.resolved()).unwrap();
        let again = load(&copy);
        assert_eq!((&again.name, again.seed), (&manifest.name, manifest.seed));
        assert_eq!(again.stages.len(), manifest.stages.len());
        for (name, stage) in &manifest.stages {
            let other = &again.stages[name];
            assert_eq!((other.kind.name, other.stage.spec()), (stage.kind.name, stage.stage.spec()), "{name}");
            assert_eq!(other.stage.exec(), stage.stage.exec(), "{name}");
            let edges = |stage: &pipeline::manifest::StageDeclaration| {
                let edge = |(port, edge): (&String, &pipeline::manifest::Edge)| {
                    (port.clone(), edge.stage.clone(), edge.output.clone())
                };
                stage.inputs.iter().map(edge).collect::<Vec<_>>()
            };
            assert_eq!(edges(other), edges(stage), "{name}");
        }
        assert_eq!(again.resolved(), manifest.resolved());
    }
}

#[test]
fn the_published_lock_is_of_the_quickstart_as_it_is() {
    let text = fs::read_to_string(root().join("manifests/quickstart.lock")).unwrap();
    let lock = pipeline::report::RunLock::decode(&text).unwrap_or_else(|error| panic!("{error}"));
    let path = root().join("manifests/quickstart.toml");
    let manifest =
        pipeline::manifest::load(&path, &Overrides::default(), &kinds()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(lock.manifest, manifest.resolved(), "run the quickstart anew and publish its run.lock");
    let stages: Vec<_> = lock.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, manifest.graph.order().iter().map(|name| name.as_str()).collect::<Vec<_>>());
    for stage in &lock.stages {
        let kind = &manifest.stages.values().find(|declared| declared.name.as_str() == stage.name).unwrap().kind;
        assert_eq!(stage.revision, kind.revision, "stage '{}': publish the lock of a new run", stage.name);
    }
    assert_eq!(lock.encode().unwrap(), text);
}
