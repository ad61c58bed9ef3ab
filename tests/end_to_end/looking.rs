//! The commands that look at a manifest, a store and past runs, and change nothing.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use serde_json::Value;

use crate::bench::{Bench, DATA, DATA_STAGES, shell, texts, told};

#[test]
fn check_reads_a_manifest_and_writes_nothing() {
    let bench = Bench::new(DATA);
    let checked = bench.pipeline(&["check", "run.toml"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (0, "run.toml: 5 stages, no problems\n"));
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
    let bench = Bench::ran();
    bench.run();
    let list = bench.pipeline(&["runs"]).stdout;
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("run.1 ") && lines[0].contains("done     5 ran, 0 cached in "), "{list}");
    assert!(lines[1].starts_with("run.2 ") && lines[1].contains("done     0 ran, 5 cached in "), "{list}");
    assert!(!lines[0].ends_with("(latest)") && lines[1].ends_with("(latest)"), "{list}");
    let json = bench.json(&["runs", "run"]);
    assert_eq!(texts(&json, "id"), ["run.1", "run.2"]);
    assert_eq!((&json[0]["ran"], &json[1]["ran"], &json[1]["stages"]), (&5.into(), &0.into(), &5.into()));
    assert_eq!(json[0]["run"]["status"], "done");
    let unknown = bench.pipeline(&["runs", "rnu"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("did you mean 'run'"), "{}", unknown.stderr);
}

#[test]
fn a_manifest_in_place_of_a_run_means_its_runs() {
    let bench = Bench::ran();
    let runs = bench.pipeline(&["runs", "run"]).stdout;
    assert!(runs.starts_with("run.1 "), "{runs}");
    assert_eq!(bench.pipeline(&["runs", "run.toml"]).stdout, runs);
    for (with_name, with_manifest) in [
        (&["logs", "run", "license"][..], &["logs", "run.toml", "license"][..]),
        (&["replay", "run"], &["replay", "run.toml"]),
        (&["diff", "run", "run.1"], &["diff", "run.toml", "run.1"]),
    ] {
        let [one, other] = [with_name, with_manifest].map(|arguments| bench.pipeline(arguments));
        assert_eq!((one.code, other.code, &one.stdout), (0, 0, &other.stdout), "{with_manifest:?}: {}", other.stderr);
    }
    bench.write("code.toml", DATA.replace("name = \"run\"", ""));
    for never_ran in [&["runs", "code.toml"][..], &["replay", "code.toml"], &["logs", "code.toml", "license"]] {
        let refused = bench.pipeline(never_ran);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{never_ran:?}");
        assert!(refused.stderr.contains("hint: pipeline run code.toml"), "{}", refused.stderr);
    }
    let wrong = bench.write("code.toml", "[run]\nname = 3\n").pipeline(&["runs", "code.toml"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("code.toml:2"), "{}", wrong.stderr);
    let gone = bench.pipeline(&["runs", "gone.toml"]);
    assert!(gone.code == 2 && gone.stderr.contains("the runs are: run"), "{}", gone.stderr);
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
    let shown = shown.stderr.strip_prefix("note: new store cache\n").unwrap();
    assert_eq!((again.code, again.stdout.as_str()), (0, shown));
    let second = bench.pipeline(&["run", "run.toml", "--json"]);
    assert_eq!(bench.pipeline(&["replay", "run.2", "--json"]).stdout, second.stdout);
    assert_eq!(bench.pipeline(&["replay", "run.1"]).stdout, shown);
    let unknown = bench.pipeline(&["replay", "run.3"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("it has 1, 2"), "{}", unknown.stderr);
}

#[test]
fn a_run_that_a_kill_tore_off_is_replayed_up_to_there() {
    let bench = Bench::new(DATA);
    let whole = bench.pipeline(&["run", "run.toml", "--json"]).stdout;
    let events = fs::canonicalize(bench.cache().join("runs/run/latest/events.jsonl")).unwrap();
    fs::write(events, &whole[..whole.len() - 20]).unwrap();
    let lines = whole.lines().count();
    let again = bench.pipeline(&["replay", "run", "--json"]);
    assert_eq!((again.code, again.stdout.lines().count()), (0, lines - 1), "{}", again.stderr);
}

#[test]
fn logs_tells_what_one_stage_said() {
    let bench = Bench::ran();
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
    let bench = Bench::ran();
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
    let bench = Bench::ran();
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
    let bench = Bench::ran();
    for query in [
        "create table copied as select * from license",
        "create external table x stored as csv location 'run.toml'",
        "copy (select * from license) to 'out.csv'",
        "insert into license select * from license",
        "drop table license",
        "set datafusion.execution.batch_size = 1",
        "select 1; drop table license",
        "select 1; select 2",
        "",
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
    // The command of the hint has the options of this one.
    let trial = ["--set", "run.seed=2", "--set", "stages.license.allow=[\"mit\"]", "--as", "trial"];
    let hint = "pipeline run run.toml --set run.seed=2 --set 'stages.license.allow=[\"mit\"]' --as trial\n";
    for command in [&["sql", "run.toml", "select * from license"][..], &["show", "run.toml", "license"]] {
        let unbuilt = fresh.pipeline(&[command, &trial[..]].concat());
        assert!(unbuilt.stderr.ends_with(hint), "{command:?}: {}", unbuilt.stderr);
    }
    assert!(!fresh.cache().exists());
}

#[test]
fn an_unknown_table_is_an_error_whatever_its_name() {
    let bench = Bench::ran();
    for name in ["Broken pipe", "(os error 28)", "x' not found", "No space left on device", "datafusion.public.x"] {
        for format in ["table", "csv", "json", "parquet"] {
            let query = format!("select * from \"{name}\"");
            let unknown = bench.pipeline(&["sql", "run.toml", &query, "--format", format]);
            assert_eq!((unknown.code, unknown.stdout.as_str()), (2, ""), "{name}: {}", unknown.stderr);
            let (first, hint) = unknown.stderr.split_once('\n').unwrap();
            assert_eq!(first, format!("error: unknown table '{name}'"));
            assert!(hint.starts_with("hint: the tables are export, ") && hint.contains("split.valid"), "{hint}");
        }
    }
    let hint = |query: &str| bench.pipeline(&["sql", "run.toml", query]).stderr;
    for (query, near) in [
        ("select * from splt", "hint: did you mean 'split'?"),
        ("select * from split.vald", "hint: did you mean 'split.valid'?"),
        ("with a as (select * from licence) select * from a join split on true", "hint: did you mean 'license'?"),
        ("select (select max(size) from licence)", "hint: did you mean 'license'?"),
    ] {
        assert!(hint(query).contains(near), "{query}: {}", hint(query));
    }
    let named = Bench::new(&DATA.replace("stages.split", "stages.Last-one"));
    named.run();
    let hint = |query: &str| named.pipeline(&["sql", "run.toml", query]).stderr;
    for query in ["select * from Last-one", "select * from Last-one.valid", "select * from \"last-one\""] {
        assert!(hint(query).contains("\"Last-one"), "{query}: {}", hint(query));
    }
    assert_eq!(named.pipeline(&["sql", "run.toml", "select count(*) from \"Last-one\""]).code, 0);
    let hint = |query: &str| bench.pipeline(&["sql", "run.toml", query]).stderr;
    // What is wrong with a query whose tables are there is said as it is, and a table's name in it changes nothing.
    let wrong = hint("select \"Broken pipe\" from license");
    assert!(wrong.contains("Broken pipe") && !wrong.contains("unknown table"), "{wrong}");
    let failed = bench.pipeline(&["sql", "run.toml", "select 1 / (size - size) as \"Broken pipe\" from license"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (2, ""), "{}", failed.stderr);
    assert!(failed.stderr.contains("ivide by zero"), "{}", failed.stderr);
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
fn a_run_has_a_page_that_needs_nothing_else_but_those_of_other_runs_and_takes_text_as_text() {
    let bench = Bench::ran();
    let page = || fs::read_to_string(bench.cache().join("runs/run/latest/report.html")).unwrap();
    let first = page();
    assert!(first.starts_with("<!doctype html>") && first.ends_with("</html>\n"), "{first}");
    for stage in DATA_STAGES {
        assert!(first.contains(&format!("<tr><td>{stage}<td>")) && first.contains(&format!(">{stage}</text>")));
    }
    assert!(first.contains("5 ran, 0 cached, 0 failed, 0 skipped") && !first.contains("<h2>Problems</h2>"), "{first}");
    assert!(first.contains("<title>run.1</title>"), "{first}");
    assert!(!first.contains("src=") && !first.contains("href=") && !first.contains("url("), "nothing from elsewhere");
    bench.run();
    assert!(page().contains("<title>run.2</title>") && page().contains("0 ran, 5 cached"), "{}", page());
    // What cached stages said when they ran is on the page of that run.
    let links: Vec<_> =
        page().split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    assert_eq!(links, ["../../run/1/report.html"; 5]);
    assert!(bench.cache().join("runs/run/2").join(&links[0]).is_file());
    assert_eq!(fs::read_to_string(bench.cache().join("runs/run/1/report.html")).unwrap(), first);
    bench.edit("fraction = 0.2", "fraction = 0.3");
    bench.run();
    assert!(page().contains("1 ran, 4 cached"), "{}", page());
    assert!(page().contains("since run.1: fraction: 0.2 -&gt; 0.3"), "the reason names the build: {}", page());
    assert_eq!(page().matches("since run.1: ").count(), 2, "the difference names the same build: {}", page());

    let evil = shell("evil", "echo '<script>alert(1)</script>' >&2; exit 1", "");
    let bench = Bench::new(
        &(evil + "[stages.after]\nkind = \"command\"\nprogram = \"/bin/true\"\ninputs = { a = \"evil\" }\n"),
    );
    assert_eq!(bench.pipeline(&["run", "run.toml", "--quiet"]).code, 1);
    let page = fs::read_to_string(bench.cache().join("runs/run/1/report.html")).unwrap();
    assert!(page.contains("0 ran, 0 cached, 1 failed, 1 skipped") && page.contains("<h2>Problems</h2>"), "{page}");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
}
