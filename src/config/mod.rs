//! What the operator wrote: `proxy.yaml` read strictly, with every problem at once and at its place.
//!
//! The order of the files is the order of the steps: `tree` takes the YAML apart, `interpolate`
//! puts variables in, `typed` makes the types of `schema` of it, whose scalars are in `units`;
//! `problem` and `locate` tell what is wrong and where. Nothing here resolves a name, opens another
//! file or a socket, or keeps state; what the file *means* is decided where it is compiled.

mod cache;
mod credential;
pub mod file;
pub mod interpolate;
pub mod locate;
mod notify;
mod oauth2;
pub mod problem;
mod profile;
mod published;
mod reading;
mod scalar;
pub mod schema;
mod served;
pub mod shape;
mod stub;
#[cfg(test)]
mod tests;
mod tracing;
mod tree;
mod typed;
pub mod units;
mod upstream;
mod webhook;
mod words;

use std::path::Path;

pub use interpolate::Env;
pub use problem::{At, Problem, Problems, Segment, nearest};
pub use published::json_schema;
pub use schema::Config;
pub use served::NOT_SERVED;

use locate::{Part, Position, locate};
use reading::Finding;
use tree::Tree;

/// A file that was read, and what is needed to speak about it.
pub struct Source {
    /// What it says.
    pub config: Config,
    /// Its name as it was given.
    pub file: String,
    /// Its text as it is written: variables are not put in.
    pub text: String,
    tree: Tree,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// A problem with the value at a place, or with its absence. It reads the text again.
    #[must_use]
    pub fn problem(&self, at: &At, what: impl Into<String>, hint: impl Into<String>) -> Problem {
        self.place(at, Part::Value, what.into(), hint.into())
    }

    /// A problem with the key at a place. It reads the text again.
    #[must_use]
    pub fn key_problem(
        &self,
        at: &At,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        self.place(at, Part::Key(0), what.into(), hint.into())
    }

    /// The line of the value at a place, counted from 1. It reads the text again.
    #[must_use]
    pub fn line(&self, at: &At) -> usize {
        locate(&self.text, at, Part::Value).line
    }

    /// A text value in words fit for a problem: in quotes, or by the names of the variables that it
    /// came from.
    #[must_use]
    pub fn shown(&self, at: &At) -> String {
        reading::shown(self.tree.get(at))
    }

    /// The variables whose values are in the text at a place.
    #[must_use]
    pub fn variables(&self, at: &At) -> &[String] {
        match self.tree.get(at) {
            Some(Tree::Text(text)) => &text.from,
            _ => &[],
        }
    }

    /// Whether the value of a variable stands anywhere in what is at a place.
    #[must_use]
    pub fn has_variables(&self, at: &At) -> bool {
        self.tree.get(at).is_some_and(Tree::has_variables)
    }

    /// A sentence about the text at a place, without the quotes in it that repeat a variable's value.
    #[must_use]
    pub fn unquoted(&self, at: &At, sentence: String) -> String {
        reading::unquoted(self.tree.get(at), sentence)
    }

    /// Whether a list without any item stands at a place. One of which no item could be read is none.
    #[must_use]
    pub fn is_empty_list(&self, at: &At) -> bool {
        matches!(self.tree.get(at), Some(Tree::List(items)) if items.is_empty())
    }

    /// Whether a list stands at a place.
    #[must_use]
    pub fn is_list(&self, at: &At) -> bool {
        matches!(self.tree.get(at), Some(Tree::List(_)))
    }

    fn place(&self, at: &At, part: Part, what: String, hint: String) -> Problem {
        let finding = Finding {
            at: at.clone(),
            part,
            what,
            hint,
            meant: None,
        };
        finding.at_position(&self.file, &self.text)
    }
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path, env: Env<'_>) -> Result<Source, Problems> {
    strictly(survey(path, env))
}

/// Reads a text as if it were the file of that name.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(name: &str, text: &str, env: Env<'_>) -> Result<Source, Problems> {
    strictly(survey_text(name, text, env))
}

fn strictly((source, problems): (Option<Source>, Problems)) -> Result<Source, Problems> {
    match source {
        Some(source) if problems.is_empty() => Ok(source),
        _ => Err(problems),
    }
}

/// Reads a file and keeps what could be read, so that the rest can be checked too; join what is found
/// then with [`Problems::and_later`]. Nothing may run on a source that has problems.
#[must_use]
pub fn survey(path: &Path, env: Env<'_>) -> (Option<Source>, Problems) {
    let hint = "give another file by --config";
    survey_bytes(path, file::any(path), hint, env)
}

/// The same for a process that runs, which must not wait: what is no regular file is a problem.
#[must_use]
pub fn survey_again(path: &Path, env: Env<'_>) -> (Option<Source>, Problems) {
    let hint = "put a regular file there; a pipe is read at the start alone";
    survey_bytes(path, file::regular(path), hint, env)
}

fn survey_bytes(
    path: &Path,
    bytes: std::io::Result<Vec<u8>>,
    hint: &str,
    env: Env<'_>,
) -> (Option<Source>, Problems) {
    let name = path.display().to_string();
    let bytes = match bytes {
        Ok(bytes) if bytes.len() > file::LARGEST => return (None, too_large(&name)),
        Ok(bytes) => bytes,
        Err(error) => {
            let what = format!("cannot be read: {error}");
            return (None, alone(&name, Position::START, what, hint));
        }
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => survey_text(&name, text, env),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let end = locate::end_of(&String::from_utf8_lossy(valid));
            (
                None,
                alone(
                    &name,
                    end,
                    "this is not UTF-8".to_owned(),
                    "save the file as UTF-8",
                ),
            )
        }
    }
}

/// The same with a text as if it were the file of that name.
#[must_use]
pub fn survey_text(name: &str, text: &str, env: Env<'_>) -> (Option<Source>, Problems) {
    if text.len() > file::LARGEST {
        return (None, too_large(name));
    }
    // Some editors put a byte order mark first (YAML 1.2, section 5.2). It is in no column of a line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut tree, odd) = match tree::grow(text) {
        Ok(grown) => grown,
        Err(error) => return (None, unreadable(name, text, &error)),
    };
    if matches!(tree, Tree::Null) {
        return (
            None,
            alone(name, Position::START, "the file is empty".to_owned(), ""),
        );
    }
    let (config, findings) = reading::read(&mut tree, odd, env);
    let problems = findings
        .into_iter()
        .map(|finding| finding.at_position(name, text))
        .collect();
    let (file, text) = (name.to_owned(), text.to_owned());
    let source = config.map(|config| Source {
        config,
        file,
        text,
        tree,
    });
    (source, problems)
}

fn too_large(name: &str) -> Problems {
    let what = format!("the file is larger than {} MiB", file::LARGEST >> 20);
    alone(name, Position::START, what, "")
}

/// The one problem of a text that is no YAML, in the reader's words but for the position in them.
fn unreadable(name: &str, text: &str, error: &serde_yaml::Error) -> Problems {
    let words = error.to_string();
    if words.contains("more than one document")
        && let Some(second) = locate::second_document(text)
    {
        let what = "a second document begins here, and the configuration is one".to_owned();
        return alone(
            name,
            second,
            what,
            "leave one of them, and no `---` but the first",
        );
    }
    let location = error.location().map(|l| Position {
        line: l.line(),
        column: l.column(),
    });
    let position = location.unwrap_or(Position::START);
    let words = words.split(" at line ").next().unwrap_or_default();
    let line = text.lines().nth(position.line - 1).unwrap_or_default();
    let hint = match line.trim_start_matches(' ').starts_with('\t') {
        true => "indent with spaces, not with tabs",
        false => "",
    };
    alone(name, position, format!("not valid YAML: {words}"), hint)
}

fn alone(file: &str, position: Position, what: String, hint: &str) -> Problems {
    let Position { line, column } = position;
    let (file, hint, at) = (file.to_owned(), hint.to_owned(), At::root());
    Problems::from_iter([Problem {
        file,
        at,
        line,
        column,
        what,
        hint,
        meant: None,
    }])
}
