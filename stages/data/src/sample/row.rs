//! Rows as BigQuery exports them.

use serde::Serialize;

use super::document::SampleDocument;

#[derive(Serialize)]
struct Row<'a> {
    repo_name: &'a str,
    path: &'a str,
    copies: String,
    size: String,
    content: &'a str,
    license: &'a str,
}

/// Returns the line of a document.
pub(super) fn line(document: &SampleDocument) -> Vec<u8> {
    let row = Row {
        repo_name: &document.repo_name,
        path: &document.path,
        copies: document.copies.to_string(),
        size: document.content.len().to_string(),
        content: &document.content,
        license: document.license,
    };
    // Strings alone cannot fail to serialise.
    let json = serde_json::to_string(&row).unwrap_or_default();
    let mut line = String::with_capacity(json.len() + json.len() / 16 + 1);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '=' | '\'' | '\u{2028}' | '\u{2029}' => line.push_str(&format!("\\u{:04x}", c as u32)),
            c => line.push(c),
        }
    }
    line.push('\n');
    line.into_bytes()
}

/// Returns a malformed line, of five kinds in turn.
pub(super) fn bad_row(number: u64) -> Vec<u8> {
    let name = format!("\"repo_name\": \"synthetic/bad-{number:04}\"");
    match number % 5 {
        0 => format!("{{{name}, \"path\": \"cut_off.py\", \"content\": \"import o\n").into_bytes(),
        1 => format!(
            "{{{name}, \"path\": \"no_content.py\", \"copies\": \"1\", \"size\": \"1\", \"license\": \"mit\"}}\n"
        )
        .into_bytes(),
        2 => format!("{{{name}, \"path\": \"half_pair.py\", \"content\": \"\\ud83d\"}}\n").into_bytes(),
        3 => {
            let mut line = format!("{{{name}, \"path\": \"latin1.py\", \"content\": \"caf").into_bytes();
            line.extend(b"\xe9\"}\n");
            line
        }
        _ => format!("{{{name}, \"path\": \"size.py\", \"copies\": \"1\", \"size\": \"large\", \"content\": \"\"}}\n")
            .into_bytes(),
    }
}
