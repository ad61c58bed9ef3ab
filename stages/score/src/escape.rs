//! Escapes generated text for pages, so that it is shown without effects on the page.

use std::fmt::Write;

/// Returns the text with invisible characters escaped as in Rust (`\u{202e}`): control characters except line feeds
/// and tabs, directional and other invisible formatting characters, and line separators.
pub fn visible(text: &str) -> String {
    let is_hidden = |letter: char| match letter {
        '\n' | '\t' => false,
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        letter => letter.is_control(),
    };
    text.chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        match is_hidden(letter) {
            // Writing to a String cannot fail.
            true => drop(write!(shown, "\\u{{{:x}}}", u32::from(letter))),
            false => shown.push(letter),
        }
        shown
    })
}

/// Escapes text for an element or a quoted attribute of HTML.
pub fn html(text: &str) -> String {
    visible(text).chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        match letter {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            letter => shown.push(letter),
        }
        shown
    })
}

/// Escapes text for a line or a table's cell of Markdown, so that it creates no mark-up, link, element or border.
pub fn markdown(text: &str) -> String {
    let plain = visible(text).chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        match letter {
            '\n' | '\t' => shown.push(' '),
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            // Some renderers make it a mention.
            '@' => shown.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '!' | '|' | '~' | '$' => {
                shown.extend(['\\', letter]);
            }
            letter => shown.push(letter),
        }
        shown
    });
    // Some renderers turn addresses into links.
    plain.replace("://", "&#58;//").replace("www.", "www&#46;")
}

/// Formats text as a code block of Markdown, with a fence longer than any in the text.
pub fn markdown_block(text: &str) -> String {
    let text = visible(text);
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    format!("{fence}python\n{text}{end}{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_steers_is_spelled_out() {
        assert_eq!(visible("a\u{202e}b\r\0\u{1b}[2J\tß\n"), "a\\u{202e}b\\u{d}\\u{0}\\u{1b}[2J\tß\n");
        assert_eq!(html("</pre><script>\"'&"), "&lt;/pre&gt;&lt;script&gt;&quot;&#39;&amp;");
        assert_eq!(markdown("a|b\n[x](http://y)"), "a\\|b \\[x\\]\\(http&#58;//y\\)");
        assert_eq!(markdown_block("```\n<x>"), "````python\n```\n<x>\n````\n");
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_place(text in "[\\PC\\n\\r`<>|&\"'\\\\]{0,60}") {
            let shown = html(&text);
            prop_assert!(!shown.contains(['<', '>', '"', '\'']));
            let cell = markdown(&text);
            prop_assert!(!cell.contains(['<', '>', '\n', '\r']));
            let borders = cell.match_indices('|').filter(|(place, _)| {
                cell[..*place].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0
            });
            prop_assert_eq!(borders.count(), 0);
            let block = markdown_block(&text);
            let fence = block.lines().next().unwrap().trim_end_matches("python").to_owned();
            let closings = block.lines().skip(1).filter(|line| line.trim_start().starts_with(&fence)).count();
            prop_assert_eq!(closings, 1, "{}", block);
        }
    }
}
