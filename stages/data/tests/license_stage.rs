//! `license` keeps what is allowed and counts the rest.
#![allow(clippy::unwrap_used)]

mod support;

use contract::Kind;
use data::license::License;
use serde_json::{Value, json};
use support::{Fixture, column, digests, doc, documents, report, table};

#[test]
fn the_order_of_the_list_is_not_part_of_the_settings() {
    let spec = |allow: Value| {
        let Value::Object(settings) = json!({ "allow": allow }) else { panic!("an object") };
        Kind::of::<License>().parse(&settings).unwrap().spec().clone()
    };
    assert_eq!(spec(json!(["mit", "isc"])), spec(json!(["isc", "mit"])));
}

#[test]
fn allowed_documents_are_kept_and_every_license_is_counted() {
    let mut fixture = Fixture::new();
    let mut docs = vec![
        doc("a/b", "1.py", "mit", "one"),
        doc("a/b", "2.py", "gpl-3.0", "two"),
        doc("a/b", "3.py", "unknown", "three"),
        doc("a/b", "4.py", " MIT", "four"),
        doc("a/b", "5.py", "mit", "five"),
        doc("a/b", "6.py", "isc", "six"),
    ];
    docs[4].license = None;
    let input = table(&mut fixture, &docs);
    fixture.harness.connect("documents", &input);
    let trees = fixture.harness.run::<License>(json!({"allow": ["mit", "isc"]})).unwrap();
    let kept: Vec<_> = documents(&trees["documents"]).into_iter().map(|doc| doc.content).collect();
    assert_eq!(kept, ["one", "four", "six"]);
    assert_eq!(column(&trees["dropped"], "detail"), [Some("gpl-3.0".into()), Some("unknown".into()), None]);
    assert_eq!(
        report(&trees),
        json!({
            "rows": 6, "kept": 3, "kept_bytes": 10,
            "dropped": {"license": {"rows": 3, "bytes": 12}},
            "licenses": {
                " MIT": {"kept": 1, "dropped": 0}, "gpl-3.0": {"kept": 0, "dropped": 1}, "isc": {"kept": 1, "dropped": 0},
                "mit": {"kept": 1, "dropped": 0}, "null": {"kept": 0, "dropped": 1}, "unknown": {"kept": 0, "dropped": 1}
            }
        })
    );
    let text = |tree: &contract::InputTree| tree.below("text").map(|file| file.digest).collect::<Vec<_>>();
    assert_eq!(text(&trees["documents"]), text(&input), "the text is handed on as it is");
}

#[test]
fn of_a_table_with_nothing_left_and_of_an_empty_one_the_columns_are_left() {
    let mut fixture = Fixture::new();
    let input = table(&mut fixture, &[doc("a/b", "1.py", "mit", "one")]);
    fixture.harness.connect("documents", &input);
    let nothing = fixture.harness.run::<License>(json!({"allow": ["isc"]})).unwrap();
    assert_eq!(documents(&nothing["documents"]), []);
    fixture.harness.connect("documents", &nothing["documents"]);
    let empty = fixture.harness.run::<License>(json!({"allow": ["isc"]})).unwrap();
    assert_eq!(empty["documents"].digest, nothing["documents"].digest);
    assert_eq!(report(&empty)["rows"], json!(0));
}

#[test]
fn the_example_export_gives_the_same_bytes_with_one_thread_and_two() {
    let Some(export) = support::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut harness = contract::harness::Harness::new(folder.path());
    let import = harness.run::<data::import::Import>(json!({"source": format!("{}/*", export.display())})).unwrap();
    harness.connect("documents", &import["documents"]);
    let settings =
        json!({"allow": ["mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "unlicense"]});
    let two = harness.run::<License>(settings.clone()).unwrap();
    harness.resources.threads = 1;
    assert_eq!(digests(&harness.run::<License>(settings).unwrap()), digests(&two));
    let counts = report(&two);
    assert_eq!((&counts["rows"], &counts["kept"]), (&json!(11_449), &json!(10_523)));
    assert_eq!(counts["licenses"]["unknown"], json!({"kept": 0, "dropped": 128}));
}
