//! The stage `dedup` over real tables: what is written, and that nothing but the documents matters to it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use contract::harness::Harness;
use contract::{Digest, InputFile, InputTree, Kind, Outputs, StageError};
use data::dedup::Dedup;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Float64Type;
use serde_json::{Value, json};
use tables::{Document, ShardWriter, Table, read_rows};

/// A table of these shards.
fn table(folder: &Path, shards: &[Vec<Document<'_>>]) -> InputTree {
    let outputs = Outputs::stage(folder, ["documents".to_owned()]).unwrap();
    let tree = outputs.tree("documents").unwrap();
    for shard in shards {
        let text = shard.iter().map(|document| format!("{}{}{}", document.repo_name, document.path, document.content));
        let mut writer = ShardWriter::new(tree, Digest::of(text.collect::<String>().as_bytes()));
        shard.iter().for_each(|document| writer.push(document).unwrap());
        writer.finish().unwrap();
    }
    finished(outputs)
}

fn finished(outputs: Outputs) -> InputTree {
    let (tree, files) = outputs.finish().unwrap().remove("documents").unwrap();
    let mut files: Vec<_> = files
        .into_iter()
        .map(|(entry, location)| InputFile { path: entry.path, location, digest: entry.digest, size: entry.size })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    InputTree { digest: tree.digest(), files }
}

fn document<'a>(repo_name: &'a str, path: &'a str, license: &'a str, content: &'a str) -> Document<'a> {
    Document { repo_name, path, copies: 1, size: content.len() as i64, license: Some(license), content }
}

type Trees = BTreeMap<String, InputTree>;

fn run(folder: &Path, input: &InputTree, settings: Value) -> Trees {
    Harness::new(folder).connect("documents", input).run::<Dedup>(settings).unwrap()
}

fn report(trees: &Trees) -> Value {
    let file = trees["report"].required("report.json").unwrap();
    serde_json::from_slice(&std::fs::read(&file.location).unwrap()).unwrap()
}

/// `(repo_name, path, cluster)` of the kept rows, in order.
fn kept(trees: &Trees) -> Vec<(String, String, Option<String>)> {
    let mut rows = Vec::new();
    for batch in read_rows(&trees["documents"]).unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (repo_name, path, cluster) = (column("repo_name"), column("path"), column("cluster"));
        rows.extend((0..batch.num_rows()).map(|index| {
            let cluster = cluster.is_valid(index).then(|| cluster.value(index).to_owned());
            (repo_name.value(index).to_owned(), path.value(index).to_owned(), cluster)
        }));
    }
    rows
}

/// `(path, rule, witness, jaccard)` of the dropped rows, in order.
fn dropped(trees: &Trees) -> Vec<(String, String, String, f64)> {
    let mut rows = Vec::new();
    for batch in read_rows(&trees["dropped"]).unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (path, rule, witness) = (column("path"), column("rule"), column("witness"));
        let jaccard = batch.column_by_name("jaccard").unwrap().as_primitive::<Float64Type>().clone();
        rows.extend((0..batch.num_rows()).map(|index| {
            let text = |column: &datafusion::arrow::array::StringArray| column.value(index).to_owned();
            (text(&path), text(&rule), text(&witness), jaccard.value(index))
        }));
    }
    rows
}

fn words(family: &str, range: std::ops::Range<usize>) -> String {
    range.map(|word| format!("{family}{word}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_permissive_copy_is_kept_and_every_removal_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (base, near) = (words("a", 0..20), words("a", 0..21));
    let spaced = base.replace(' ', " \n\t ");
    let other = words("b", 0..20);
    let shard = vec![
        document("gnu", "near.py", "gpl-3.0", &near),
        document("gnu", "spaced.py", "gpl-2.0", &spaced),
        document("free", "base.py", "mit", &base),
        document("free", "other.py", "mit", &other),
    ];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({}));

    let id = |repo: &str, path: &str, content: &str| tables::document_id(repo, path, content).to_string();
    let ids = [id("free", "base.py", &base), id("gnu", "near.py", &near), id("gnu", "spaced.py", &spaced)];
    let smallest = ids.iter().min().cloned();
    let name = |repo: &str, path: &str, cluster| (repo.to_owned(), path.to_owned(), cluster);
    assert_eq!(kept(&trees), [name("free", "base.py", smallest), name("free", "other.py", None)]);
    assert_eq!(
        dropped(&trees),
        [
            ("near.py".to_owned(), "near".to_owned(), ids[0].clone(), 20.0 / 21.0),
            ("spaced.py".to_owned(), "exact".to_owned(), ids[0].clone(), 1.0),
        ]
    );
    let report = report(&trees);
    assert_eq!(report["documents"]["rows"], 4);
    assert_eq!(report["documents"]["kept"], 2);
    assert_eq!(report["documents"]["dropped"]["exact"]["rows"], 1);
    assert_eq!(report["documents"]["dropped"]["near"]["rows"], 1);
    assert_eq!(report["licenses"]["stricter_than_kept"], 2);
    assert_eq!(report["licenses"]["pairs"]["gpl-3.0 -> mit"], 1);
    assert_eq!(report["clusters"]["clusters"], 1);
    assert_eq!(report["clusters"]["sizes"], json!([{ "from": 3, "to": 4, "clusters": 1, "documents": 3 }]));
    assert_eq!(report["audit"]["recall"], 1.0);
    assert_eq!(report["audit"]["left"], 0);
}

#[test]
fn the_text_is_handed_on_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (words("a", 0..20), words("b", 0..20));
    let shards = [
        vec![document("r", "a.py", "mit", &a), document("r", "a2.py", "mit", &a)],
        vec![document("r", "b.py", "mit", &b)],
    ];
    let input = table(&folder.path().join("in"), &shards);
    let trees = run(folder.path(), &input, json!({}));
    for file in trees["documents"].below("text") {
        assert_eq!(input.file(file.path.as_str()).unwrap(), file);
    }
    assert_eq!(trees["documents"].below("text").count(), 2);
    let table = Table::open(&trees["documents"]).unwrap();
    let contents: Vec<String> = table
        .parts()
        .iter()
        .flat_map(|part| part.read(&["content"]).unwrap())
        .flat_map(|batch| {
            batch.unwrap().column(0).as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(contents.iter().collect::<BTreeSet<_>>(), [&a, &b].into());
}

#[test]
fn a_part_of_duplicates_only_is_not_in_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let content = words("a", 0..20);
    let shards = [vec![document("kept", "a.py", "mit", &content)], vec![document("gone", "a.py", "gpl-2.0", &content)]];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &shards), json!({}));
    assert_eq!(trees["documents"].files.len(), 2);
    assert_eq!(kept(&trees)[0].0, "kept");
}

#[test]
fn an_empty_table_gives_an_empty_table() {
    let folder = tempfile::tempdir().unwrap();
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[]), json!({}));
    assert!(trees["documents"].files.is_empty() && trees["dropped"].files.is_empty());
    assert_eq!(report(&trees)["documents"]["rows"], 0);
    assert_eq!(report(&trees)["audit"]["recall"], Value::Null);
}

#[test]
fn one_document_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let trees =
        run(folder.path(), &table(&folder.path().join("in"), &[vec![document("r", "a.py", "mit", "x")]]), json!({}));
    assert_eq!(kept(&trees), [("r".to_owned(), "a.py".to_owned(), None)]);
}

#[test]
fn of_a_row_that_is_there_twice_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let row = document("r", "a.py", "mit", "import os");
    let trees =
        run(folder.path(), &table(&folder.path().join("in"), &[vec![row, row, row], vec![row, row]]), json!({}));
    assert_eq!(kept(&trees).len(), 1);
    let id = tables::document_id("r", "a.py", "import os").to_string();
    assert_eq!(dropped(&trees).len(), 4);
    assert!(dropped(&trees).iter().all(|row| (row.1.as_str(), &row.2, row.3) == ("exact", &id, 1.0)));
}

#[test]
fn short_documents_are_no_near_duplicates_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    // Empty and white space alone are the same content; nine tokens are too few, whatever they are.
    let shard = vec![
        document("r", "1", "mit", ""),
        document("r", "2", "mit", " \n"),
        document("r", "3", "mit", "()"),
        document("r", "4", "mit", "a b c d e f g h i"),
        document("r", "5", "mit", "a b c d e f g h i ()"),
    ];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({}));
    assert_eq!(kept(&trees).len(), 4);
    assert_eq!(dropped(&trees).iter().map(|row| row.1.as_str()).collect::<Vec<_>>(), ["exact"]);
}

#[test]
fn exact_duplicates_alone_are_removed_without_near() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (words("a", 0..20), words("a", 0..21));
    let shard = vec![document("r", "1", "mit", &a), document("r", "2", "mit", &b), document("r", "3", "mit", &a)];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({ "near": false }));
    assert_eq!((kept(&trees).len(), dropped(&trees).len()), (2, 1));
    assert_eq!(report(&trees)["near"], Value::Null);
}

#[test]
fn kept_documents_near_one_removed_document_share_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    // Each end has 92 of the middle's 100 words and 8 of its own; the ends have only 84 in common.
    let ends =
        [format!("{} {}", words("w", 0..92), words("x", 0..8)), format!("{} {}", words("w", 8..100), words("y", 0..8))];
    let middle = words("w", 0..100);
    let shard = vec![
        document("r", "1", "mit", &ends[0]),
        document("r", "2", "gpl-3.0", &middle),
        document("r", "3", "mit", &ends[1]),
        document("r", "4", "mit", "alone"),
    ];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({}));
    let clusters: Vec<_> = kept(&trees).into_iter().map(|row| row.2).collect();
    assert_eq!(clusters.len(), 3);
    assert!(clusters[0].is_some() && clusters[0] == clusters[1] && clusters[2].is_none(), "{clusters:?}");
    assert_eq!(report(&trees)["clusters"]["largest"], 3);
}

#[test]
fn runs_of_tokens_tell_apart_what_single_tokens_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let forward = words("a", 0..20);
    let backward = forward.split(' ').rev().collect::<Vec<_>>().join(" ");
    let shard = vec![document("r", "1", "mit", &forward), document("r", "2", "mit", &backward)];
    let input = table(&folder.path().join("in"), &[shard]);
    assert_eq!(kept(&run(folder.path(), &input, json!({}))).len(), 1);
    assert_eq!(kept(&run(&folder.path().join("5"), &input, json!({ "shingle": 5 }))).len(), 2);
}

#[test]
fn the_first_copy_is_what_prefer_says() {
    let folder = tempfile::tempdir().unwrap();
    let (short, long) = (words("a", 0..20), words("a", 0..21));
    let shard = vec![document("r", "long/path.py", "mit", &short), document("r", "p.py", "gpl-3.0", &long)];
    let input = table(&folder.path().join("in"), &[shard]);
    for (number, (prefer, path)) in [
        (json!(["license"]), "long/path.py"),
        (json!(["path"]), "p.py"),
        (json!(["larger"]), "p.py"),
        (json!(["smaller", "path"]), "long/path.py"),
    ]
    .into_iter()
    .enumerate()
    {
        let trees = run(&folder.path().join(number.to_string()), &input, json!({ "prefer": prefer }));
        assert_eq!(kept(&trees)[0].1, path);
    }
}

#[test]
fn a_second_dedup_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let contents: Vec<String> = (0..40).map(|number| words("a", number..number + 30)).collect();
    let paths: Vec<String> = (0..40).map(|number| format!("{number}.py")).collect();
    let shard = contents.iter().zip(&paths).map(|(content, path)| document("r", path, "mit", content)).collect();
    let first = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({}));
    assert!(dropped(&first).len() > 5);
    let second = run(&folder.path().join("again"), &first["documents"], json!({}));
    assert_eq!(dropped(&second).len(), 0);
    let columns = Table::open(&second["documents"]).unwrap().rows_schema().clone();
    assert_eq!(columns.fields().iter().filter(|field| field.name() == "cluster").count(), 1);
}

#[test]
fn settings_out_of_range_are_named() {
    let kind = Kind::of::<Dedup>();
    let problems = |settings: Value| {
        let problems = kind.parse(settings.as_object().unwrap()).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.setting).collect::<Vec<_>>()
    };
    assert_eq!(problems(json!({ "threshold": 0.0, "recall": 1.0, "shingle": 0 })), ["threshold", "recall", "shingle"]);
    assert_eq!(problems(json!({ "prefer": ["path", "license", "path"] })), ["prefer[2]"]);
    assert_eq!(problems(json!({ "prefer": ["stars"] })), ["prefer[0]"]);
    assert!(problems(json!({})).is_empty());
    let written_out =
        json!({ "threshold": 0.85, "prefer": ["license", "copies", "larger", "path"], "exact": "whitespace" });
    let stage = kind.parse(written_out.as_object().unwrap()).ok().unwrap();
    assert!(stage.spec().is_empty(), "a setting at its default is not in the key: {:?}", stage.spec());
}

#[test]
fn a_set_cancel_flag_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let input = table(&folder.path().join("in"), &[vec![document("r", "a.py", "mit", "x")]]);
    let mut harness = Harness::new(folder.path());
    harness.connect("documents", &input).cancel.set();
    assert!(matches!(harness.run::<Dedup>(json!({})), Err(StageError::Interrupted)));
}

#[test]
fn what_a_killed_run_left_in_the_scratch_makes_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (words("a", 0..20), words("a", 0..21));
    let shard = vec![document("r", "1", "mit", &a), document("r", "2", "mit", &b)];
    let input = table(&folder.path().join("in"), &[shard]);
    let fresh = run(folder.path(), &input, json!({}));
    let mut harness = Harness::new(&folder.path().join("again"));
    let scratch = folder.path().join("scratch");
    std::fs::create_dir_all(scratch.join("dedup")).unwrap();
    for name in ["sets", "ranked", "outcomes", "documents.0.run"] {
        std::fs::write(scratch.join("dedup").join(name), "half of something").unwrap();
    }
    harness.scratch = Some(scratch.clone());
    let again = harness.connect("documents", &input).run::<Dedup>(json!({})).unwrap();
    for (port, tree) in &fresh {
        assert_eq!(again[port].digest, tree.digest, "{port}");
    }
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0, "nothing is left behind");
}

/// Synthetic files: families of near-duplicates, exact duplicates in other layouts, short ones; fixed by number.
fn corpus() -> Vec<(String, String, i64, Option<&'static str>, String)> {
    let licenses = [Some("mit"), Some("gpl-3.0"), None, Some("apache-2.0"), Some("lgpl-3.0")];
    (0..3000usize)
        .map(|number| {
            let mixed = number.wrapping_mul(2_654_435_761) >> 7;
            let family = mixed % 200;
            let size = 20 + family % 60;
            let changed = mixed / 200 % 6;
            let mut tokens: Vec<String> = (0..size).map(|word| format!("f{family}_{word}")).collect();
            (0..changed).for_each(|change| tokens[change * 3] = format!("x{}", mixed / 1200 % 4 + change));
            let content = tokens.join([" ", "\n", "\n    "][mixed / 7 % 3]);
            (
                format!("r{}", number % 90),
                format!("{}/f{family}.py", mixed % 3),
                (mixed % 4) as i64,
                licenses[mixed % 5],
                content,
            )
        })
        .collect()
}

#[test]
fn the_bytes_depend_on_the_rows_alone() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus();
    let documents: Vec<Document<'_>> = corpus
        .iter()
        .map(|(repo_name, path, copies, license, content)| Document {
            repo_name,
            path,
            copies: *copies,
            size: content.len() as i64,
            license: *license,
            content,
        })
        .collect();
    let shards: Vec<Vec<Document<'_>>> = documents.chunks(700).map(<[_]>::to_vec).collect();
    let input = table(&folder.path().join("in"), &shards);
    let digests = |name: &str, input: &InputTree, threads: usize, memory: u64| {
        let mut harness = Harness::new(&folder.path().join(name));
        (harness.resources.threads, harness.resources.memory) = (threads, memory);
        let trees = harness.connect("documents", input).run::<Dedup>(json!({})).unwrap();
        trees.into_iter().map(|(port, tree)| (port, tree.digest)).collect::<Vec<_>>()
    };
    let one = digests("one", &input, 1, 512 << 20);
    assert_eq!(digests("two", &input, 2, 512 << 20), one);
    assert_eq!(digests("three", &input, 3, 512 << 20), one);
    assert_eq!(digests("little memory", &input, 2, 1 << 10), one);
    let mut turned = shards.clone();
    turned.reverse();
    assert_eq!(digests("other order", &table(&folder.path().join("turned"), &turned), 2, 512 << 20), one);

    // What is kept does not depend on how the rows lie in shards either.
    let kept_ids = |input: &InputTree, name: &str| -> BTreeSet<_> {
        kept(&run(&folder.path().join(name), input, json!({}))).into_iter().collect()
    };
    let mut shuffled = documents.clone();
    shuffled.sort_by_key(|document| tables::document_id(document.path, document.repo_name, document.content));
    let shuffled: Vec<Vec<Document<'_>>> = shuffled.chunks(1100).map(<[_]>::to_vec).collect();
    let lies_elsewhere = table(&folder.path().join("shuffled"), &shuffled);
    assert_eq!(kept_ids(&lies_elsewhere, "k1"), kept_ids(&input, "k2"));
}

/// The bytes of each output for a fixed input: if this fails, what the stage writes has changed for equal input, and
/// its REVISION must be bumped together with these digests.
#[test]
fn outputs_keep_their_bytes_or_the_revision_is_bumped() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus();
    let shard = corpus.iter().take(500).map(|(repo_name, path, copies, license, content)| Document {
        repo_name,
        path,
        copies: *copies,
        size: content.len() as i64,
        license: *license,
        content,
    });
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard.collect()]), json!({}));
    let short: Vec<_> = trees.iter().map(|(port, tree)| (port.as_str(), tree.digest.short())).collect();
    let golden = [("documents", "e0f70de5a2f7"), ("dropped", "b980ad081159"), ("report", "86326e562550")]
        .map(|(port, digest)| (port, digest.to_owned()));
    assert_eq!(short, golden, "bump the REVISION of dedup");
}

/// The export that lies beside the repository, where there is one.
fn export() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("PIPELINE_SHARED").map_or(beside, PathBuf::from).join("data/export");
    if !folder.is_dir() {
        println!("skipped: no export at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// The export's shards as a table.
fn exported(folder: &Path, export: &Path) -> InputTree {
    #[derive(serde::Deserialize)]
    struct Row {
        repo_name: String,
        path: String,
        copies: Value,
        content: String,
        license: Option<String>,
    }
    let mut shards: Vec<PathBuf> = std::fs::read_dir(export).unwrap().map(|entry| entry.unwrap().path()).collect();
    shards.sort();
    let outputs = Outputs::stage(folder, ["documents".to_owned()]).unwrap();
    for shard in &shards {
        let mut writer = ShardWriter::new(outputs.tree("documents").unwrap(), Digest::of_file(shard).unwrap());
        let lines = BufReader::new(flate2::read::MultiGzDecoder::new(std::fs::File::open(shard).unwrap())).lines();
        for line in lines {
            let row: Row = serde_json::from_str(&line.unwrap()).unwrap();
            let copies = row.copies.as_str().map_or_else(|| row.copies.as_i64(), |text| text.parse().ok());
            let document = Document {
                repo_name: &row.repo_name,
                path: &row.path,
                copies: copies.unwrap(),
                size: row.content.len() as i64,
                license: row.license.as_deref(),
                content: &row.content,
            };
            writer.push(&document).unwrap();
        }
        writer.finish().unwrap();
    }
    finished(outputs)
}

#[test]
fn a_real_export_keeps_no_near_duplicates_and_removes_nothing_else() {
    let Some(export) = export() else { return };
    let folder = tempfile::tempdir().unwrap();
    let input = exported(&folder.path().join("in"), &export);
    // Every document is audited: the brute force over all pairs.
    let trees = run(folder.path(), &input, json!({ "audit": 10_000 }));

    let rows = Table::open(&input).unwrap().rows() as usize;
    assert_eq!(kept(&trees).len() + dropped(&trees).len(), rows);
    let recall = report(&trees)["audit"]["recall"].as_f64().unwrap();
    assert!(recall > 0.999, "{recall}");

    // Each witness is kept, and the similarity is what plain sets give.
    let (mut contents, mut kept_ids) = (BTreeMap::new(), BTreeSet::new());
    for part in Table::open(&input).unwrap().parts() {
        for batch in part.read(&["id", "content"]).unwrap() {
            let batch = batch.unwrap();
            let (id, content) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            contents.extend(id.iter().flatten().map(str::to_owned).zip(content.iter().flatten().map(str::to_owned)));
        }
    }
    for part in Table::open(&trees["documents"]).unwrap().parts() {
        for batch in part.read(&["id"]).unwrap() {
            kept_ids.extend(batch.unwrap().column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
        }
    }
    let words = |content: &str| -> HashSet<String> {
        content
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map(str::to_owned)
            .filter(|w| !w.is_empty())
            .collect()
    };
    let stripped = |content: &str| content.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let mut checked = 0;
    for batch in read_rows(&trees["dropped"]).unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (id, rule, witness) = (column("id"), column("rule"), column("witness"));
        let jaccard = batch.column_by_name("jaccard").unwrap().as_primitive::<Float64Type>();
        for index in 0..batch.num_rows() {
            assert!(kept_ids.contains(witness.value(index)));
            let (a, b) = (&contents[id.value(index)], &contents[witness.value(index)]);
            let (x, y) = (words(a), words(b));
            let expected = if x.is_empty() && y.is_empty() {
                1.0
            } else {
                x.intersection(&y).count() as f64 / x.union(&y).count() as f64
            };
            assert_eq!(jaccard.value(index), expected);
            match rule.value(index) {
                "exact" => assert_eq!(stripped(a), stripped(b)),
                _ => assert!(expected >= 0.85),
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}
