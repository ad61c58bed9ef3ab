//! The stage kind `command`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use contract::{
    Context, MachineCheck, PortType, Ports, Problem, Result, SourceFile, SourcePattern, Stage, StageError, Unit,
    is_port_name, setting_path,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::confined::{self, Confined};
use crate::placeholder::{INPUT, Place, Template};
use crate::process::{ProgramEnd, describe};
use crate::workspace::{self, Workspace};
use crate::{leftover, log, output};

/// The port of a command that declares no outputs.
const FILES: &str = "files";

/// The stage kind `command`.
#[derive(Debug)]
pub struct Command;

/// Runs any program on declared inputs and outputs, without a shell. The program's own file is in the key only if `files`
/// lists it. The program runs with the rights of the user; with `sandbox = true`, it can access only declared files.
///
/// The program runs in a separate directory. `{input:PORT}` is a directory with the input's files, read-only. A table
/// (documents or rows) is provided as plain Parquet files with all columns, including `content`, and exactly the table's rows:
/// read `{input:PORT}/*.parquet`. These files are written once for all stages that read them. `{output:PORT}` is an empty directory; all
/// files that it contains at the end are the output.
///
/// The stage fails unless each output is valid for its declared type:
///
/// - `documents`: Parquet files with a string column `content`; `repo_name`, `path`, `license` (strings), `copies` and `size`
///   (integers) are used if they exist, `id` is computed, further columns are kept;
/// - `rows`: Parquet files that all have the same columns;
/// - `tokenizer`: `tokenizer.json`; `tokens`: `tokens.bin`; `model`: `config.json` and `model.safetensors`;
/// - `report`: any files, of which those that end in `.json` must be JSON; `files`: any files.
///
/// Example: remove every document that does not compile. The script is in the key; any stage can read the outputs.
///
/// ```toml
/// [stages.compiled]
/// kind      = "command"
/// inputs    = { documents = "quality" }
/// program   = "python3"
/// arguments = ["{source:compiled.py}", "{input:documents}", "{output:documents}", "{output:report}"]
/// outputs   = { documents = "documents", report = "report" }
/// files     = ["scripts/compiled.py"]
/// ```
///
/// ```python
/// import ast, duckdb, json, sys
///
/// source, documents, report = sys.argv[1:]
///
/// def compiles(content: str) -> bool:
///     try:
///         ast.parse(content)
///         return True
///     except (SyntaxError, ValueError):
///         return False
///
/// con = duckdb.connect()
/// con.create_function("compiles", compiles)
/// con.execute(f"create view input as from read_parquet('{source}/*.parquet')")
/// con.execute(f"copy (from input where compiles(content)) to '{documents}/documents.parquet' (format parquet)")
/// rows = con.execute("select count(*) from input").fetchone()[0]
/// with open(f"{report}/report.json", "w") as file:
///     json.dump({"rows": rows}, file)
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CommandSpec")]
pub struct Spec {
    /// The program: a name that is looked up in PATH, an absolute path, or `{source:NAME}`.
    #[schemars(length(min = 1))]
    pub program: String,
    /// The arguments of the program. `{input:PORT}`, `{output:PORT}` and `{source:NAME}` are replaced by paths; `{{` and `}}` by braces. No
    /// shell parses them, so spaces need no quotes. In a script for `sh -c`, pass a path of `files`, which may contain any character, as
    /// an argument, `["-c", "wc \"$1\"", "sh", "{source:NAME}"]`. The files of an input that is not a table are links: `cp -rL`
    /// and `find -L` follow them.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The output ports and their types (above). By default, there is one output port, `files`.
    #[serde(default)]
    pub outputs: BTreeMap<String, PortType>,
    /// Environment variables with their values, which are part of the key. Values may contain the same placeholders as arguments.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Run the program in a sandbox, so that its output depends only on declared inputs. The program can read the inputs, `files`,
    /// `readable`, and the system's programs and libraries (`/usr`, `/bin`, `/lib` and the like, and their files in `/etc`);
    /// it can write to its working directory, which contains the outputs, and to an empty `/tmp`. There is no network, no home directory and
    /// no other process, and the time zone is UTC. Other files of the machine that the program looks for are listed in the error if it
    /// fails, and in a warning otherwise. The sandbox needs Linux with user namespaces, seccomp and Landlock: see docs/sandbox.md.
    #[serde(default)]
    pub sandbox: bool,
}

/// Settings that do not change the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CommandExec")]
pub struct Exec {
    /// Scripts and other files outside the store that the program reads. Their contents and their names, as written
    /// here, are part of the key; the base directory of relative names is not.
    #[serde(default)]
    pub files: Vec<SourcePattern>,
    /// Environment variables that the program inherits. Their values are not part of the key.
    #[serde(default = "passed")]
    pub pass: BTreeSet<String>,
    /// Additional files and directories that the program may read in the sandbox, as absolute paths, for example a virtual
    /// environment of Python. Their content is not part of the key.
    #[serde(default)]
    #[schemars(inner(length(min = 1)))]
    pub readable: Vec<PathBuf>,
    /// The time limit in seconds, after which the program is stopped and the stage fails. By default, there is no limit.
    #[serde(default)]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub timeout_seconds: Option<u64>,
}

fn passed() -> BTreeSet<String> {
    ["HOME", "PATH"].map(str::to_owned).into()
}

impl Spec {
    /// Returns the output ports with their types.
    fn ports(&self) -> impl Iterator<Item = (&str, PortType)> {
        let default = self.outputs.is_empty().then_some((FILES, PortType::Files));
        self.outputs.iter().map(|(name, ty)| (name.as_str(), *ty)).chain(default)
    }

    /// Returns the output port of a placeholder.
    ///
    /// # Errors
    /// Returns the reason that the name is invalid.
    fn output(&self, name: Option<&str>) -> Result<&str, String> {
        let mut ports = self.ports().map(|(port, _)| port);
        match name {
            Some(name) => ports.find(|port| *port == name).ok_or_else(|| format!("there is no output '{name}'")),
            None => match (ports.next(), ports.next()) {
                (Some(port), None) => Ok(port),
                _ => Err("'{output}' is ambiguous: there are several outputs".to_owned()),
            },
        }
    }

    /// Returns every string with placeholders, by its setting.
    fn templates(&self) -> impl Iterator<Item = (String, &str)> {
        let arguments = self.arguments.iter().enumerate();
        std::iter::once(("program".to_owned(), self.program.as_str()))
            .chain(arguments.map(|(number, text)| (format!("arguments[{number}]"), text.as_str())))
            .chain(self.environment.iter().map(|(name, text)| (setting_path("environment", name), text.as_str())))
    }
}

impl Stage for Command {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "command";
    const NAMED_SOURCES: bool = true;
    const COPIES_TABLES: bool = true;
    const REVISION: u32 = 2;

    fn ports() -> Ports {
        let ports = Ports::new()
            .optional_input(
                INPUT,
                PortType::Files,
                "the files of `input = \"stage\"`; further inputs have names of your choice",
            )
            .output(FILES, PortType::Files, "the files that the program writes; `outputs` declares other ports");
        Ports { open: true, ..ports }
    }

    fn ports_of(spec: &Spec) -> Ports {
        let declared = Ports { outputs: Vec::new(), ..Self::ports() };
        spec.ports().fold(declared, |ports, (name, ty)| {
            let ports = ports.output(name.to_owned(), ty, "the output of the program");
            ports.declared_by(setting_path("outputs", name))
        })
    }

    fn check(spec: &Spec, exec: &Exec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let relative = spec.program.contains('/') && !spec.program.starts_with(['/', '{']);
        if relative {
            problems.push(
                Problem::new("program", format!("'{}' is a relative path", spec.program))
                    .hint("list the file in `files` and name it as \"{source:NAME}\""),
            );
        }
        for (number, path) in exec.readable.iter().enumerate() {
            if !path.is_absolute() || path.parent().is_none() {
                let message = format!("'{}' is not an absolute path below /", path.display());
                problems.push(Problem::new(format!("readable[{number}]"), message));
            }
        }
        for (setting, text) in spec.templates() {
            problems.extend(check_template(spec, exec, &setting, text).err());
        }
        for name in spec.outputs.keys().filter(|name| !is_port_name(name)) {
            problems.push(
                Problem::new(setting_path("outputs", name), format!("invalid port name '{name}'"))
                    .hint("a port's name has lowercase letters, digits, '-' and '_'"),
            );
        }
        for (setting, name) in spec
            .environment
            .keys()
            .map(|name| (setting_path("environment", name), name))
            .chain(exec.pass.iter().enumerate().map(|(number, name)| (format!("pass[{number}]"), name)))
        {
            if name.is_empty() || name.contains(['=', '\0']) {
                problems.push(Problem::new(setting, format!("invalid variable name '{}'", name.escape_debug())));
            }
        }
        problems
    }

    fn sources(_: &Spec, exec: &Exec) -> Vec<SourcePattern> {
        exec.files.clone()
    }

    fn check_machine(spec: &Spec, _: &Exec) -> Vec<MachineCheck> {
        if spec.sandbox { vec![confined::check_machine()] } else { Vec::new() }
    }

    fn run(spec: &Spec, exec: &Exec, context: &Context) -> Result<()> {
        context.cancel.check()?;
        let command = command(spec, exec, context)?;
        let ports: Vec<&str> = spec.ports().map(|(port, _)| port).collect();
        let log = std::path::absolute(context.scratch.join("log"))?;
        leftover::end(&log)
            .map_err(|error| StageError::io("stop the processes of an earlier attempt", &error).in_file(&log))?;
        let workspace = Workspace::lay_out(&context.scratch.join("work"), context, ports.iter().copied())?;
        let writer = File::create(&log)?;
        let (mut command, confined) = match spec.sandbox {
            true => {
                let reach = confined::reach(&context.scratch, &workspace, &log, &context.sources, &exec.readable)?;
                let (command, confined) = Confined::confine(&command, reach)?;
                (command, Some(confined))
            }
            false => {
                let mut command = command;
                command.current_dir(workspace.folder());
                crate::process::end_with_this_thread(&mut command);
                (command, None)
            }
        };
        command.stdin(process::Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let timeout = exec.timeout_seconds.map(Duration::from_secs);
        context.progress.start("", Unit::Seconds, None);
        let each_second = |seconds| {
            context.progress.set(seconds);
            let last = log::last_lines(&log, 1).unwrap_or_default();
            context.progress.phase(last.first().map_or("", |line| line.trim()));
        };
        let outcome = crate::process::run(&mut command, &context.cancel, timeout, each_second);
        let (undeclared, missing) = confined.map_or(Ok(Default::default()), |confined| confined.finish(&outcome))?;
        if let Some(missing) = missing {
            return Err(missing);
        }
        let outcome = outcome.map_err(|error| undeclared.explain(not_started(&command, &error)))?;
        log::last_lines(&log, log::KEPT).unwrap_or_default().into_iter().for_each(|line| context.progress.output(line));
        let program = spec.program.as_str();
        match outcome {
            ProgramEnd::Cancelled => return Err(StageError::Interrupted),
            ProgramEnd::TimedOut => {
                let limit = exec.timeout_seconds.unwrap_or_default();
                let failed = failed(&format!("'{program}' ran longer than {limit} s and was stopped"), &log);
                let failed = failed.hint(format!("raise timeout_seconds; the log is {}", log.display()));
                return Err(undeclared.explain(failed));
            }
            ProgramEnd::Exited(status) if !status.success() => {
                let failed = failed(&format!("'{program}' {}", describe(status)), &log);
                return Err(undeclared.explain(failed.hint(format!("the full output is in {}", log.display()))));
            }
            ProgramEnd::Exited(_) => undeclared.warn(&context.progress),
        }
        workspace.check_inputs()?;
        spec.ports().try_for_each(|(port, ty)| output::take(context, &workspace, port, ty))
    }
}

/// Returns whether a pattern may match a file whose path ends with this name.
fn may_be(pattern: &str, name: &str) -> bool {
    pattern.contains(['*', '?', '[']) || Path::new(pattern).ends_with(name)
}

fn check_template(spec: &Spec, exec: &Exec, setting: &str, text: &str) -> Result<(), Problem> {
    let problem = |message: &str| {
        let hint = "placeholders are {input:PORT}, {output:PORT} and {source:NAME}; {{ and }} are braces";
        Problem::new(setting, message).hint(hint)
    };
    if text.contains('\0') {
        return Err(problem("contains a zero byte"));
    }
    let template: Template = text.parse().map_err(|error: String| problem(&error))?;
    template.places().try_for_each(|place| match place {
        Place::Output(name) => match spec.output(name.as_deref()) {
            Ok(_) => Ok(()),
            Err(message) => Err(problem(&message).depends_on("outputs")),
        },
        Place::Source(_) if exec.files.is_empty() => {
            Err(problem("names a file, but `files` lists none").depends_on("files"))
        }
        Place::Source(Some(name)) if !exec.files.iter().any(|file| may_be(&file.0, name)) => {
            Err(problem(&format!("no file in `files` is named '{name}'")).depends_on("files"))
        }
        Place::Input(_) | Place::Source(_) => Ok(()),
    })
}

/// Returns the program with its arguments and environment.
fn command(spec: &Spec, exec: &Exec, context: &Context) -> Result<process::Command> {
    let fill = |text: &str| -> Result<String> {
        let template: Template = text.parse().map_err(StageError::new)?;
        template.fill(|place| match place {
            Place::Input(port) => match context.inputs.get(port) {
                Some(_) => Ok(workspace::input(port)),
                None => Err(StageError::new(format!("'{text}' refers to the input '{port}', which is not connected"))
                    .hint(format!("connect it: inputs = {{ {port} = \"stage.output\" }}"))),
            },
            Place::Output(name) => Ok(workspace::output(spec.output(name.as_deref()).map_err(StageError::new)?)),
            Place::Source(name) => source(&context.sources, name.as_deref()),
        })
    };
    let mut command = process::Command::new(fill(&spec.program)?);
    command.env_clear();
    for name in &exec.pass {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for (name, text) in &spec.environment {
        command.env(name, fill(text)?);
    }
    for text in &spec.arguments {
        command.arg(fill(text)?);
    }
    Ok(command)
}

/// Returns the path of the file whose path ends in `name`, or of the only file.
fn source(sources: &[SourceFile], name: Option<&str>) -> Result<String> {
    let mut named = sources.iter().filter(|file| name.is_none_or(|name| file.path.ends_with(name)));
    let wanted = name.map_or("{source}".to_owned(), |name| format!("{{source:{name}}}"));
    let file = match (named.next(), named.next()) {
        (Some(file), None) => file,
        (None, _) => {
            return Err(StageError::new(format!("'{wanted}' matches no file in `files`"))
                .hint("list it: files = [\"scripts/NAME\"]"));
        }
        (Some(_), Some(_)) => {
            return Err(StageError::new(format!("'{wanted}' may match several files"))
                .hint("name it by more of its path, such as {source:folder/NAME}"));
        }
    };
    let path = std::path::absolute(&file.path)?;
    path.to_str().map(str::to_owned).ok_or_else(|| StageError::new("its path is not UTF-8").in_file(&file.path))
}

fn not_started(command: &process::Command, error: &io::Error) -> StageError {
    let program = command.get_program().display();
    match error.kind() {
        io::ErrorKind::NotFound => StageError::new(format!("the program '{program}' was not found")).hint(
            "install it, or give its absolute path; PATH is searched only if `pass` lists it, and a script needs the \
             interpreter in its first line",
        ),
        io::ErrorKind::PermissionDenied => {
            StageError::new(format!("the program '{program}' is not executable")).hint("chmod +x it")
        }
        _ => StageError::io(format!("run '{program}'"), error),
    }
}

/// Creates a failure with the last lines of the log.
fn failed(what: &str, log: &Path) -> StageError {
    match log::last_lines(log, log::SHOWN) {
        Ok(lines) if lines.is_empty() => StageError::new(format!("{what}; it wrote nothing")),
        Ok(lines) => StageError::new(format!("{what}; it last wrote:\n  {}", lines.join("\n  "))),
        Err(error) => StageError::new(format!("{what}; its log cannot be read: {error}")),
    }
}
