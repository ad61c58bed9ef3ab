//! `split` keeps what hangs together on one side.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use contract::{Context, InputTree, PortType, Ports, Stage};
use data::split::Split;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::{col, lit, split_part, strpos, when};
use datafusion::scalar::ScalarValue;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use support::{Doc, Fixture, digests, doc, documents, lines, report, table};

/// Adds a column `cluster` for the tests: the word before the first space of the content, where there is one.
struct Clusters;

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct None {}

impl Stage for Clusters {
    type Spec = None;
    type Exec = None;
    const KIND: &'static str = "clusters";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        Ports::new().input("documents", PortType::Documents, "").output("documents", PortType::Documents, "").output(
            "dropped",
            PortType::Rows,
            "",
        )
    }

    fn run(_: &None, _: &None, context: &Context) -> contract::Result<()> {
        let table = tables::Table::open(context.inputs.tree("documents")?)?;
        let word = when(strpos(col("content"), lit(" ")).gt(lit(0)), split_part(col("content"), lit(" "), lit(1)))
            .otherwise(lit(ScalarValue::Utf8(Option::None)))
            .unwrap();
        let plan = |documents: DataFrame| {
            documents.with_column("cluster", word.clone())?.with_column("rule", lit(ScalarValue::Utf8(Option::None)))
        };
        tables::filter(context, &table, plan, |_| Ok(())).map(drop)
    }
}

fn run(fixture: &mut Fixture, input: &InputTree, settings: serde_json::Value) -> BTreeMap<String, InputTree> {
    fixture.harness.inputs.clear();
    fixture.harness.connect("documents", input);
    fixture.harness.run::<Split>(settings).unwrap()
}

fn repositories(tree: &InputTree) -> BTreeSet<String> {
    documents(tree).into_iter().map(|doc| doc.repo_name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_repository_and_no_cluster_is_on_both_sides_and_no_row_is_lost(
        rows in prop::collection::vec((0u8..12, prop::option::of(0u8..10)), 0..60),
        fraction in 0.05f64..0.95,
        seed in 0u64..1000,
    ) {
        let docs: Vec<Doc> = rows.iter().enumerate().map(|(index, (repository, cluster))| {
            let content = cluster.map_or(format!("alone{index}"), |cluster| format!("c{cluster} {index}"));
            doc(&format!("r/{repository}"), &format!("{index}.py"), "mit", &content)
        }).collect();
        let mut fixture = Fixture::new();
        fixture.harness.seed = seed;
        let input = table(&mut fixture, &docs);
        fixture.harness.connect("documents", &input);
        let clustered = fixture.harness.run::<Clusters>(json!({})).unwrap().remove("documents").unwrap();
        let trees = run(&mut fixture, &clustered, json!({ "fraction": fraction }));
        let (train, valid) = (documents(&trees["train"]), documents(&trees["valid"]));
        let mut all: Vec<Doc> = train.iter().chain(&valid).cloned().collect();
        let mut expected = docs.clone();
        all.sort();
        expected.sort();
        prop_assert_eq!(all, expected);
        let clusters = |docs: &[Doc]| -> BTreeSet<String> {
            docs.iter().filter_map(|doc| doc.content.split_once(' ').map(|(word, _)| word.to_owned())).collect()
        };
        prop_assert!(clusters(&train).is_disjoint(&clusters(&valid)));
        let repositories = |docs: &[Doc]| -> BTreeSet<String> { docs.iter().map(|doc| doc.repo_name.clone()).collect() };
        prop_assert!(repositories(&train).is_disjoint(&repositories(&valid)));
        let groups = report(&trees)["groups"].as_u64().unwrap();
        prop_assert_eq!(train.is_empty(), docs.is_empty());
        prop_assert_eq!(valid.is_empty(), groups < 2);
    }
}

fn many(repositories: usize) -> Vec<Doc> {
    (0..repositories * 3)
        .map(|index| {
            doc(&format!("r/{}", index % repositories), &format!("{index}.py"), "mit", &format!("x = {index}"))
        })
        .collect()
}

#[test]
fn about_the_fraction_of_the_repositories_validates() {
    let mut fixture = Fixture::new();
    let input = table(&mut fixture, &many(400));
    let trees = run(&mut fixture, &input, json!({"fraction": 0.25}));
    let valid = repositories(&trees["valid"]).len();
    assert!((70..130).contains(&valid), "{valid} of 400");
    assert_eq!(report(&trees)["valid"]["groups"], json!(valid));
}

/// Repositories of one document each, and one of `large` documents.
fn few(repositories: usize, large: usize) -> Vec<Doc> {
    let small = (0..repositories).map(|index| doc(&format!("r/{index}"), "a.py", "mit", &format!("x = {index:03}")));
    let large = (0..large).map(|index| doc("large/one", &format!("{index}.py"), "mit", &format!("y = {index:03}")));
    small.chain(large).collect()
}

#[test]
fn a_fraction_that_is_missed_is_warned_of_with_the_shares() {
    let mut fixture = Fixture::new();
    let input = table(&mut fixture, &few(20, 80));
    let (mut in_training, mut in_validation) = (false, false);
    for seed in 0..40 {
        fixture.harness.seed = seed;
        fixture.harness.progress.drain();
        let trees = run(&mut fixture, &input, json!({"fraction": 0.1}));
        let notes = format!("{:?}", fixture.harness.progress.drain());
        let report = report(&trees);
        let shares = &report["shares"];
        let valid = report["valid"]["rows"].as_f64().unwrap() / 100.0;
        assert_eq!(shares["fraction"], json!(0.1));
        assert_eq!(shares["valid"], json!({"documents": valid, "bytes": valid}));
        let large = repositories(&trees["valid"]).contains("large/one");
        let piece = json!({"repo_name": "large/one", "documents": 0.8, "bytes": 0.8, "valid": large});
        assert_eq!(shares["largest_repository"], piece);
        let group = json!({"repositories": 1, "documents": 0.8, "bytes": 0.8, "valid": large});
        assert_eq!(shares["largest_group"], group);
        // Twenty repositories of twenty-one have a fifth of the documents.
        let missed = !(0.05..=0.2).contains(&valid);
        let side = if large { "validation" } else { "training" };
        let text = format!(
            "fraction = 0.1, but validation has {0:.1} % of the documents and {0:.1} % of their bytes: a repository is never \
             split; the largest, 'large/one', has 80.0 % of the bytes, in {side}",
            100.0 * valid
        );
        assert_eq!(notes.contains(&text), missed, "{notes}");
        assert_eq!(notes.contains("fraction = 0.1, but"), missed, "{notes}");
        (in_training, in_validation) = (in_training || !large, in_validation || large);
    }
    assert!(in_training && in_validation, "the seeds try both sides");
}

#[test]
fn a_fraction_that_is_met_is_not_warned_of() {
    let mut fixture = Fixture::new();
    let input = table(&mut fixture, &many(400));
    fixture.harness.progress.drain();
    run(&mut fixture, &input, json!({"fraction": 0.25}));
    assert!(!format!("{:?}", fixture.harness.progress.drain()).contains("but validation has"));
}

#[test]
fn the_largest_group_is_what_clusters_join() {
    let docs = [doc("a/a", "1.py", "mit", "c 1"), doc("b/b", "2.py", "mit", "c 2"), doc("d/d", "3.py", "mit", "e34")];
    let mut fixture = Fixture::new();
    let input = table(&mut fixture, &docs);
    fixture.harness.connect("documents", &input);
    let clustered = fixture.harness.run::<Clusters>(json!({})).unwrap().remove("documents").unwrap();
    let report = report(&run(&mut fixture, &clustered, json!({})));
    assert_eq!(report["shares"]["largest_group"]["repositories"], json!(2));
    assert_eq!(report["shares"]["largest_group"]["documents"], json!(2.0 / 3.0));
    assert_eq!(report["shares"]["largest_repository"]["repo_name"], json!("a/a"));
}

#[test]
fn a_new_repository_moves_no_other() {
    let mut fixture = Fixture::new();
    let before = table(&mut fixture, &many(100));
    let mut docs = many(100);
    docs.insert(0, doc("new/one", "new.py", "mit", "new"));
    let mut other = Fixture::new();
    let after = table(&mut other, &docs);
    let before = repositories(&run(&mut fixture, &before, json!({"fraction": 0.3}))["valid"]);
    let mut after = repositories(&run(&mut other, &after, json!({"fraction": 0.3}))["valid"]);
    after.remove("new/one");
    assert_eq!(before, after);
}

#[test]
fn one_repository_and_none_are_training_data_with_a_warning() {
    for (docs, warning) in [(many(1), "no validation documents"), (Vec::new(), "no documents to split")] {
        let mut fixture = Fixture::new();
        let input = table(&mut fixture, &docs);
        fixture.harness.progress.drain();
        let trees = run(&mut fixture, &input, json!({}));
        assert_eq!(documents(&trees["train"]).len(), docs.len());
        assert!(format!("{:?}", fixture.harness.progress.drain()).contains(warning));
    }
}

#[test]
fn a_shard_validates_whatever_it_is_called() {
    let mut fixture = Fixture::new();
    fixture.shard("a", lines(&many(2)).as_bytes());
    fixture.shard("b", lines(&many(3)).as_bytes());
    fixture.shard("c", lines(&many(4)).as_bytes());
    let trees = fixture.import(json!({})).unwrap();
    let shards: Vec<String> = report(&trees)["shards"].as_object().unwrap().keys().cloned().collect();
    let last = run(&mut fixture, &trees["documents"], json!({"by": "shard"}));
    assert_eq!(report(&last)["valid_shard"], json!(shards[2][..16]));
    let named = run(&mut fixture, &trees["documents"], json!({"by": "shard", "valid_shard": shards[0][..8]}));
    assert_eq!(report(&named)["valid_shard"], json!(shards[0][..16]));
    assert_eq!(documents(&named["train"]).len() + documents(&named["valid"]).len(), 27);
    let wrong = fixture.harness.run::<Split>(json!({"by": "shard", "valid_shard": "0123456789abcdef"}));
    assert!(format!("{wrong:?}").contains("names 0 shards"));
    assert!(fixture.harness.run::<Split>(json!({"by": "shard", "valid_shard": "mine"})).is_err());
}

#[test]
fn threads_change_no_byte() {
    let mut fixture = Fixture::new();
    fixture.shard("a", lines(&many(30)).as_bytes());
    fixture.shard("b", lines(&many(50)).as_bytes());
    let input = fixture.import(json!({})).unwrap().remove("documents").unwrap();
    let two = digests(&run(&mut fixture, &input, json!({})));
    fixture.harness.resources.threads = 1;
    assert_eq!(digests(&run(&mut fixture, &input, json!({}))), two);
}
