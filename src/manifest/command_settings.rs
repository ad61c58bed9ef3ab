//! Settings of kinds on the command line, for a command that does the work of these kinds without a manifest.

use contract::Kind;
use serde_json::{Map, Value as Json};

use super::diagnostic::Diagnostics;
use super::document::Table;
use super::place::COMMAND_LINE;
use super::set;
use super::setting_schema::SettingSchema;
use super::source::Span;
use super::validate::validate;

/// Validates `SETTING=VALUE` arguments, of which later ones win, as a manifest validates the settings of a stage. `command` has the settings of
/// `schemas`, no two of which have one name; the rules between settings are those of `kinds`.
///
/// # Errors
/// Returns every problem, each with its argument.
pub fn command_settings(
    command: &str,
    arguments: &[String],
    schemas: &[&Json],
    kinds: &[Kind],
) -> Result<Map<String, Json>, Diagnostics> {
    let mut diagnostics = Diagnostics::new(command);
    let directory = std::env::current_dir().unwrap_or_default();
    let hint = "for example --set level=0.9, or --set 'stops=[\"\\ndef\"]'";
    let mut document = Table::default();
    for argument in arguments {
        set::apply(&mut document, argument, &directory, hint, &mut diagnostics);
    }
    let source = diagnostics.add_source(COMMAND_LINE, directory, String::new());
    let schemas: Vec<_> = schemas.iter().map(|schema| SettingSchema::of(schema)).collect();
    let whole = Span { source, start: 0, end: 0 };
    let settings = validate(whole, &document, &schemas, &[], format!("'{command}'"), &mut diagnostics);
    for kind in kinds {
        settings.parse(kind, &mut diagnostics);
    }
    diagnostics.sort();
    if diagnostics.is_empty() { Ok(settings.json) } else { Err(diagnostics) }
}
