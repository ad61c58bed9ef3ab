//! Files that are missing, invalid or hostile: a message, whatever they contain.

use pipeline::manifest::{self, Overrides, StageName};
use proptest::prelude::*;

use super::folder::{Folder, base, load};
use super::kinds::kinds;

#[test]
fn files_that_are_not_manifests_are_rejected_with_a_message() {
    let missing = Folder::new("").0;
    let errors = load(missing.path(), &[]).unwrap_err().to_string();
    assert!(errors.contains("is a directory"), "{errors}");
    for (text, message) in [
        (Vec::new(), "the manifest has no stages"),
        (b"# nothing yet\n".to_vec(), "the manifest has no stages"),
        (b"\n\n[stages]\n".to_vec(), "m.toml:3:1"),
        (b"name = 'caf\xe9'\n".to_vec(), "m.toml:1:12"),
        (vec![b'#'; (1 << 20) + 1], "is larger than 1 MiB"),
        (b"\x00\x01\x02".to_vec(), "m.toml:1:"),
        (b"extends = 'm.toml'\n".to_vec(), "cycle of 'extends': m.toml -> m.toml"),
        (b"extends = 'none.toml'\n".to_vec(), "m.toml:1:11"),
    ] {
        let errors = Folder::new(&text).errors(&[]);
        assert!(errors.contains(message), "{message}: {errors}");
    }
}

#[test]
fn a_missing_manifest_suggests_init_and_a_missing_machine_file_does_not() {
    let folder = Folder::new(base());
    let place = folder.0.path().display().to_string();
    let errors = |name: &str| {
        let errors = load(&folder.0.path().join(name), &[]).unwrap_err().to_string();
        errors.replace(&place, "DIR")
    };
    for (name, message) in [
        ("nothing.toml", "'DIR/nothing.toml' does not exist\n |\n = hint: 'pipeline init DIR/nothing.toml' writes one"),
        ("my run.toml", "hint: 'pipeline init 'DIR/my run.toml'' writes one that runs"),
    ] {
        assert!(errors(name).contains(message), "{name}: {}", errors(name));
    }
    let overrides = Overrides { sets: Vec::new(), machine: Some(folder.0.path().join("elsewhere.toml")) };
    let errors = manifest::load(&folder.path(), &overrides, &kinds()).unwrap_err().to_string();
    assert!(errors.contains("elsewhere.toml' does not exist") && !errors.contains("hint"), "{errors}");
}

#[test]
fn a_machine_file_that_exists_and_cannot_be_read_is_not_ignored() {
    let folder = Folder::new(base());
    std::fs::create_dir(folder.0.path().join("machine.toml")).unwrap();
    let errors = folder.errors(&[]);
    assert!(errors.contains("machine.toml") && errors.contains("is a directory"), "{errors}");
    std::fs::remove_dir(folder.0.path().join("machine.toml")).unwrap();
    std::os::unix::fs::symlink("none.toml", folder.0.path().join("machine.toml")).unwrap();
    let errors = folder.errors(&[]);
    assert!(errors.contains("does not exist") && errors.contains("machine.toml"), "{errors}");
}

#[test]
fn deep_nesting_is_rejected_and_overflows_no_stack() {
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
fn as_many_faults_as_a_file_can_hold_are_all_counted() {
    let items = "3, ".repeat(100_000);
    let array = Folder::new(format!("[stages.a]\nkind = 'import'\nallow = [{items}]\n"));
    assert_eq!(array.load(&[]).unwrap_err().len(), 100_000);
    let variables: String = (0..30_000).map(|number| format!("\"{number}\" = 1\n")).collect();
    let shell = "[stages.a]\nkind = 'shell'\narguments = ['a']\n[stages.a.environment]\n";
    assert_eq!(Folder::new(format!("{shell}{variables}")).load(&[]).unwrap_err().len(), 30_000);
    let slips: String = (0..30_000).map(|number| format!("allow{number} = 1\n")).collect();
    assert_eq!(Folder::new(format!("[stages.a]\nkind = 'import'\n{slips}")).load(&[]).unwrap_err().len(), 30_000);
}

#[test]
fn terminal_escapes_of_a_manifest_are_not_passed_on() {
    let errors = Folder::new("[stages.a]\nkind = 'import'\n\"\\u001b[31mred\" = 1\n").errors(&[]);
    assert!(!errors.contains('\u{1b}'), "{errors:?}");
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
            let text = diagnostics.to_string();
            prop_assert!(text.contains("m.toml:") && text.ends_with('\n'));
        }
    }

    #[test]
    fn the_schema_passes_only_names_that_a_stage_may_have(name in StageName::PATTERN.trim_matches(['^', '$'])) {
        prop_assert!(name.parse::<StageName>().is_ok(), "{}", name);
    }

    #[test]
    fn an_argument_gives_a_manifest_or_problems(argument in "(stages|run|exec|[a-z]{1,3})?(\\.[a-z_\"]{1,6}){0,3}=?.{0,12}") {
        let folder = Folder::new(base());
        if let Err(diagnostics) = folder.load(&[&argument]) {
            prop_assert!(diagnostics.to_string().contains("--set"), "{}", diagnostics);
        }
    }
}

#[test]
fn a_chain_of_thousands_of_stages_overflows_no_stack() {
    const STAGES: usize = 18_000;
    // The first by name is the last of the chain.
    let stage = |number: usize| match number {
        STAGES => format!("[stages.s{number}]\nkind = \"import\"\n"),
        _ => format!("[stages.s{number}]\nkind = \"copies\"\ninput = \"s{}\"\n", number + 1),
    };
    let text: String = (10_000..=STAGES).map(stage).collect();
    let manifest = Folder::new(&text).load(&[]).unwrap();
    let graph = manifest.graph;
    assert_eq!(graph.order().len(), STAGES - 10_000 + 1);
    assert_eq!(graph.order()[0].as_str(), format!("s{STAGES}"));
}
