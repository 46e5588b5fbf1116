//! Text that is markup: what is ours goes in as it is, everything else is escaped.

use crate::clock;
use serde_json::Value;
use std::fmt::{self, Write as _};

/// A piece of the page.
#[derive(Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Markup of our own.
    pub(super) fn raw(&mut self, ours: &'static str) -> &mut Self {
        self.0.push_str(ours);
        self
    }

    /// Anything that can be shown, escaped.
    pub(super) fn text(&mut self, shown: impl fmt::Display) -> &mut Self {
        write!(Escaped(&mut self.0), "{shown}").ok();
        self
    }

    /// A JSON value as text: a dash for nothing.
    pub(super) fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Null => self.raw("–"),
            Value::String(text) => self.text(text),
            other => self.text(other),
        }
    }

    /// A time of day, with the whole time for machines.
    pub(super) fn time(&mut self, at: &Value) -> &mut Self {
        let whole = at.as_str().unwrap_or_default();
        let of_day = whole.get(11..19).unwrap_or(whole);
        self.raw("<time datetime=\"").text(whole);
        self.raw("\">").text(of_day).raw("</time>")
    }

    /// An id that a click copies.
    pub(super) fn id(&mut self, id: &Value) -> &mut Self {
        let id = id.as_str().unwrap_or_default();
        self.raw("<code class=\"id\">").text(id);
        self.raw("</code><button type=\"button\" class=\"copy\" data-copy=\"")
            .text(id);
        self.raw("\" aria-label=\"Copy ").text(id);
        self.raw("\">Copy</button>")
    }

    /// What has been made.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

/// What stands at a path such as `/config/hash`; null where nothing does.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

/// The items of a list, none where there is no list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The members of an object, none where there is none.
pub(super) fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A text, empty where there is none.
pub(super) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Seconds in words.
pub(super) fn lasting(seconds: &Value) -> String {
    clock::lasting(seconds.as_u64().unwrap_or(0))
}

/// A count and what is counted: `1 call`, `2 calls`.
pub(super) fn counted(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}
