//! `pipeline stages`: the stage kinds with their settings, defaults and docs.

use std::io::Write;

use clap::Args;
use contract::{Kind, shortened};
use serde_json::{Value, json};

use super::CommandError;
use super::stdout::{print_json, stdout};
use crate::exit::Exit;
use crate::kinds::kinds;
use crate::manifest::Setting;

/// Arguments of `stages`.
#[derive(Debug, Args)]
pub struct StagesArguments {
    /// Show this kind.
    pub kind: Option<String>,
    /// Print JSON.
    #[arg(long, conflicts_with = "schema")]
    pub json: bool,
    /// Print the JSON schema of a manifest.
    #[arg(long, conflicts_with = "kind")]
    pub schema: bool,
}

pub(super) fn run(arguments: &StagesArguments) -> Result<Exit, CommandError> {
    let kinds = kinds();
    if arguments.schema {
        return Ok(print_json(&crate::manifest::schema(&kinds))?);
    }
    let wanted: Vec<_> = match &arguments.kind {
        None => kinds.iter().collect(),
        Some(name) => match kinds.iter().find(|kind| kind.name == name) {
            Some(kind) => vec![kind],
            None => {
                let error = CommandError::usage(format!("unknown stage kind '{name}'"));
                return Err(error.suggest(name, "the kinds are", kinds.iter().map(|kind| kind.name)));
            }
        },
    };
    if arguments.json {
        return Ok(print_json(&wanted.into_iter().map(as_json).collect::<Vec<_>>())?);
    }
    let mut out = stdout();
    if arguments.kind.is_some() {
        wanted.iter().try_for_each(|kind| page(&mut out, kind))?;
    } else {
        let width = wanted.iter().map(|kind| kind.name.len()).max().unwrap_or(0);
        for kind in wanted {
            writeln!(out, "{:width$}  {}", kind.name, first_sentence(kind.about()))?;
        }
        writeln!(out, "\npipeline stages KIND shows its ports and settings")?;
    }
    Ok(Exit::Done)
}

fn first_sentence(text: &str) -> String {
    let line = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    line.split_once(". ").map_or(line.clone(), |(first, _)| format!("{first}."))
}

fn page(out: &mut impl Write, kind: &Kind) -> std::io::Result<()> {
    let seeded = if kind.seeded { ", draws random choices from the run's seed" } else { "" };
    writeln!(out, "{} (revision {}{seeded})\n\n{}\n", kind.name, kind.revision, kind.about())?;
    if !kind.ports.inputs.is_empty() || kind.ports.open {
        writeln!(out, "inputs")?;
        for port in &kind.ports.inputs {
            let optional = if port.required { "" } else { " (optional)" };
            writeln!(out, "  {} : {}{optional}\n      {}", port.name, port.ty, port.about)?;
        }
        if kind.ports.open {
            writeln!(out, "  any other name : files (optional)")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "outputs")?;
    for port in &kind.ports.outputs {
        writeln!(out, "  {} : {}\n      {}", port.name, port.ty, port.about)?;
    }
    settings(out, "settings (hashed into the key)", &kind.spec_schema)?;
    settings(out, "settings that do not change the output (not hashed)", &kind.exec_schema)
}

fn settings(out: &mut impl Write, title: &str, schema: &Value) -> std::io::Result<()> {
    let settings = crate::manifest::settings(schema);
    if settings.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for Setting { path, default, required, permitted, choices, about } in settings {
        let value = match default {
            // The settings of a table are listed one by one.
            Some(default) if default.is_object() => String::new(),
            Some(default) => format!(" = {}", shortened(&default.to_string())),
            None if required => " (required)".to_owned(),
            None => String::new(),
        };
        writeln!(out, "  {path}{value}")?;
        about.lines().try_for_each(|line| writeln!(out, "      {line}"))?;
        if choices.is_empty() {
            writeln!(out, "      ({permitted})")?;
        }
        choices
            .iter()
            .try_for_each(|(choice, about)| writeln!(out, "      \"{choice}\": {}", first_sentence(about)))?;
    }
    Ok(())
}

fn as_json(kind: &Kind) -> Value {
    json!({
        "kind": kind.name,
        "revision": kind.revision,
        "seeded": kind.seeded,
        "about": kind.about(),
        "ports": kind.ports,
        "spec": *kind.spec_schema,
        "exec": *kind.exec_schema,
    })
}
