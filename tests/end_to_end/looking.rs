//! The commands that look at a manifest, a store and past runs, and change nothing; and the care of the store.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::bench::{Bench, DATA, DATA_STAGES, shell, told};

/// [`DATA`], run once.
fn ran() -> Bench {
    let bench = Bench::new(DATA);
    bench.run();
    bench
}

fn texts(value: &Value, path: &str) -> Vec<String> {
    value.as_array().unwrap().iter().map(|entry| entry[path].as_str().unwrap().to_owned()).collect()
}

#[test]
fn check_reads_a_manifest_and_writes_nothing() {
    let bench = Bench::new(DATA);
    let checked = bench.pipeline(&["check", "run.toml"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (0, "run.toml: 5 stages, nothing wrong\n"));
    assert!(!bench.cache().exists());
    bench.edit("fraction = 0.2", "fractoin = 0.2");
    let checked = bench.pipeline(&["check", "run.toml"]);
    assert_eq!(checked.code, 2);
    assert!(checked.stderr.contains("'fraction'"), "{}", checked.stderr);
    let told = bench.pipeline(&["check", "run.toml", "--json"]);
    assert_eq!((told.code, told.stderr.as_str()), (2, ""));
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let problem = &told["problems"][0];
    assert_eq!((&problem["severity"], &problem["places"][0]["file"]), (&"error".into(), &"run.toml".into()), "{told}");
    let line = fs::read_to_string(bench.path().join("run.toml")).unwrap();
    let line = line.lines().position(|line| line.contains("fractoin")).unwrap() + 1;
    assert_eq!((&problem["places"][0]["line"], &problem["places"][0]["column"]), (&line.into(), &1.into()), "{told}");
    assert!(problem["hint"].as_str().unwrap().contains("'fraction'") && told["stages"].is_null(), "{told}");
    bench.edit("fractoin = 0.2", "fraction = 0.2");
    let told = bench.json(&["check", "run.toml"]);
    assert_eq!((texts(&told["stages"], "name").len(), told["problems"].as_array().unwrap().len()), (5, 0), "{told}");
}

#[test]
fn runs_lists_what_ran_with_its_end() {
    let bench = ran();
    bench.run();
    let list = bench.pipeline(&["runs"]).stdout;
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("run.1 ") && lines[0].contains("done     5 ran, 0 cached in "), "{list}");
    assert!(lines[1].starts_with("run.2 ") && lines[1].contains("done     0 ran, 5 cached in "), "{list}");
    let json = bench.json(&["runs", "run"]);
    assert_eq!(texts(&json, "id"), ["run.1", "run.2"]);
    assert_eq!((&json[0]["ran"], &json[1]["ran"], &json[1]["stages"]), (&5.into(), &0.into(), &5.into()));
    assert_eq!(json[0]["run"]["status"], "done");
    let unknown = bench.pipeline(&["runs", "rnu"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("did you mean 'run'"), "{}", unknown.stderr);
}

#[test]
fn status_names_a_run_and_its_stage_while_they_are_under_way() {
    let manifest = r#"
[run]
name = "slow"
[stages.waiter]
kind = "command"
program = "/bin/sh"
arguments = ["-c", "read line < '@PIPE@'; echo $line > {output:files}/a"]
"#;
    let bench = Bench::new("");
    let pipe = bench.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    bench.write("run.toml", manifest.replace("@PIPE@", &pipe.display().to_string()));
    let absent = bench.pipeline(&["status"]);
    assert!(absent.code == 2 && absent.stderr.contains("there is no store at cache"), "{}", absent.stderr);
    // Open for both, so that neither side waits for the other to open it.
    let mut pipe = OpenOptions::new().read(true).write(true).open(pipe).unwrap();
    let mut child = bench.start(&["run", "run.toml", "--json"]);
    let mut lines = told(&mut child);
    assert!(lines.any(|line| line.contains("\"stage-started\"")), "the stage never started");
    let status = bench.json(&["status"]);
    let pid = child.id();
    assert_eq!((&status["runs"][0]["pid"], &status["runs"][0]["stage"]), (&pid.into(), &"slow".into()));
    let holder = &status["building"][0]["holder"];
    assert_eq!((&holder["pid"], &holder["stage"]), (&pid.into(), &"waiter".into()));
    let text = bench.pipeline(&["status"]).stdout;
    assert!(text.starts_with(&format!("run slow.1: pid {pid}")) && text.contains("\n  waiter  key "), "{text}");
    assert!(bench.pipeline(&["runs"]).stdout.starts_with("slow.1  running"));
    pipe.write_all(b"go\n").unwrap();
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    assert_eq!(bench.pipeline(&["status"]).stdout, "nothing is running\n");
}

#[test]
fn status_tells_of_a_key_that_gave_different_bytes() {
    let bench = Bench::new(
        "[stages.fickle]\nkind = \"command\"\nprogram = \"/bin/sh\"\n\
         arguments = [\"-c\", \"date +%N > {output:files}/now\"]\n",
    );
    bench.run();
    let checked = bench.pipeline(&["run", "run.toml", "--check", "fickle"]);
    assert_eq!(checked.code, 3, "{}", checked.stderr);
    assert!(checked.stderr.contains("fickle: DIFFERENT"), "{}", checked.stderr);
    assert!(!checked.stderr.contains("same bytes"), "{}", checked.stderr);
    let entry = bench.json(&["status"])["not_deterministic"][0].clone();
    assert_eq!((&entry["stage"], &entry["builds"], &entry["distinct"]), (&"fickle".into(), &2.into(), &2.into()));
    assert!(bench.pipeline(&["status"]).stdout.contains("not deterministic: command"));
}

#[test]
fn replay_gives_the_run_again_as_it_was_shown_and_recorded() {
    let bench = Bench::new(DATA);
    let shown = bench.pipeline(&["run", "run.toml"]);
    let again = bench.pipeline(&["replay", "run"]);
    assert_eq!((again.code, &again.stdout), (0, &shown.stderr));
    let second = bench.pipeline(&["run", "run.toml", "--json"]);
    assert_eq!(bench.pipeline(&["replay", "run.2", "--json"]).stdout, second.stdout);
    assert_eq!(bench.pipeline(&["replay", "run.1"]).stdout, shown.stderr);
    let unknown = bench.pipeline(&["replay", "run.3"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("it has 1, 2"), "{}", unknown.stderr);
}

#[test]
fn a_run_that_a_kill_tore_off_is_replayed_up_to_there() {
    let bench = Bench::new(DATA);
    let whole = bench.pipeline(&["run", "run.toml", "--json"]).stdout;
    let events = fs::canonicalize(bench.cache().join("runs/run/events.jsonl")).unwrap();
    fs::write(events, &whole[..whole.len() - 20]).unwrap();
    let lines = whole.lines().count();
    let again = bench.pipeline(&["replay", "run", "--json"]);
    assert_eq!((again.code, again.stdout.lines().count()), (0, lines - 1), "{}", again.stderr);
}

#[test]
fn logs_tells_what_one_stage_said() {
    let bench = ran();
    let text = bench.pipeline(&["logs", "run", "license"]).stdout;
    assert!(text.contains("started (license, key ") && text.contains("finished after "), "{text}");
    assert_eq!(bench.pipeline(&["logs", "license"]).stdout, text, "the newest run needs no name");
    let events = bench.pipeline(&["logs", "run", "license", "--json"]).events();
    assert!(events.len() > 1 && events.iter().all(|event| event["stage"] == "license"), "{events:?}");
    let unknown = bench.pipeline(&["logs", "run", "licence"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("did you mean 'license'"), "{}", unknown.stderr);
}

#[test]
fn a_graph_is_drawn_with_every_stage_its_state_and_every_edge() {
    let bench = ran();
    bench.edit("fraction = 0.2", "fraction = 0.3");
    let draw = |format: &str| bench.pipeline(&["graph", "run.toml", "--format", format]).stdout;
    let mermaid = bench.pipeline(&["graph", "run.toml"]).stdout;
    assert_eq!(mermaid, draw("mermaid"));
    assert!(mermaid.starts_with("flowchart TD\n"), "{mermaid}");
    let dot = draw("dot");
    assert!(dot.starts_with("digraph pipeline {\n") && dot.ends_with("}\n"), "{dot}");
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    assert_eq!(dot.matches('"').count() % 2, 0);
    let svg = draw("svg");
    assert_well_formed(&svg);
    for (number, stage) in DATA_STAGES.iter().enumerate() {
        let state = if *stage == "split" { "will run" } else { "cached" };
        let node = |text: &str| text.lines().any(|line| line.contains(&format!("{stage}<")) && line.contains(state));
        assert!(node(&mermaid), "{stage} in\n{mermaid}");
        let line = dot.lines().find(|line| line.starts_with(&format!("    \"{stage}\" [")));
        assert!(line.is_some_and(|line| line.contains(state)), "{stage} in\n{dot}");
        assert!(svg.contains(&format!(">{stage}<")) && svg.contains(state), "{stage} in\n{svg}");
        if number > 0 {
            let before = DATA_STAGES[number - 1];
            assert!(dot.contains(&format!("    \"{before}\" -> \"{stage}\" [")), "{dot}");
            assert!(mermaid.lines().any(|line| line.trim().starts_with(&format!("s{} -->", number - 1))), "{mermaid}");
        }
    }
    let part = bench.pipeline(&["graph", "run.toml", "--until", "export"]).stdout;
    assert!(part.contains("export") && !part.contains("license"), "{part}");
}

/// XML whose elements are closed in the order in which they were opened, with quoted attributes.
fn assert_well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    for (number, piece) in xml.split('<').enumerate() {
        let Some((tag, text)) = piece.split_once('>').filter(|_| number > 0) else {
            assert!(piece.trim().is_empty(), "text outside of elements: {piece}");
            continue;
        };
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        assert!(!text.contains('&') || text.contains(';'), "{text}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split_whitespace().next().unwrap()),
        }
        assert!(!open.is_empty() || text.trim().is_empty(), "text outside of elements: {text}");
    }
    assert!(open.is_empty() && xml.starts_with("<svg "), "{open:?}");
}

#[test]
fn sql_answers_in_four_formats() {
    let bench = ran();
    let rows = bench.json(&["show", "run.toml", "license"])["outputs"]["documents"]["table"]["rows"].clone();
    let query = "select count(*) as n, min(license) as least from license";
    let ask = |format: &str| {
        let child = bench.start(&["sql", "run.toml", query, "--format", format]);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let text = |format: &str| String::from_utf8(ask(format)).unwrap();
    assert!(text("table").contains(&format!("| {rows} ")), "{}", text("table"));
    let csv = text("csv");
    assert!(csv.starts_with(&format!("n,least\n{rows},")), "{csv}");
    let json: Value = serde_json::from_str(&text("json")).unwrap();
    assert_eq!((&json["n"], json["least"].as_str()), (&rows, csv.trim().rsplit(',').next()));
    let parquet = ask("parquet");
    let (rest, magic) = parquet.split_last_chunk::<4>().unwrap();
    let (_, footer) = rest.split_last_chunk::<4>().unwrap();
    assert_eq!((&parquet[..4], magic), (&b"PAR1"[..], b"PAR1"));
    assert!((u32::from_le_bytes(*footer) as usize) < parquet.len());
    let other = bench.pipeline(&["sql", "run.toml", "select count(*) as n from split.valid", "--format", "csv"]);
    assert_eq!(other.code, 0, "{}", other.stderr);
    let valid = bench.json(&["show", "run.toml", "split.valid"])["outputs"]["valid"]["table"]["rows"].clone();
    assert_eq!(other.stdout, format!("n\n{valid}\n"));
}

#[test]
fn sql_refuses_what_would_write_and_names_what_is_not_there() {
    let bench = ran();
    for query in [
        "create table copied as select * from license",
        "create external table x stored as csv location 'run.toml'",
        "copy (select * from license) to 'out.csv'",
        "insert into license select * from license",
        "drop table license",
        "set datafusion.execution.batch_size = 1",
        "select 1; drop table license",
        "selec 1",
    ] {
        let refused = bench.pipeline(&["sql", "run.toml", query]);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{query}\n{}", refused.stderr);
        assert!(refused.stderr.starts_with("error: "), "{query}\n{}", refused.stderr);
    }
    assert!(!bench.path().join("out.csv").exists());
    let unknown = bench.pipeline(&["sql", "run.toml", "select * from licence"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("licence") && unknown.stderr.contains("'license'"), "{}", unknown.stderr);
    let fresh = Bench::new(DATA);
    let unbuilt = fresh.pipeline(&["sql", "run.toml", "select * from license"]);
    assert_eq!(unbuilt.code, 2);
    assert!(unbuilt.stderr.contains("hint: stage 'license' has no output yet"), "{}", unbuilt.stderr);
    assert!(!fresh.cache().exists());
}

#[test]
fn completions_of_bash_are_a_script_that_knows_every_command() {
    let bench = Bench::new("");
    let script = bench.pipeline(&["completions", "bash"]).stdout;
    bench.write("completions.bash", &script);
    let parsed = Command::new("bash").arg("-n").arg(bench.path().join("completions.bash")).status().unwrap();
    assert!(parsed.success());
    for command in ["run", "plan", "check", "reproduce", "diff", "cache", "graph", "sql", "replay", "logs"] {
        assert!(script.contains(&format!("pipeline,{command})")), "{command}");
    }
}

#[test]
fn cache_ls_lists_builds_with_who_uses_them() {
    let bench = ran();
    let text = bench.pipeline(&["cache", "ls"]).stdout;
    assert!(DATA_STAGES.iter().all(|stage| text.contains(&format!("run/{stage}\n"))), "{text}");
    assert!(text.contains("5 builds of 5 keys, "), "{text}");
    let json = bench.json(&["cache", "ls"]);
    assert_eq!(json["builds"].as_array().unwrap().len(), 5);
    let blobs = bench.blobs();
    let bytes: u64 = blobs.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(
        (&json["totals"]["blobs"]["count"], &json["totals"]["blobs"]["bytes"]),
        (&blobs.len().into(), &bytes.into())
    );
    // What only an earlier run gave is that run's.
    bench.edit("fraction = 0.2", "fraction = 0.3").run();
    let text = bench.pipeline(&["cache", "ls"]).stdout;
    assert!(text.contains(" run/split\n") && text.contains(" run.1/split\n") && !text.contains("no run"), "{text}");
    bench.run();
    bench.pipeline(&["cache", "gc", "--keep-runs", "1"]);
    let text = bench.pipeline(&["cache", "ls"]).stdout;
    assert!(text.contains("no run\n") && !text.contains("run.1/"), "{text}");
    let absent = bench.pipeline(&["cache", "ls", "--cache", "elsewhere"]);
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("hint: ") && !bench.path().join("elsewhere").exists(), "{}", absent.stderr);
}

#[test]
fn what_lies_in_the_place_of_the_store_s_folders_is_moved_aside() {
    let bench = ran();
    let key = bench.json(&["plan", "run.toml"])["stages"][0]["key"].as_str().unwrap().to_owned();
    let places =
        [format!("records/{key}"), "locks".into(), "work".into(), "runs/run".into(), format!("trees/{}", &key[..2])];
    for place in places {
        let path = bench.cache().join(&place);
        let _ = fs::remove_dir_all(&path);
        fs::write(&path, "x").unwrap();
        let found = bench.pipeline(&["cache", "verify"]);
        assert!(found.code == 4 && found.stdout.contains("it is not a folder"), "{place}: {}", found.stdout);
        let repaired = bench.pipeline(&["cache", "verify", "--repair"]);
        assert_eq!(repaired.code, 0, "{place}: {}", repaired.stderr);
        bench.run();
        assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0, "{place}");
    }
    // What has no name of the store's is nobody's business; the folder for damage is as any other.
    bench.write("cache/runs/.DS_Store", "x").write("cache/blobs/README", "x");
    fs::remove_dir_all(bench.cache().join("damaged")).unwrap();
    bench.write("cache/damaged", "x").run();
    for command in [&["cache", "verify"][..], &["cache", "verify", "--repair"], &["cache", "gc"]] {
        assert_eq!(bench.pipeline(command).code, 0, "{command:?}");
    }
    assert!(bench.cache().join("runs/.DS_Store").exists() && bench.cache().join("blobs/README").exists());
    // A lock and what shows the newest run, as folders; a version that is no text.
    for (place, verified) in [(format!("locks/{key}"), 4), ("runs/run/run.lock".into(), 0), ("version".into(), 0)] {
        let path = bench.cache().join(&place);
        let _ = fs::remove_file(&path);
        match place.as_str() {
            "version" => fs::write(&path, b"\xff\xfe").unwrap(),
            _ => fs::create_dir(&path).unwrap(),
        }
        assert_eq!(bench.pipeline(&["cache", "verify"]).code, verified, "{place}");
        assert_eq!(bench.pipeline(&["cache", "verify", "--repair"]).code, 0, "{place}");
        assert_eq!(bench.pipeline(&["run", "run.toml", "--force", "sample"]).code, 0, "{place}");
        assert_eq!(bench.pipeline(&["cache", "gc"]).code, 0, "{place}");
    }
}

#[test]
fn cache_verify_finds_damage_and_moves_it_aside_only_when_asked() {
    let bench = ran();
    let whole = bench.pipeline(&["cache", "verify"]);
    assert!(whole.code == 0 && whole.stdout.ends_with(": all whole\n"), "{}", whole.stdout);
    let blob: PathBuf = fs::canonicalize(bench.cache().join("runs/run/license/report/report.json")).unwrap();
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, "other").unwrap();
    for _ in 0..2 {
        let found = bench.pipeline(&["cache", "verify"]);
        assert_eq!(found.code, 4);
        assert_eq!(found.stdout.matches("damaged: blob").count(), 1, "{}", found.stdout);
        assert!(found.stdout.contains("(license), used by run/license"), "{}", found.stdout);
        assert!(found.stderr.contains("--repair"), "{}", found.stderr);
        let found = bench.pipeline(&["cache", "verify", "--json"]);
        let told: Value = serde_json::from_str(&found.stdout).unwrap();
        assert_eq!((found.code, told["damage"].as_array().unwrap().len()), (4, 1), "{told}");
        assert_eq!(told["not_whole"][0]["used_by"], json!(["run/license"]), "{told}");
    }
    let repaired = bench.pipeline(&["cache", "verify", "--repair"]);
    assert!(repaired.code == 0 && repaired.stdout.contains(", moved to "), "{}", repaired.stdout);
    assert_eq!(bench.run(), ["license"]);
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

#[test]
fn damaged_history_is_damage_and_a_repair_moves_it_aside() {
    let bench = ran();
    bench.run();
    let (first, second) = (bench.cache().join("runs/run/.history/0001"), bench.cache().join("runs/run/.history/0002"));
    let text = fs::read_to_string(first.join("run.lock")).unwrap();
    fs::write(first.join("run.lock"), &text[..text.len() - 9]).unwrap();
    fs::write(second.join("events.jsonl"), "{\"at\": 0}\n{}\n").unwrap();
    fs::write(bench.cache().join("runs/run/.stages/split.json"), "{").unwrap();
    for (command, said) in [
        (&["cache", "verify"][..], "run.lock cannot be read: it was changed"),
        (&["cache", "verify"], "events.jsonl cannot be read: line 1"),
        (&["cache", "verify"], "split.json cannot be read"),
        (&["cache", "gc"], "2 objects are damaged"),
        (&["diff", "run.1", "run.2"], "it was changed after it was written"),
        (&["reproduce", "run.1"], "it was changed after it was written"),
        (&["replay", "run"], "events.jsonl cannot be read: line 1"),
        (&["logs", "run", "split"], "events.jsonl cannot be read: line 1"),
        (&["runs"], "it was changed after it was written"),
    ] {
        let found = bench.pipeline(command);
        assert_eq!(found.code, 4, "{command:?}: {}", found.stderr);
        assert!((found.stdout + &found.stderr).contains(said), "{command:?}: {said}");
    }
    let repaired = bench.pipeline(&["cache", "verify", "--repair"]);
    assert_eq!((repaired.code, repaired.stdout.matches(", moved to ").count()), (0, 3), "{}", repaired.stdout);
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
    assert_eq!(bench.pipeline(&["cache", "gc"]).code, 0);
    assert_eq!(bench.run(), [""; 0]);
}

#[test]
fn a_tree_that_is_lost_comes_back_from_a_lock_and_nothing_is_removed_before() {
    let bench = ran();
    let tree = fs::canonicalize(bench.cache().join("runs/run/quality/.documents.tree")).unwrap();
    fs::remove_file(tree).unwrap();
    let before = bench.blobs();
    for _ in 0..2 {
        let refused = bench.pipeline(&["cache", "gc", "--lock", "cache/runs/run/run.lock"]);
        assert!(refused.code == 4 && refused.stderr.contains("verify --repair"), "{}", refused.stderr);
        assert_eq!(bench.blobs(), before);
    }
    let repaired = bench.pipeline(&["cache", "verify", "--repair"]);
    assert!(repaired.code == 0 && repaired.stdout.contains("restored: tree "), "{}", repaired.stdout);
    assert_eq!(bench.pipeline(&["cache", "gc"]).code, 0);
    assert_eq!((bench.run(), bench.blobs()), (Vec::new(), before));
}

#[test]
fn cache_gc_keeps_what_runs_gave_and_frees_what_it_said_it_would() {
    let bench = ran();
    let everything = ["cache", "gc", "--keep-size", "1B"];
    assert_eq!(bench.json(&everything)["builds"], Value::Array(Vec::new()), "all of it is what the run gave");
    let other = ["--set", "stages.license.allow=[\"mit\"]"];
    assert_eq!(bench.run_with(&other), ["license", "quality", "split"]);
    bench.run();
    let with = |more: &[&'static str]| [&everything[..], &["--keep-runs", "1"], more].concat();
    let dry = bench.json(&with(&["--dry-run"]));
    let mut kinds = texts(&dry["builds"], "kind");
    kinds.sort();
    assert_eq!(kinds, ["license", "quality", "split"]);
    assert_eq!(bench.json(&with(&["--dry-run"])), dry, "a dry run changes nothing");
    assert_eq!(bench.json(&with(&[])), dry);
    let left: u64 = bench.blobs().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(dry["after"], left);
    assert_eq!(bench.run(), [""; 0], "what the manifest needs is still there");
    assert_eq!(bench.run_with(&other), ["license", "quality", "split"]);
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

#[test]
fn why_and_plan_say_in_json_what_their_page_says() {
    let bench = ran();
    bench.edit("\"bsd-3-clause\"", "\"isc\"");
    let why = bench.json(&["why", "run.toml", "quality"]);
    // Times and digests are those of this run.
    assert!(why["compared_with"]["key"].as_str().is_some_and(|key| key.len() == 64));
    assert!(why["compared_with"]["started_ms"].is_u64() && why["compared_with"]["seconds"].is_f64());
    assert!(why["estimate"]["least"].is_f64() && why["estimate"]["most"].is_f64());
    let cause = why["causes"][0].clone();
    assert!(cause["key"].as_str().is_some_and(|key| key.len() == 64));
    assert_eq!(why["causes"].as_array().map(Vec::len), Some(1));
    let reason = &cause["reasons"][0];
    assert_eq!((&reason["reason"], &reason["setting"]), (&"setting-changed".into(), &"allow".into()));
    assert_eq!((reason["old"].as_array().map(Vec::len), reason["new"].as_array().map(Vec::len)), (Some(3), Some(3)));
    assert!(reason["place"]["line"].is_u64() && reason["place"]["column"].is_u64());
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut expected =
        ["name", "kind", "key", "state", "estimate", "cost", "reasons", "causes", "compared_with", "follows"];
    expected.sort_unstable();
    let mut found = keys(&why);
    found.sort();
    assert_eq!(found, expected);
    assert_eq!((&why["state"], &why["key"]), (&"may-run".into(), &serde_json::Value::Null));
    assert_eq!(why["follows"], serde_json::json!(["split"]));
    let plan = bench.json(&["plan", "run.toml"]);
    let planned = plan["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "license").unwrap();
    assert_eq!(planned["reasons"], cause["reasons"], "one type for both");
}

#[test]
fn why_names_the_causes_above_a_stage_that_has_reasons_of_its_own() {
    let bench = ran();
    bench.edit("\"bsd-3-clause\"", "\"isc\"");
    bench.edit("fraction = 0.2", "fraction = 0.3");
    let why = bench.json(&["why", "run.toml", "split"]);
    assert_eq!((&why["state"], &why["reasons"][0]["setting"]), (&"will-run".into(), &"fraction".into()));
    assert_eq!(texts(&why["causes"], "name"), ["license"]);
    let text = bench.pipeline(&["why", "run.toml", "split"]).stdout;
    assert!(text.contains("because license will run") && text.contains("by way of quality"), "{text}");
}

#[test]
fn a_run_has_a_page_that_needs_nothing_else_and_takes_text_as_text() {
    let bench = ran();
    let page = || fs::read_to_string(bench.cache().join("runs/run/report.html")).unwrap();
    let first = page();
    assert!(first.starts_with("<!doctype html>") && first.ends_with("</html>\n"), "{first}");
    for stage in DATA_STAGES {
        assert!(first.contains(&format!("<tr><td>{stage}<td>")) && first.contains(&format!(">{stage}</text>")));
    }
    assert!(first.contains("5 ran, 0 cached, 0 failed, 0 skipped") && !first.contains("What went wrong"), "{first}");
    assert!(first.contains("<title>run.1</title>"), "{first}");
    assert!(!first.contains("src=") && !first.contains("href=") && !first.contains("url("), "nothing from elsewhere");
    bench.run();
    assert_eq!(page(), first, "nothing happened in the second run");
    bench.edit("fraction = 0.2", "fraction = 0.3");
    bench.run();
    assert!(page().contains("1 ran, 4 cached") && page().contains("fraction: 0.2 -&gt; 0.3"), "{}", page());

    let evil = shell("evil", "echo '<script>alert(1)</script>' >&2; exit 1", "");
    let bench = Bench::new(
        &(evil + "[stages.after]\nkind = \"command\"\nprogram = \"/bin/true\"\ninputs = { a = \"evil\" }\n"),
    );
    assert_eq!(bench.pipeline(&["run", "run.toml", "--quiet"]).code, 1);
    let page = fs::read_to_string(bench.cache().join("runs/run/report.html")).unwrap();
    assert!(page.contains("0 ran, 0 cached, 1 failed, 1 skipped") && page.contains("What went wrong"), "{page}");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
}
