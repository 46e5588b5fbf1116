//! What the compiler has to say about the file, gathered until its end.
//!
//! Keeps problems (nothing runs) and warnings (it runs) apart, finds their places, and answers what
//! the sentences need: the nearest name to a misspelt one, the variable that a line reads. Each place
//! is a walk through the text, so the number of notes told at once is bounded.

use std::path::{Path, PathBuf};

use crate::config::{At, Config, Problem, Problems, Source, nearest};

/// More problems than this are not told at once.
const MOST_PROBLEMS: usize = 200;
/// More warnings than this are counted only.
const MOST_WARNINGS: usize = 50;

/// The notes on one file.
pub(super) struct Notes<'s> {
    source: &'s Source,
    earlier: &'s Problems,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    untold: usize,
}

impl<'s> Notes<'s> {
    /// `earlier` is what reading the file has found.
    pub(super) fn new(source: &'s Source, earlier: &'s Problems) -> Self {
        let (problems, warnings) = (Vec::new(), Vec::new());
        Notes {
            source,
            earlier,
            problems,
            warnings,
            untold: 0,
        }
    }

    pub(super) fn source(&self) -> &'s Source {
        self.source
    }

    pub(super) fn config(&self) -> &'s Config {
        &self.source.config
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// The value there, or its absence, is wrong.
    pub(super) fn problem(&mut self, at: &At, what: impl Into<String>, hint: impl Into<String>) {
        if self.problems.len() < MOST_PROBLEMS {
            let what = self.source.unquoted(at, what.into());
            let hint = self.source.unquoted(at, hint.into());
            self.problems.push(self.source.problem(at, what, hint));
        }
    }

    /// The block there lacks a key, unless reading has told already that its value is unusable.
    pub(super) fn absent(&mut self, block: &At, key: &str, what: impl Into<String>, hint: &str) {
        if !self.is_unread(&block.key(key)) {
            self.problem(block, what, hint);
        }
    }

    /// The key there is wrong.
    pub(super) fn key_problem(&mut self, at: &At, what: impl Into<String>, hint: &str) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(self.source.key_problem(at, what, hint));
        }
    }

    /// The value there is wrong; the sentence says what, a colon, and what to do.
    pub(super) fn sentence(&mut self, at: &At, sentence: &str) {
        let (what, hint) = sentence.rsplit_once(": ").unwrap_or((sentence, ""));
        match self.source.variables(at) {
            [] => self.problem(at, what, hint),
            names => {
                let verb = if names.len() == 1 {
                    "it is"
                } else {
                    "they are"
                };
                let what = format!("with {} as {verb} set, {what}", names.join(" and "));
                self.problem(at, what, hint);
            }
        }
    }

    /// The value there is allowed, but risky.
    pub(super) fn warn(&mut self, at: &At, what: impl Into<String>, hint: impl Into<String>) {
        if self.warnings.len() < MOST_WARNINGS {
            self.warnings.push(self.source.problem(at, what, hint));
        } else {
            self.untold += 1;
        }
    }

    /// The place of `wanted` in `known`; where it is not, that is a problem at `at`, unless the block
    /// that would hold it could not be read.
    pub(super) fn resolve<'n>(
        &mut self,
        at: &At,
        wanted: &str,
        block: &str,
        known: impl Iterator<Item = &'n str> + Clone,
    ) -> Option<usize> {
        let found = known.clone().position(|name| name == wanted);
        if found.is_none() && !self.is_unread(&At::root().key(block)) {
            // No name, and in this place perhaps the secret itself.
            let shown = match block == "credentials" && !is_name(wanted) {
                true => "this".to_owned(),
                false => self.source.shown(at),
            };
            let hint = hint(wanted, block, known);
            self.problem(at, format!("{shown} is not among `{block}`"), hint);
        }
        found
    }

    /// Whether reading has told already that there is nothing of use at that place.
    pub(super) fn is_unread(&self, at: &At) -> bool {
        self.earlier.explain(at)
    }

    /// A name of the operator's making, as metrics and the admin API can carry it.
    pub(super) fn check_name(&mut self, at: &At, name: &str) {
        if !is_name(name) {
            self.problem(
                at,
                format!("{} cannot be a name", self.named(at, &format!("{name:?}"))),
                "use 1 to 64 letters, digits, `_`, `.` and `-`, a letter or digit first",
            );
        }
    }

    /// A value that the file holds as it is `quoted`, or by the variables that it came from.
    pub(super) fn named(&self, at: &At, quoted: &str) -> String {
        match self.source.variables(at) {
            [] => quoted.to_owned(),
            _ => self.source.shown(at),
        }
    }

    /// The variable that the line of a value reads, if it does.
    pub(super) fn variable(&self, at: &At) -> Option<String> {
        variable_of(self.text_of(self.source.line(at)))
    }

    /// Where to change a value: `NAME or proxy.yaml:34`.
    pub(super) fn set_by(&self, at: &At) -> String {
        let line = self.source.line(at);
        let name = Path::new(&self.source.file).file_name();
        let file = name.map_or(self.source.file.as_str().into(), |n| n.to_string_lossy());
        match variable_of(self.text_of(line)) {
            Some(variable) => format!("{variable} or {file}:{line}"),
            None => format!("{file}:{line}"),
        }
    }

    fn text_of(&self, line: usize) -> &'s str {
        let lines = &mut self.source.text.lines();
        lines.nth(line.saturating_sub(1)).unwrap_or_default()
    }

    /// A path as the file means it: relative to the file's own directory.
    pub(super) fn path(&self, written: &str) -> PathBuf {
        let directory = Path::new(&self.source.file).parent();
        directory.unwrap_or(Path::new("")).join(written)
    }

    /// The lines of the items of the list `key` at the top of the file.
    pub(super) fn lines(&self, key: &str, count: usize) -> Vec<usize> {
        let list = At::root().key(key);
        let Some(last) = count.checked_sub(1) else {
            return Vec::new();
        };
        let lines = dashes(&self.source.text, self.source.line(&list.index(0)));
        if lines.len() == count && lines.last() == Some(&self.source.line(&list.index(last))) {
            return lines;
        }
        let line = |index| self.source.line(&list.index(index));
        (0..count).map(line).collect()
    }

    /// The problems, and the warnings as they are shown.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<String>) {
        let warnings: Problems = self.warnings.into_iter().collect();
        let mut shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        if self.untold > 0 {
            shown.push(format!("{}: and {} more", self.source.file, self.untold));
        }
        (self.problems, shown)
    }
}

fn hint<'n>(wanted: &str, block: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    if let Some(near) = nearest(wanted, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let some: Vec<String> = known.take(8).map(|name| format!("`{name}`")).collect();
    if some.is_empty() {
        format!("declare it under `{block}`")
    } else {
        format!("known: {}", some.join(", "))
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(inner)
}

/// The first variable that a line of the file reads.
fn variable_of(line: &str) -> Option<String> {
    let (_, after) = line.split_once("${")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name: String = after.chars().take_while(|c| is_name(*c)).collect();
    (!name.is_empty()).then_some(name)
}

/// The lines of a block list's dashes, the first of which stands on line `first`.
fn dashes(text: &str, first: usize) -> Vec<usize> {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut lines = text
        .lines()
        .zip(1..)
        .skip(first.saturating_sub(1))
        .peekable();
    let Some(depth) = lines.peek().map(|(line, _)| indent(line)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (line, number) in lines {
        let rest = line.trim_start_matches(' ');
        if rest.is_empty() || rest.starts_with('#') || indent(line) > depth {
            continue;
        }
        if indent(line) < depth || !rest.starts_with('-') {
            break;
        }
        found.push(number);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_metrics_and_addresses() {
        for name in ["a", "vapi-settings", "0.9_x", &"a".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", ".a", "a b", "ä", "a/b", &"a".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn the_variable_of_a_line_is_found() {
        let line = "    requests: ${RATE_LIMIT:-10} # ${OTHER}";
        assert_eq!(variable_of(line).as_deref(), Some("RATE_LIMIT"));
        assert_eq!(variable_of("requests: 10"), None);
        assert_eq!(variable_of("requests: ${"), None);
    }

    #[test]
    fn the_items_of_a_block_list_are_found_by_their_dashes() {
        let text = "routes:\n  # one\n  - name: a\n    list:\n      - x\n\n# note\n  -\n    name: b\nother: 1\n  - c\n";
        assert_eq!(dashes(text, 3), [3, 8]);
        assert_eq!(dashes("routes: [{}, {}]\n", 1), [] as [usize; 0]);
    }
}
