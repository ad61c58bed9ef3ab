//! A plan followed by a run with nothing touched makes the same decisions; a stage runs exactly when its own settings
//! or the bytes of its inputs are new to the store; and a store with a history gives the bytes that an empty one gives:
//! over random graphs and random edits, failures, damage and kills.
//!
//! `AGREEMENT_CASES=5000` looks longer, `AGREEMENT_SEED` elsewhere. The smallest failing case is written to a file, and
//! `AGREEMENT_REPLAY=file.json` runs it alone.

mod case;
mod world;

use std::path::Path;
use std::sync::atomic::Ordering;

use case::{Case, case};
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use world::{FAILURES, KILLS, World};

/// The folder in which a victim runs.
const VICTIM: &str = "AGREEMENT_VICTIM";

/// Not a test of its own: the process that an edit kills.
#[test]
fn victim() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        world::run(Path::new(&folder), &[]);
    }
}

#[test]
fn a_plan_and_a_run_agree_and_history_makes_no_difference() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    if let Some(path) = std::env::var_os("AGREEMENT_REPLAY") {
        let text = std::fs::read_to_string(path).unwrap();
        return World::live(&serde_json::from_str::<Case>(&text).unwrap());
    }
    let (cases, seed) = (number("AGREEMENT_CASES", 250), number("AGREEMENT_SEED", 1));
    println!("AGREEMENT_SEED={seed} AGREEMENT_CASES={cases}");
    let config = Config {
        cases: u32::try_from(cases).unwrap(),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let lived = TestRunner::new(config).run(&case(), |case| {
        World::live(&case);
        Ok(())
    });
    match lived {
        Ok(()) => {
            let (failures, kills) = (FAILURES.load(Ordering::Relaxed), KILLS.load(Ordering::Relaxed));
            println!("{failures} stages failed and {kills} runs were killed");
            assert!(cases < 50 || failures.min(kills) as u64 > cases / 20, "hardly anything went wrong");
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
        Err(TestError::Fail(reason, case)) => {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("agreement-{seed}.json"));
            std::fs::write(&path, serde_json::to_string_pretty(&case).unwrap()).unwrap();
            let path = path.display();
            panic!("{reason}\nthe smallest case is in {path}\nAGREEMENT_REPLAY={path} runs it alone");
        }
    }
}

#[test]
fn a_case_is_read_back_as_it_was_written() {
    let text = r#"{"nodes":[{"number":1,"inputs":[]},{"number":2,"inputs":[0],"file":2}],
        "edits":[{"number":[1,3]},{"file":[1,0]},{"lose":{"stage":1,"other":0,"number":0}},
        {"fail":{"stage":1,"number":2,"forget":true}},
        {"kill":{"stage":0,"number":3,"point":4,"pass":2}}]}"#;
    let case: Case = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::from_str::<Case>(&serde_json::to_string(&case).unwrap()).unwrap(), case);
    World::live(&case);
}
