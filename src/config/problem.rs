//! What is wrong with the file, and where: the one form in which every fault of `proxy.yaml` is told,
//! whether it was found while reading or while compiling.
//!
//! A problem's words come from the program and from the file, never from the environment.

use std::fmt;

/// One step from a value to a value within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Into a block, to the value of that key.
    Key(String),
    /// Into a list, to the item of that number, counted from 0.
    Index(usize),
}

/// A place in the file by meaning: `routes[3].match.path`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(Vec<Segment>);

impl At {
    /// The whole file.
    #[must_use]
    pub fn root() -> At {
        At::default()
    }

    /// The value of a key of this block.
    #[must_use]
    pub fn key(&self, name: &str) -> At {
        self.then(Segment::Key(name.to_owned()))
    }

    /// An item of this list, counted from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> At {
        self.then(Segment::Index(index))
    }

    /// The block or list that holds this, unless this is the whole file.
    #[must_use]
    pub fn parent(&self) -> Option<At> {
        self.0.split_last().map(|(_, rest)| At(rest.to_vec()))
    }

    /// The steps from the whole file to here.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this is `other` or lies within it.
    #[must_use]
    pub fn is_within(&self, other: &At) -> bool {
        self.0.starts_with(&other.0)
    }

    pub(super) fn then(&self, step: Segment) -> At {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        At(steps)
    }

    pub(super) fn push(&mut self, step: Segment) {
        self.0.push(step);
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    /// From steps collected on the way out, innermost first.
    pub(super) fn from_innermost(mut steps: Vec<Segment>) -> At {
        steps.reverse();
        At(steps)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Segment::Key(name) if depth == 0 => f.write_str(name)?,
                Segment::Key(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name as it was given.
    pub file: String,
    /// The place by meaning.
    pub at: At,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The key that a misspelt one was meant to be: its absence follows from this problem.
    pub(super) meant: Option<At>,
}

impl Problem {
    /// Whether a problem there only follows from this one: the value was unreadable, or its key misspelt.
    fn explains(&self, later: &At) -> bool {
        let misspelt = self.meant.as_ref();
        let parent = misspelt.and_then(At::parent);
        later.is_within(&self.at)
            || misspelt.is_some_and(|meant| later.is_within(meant))
            || parent.is_some_and(|parent| parent != At::root() && parent == *later)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            file,
            line,
            column,
            what,
            hint,
            ..
        } = self;
        write!(f, "{file}:{line}:{column}: {what}")?;
        if hint.is_empty() {
            Ok(())
        } else {
            write!(f, " ({hint})")
        }
    }
}

/// Problems in the order of the file, none of them twice. Displays as one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Whether all is well.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The problems in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Whether one of these is why there is nothing of use at that place.
    #[must_use]
    pub fn explain(&self, at: &At) -> bool {
        self.0.iter().any(|problem| problem.explains(at))
    }

    /// Adds what a later step found in the part that could be read, without what only follows from
    /// the problems already here.
    #[must_use]
    pub fn and_later(self, later: impl IntoIterator<Item = Problem>) -> Problems {
        let news: Vec<Problem> = later
            .into_iter()
            .filter(|new| !self.explain(&new.at))
            .collect();
        self.into_iter().chain(news).collect()
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Self {
        let mut all: Vec<Problem> = problems.into_iter().collect();
        all.sort_by(|a, b| (a.line, a.column, &a.what).cmp(&(b.line, b.column, &b.what)));
        all.dedup_by(|a, b| (a.line, a.column, &a.what) == (b.line, b.column, &b.what));
        Problems(all)
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            let line_break = if n == 0 { "" } else { "\n" };
            write!(f, "{line_break}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The candidate that a misspelt word was most likely meant to be, if one is near.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let reach = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, drop or replace to make one word of the other (Levenshtein distance); a swap of
/// neighbours counts as two.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.chars().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(from != to))
                .min(above + 1)
                .min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
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

    fn problem(line: usize, at: At, what: &str) -> Problem {
        let (file, what) = ("proxy.yaml".to_owned(), what.to_owned());
        Problem {
            file,
            at,
            line,
            column: 3,
            what,
            hint: String::new(),
            meant: None,
        }
    }

    #[test]
    fn a_problem_reads_as_file_line_column_what_and_hint() {
        let mut p = problem(7, At::root(), "unknown key `a`");
        assert_eq!(p.to_string(), "proxy.yaml:7:3: unknown key `a`");
        p.hint = "did you mean `b`?".to_owned();
        assert_eq!(
            p.to_string(),
            "proxy.yaml:7:3: unknown key `a` (did you mean `b`?)"
        );
    }

    #[test]
    fn a_place_reads_like_a_path() {
        let at = At::root().key("routes").index(3).key("match").key("path");
        assert_eq!(at.to_string(), "routes[3].match.path");
        assert!(at.is_within(&At::root().key("routes").index(3)));
        assert!(!at.is_within(&At::root().key("routes").index(2)));
    }

    #[test]
    fn problems_come_in_the_order_of_the_file_and_once() {
        let root = At::root();
        let all: Problems = [
            problem(9, root.clone(), "b"),
            problem(2, root.clone(), "a"),
            problem(9, root, "b"),
        ]
        .into_iter()
        .collect();
        assert_eq!(all.iter().map(|p| p.line).collect::<Vec<_>>(), [2, 9]);
    }

    #[test]
    fn what_only_follows_from_an_earlier_problem_is_left_out() {
        let route = At::root().key("routes").index(0);
        let url = At::root().key("upstreams").key("a").key("url");
        let mut typo = problem(1, route.key("upsteam"), "unknown key");
        typo.meant = Some(route.key("upstream"));
        let first: Problems = [typo, problem(2, url.clone(), "NAME is not set")]
            .into_iter()
            .collect();
        let all = first.and_later([
            problem(1, route.clone(), "neither upstream nor stub"),
            problem(2, url, "url is mandatory"),
            problem(5, route.key("breaker"), "no such breaker"),
        ]);
        assert_eq!(all.iter().map(|p| p.line).collect::<Vec<_>>(), [1, 2, 5]);
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("upsteam", ["name", "upstream"]), Some("upstream"));
        assert_eq!(nearest("tiemouts", ["timeouts", "retry"]), Some("timeouts"));
        assert_eq!(nearest("colour", ["name", "upstream"]), None);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}
