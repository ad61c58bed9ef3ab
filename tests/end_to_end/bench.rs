//! A folder with a manifest and a store, and the program run in it.
//!
//! `Bench::small()` holds a manifest of every stage kind, sized so that a run takes seconds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Every kind from a synthetic export to the evaluation.
pub const SMALL: &str = include_str!("small.toml");

/// A few stages over synthetic data, done in a fraction of a second.
pub const DATA: &str = r#"
[run]
name = "run"
[stages.sample]
kind = "sample"
repositories = 3
[stages.export]
kind = "import"
input = "sample"
[stages.license]
kind = "license"
input = "export"
allow = ["mit", "apache-2.0", "bsd-3-clause"]
[stages.quality]
kind = "quality"
input = "license"
[stages.split]
kind = "split"
input = "quality"
fraction = 0.2
"#;

/// Its stages, in the order of the graph.
pub const DATA_STAGES: [&str; 5] = ["sample", "export", "license", "quality", "split"];

/// The table of a stage `name` that gives this script to a shell, with further settings below.
pub fn shell(name: &str, script: &str, settings: &str) -> String {
    format!(
        "[stages.{name}]\nkind = \"command\"\nprogram = \"/bin/sh\"\narguments = [\"-c\", '''{script}''']\n{settings}\n"
    )
}

pub struct Bench {
    folder: TempDir,
    manifest: PathBuf,
}

/// A text of each entry of an array.
pub fn texts(value: &Value, path: &str) -> Vec<String> {
    value.as_array().unwrap().iter().map(|entry| entry[path].as_str().unwrap().to_owned()).collect()
}

/// How long a program that is listened to may say nothing: a test that waits for ever says less than one that fails.
const PATIENCE: Duration = Duration::from_secs(300);

/// A process by its number, to be signalled.
pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

/// The lines of a process' standard output as they come. One that says nothing for too long is killed, and the test fails.
pub fn told(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let (output, pid) = (child.stdout.take().unwrap(), pid(child));
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output).lines().map(Result::unwrap);
        // The test has heard enough where nobody receives.
        let _ = lines.try_for_each(|line| sender.send(line));
    });
    std::iter::from_fn(move || match receiver.recv_timeout(PATIENCE) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            kill(pid, Signal::SIGKILL).unwrap();
            panic!("the program said nothing for {PATIENCE:?}");
        }
    })
}

/// One finished run of the program.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Bench {
    pub fn new(manifest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        fs::write(&path, manifest).unwrap();
        Self { folder, manifest: path }
    }

    /// [`DATA`], run once.
    pub fn ran() -> Self {
        let bench = Self::new(DATA);
        bench.run();
        bench
    }

    pub fn small() -> Self {
        Self::new(SMALL)
    }

    /// The same in another place: everything in the folder is moved there.
    pub fn moved(self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.path()).unwrap() {
            let entry = entry.unwrap();
            fs::rename(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let manifest = folder.path().join("run.toml");
        Self { folder, manifest }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    /// The blobs of the store, sorted.
    pub fn blobs(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.cache().join("blobs")).unwrap();
        let mut blobs: Vec<_> = folders
            .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
            .collect();
        blobs.sort();
        blobs
    }

    /// Replaces text of the manifest, which must be there.
    pub fn edit(&self, old: &str, new: &str) -> &Self {
        let text = fs::read_to_string(&self.manifest).unwrap();
        assert!(text.contains(old), "the manifest has no {old:?}");
        fs::write(&self.manifest, text.replacen(old, new, 1)).unwrap();
        self
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command.env_remove("PIPELINE_CACHE").env_remove("PIPELINE_LOG").env("NO_COLOR", "1");
        command
    }

    /// Runs `pipeline ARGUMENTS` in the folder.
    pub fn pipeline(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// The same in a folder below it, which is made.
    pub fn pipeline_in(&self, folder: &str, arguments: &[&str]) -> Ran {
        let folder = self.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        Ran::of(self.command(arguments).current_dir(folder).output().unwrap())
    }

    /// The same with these variables in its environment.
    pub fn pipeline_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).envs(variables.iter().copied()).output().unwrap())
    }

    /// The same, which must succeed; its standard output as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.pipeline(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Starts `pipeline ARGUMENTS` and waits until it has stopped at a point (`pipeline::store::failpoint`).
    pub fn start_until(&self, point: &str, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.env("PIPELINE_FAILPOINT", format!("{point}:1:stop"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = pid(&child);
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(status, WaitStatus::Stopped(pid, Signal::SIGSTOP), "it ended before {point}");
        child
    }

    /// Starts `pipeline ARGUMENTS`, to be killed or waited for.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// `pipeline run run.toml`, which must succeed; the stages that ran.
    pub fn run(&self) -> Vec<String> {
        self.run_with(&[])
    }

    /// The same with further arguments.
    pub fn run_with(&self, arguments: &[&str]) -> Vec<String> {
        let ran = self.pipeline(&[&["run", "run.toml", "--json"], arguments].concat());
        assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
        ran.stages("stage-finished")
    }

    /// The state of each stage in `pipeline plan --json`.
    pub fn plan(&self) -> BTreeMap<String, String> {
        let ran = self.pipeline(&["plan", "run.toml", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        plan["stages"].as_array().unwrap().iter().map(|stage| (text(&stage["name"]), text(&stage["state"]))).collect()
    }

    /// The digest of each output of each stage, from `pipeline show --json`.
    pub fn digests(&self, stages: &[&str]) -> BTreeMap<String, String> {
        let mut digests = BTreeMap::new();
        for stage in stages {
            let ran = self.pipeline(&["show", "run.toml", stage, "--json"]);
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
            for (port, output) in shown["outputs"].as_object().unwrap() {
                digests.insert(format!("{stage}.{port}"), output["digest"].as_str().unwrap().to_owned());
            }
        }
        digests
    }
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The events of `--json`.
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The stages with an event of this name, sorted.
    pub fn stages(&self, event: &str) -> Vec<String> {
        let events = self.events();
        let of_kind = events.iter().filter(|value| value["event"] == event);
        let mut stages: Vec<_> = of_kind.map(|value| value["stage"].as_str().unwrap().to_owned()).collect();
        stages.sort();
        stages
    }
}
