//! `${NAME}` in a scalar of the file: expanded after parsing, so that a value can never become YAML.
//!
//! | written | becomes |
//! |---|---|
//! | `${NAME}` | the variable; a problem where it is not set |
//! | `${NAME:-default}` | the same, or `default` where it is not set or empty; `default` may hold balanced braces and further expressions |
//! | `${NAME:?message}` | the variable; a problem with `message` where it is not set or empty |
//! | `$$` | a dollar |
//!
//! Any other dollar stays. Errors name variables and never tell their values.

use std::ffi::OsString;
use std::fmt;

/// Expressions within defaults within defaults, beyond which a text is refused.
const DEEPEST: usize = 16;

/// How a variable is looked up, as the system holds it: it may be no text.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A scalar with its variables put in.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The result.
    pub text: String,
    /// The variables whose values are in it.
    pub from: Vec<String>,
}

impl fmt::Debug for Expanded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expanded")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// Why a scalar could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unexpanded {
    /// A variable that is not set and has no default.
    NotSet(String),
    /// A variable that is mandatory in the file's own words.
    Demanded {
        /// Its name.
        name: String,
        /// What the file says about it.
        message: String,
    },
    /// A variable that is set to bytes that are not UTF-8, which is not the same as not being set.
    NoText(String),
    /// `${` without a name, without an end, or with something else than `:-` or `:?` after the name.
    Malformed,
}

/// Puts the variables into a text.
///
/// # Errors
/// Everything that hinders it, in the order of the text.
pub fn expand(text: &str, env: Env<'_>) -> Result<Expanded, Vec<Unexpanded>> {
    let mut expansion = Expansion {
        env,
        out: Expanded::default(),
        faults: Vec::new(),
    };
    expansion.run(text, 0);
    if expansion.faults.is_empty() {
        Ok(expansion.out)
    } else {
        Err(expansion.faults)
    }
}

struct Expansion<'e> {
    env: Env<'e>,
    out: Expanded,
    faults: Vec<Unexpanded>,
}

impl Expansion<'_> {
    fn run(&mut self, text: &str, depth: usize) {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            self.out.text.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                self.out.text.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let Some((inside, after)) = split_at_close(after) else {
                    return self.faults.push(Unexpanded::Malformed);
                };
                self.expression(inside, depth);
                rest = after;
            } else {
                self.out.text.push('$');
            }
        }
        self.out.text.push_str(rest);
    }

    fn expression(&mut self, inside: &str, depth: usize) {
        let end = inside.find(|c: char| !is_name(c)).unwrap_or(inside.len());
        let (name, operand) = inside.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || depth == DEEPEST {
            return self.faults.push(Unexpanded::Malformed);
        }
        let value = match (self.env)(name).map(OsString::into_string) {
            Some(Err(_)) => return self.faults.push(Unexpanded::NoText(name.to_owned())),
            Some(Ok(value)) => Some(value),
            None => None,
        };
        if operand.is_empty() {
            match value {
                Some(value) => self.put(name, &value),
                None => self.faults.push(Unexpanded::NotSet(name.to_owned())),
            }
            return;
        }
        let filled = value.filter(|value| !value.is_empty());
        match (
            operand.strip_prefix(":-"),
            operand.strip_prefix(":?"),
            filled,
        ) {
            (None, None, _) => self.faults.push(Unexpanded::Malformed),
            (_, _, Some(value)) => self.put(name, &value),
            (Some(default), _, None) => self.run(default, depth + 1),
            (_, Some(message), None) => {
                let (name, message) = (name.to_owned(), message.to_owned());
                self.faults.push(Unexpanded::Demanded { name, message });
            }
        }
    }

    fn put(&mut self, name: &str, value: &str) {
        self.out.text.push_str(value);
        if !self.out.from.iter().any(|known| known == name) {
            self.out.from.push(name.to_owned());
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Splits what follows `${` at the brace that closes it.
fn split_at_close(text: &str) -> Option<(&str, &str)> {
    let mut open = 1_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            let (inside, close) = text.split_at(at);
            return close.strip_prefix('}').map(|after| (inside, after));
        }
    }
    None
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<OsString> {
        use std::os::unix::ffi::OsStringExt as _;
        match name {
            "SET" => Some("value".into()),
            "EMPTY" => Some(OsString::new()),
            "SLY" => Some("a: ${SET} $$ {b".into()),
            "BYTES" => Some(OsString::from_vec(b"production\xff".to_vec())),
            _ => None,
        }
    }

    fn text(input: &str) -> String {
        expand(input, &env).unwrap().text
    }

    #[test]
    fn a_variable_is_put_in() {
        let all = expand("<${SET}-${SET}>", &env).unwrap();
        assert_eq!(all.text, "<value-value>");
        assert_eq!(all.from, ["SET"]);
    }

    #[test]
    fn a_default_stands_in_for_an_unset_or_empty_variable() {
        assert_eq!(text("${SET:-other}"), "value");
        assert_eq!(text("${NONE:-other}s"), "others");
        assert_eq!(text("${EMPTY:-other}"), "other");
        assert_eq!(text("${EMPTY}"), "");
        assert!(expand("${NONE:-other}", &env).unwrap().from.is_empty());
    }

    #[test]
    fn a_default_may_hold_braces_and_expressions() {
        assert_eq!(
            text("${NONE:-https://{product}.twilio.com}/x"),
            "https://{product}.twilio.com/x"
        );
        assert_eq!(text("${NONE:-${OTHER:-${SET}}!}"), "value!");
        assert_eq!(text("${NONE:-$$5}"), "$5");
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        assert_eq!(text("${SLY}"), "a: ${SET} $$ {b");
    }

    #[test]
    fn other_dollars_stay() {
        assert_eq!(text("$5 $x ^a$ $$ $${SET}"), "$5 $x ^a$ $ ${SET}");
    }

    #[test]
    fn every_missing_variable_is_told() {
        let faults = expand("${A} ${SET} ${B:?say why} ${EMPTY:?empty}", &env).unwrap_err();
        let demanded = |name: &str, message: &str| {
            let (name, message) = (name.to_owned(), message.to_owned());
            Unexpanded::Demanded { name, message }
        };
        let expected = [
            Unexpanded::NotSet("A".to_owned()),
            demanded("B", "say why"),
            demanded("EMPTY", "empty"),
        ];
        assert_eq!(faults, expected);
    }

    #[test]
    fn a_variable_that_is_no_text_is_not_taken_for_one_that_is_not_set() {
        for text in ["${BYTES}", "${BYTES:-other}", "${BYTES:?message}"] {
            let fault = Unexpanded::NoText("BYTES".to_owned());
            assert_eq!(expand(text, &env), Err(vec![fault]), "{text}");
        }
    }

    #[test]
    fn malformed_expressions_are_refused() {
        for bad in [
            "${",
            "${}",
            "${SET",
            "${1A}",
            "${SET-x}",
            "${SET:}",
            "${A B}",
            "${NONE:-{}",
        ] {
            assert_eq!(expand(bad, &env), Err(vec![Unexpanded::Malformed]), "{bad}");
        }
        let deep = "${N:-".repeat(50_000) + &"}".repeat(50_000);
        assert_eq!(expand(&deep, &env), Err(vec![Unexpanded::Malformed]));
    }

    #[test]
    fn an_expansion_shows_no_value_in_debug_output() {
        assert!(!format!("{:?}", expand("${SET}", &env)).contains("value"));
    }

    proptest! {
        #[test]
        fn any_text_survives_with_its_dollars_doubled(input in ".*") {
            prop_assert_eq!(text(&input.replace('$', "$$")), input);
        }

        #[test]
        fn any_value_comes_through_untouched(value in ".*", before in "[^$]*", after in "[^$]*") {
            let one = |_: &str| Some(OsString::from(&value));
            let out = expand(&format!("{before}${{X}}{after}"), &one).unwrap();
            prop_assert_eq!(out.text, format!("{before}{value}{after}"));
        }

        #[test]
        fn no_text_makes_it_fail_otherwise_than_by_report(input in "[$a{}:?A-]*") {
            let _ = expand(&input, &env);
        }
    }
}
