//! The stream of events and its renderings.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use contract::progress::Sample;
use contract::{Digest, Note, Unit};
use pipeline::events::{
    Event, Json, Mode, OutputSummary, Plain, Purpose, Renderer, Renderers, RunStatus, Stamped, figures,
};

/// Collects what is written; the text without ANSI codes is what a person reads.
#[derive(Debug, Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn outputs(files: usize, bytes: u64) -> BTreeMap<String, OutputSummary> {
    BTreeMap::from([("documents".to_owned(), OutputSummary { digest: Digest::of(b"tree"), files, bytes })])
}

fn progress(stage: &str, done: u64, total: Option<u64>, rate: Option<f64>) -> Event {
    let sample = Sample { phase: String::new(), unit: Unit::Rows, done, total };
    Event::StageProgress { stage: stage.into(), sample, rate }
}

fn note(stage: &str, note: Note) -> Event {
    Event::StageNote { stage: stage.into(), note }
}

/// A run with every kind of event, and the seconds at which they happen.
fn a_run() -> Vec<Stamped> {
    let key = Digest::of(b"key");
    let started = |stage: &str, reasons: &[&str]| Event::StageStarted {
        stage: stage.into(),
        kind: stage.into(),
        key,
        threads: 2,
        reasons: reasons.iter().map(ToString::to_string).collect(),
    };
    let names = ["export", "quality", "import", "split", "pack", "train"];
    let events = [
        (0.0, Event::RunStarted { run: "small".into(), stages: names.map(str::to_owned).to_vec() }),
        (0.1, Event::StageCached { stage: "export".into(), key, outputs: outputs(4, 40 << 20) }),
        (0.2, started("quality", &["learning_rate: 0.0005 -> 0.0006", "input documents from import: 12 -> 34"])),
        (1.0, progress("quality", 4_000, Some(11_449), Some(8_123.4))),
        (10.5, progress("quality", 10_000, Some(11_449), Some(8_123.4))),
        (11.0, progress("quality", 11_000, Some(11_449), Some(8_123.4))),
        (11.1, note("quality", Note::Info { text: "first thoughts".into() })),
        (11.1, note("quality", Note::Info { text: "9,120 of 11,449 rows kept".into() })),
        (11.2, note("quality", Note::Warning { text: "3 rows have no license".into() })),
        (
            11.6,
            Event::StageFinished {
                stage: "quality".into(),
                outputs: outputs(1, 812),
                seconds: 11.4,
                unchanged: vec!["documents".into()],
                differs: false,
                compared_with: Some("small.1".into()),
                compared: Some("12 of 8,192 merges changed".into()),
                without_effect: vec!["learning_rate: 0.0005 -> 0.0006".into()],
            },
        ),
        (12.0, started("import", &[])),
        (
            12.1,
            Event::StageFailed {
                stage: "import".into(),
                message: "row is not JSON\nat column 7".into(),
                place: Some("data/x.json.gz:17".into()),
                hint: Some("max_bad_rows sets such rows aside".into()),
            },
        ),
        (12.1, Event::StageSkipped { stage: "split".into(), because: "import failed".into() }),
        (12.2, Event::StageWaiting { stage: "pack".into(), holder: "pid 4121, stage pack, for 0:00:07".into() }),
        (13.0, started("train", &[])),
        (13.5, note("train", Note::Metric { step: 120, name: "loss/train".into(), value: 4.2137 })),
        (
            24.0,
            Event::StageProgress {
                stage: "train".into(),
                sample: Sample { phase: "train".into(), unit: Unit::Steps, done: 120, total: Some(2_000) },
                rate: Some(3.1),
            },
        ),
        (
            25.0,
            Event::StageFinished {
                stage: "train".into(),
                outputs: outputs(2, 1_536),
                seconds: 12.0,
                unchanged: Vec::new(),
                differs: false,
                compared_with: None,
                compared: None,
                without_effect: Vec::new(),
            },
        ),
        (
            61.0,
            Event::RunFinished { status: RunStatus::Failed, ran: 2, cached: 1, failed: 1, skipped: 1, seconds: 61.0 },
        ),
    ];
    events.into_iter().map(|(at, event)| Stamped { at, event }).collect()
}

fn without_colour(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('\x1b') {
        plain.push_str(&rest[..start]);
        let end = rest[start..].find('m').unwrap();
        rest = &rest[start + end + 1..];
    }
    plain + rest
}

fn render(mut renderer: impl Renderer, page: &Page) -> String {
    for event in a_run() {
        renderer.event(&event).unwrap();
    }
    page.text()
}

#[test]
fn plain_lines_tell_starts_ends_and_progress_now_and_then() {
    let page = Page::default();
    let text = without_colour(&render(Plain::new(page.clone()), &page));
    assert_eq!(
        text,
        "  cached  export            4 files, 40 MiB
     run  quality           learning_rate: 0.0005 -> 0.0006 (and 1 more)
     run  quality           10,000 of 11,449 rows  8,123/s  0:00 left
 warning  quality           3 rows have no license
    done  quality           9,120 of 11,449 rows kept in 11 s; since small.1: 12 of 8,192 merges changed, output unchanged (learning_rate: 0.0005 -> 0.0006 had no effect)
     run  import
  failed  import            data/x.json.gz:17: row is not JSON
                            at column 7
                            hint: max_bad_rows sets such rows aside
 skipped  split             import failed
    wait  pack              for pid 4121, stage pack, for 0:00:07
     run  train
     run  train             train: 120 of 2,000 steps  loss/train 4.2137  3.1/s  10:06 left
    done  train             2 files, 1.5 KiB in 12 s
  failed  2 ran, 1 cached, 1 failed, 1 skipped in 1:01
"
    );
}

#[test]
fn colour_adds_no_word() {
    let page = Page::default();
    let text = render(Plain::new(page.clone()), &page);
    assert!(text.contains("\x1b[31mfailed\x1b[0m  import"), "{text:?}");
}

#[test]
fn quiet_tells_failures_and_warnings() {
    let page = Page::default();
    let text = without_colour(&render(Plain::quiet(page.clone()), &page));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[0], " warning  quality           3 rows have no license");
    assert_eq!(lines[1], "  failed  import            data/x.json.gz:17: row is not JSON");
}

#[test]
fn json_is_one_object_a_line() {
    let page = Page::default();
    let text = render(Json::new(Purpose::Recorded, page.clone()), &page);
    let (key, tree) = (Digest::of(b"key"), Digest::of(b"tree"));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), a_run().len());
    let expected = [
        (0, r#"{"at":0.0,"event":"run-started","run":"small","stages":["export","quality","import","split","pack","train"]}"#.to_owned()),
        (1, format!(r#"{{"at":0.1,"event":"stage-cached","stage":"export","key":"{key}","outputs":{{"documents":{{"digest":"{tree}","files":4,"bytes":41943040}}}}}}"#)),
        (2, format!(r#"{{"at":0.2,"event":"stage-started","stage":"quality","kind":"quality","key":"{key}","threads":2,"reasons":["learning_rate: 0.0005 -> 0.0006","input documents from import: 12 -> 34"]}}"#)),
        (3, r#"{"at":1.0,"event":"stage-progress","stage":"quality","sample":{"phase":"","unit":"rows","done":4000,"total":11449},"rate":8123.4}"#.to_owned()),
        (6, r#"{"at":11.1,"event":"stage-note","stage":"quality","note":"info","text":"first thoughts"}"#.to_owned()),
        (9, format!(r#"{{"at":11.6,"event":"stage-finished","stage":"quality","outputs":{{"documents":{{"digest":"{tree}","files":1,"bytes":812}}}},"seconds":11.4,"unchanged":["documents"],"differs":false,"compared_with":"small.1","compared":"12 of 8,192 merges changed","without_effect":["learning_rate: 0.0005 -> 0.0006"]}}"#)),
        (11, r#"{"at":12.1,"event":"stage-failed","stage":"import","message":"row is not JSON\nat column 7","place":"data/x.json.gz:17","hint":"max_bad_rows sets such rows aside"}"#.to_owned()),
        (12, r#"{"at":12.1,"event":"stage-skipped","stage":"split","because":"import failed"}"#.to_owned()),
        (13, r#"{"at":12.2,"event":"stage-waiting","stage":"pack","holder":"pid 4121, stage pack, for 0:00:07"}"#.to_owned()),
        (15, r#"{"at":13.5,"event":"stage-note","stage":"train","note":"metric","step":120,"name":"loss/train","value":4.2137}"#.to_owned()),
        (18, r#"{"at":61.0,"event":"run-finished","status":"failed","ran":2,"cached":1,"failed":1,"skipped":1,"seconds":61.0}"#.to_owned()),
    ];
    for (index, line) in expected {
        assert_eq!(lines[index], line, "event {index}");
    }
}

#[test]
fn every_event_sent_is_shown_before_the_end() {
    let page = Page::default();
    let renderers = Renderers::with(vec![Box::new(Json::new(Purpose::Recorded, page.clone()))]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sender = renderers.sender();
            scope.spawn(move || {
                for number in 0..100 {
                    sender.send(Event::StageSkipped { stage: format!("{thread}"), because: format!("{number}") });
                }
            });
        }
    });
    let leaked = renderers.sender();
    renderers.finish();
    leaked.send(Event::StageSkipped { stage: "late".into(), because: "nobody listens".into() });
    assert_eq!(page.text().lines().count(), 400);
}

/// A disk that takes no more.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_renderer_that_cannot_write_is_dropped_and_the_others_continue() {
    let page = Page::default();
    let renderers = Renderers::with(vec![
        Box::new(Json::new(Purpose::Printed, Full)),
        Box::new(Json::new(Purpose::Recorded, page.clone())),
    ]);
    for event in a_run() {
        renderers.sender().send(event.event);
    }
    renderers.finish();
    assert_eq!(page.text().lines().count(), a_run().len());
}

#[test]
fn figures_read_well() {
    assert_eq!([0, 999, 1_000, 1_234_567].map(figures::count), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([0, 1, 2_000].map(|number| figures::counted(number, "file")), ["0 files", "1 file", "2,000 files"]);
    assert_eq!(
        [0, 1_023, 1_024, 1_536, 10 << 10, 1_048_575, 40 << 20, 3 << 29, u64::MAX].map(figures::size),
        ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 KiB", "1.0 MiB", "40 MiB", "1.5 GiB", "16 EiB"]
    );
    assert_eq!(
        [0.0, 0.034, 0.1, 1.44, 9.96, 59.4, 59.6, 123.0, 3_723.0, -1.0].map(figures::duration),
        ["0.00 s", "0.03 s", "0.1 s", "1.4 s", "10 s", "59 s", "1:00", "2:03", "1:02:03", "0.00 s"]
    );
    assert_eq!([0.4, 7.0, 61.0].map(figures::clock), ["0:00", "0:07", "1:01"]);
    // From two days on in days.
    let days = [172_799.0, 172_799.6, 172_800.0, 39_991_850.0, f64::INFINITY];
    assert_eq!(days.map(figures::clock), ["47:59:59", "2 d 0 h", "2 d 0 h", "462 d 20 h", "213,503,982,334,601 d 7 h"]);
    assert_eq!(figures::duration(39_991_850.0), "462 d 20 h");
    assert_eq!(figures::amount(1_000, Some(2_000), Unit::Steps), "1,000 of 2,000 steps");
    assert_eq!(figures::amount(0, Some(1), Unit::Rows), "0 of 1 row");
    assert_eq!([0, 1, 2].map(|rows| figures::amount(rows, None, Unit::Rows)), ["0 rows", "1 row", "2 rows"]);
    assert_eq!(figures::amount(1 << 20, None, Unit::Bytes), "1.0 MiB");
    assert_eq!(figures::rate(3.13, Unit::Steps), "3.1/s");
    assert_eq!(figures::rate(2_097_152.0, Unit::Bytes), "2.0 MiB/s");
}

#[test]
fn the_record_of_a_run_is_a_new_file_and_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let run = |name: &str| {
        let renderers = Renderers::recording(vec![Mode::Quiet.renderer()], &path);
        renderers.sender().send(Event::RunStarted { run: name.into(), stages: Vec::new() });
        renderers
    };
    let (first, second) = (run("first"), run("second"));
    second.finish();
    first.finish();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains(r#""run":"first""#), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_record_that_cannot_be_made_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let renderers = Renderers::recording(vec![Mode::Quiet.renderer()], &folder.path().join("absent/events.jsonl"));
    renderers.sender().send(Event::RunStarted { run: "run".into(), stages: Vec::new() });
    renderers.finish();
}

#[test]
fn events_read_back_as_they_were_written() {
    for event in a_run() {
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Stamped>(&text).unwrap(), event, "{text}");
    }
}

#[test]
fn a_stage_that_runs_a_program_shows_how_long_and_what_it_wrote_last_and_no_rows() {
    let shown = |sample: Sample| {
        let page = Page::default();
        let mut plain = Plain::new(page.clone());
        let stage = "metric".to_owned();
        for at in [0.0, 60.0] {
            let event = Event::StageProgress { stage: stage.clone(), sample: sample.clone(), rate: Some(1.0) };
            plain.event(&Stamped { at, event }).unwrap();
        }
        page.text().replace("\u{1b}[36m", "").replace("\u{1b}[0m", "").split_once("metric").unwrap().1.trim().to_owned()
    };
    let seconds = |done, phase: &str| Sample { phase: phase.to_owned(), unit: Unit::Seconds, done, total: None };
    assert_eq!(shown(seconds(42, "epoch 3")), "0:42  epoch 3");
    assert_eq!(shown(seconds(3723, "")), "1:02:03");
    assert_eq!(shown(Sample::default()), "starts");
}
