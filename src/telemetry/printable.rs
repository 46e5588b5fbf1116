//! Text from outside, made safe to look at: characters that steer a terminal are shown and not obeyed.
//!
//! What a client or an operator sends may hold them, and so may a file. Called by whatever ends on a
//! terminal: the access log and the verbs. It never changes what a request carries.

use std::fmt::Write as _;

/// Whether a character steers a terminal or turns the reading order: C0, DEL, C1, and Unicode's bidirectional
/// controls (UAX 9, section 2).
#[must_use]
pub fn steers(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || turns
}

/// Adds a text in which such characters are written as `\u{9b}`.
pub fn push(out: &mut String, text: &str) {
    push_but(out, text, |_| false);
}

/// The text of several lines: line breaks and tabs stay, all else that steers is written as `\u{9b}`.
#[must_use]
pub fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_but(&mut out, text, |c| matches!(c, '\n' | '\t'));
    out
}

/// A text with line breaks and colours of our own, to which the sequences belong that ESC begins.
#[must_use]
pub fn coloured(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_but(&mut out, text, |c| matches!(c, '\n' | '\t' | '\u{1b}'));
    out
}

/// JSON that says the same, in which such characters are written as `\u009b`. Line breaks between its values stay.
#[must_use]
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if steers(c) && c != '\n' => push_json(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

/// Adds one such character as a JSON string holds it. All of them are in the first plane.
pub fn push_json(out: &mut String, c: char) {
    write!(out, "\\u{:04x}", u32::from(c)).ok();
}

fn push_but(out: &mut String, text: &str, stays: fn(char) -> bool) {
    if text.bytes().all(|b| (b' '..0x7f).contains(&b)) {
        return out.push_str(text);
    }
    for c in text.chars() {
        match c {
            c if steers(c) && !stays(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown() {
        let mut out = String::new();
        push(
            &mut out,
            "a\u{1b}[31m\n\0\u{7f}\u{85}\u{9b}1m\u{202e}é \u{2069}日",
        );
        assert_eq!(
            out,
            "a\\u{1b}[31m\\u{a}\\u{0}\\u{7f}\\u{85}\\u{9b}1m\\u{202e}é \\u{2069}日"
        );
        assert_eq!(coloured("\u{1b}[1ma\u{9b}\n"), "\u{1b}[1ma\\u{9b}\n");
        assert_eq!(lines("a\n\tb\r\u{1b}c"), "a\n\tb\\u{d}\\u{1b}c");
    }

    #[test]
    fn json_says_the_same_without_them() {
        let value = serde_json::json!({"a": "x\u{9b}1m\u{202e}\u{7f}\u{1b}é"});
        let text = json(&value.to_string());
        assert!(!text.contains(steers), "{text}");
        let again: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(again, value);
    }
}
