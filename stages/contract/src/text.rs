//! Text that came from elsewhere, on its way to a terminal.

/// The text with every control character spelled out as Rust escapes it (`\u{1b}`, `\r`), but for line feeds and those in
/// `kept`: names, rows and what programs say may come from anyone, and nothing of them steers a terminal.
pub fn printable(text: &str, kept: &[char]) -> String {
    let steers = |c: char| c.is_control() && c != '\n' && !kept.contains(&c);
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        match steers(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_steers_is_spelled_out() {
        assert_eq!(printable("a\u{1b}[2J\r\u{9b}\tß\n", &[]), "a\\u{1b}[2J\\r\\u{9b}\\tß\n");
        assert_eq!(printable("\ta\r", &['\t']), "\ta\\r");
    }
}
