//! Three documents, and the message of a failure.

use contract::StageError;

use crate::support::{Doc, doc};

pub fn three() -> Vec<Doc> {
    vec![
        doc("a/one", "x.py", "mit", "print('é < \u{1f600}')\n"),
        doc("b/two", "y.py", "gpl-3.0", "x = 1\r\ny = \"\\u0041\"\n"),
        doc("b/two", "z.py", "mit", ""),
    ]
}

pub fn message(result: contract::Result<std::collections::BTreeMap<String, contract::InputTree>>) -> String {
    match result {
        Err(StageError::Failed(failure)) => format!("{failure} | {}", failure.hint.clone().unwrap_or_default()),
        other => panic!("expected a failure, got {other:?}"),
    }
}
