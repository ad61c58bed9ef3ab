//! The `README.md` of an export with several outputs: a dataset card of Hugging Face datasets, so that
//! `datasets.load_dataset(DIR)` reads the main output and ignores the others.
//!
//! | configuration | its splits |
//! |---|---|
//! | `default` | the first table of documents and those with the same columns: named after their ports, or `train` if there is only one |
//! | one for each other table, named after its port | `train` |
//!
//! Other outputs, and tables without files, are not in any configuration.

use std::fmt::Write;

use contract::PortType;
use tables::Column;

/// A table of an export.
pub(super) struct ExportedTable {
    /// The port, and the directory that contains its files.
    pub(super) port: String,
    pub(super) ty: PortType,
    pub(super) columns: Vec<Column>,
}

/// Returns the card of a stage whose tables have files of this extension; `None` if it has no table.
pub(super) fn card(stage: &str, tables: &[ExportedTable], extension: &str) -> Option<String> {
    let main = tables.iter().find(|table| table.ty == PortType::Documents).or(tables.first())?;
    let (default, others): (Vec<_>, Vec<_>) =
        tables.iter().partition(|table| table.ty == main.ty && table.columns == main.columns);
    let mut text = "---\nconfigs:\n- config_name: default\n  default: true\n  data_files:\n".to_owned();
    for table in &default {
        let split = if default.len() == 1 { "train".to_owned() } else { table.port.replace('-', "_") };
        let _ = write!(text, "  - split: {split}\n    path: {}/*.{extension}\n", table.port);
    }
    for table in others {
        let port = &table.port;
        let _ =
            write!(text, "- config_name: {port}\n  data_files:\n  - split: train\n    path: {port}/*.{extension}\n");
    }
    let _ = write!(
        text,
        "---\n\n# {stage}\n\nWritten by `pipeline export`: a directory for each output of the stage `{stage}`. \
         `datasets.load_dataset` reads the\nconfiguration `default`; the name of another one selects it.\n"
    );
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(port: &str, ty: PortType, columns: &[&str]) -> ExportedTable {
        let column = |name: &&str| Column { name: (*name).to_owned(), ty: "Utf8".to_owned() };
        ExportedTable { port: port.to_owned(), ty, columns: columns.iter().map(column).collect() }
    }

    fn configs(tables: &[ExportedTable]) -> String {
        let card = card("stage", tables, "parquet").unwrap();
        let (front, _) = card.strip_prefix("---\n").unwrap().split_once("---\n").unwrap();
        front.replace(": ", ":").replace('\n', " ")
    }

    #[test]
    fn the_documents_are_the_default_and_other_tables_have_names() {
        let dropped = || table("dropped", PortType::Rows, &["id", "rule"]);
        assert_eq!(
            configs(&[dropped(), table("documents", PortType::Documents, &["id"])]),
            "configs: - config_name:default   default:true   data_files:   - split:train     path:documents/*.parquet \
             - config_name:dropped   data_files:   - split:train     path:dropped/*.parquet "
        );
        let splits = ["train", "valid-2"].map(|port| table(port, PortType::Documents, &["id"]));
        assert_eq!(
            configs(&splits),
            "configs: - config_name:default   default:true   data_files:   - split:train     path:train/*.parquet   \
             - split:valid_2     path:valid-2/*.parquet "
        );
        let other = table("other", PortType::Documents, &["id", "score"]);
        assert!(configs(&[table("documents", PortType::Documents, &["id"]), other]).contains("config_name:other"));
        assert!(configs(&[dropped()]).contains("path:dropped/*.parquet"));
        assert_eq!(card("stage", &[], "jsonl"), None);
    }
}
