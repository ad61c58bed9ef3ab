//! Every row and byte from import to pack, export and sql, compared with a plain computation in memory.
//!
//! `EVERY_ROW_SEED=7 EVERY_ROW_CASES=1` replays a case that failed; more cases search further.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;

use contract::InputTree;
use data::dedup::Dedup;
use data::license::License;
use data::quality::QualityStage;
use data::split::Split;
use serde_json::{Value, json};
use support::{Fixture, column, report};
use tables::{AnswerFormat, DocumentBatch, Format, Query, Table, document_id};
use tokens::index::DocumentIndex;
use tokens::packed::PackedTokens;
use tokens::splitter::words;
use tokens::text::TextTokenizer;
use tokens::{Pack, Tokenizer};

const SUFFIX: &str = ".py";
const MAX_SIZE: usize = 20 << 20;
const LINE_MAX: usize = 1000;
const ALLOWED: [&str; 2] = ["mit", "apache-2.0"];
const SEQUENCE: u64 = 32;

/// A row of an export.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Row {
    repo_name: String,
    path: String,
    license: Option<&'static str>,
    content: String,
}

impl Row {
    fn id(&self) -> String {
        document_id(&self.repo_name, &self.path, &self.content).to_string()
    }

    /// The rule of `import` that drops it.
    fn where_rule(&self) -> Option<&'static str> {
        if !self.path.ends_with(SUFFIX) {
            Some("suffix")
        } else if self.content.len() > MAX_SIZE {
            Some("size")
        } else {
            self.content.contains('\0').then_some("binary")
        }
    }

    fn is_long(&self) -> bool {
        self.content.split('\n').any(|line| line.chars().count() > LINE_MAX)
    }

    fn stripped(&self) -> String {
        self.content.chars().filter(|character| !character.is_whitespace()).collect()
    }
}

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A shard of so many rows, texts of about `bytes`, of which the tokens are no other text's.
fn shard(random: &mut Random, number: usize, rows: usize, bytes: usize) -> Vec<Row> {
    let mut shard: Vec<Row> = Vec::with_capacity(rows);
    let repositories = 1 + rows / 3;
    for index in 0..rows {
        let repo_name = format!("owner{number}/repository{}", random.below(repositories));
        let suffix = if random.one_in(50) { "txt" } else { "py" };
        let path = format!("source/{index}.{suffix}");
        let license = [Some("mit"), Some("apache-2.0"), Some("gpl-3.0"), None][random.below(8).saturating_sub(4)];
        let content = match random.below(40) {
            // A copy of an earlier text but for white space.
            0 | 1 if index > 0 => {
                let earlier = &shard[random.below(index)].content;
                if random.one_in(2) { earlier.clone() } else { format!("{}\n\n", earlier.replace(' ', "  ")) }
            }
            2 => format!("{index} \0 {number}"),
            3 => format!("x{number}_{index} = '{}'", "é".repeat(LINE_MAX - 20 + random.below(40))),
            4 => String::new(),
            _ => {
                let mut text = String::new();
                let mut word = 0;
                while text.len() < bytes || word < 2 {
                    text += &format!("v{number}_{index}_{word} = {word}\n");
                    word += 1;
                }
                text
            }
        };
        shard.push(Row { repo_name, path, license, content });
    }
    shard
}

/// What a table of documents holds.
fn read(tree: &InputTree) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in Table::open(tree).unwrap().parts() {
        for batch in part.documents().unwrap() {
            let batch = DocumentBatch::try_from(batch.unwrap()).unwrap();
            rows.extend((0..batch.len()).map(|index| {
                let license = batch.license(index).map(|license| {
                    [ALLOWED[0], ALLOWED[1], "gpl-3.0"].into_iter().find(|known| *known == license).unwrap()
                });
                let row = Row {
                    repo_name: batch.repo_name(index).to_owned(),
                    path: batch.path(index).to_owned(),
                    license,
                    content: batch.content(index).to_owned(),
                };
                assert_eq!(batch.id(index), row.id());
                row
            }));
        }
    }
    rows.sort();
    rows
}

/// The ids and rules of a table of dropped rows.
fn dropped(tree: &InputTree) -> Vec<(String, String)> {
    let both = column(tree, "id").into_iter().zip(column(tree, "rule"));
    let mut rows: Vec<_> = both.map(|(id, rule)| (id.unwrap(), rule.unwrap())).collect();
    rows.sort();
    rows
}

fn sorted<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort();
    values
}

/// Compares what a filter kept and dropped with a rule in plain Rust; what it kept.
fn check_filter(
    name: &str,
    trees: &BTreeMap<String, InputTree>,
    input: Vec<Row>,
    rule: impl Fn(&Row) -> Option<&'static str>,
) -> Vec<Row> {
    let (kept, gone): (Vec<Row>, Vec<Row>) = input.into_iter().partition(|row| rule(row).is_none());
    let found = read(&trees["documents"]);
    assert_eq!(found.len(), kept.len(), "{name}");
    assert!(found == kept, "{name} keeps other rows");
    let expected = sorted(gone.iter().map(|row| (row.id(), rule(row).unwrap().to_owned())));
    assert!(dropped(&trees["dropped"]) == expected, "{name} drops other rows");
    let report = report(trees);
    assert_eq!(report["rows"], kept.len() + gone.len(), "{name}");
    assert_eq!(report["kept"], kept.len(), "{name}");
    kept
}

/// Runs every stage over an export of these shards.
fn check(shards: &[Vec<Row>], threads: usize) {
    let mut fixture = Fixture::new();
    fixture.harness.resources.threads = threads;
    for (number, shard) in shards.iter().enumerate() {
        let lines: String = shard
            .iter()
            .map(|row| {
                let Row { repo_name, path, license, content } = row;
                let size = content.len();
                let line = json!({
                    "repo_name": repo_name, "path": path, "copies": 1, "size": size, "content": content, "license": license,
                });
                line.to_string() + "\n"
            })
            .collect();
        fixture.shard(&format!("{number}.json"), lines.as_bytes());
    }

    let import = fixture.import(json!({ "suffix": SUFFIX, "max_size": MAX_SIZE })).unwrap();
    let rows = check_filter("import", &import, sorted(shards.concat()), Row::where_rule);
    assert_eq!(column(&import["rejected"], "reason"), []);

    fixture.harness.inputs.clear();
    fixture.harness.connect("documents", &import["documents"]);
    let license = fixture.harness.run::<License>(json!({ "allow": ALLOWED })).unwrap();
    let rows = check_filter("license", &license, rows, |row| match row.license {
        Some(license) if ALLOWED.contains(&license) => None,
        _ => Some("license"),
    });

    fixture.harness.connect("documents", &license["documents"]);
    let off = json!({ "on": false });
    let settings = json!({
        "line_max": { "threshold": LINE_MAX }, "autogenerated": off, "line_mean": off, "alpha_fraction": off,
        "config_or_test": off, "has_no_keywords": off, "few_assignments": off,
    });
    let quality = fixture.harness.run::<QualityStage>(settings).unwrap();
    let rows = check_filter("quality", &quality, rows, |row| row.is_long().then_some("line_max"));

    fixture.harness.connect("documents", &quality["documents"]);
    let dedup = fixture.harness.run::<Dedup>(json!({ "audit": 20 })).unwrap();
    let rows = check_dedup(&dedup, &rows);

    fixture.harness.connect("documents", &dedup["documents"]);
    let split = fixture.harness.run::<Split>(json!({ "fraction": 0.3 })).unwrap();
    let (train, valid) = (read(&split["train"]), read(&split["valid"]));
    assert!(sorted([train.clone(), valid.clone()].concat()) == rows, "split loses or doubles rows");
    let repositories = |rows: &[Row]| rows.iter().map(|row| row.repo_name.clone()).collect::<BTreeSet<_>>();
    assert!(repositories(&train).is_disjoint(&repositories(&valid)));
    let sides = report(&split);
    assert_eq!([&sides["rows"], &sides["train"]["rows"]], [&json!(rows.len()), &json!(train.len())]);

    check_outlets(&fixture, "dedup", &dedup, &rows);
    check_outlets(&fixture, "split", &BTreeMap::from([("documents".to_owned(), split["valid"].clone())]), &valid);
    if !train.is_empty() {
        check_tokens(&mut fixture, &split, &train, &valid);
    }
}

/// One of each class of equal texts is kept, and all others name one that is; what was kept.
fn check_dedup(trees: &BTreeMap<String, InputTree>, input: &[Row]) -> Vec<Row> {
    let kept = read(&trees["documents"]);
    let classes: BTreeSet<String> = input.iter().map(Row::stripped).collect();
    assert_eq!(kept.len(), classes.len());
    assert!(kept.iter().map(Row::stripped).collect::<BTreeSet<_>>() == classes, "a class of equal texts is gone");
    let known: HashSet<&Row> = input.iter().collect();
    assert!(kept.iter().all(|row| known.contains(row)));
    let gone = dropped(&trees["dropped"]);
    let ids = sorted(kept.iter().map(Row::id).chain(gone.iter().map(|(id, _)| id.clone())));
    assert!(ids == sorted(input.iter().map(Row::id)), "a row is neither kept nor dropped, or both");
    assert!(gone.iter().all(|(_, rule)| rule == "exact"));
    let kept_ids: BTreeSet<_> = kept.iter().map(Row::id).collect();
    assert!(column(&trees["dropped"], "witness").into_iter().all(|witness| kept_ids.contains(&witness.unwrap())));
    let report = report(trees);
    assert_eq!(report["documents"]["rows"], input.len());
    assert_eq!(report["documents"]["kept"], kept.len());
    kept
}

/// `export` in both formats, and `sql`.
fn check_outlets(fixture: &Fixture, name: &str, trees: &BTreeMap<String, InputTree>, rows: &[Row]) {
    let tree = &trees["documents"];
    let ids = sorted(rows.iter().map(|row| (row.id(), row.content.clone())));
    let folder = fixture.folder.path().join(format!("{name}-jsonl"));
    assert_eq!(tables::export(tree, &folder, Format::JsonLines).unwrap(), rows.len() as u64);
    let mut found = Vec::new();
    for file in fs::read_dir(&folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        found.extend(text.lines().map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            assert!(row.get("license").is_some());
            (row["id"].as_str().unwrap().to_owned(), row["content"].as_str().unwrap().to_owned())
        }));
    }
    assert!(sorted(found) == ids, "export of JSON lines");

    let folder = fixture.folder.path().join(format!("{name}-parquet"));
    assert_eq!(tables::export(tree, &folder, Format::Parquet).unwrap(), rows.len() as u64);
    let mut found = Vec::new();
    for file in fs::read_dir(&folder).unwrap() {
        let file = fs::File::open(file.unwrap().path()).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let text = |name: &str| {
                let column = batch.column_by_name(name).unwrap();
                datafusion::arrow::array::AsArray::as_string::<i32>(column).clone()
            };
            let (id, content) = (text("id"), text("content"));
            found.extend((0..batch.num_rows()).map(|row| (id.value(row).to_owned(), content.value(row).to_owned())));
        }
    }
    assert!(sorted(found) == ids, "export of Parquet");

    let query = Query::new(fixture.harness.resources, fixture.folder.path()).unwrap();
    for (number, (port, tree)) in trees.iter().filter(|(port, _)| *port != "report").enumerate() {
        query.register("stage", port, number == 0, tree).unwrap();
    }
    let answer = |sql: &str| {
        let mut out = Vec::new();
        query.answer(sql, AnswerFormat::Csv, &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().nth(1).unwrap().to_owned()
    };
    let bytes: usize = rows.iter().map(|row| row.content.len()).sum();
    let (n, distinct) = (rows.len(), ids.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len());
    assert_eq!(
        answer(
            "select count(*), count(content), count(distinct id), coalesce(sum(octet_length(content)), 0), \
             coalesce(sum(size), 0) from stage"
        ),
        format!("{n},{n},{distinct},{bytes},{bytes}")
    );
    if trees.contains_key("dropped") {
        let gone = dropped(&trees["dropped"]).len();
        assert_eq!(answer("select count(*), count(rule) from stage.dropped"), format!("{gone},{gone}"));
    }
}

/// `tokenizer` and `pack`.
fn check_tokens(fixture: &mut Fixture, split: &BTreeMap<String, InputTree>, train: &[Row], valid: &[Row]) {
    fixture.harness.inputs.clear();
    fixture.harness.connect("documents", &split["train"]);
    let tokenizer = fixture.harness.run::<Tokenizer>(json!({ "vocabulary": 280 })).unwrap();
    let training = &report(&tokenizer)["training"];
    let all: Vec<&str> = train.iter().flat_map(|row| words(&row.content)).collect();
    assert_eq!(training["documents_of_input"], train.len());
    assert_eq!(training["documents"], train.len());
    assert_eq!(training["bytes"], train.iter().map(|row| row.content.len()).sum::<usize>());
    assert_eq!(training["words"], all.len());
    assert_eq!(training["distinct_words"], all.iter().collect::<BTreeSet<_>>().len());

    fixture.harness.inputs.clear();
    for (port, tree) in [("train", &split["train"]), ("valid", &split["valid"]), ("tokenizer", &tokenizer["tokenizer"])]
    {
        fixture.harness.connect(port, tree);
    }
    let pack = fixture.harness.run::<Pack>(json!({ "sequence_length": SEQUENCE })).unwrap();
    let ledgers = &report(&pack)["splits"];
    let tokenizer = TextTokenizer::open(&tokenizer["tokenizer"]).unwrap();
    for (name, rows) in [("train", train), ("valid", valid)] {
        let tokens: u64 = rows.iter().map(|row| tokenizer.encode(&row.content).unwrap().len() as u64 + 1).sum();
        let ledger = &ledgers[name];
        assert_eq!(ledger["documents"], rows.len(), "{name}");
        assert_eq!(ledger["bytes"], rows.iter().map(|row| row.content.len()).sum::<usize>(), "{name}");
        assert_eq!(ledger["characters"], rows.iter().map(|row| row.content.chars().count()).sum::<usize>(), "{name}");
        assert_eq!(ledger["tokens"], tokens, "{name}");
        assert_eq!(ledger["sequences"], tokens / SEQUENCE, "{name}");
        let (index, packed) = (DocumentIndex::open(&pack[name]).unwrap(), PackedTokens::open(&pack[name]).unwrap());
        assert_eq!(packed.sequences() as u64, tokens / SEQUENCE);
        let mut stream = Vec::new();
        (0..packed.sequences()).for_each(|sequence| packed.read(sequence, &mut stream).unwrap());
        let mut texts: BTreeMap<String, &str> = rows.iter().map(|row| (row.id(), row.content.as_str())).collect();
        assert_eq!(index.documents(), texts.len(), "{name}");
        for entry in (0..index.documents()).map(|document| index.get(document).unwrap()) {
            let text = texts.remove(&entry.id.to_string()).unwrap();
            // The last document, or some of them, may reach past the last sequence.
            let Some(ids) = stream.get(entry.start as usize..(entry.start + entry.tokens - 1) as usize) else {
                continue;
            };
            assert!(tokenizer.decode_bytes(ids) == text.as_bytes(), "{name}: {}", entry.id);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_row_is_accounted_for_around_each_internal_number_of_rows() {
    // A buffer of import, one of dedup's readers, one of its blocks, a batch, two batches, a part.
    for size in [1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, tables::PART_ROWS] {
        let rows: Vec<usize> = if size > 1 << 14 { vec![size + 1] } else { vec![size - 1, size, size + 1] };
        for rows in rows {
            let row = |index: usize| Row {
                repo_name: format!("owner/{}", index % 97),
                path: format!("{index}.py"),
                license: Some("mit"),
                content: format!("v{index} = {index}"),
            };
            check(&[(0..rows).map(row).collect()], 2);
        }
    }
}

#[test]
fn nine_thousand_files_of_a_kilobyte_in_one_shard_are_all_read() {
    check(&[shard(&mut Random(9000), 0, 9000, 1200)], 2);
}

#[test]
fn every_row_of_random_exports_is_accounted_for() {
    let (seed, cases) = (number("EVERY_ROW_SEED", 1), number("EVERY_ROW_CASES", 12));
    let around = [0, 1, 2, 40, 511, 513, 1025, 2049, 4095, 4097, 8191, 8192, 8193, 16_385];
    for seed in seed..seed + cases {
        eprintln!("EVERY_ROW_SEED={seed} EVERY_ROW_CASES=1");
        let mut random = Random(seed);
        let (count, threads) = (1 + random.below(4), 1 + random.below(3));
        let mut shards = Vec::new();
        let mut left = 20_000;
        for shard_number in 0..count {
            let rows = around[random.below(around.len())];
            let rows = if rows <= left { rows } else { random.below(50) };
            left -= rows;
            let bytes = [0, 30, 100, 1200][random.below(4)];
            let mut rows = shard(&mut random, shard_number, rows, bytes);
            if random.one_in(3) && !rows.is_empty() {
                // A text about as long as a row group, in lines that the filter keeps.
                let place = random.below(rows.len());
                let lines = (8 << 20) / 8 + random.below(3);
                rows[place].content = format!("w{shard_number}_{:04}\n", place % 10_000).repeat(lines);
            }
            shards.push(rows);
        }
        check(&shards, threads);
    }
}
