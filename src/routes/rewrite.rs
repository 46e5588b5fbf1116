//! What path is sent upstream for a path that matched.
//!
//! Decides where the bytes of parameters go in the upstream's path. It moves them as they were sent, must never decode
//! or encode them, and cannot put a `.` or `..` segment together that the request did not hold. Compiled with the route
//! table; applied once for each request that is forwarded.

use std::fmt;

use super::grammar::{PatternError, Token, tokens};
use super::pattern::Params;

/// Why a rewrite was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewriteError {
    /// The template breaks the grammar of paths.
    Grammar(PatternError),
    /// A parameter that the rule's path does not have.
    Unknown {
        /// The name in the template.
        name: String,
        /// The names that it may use.
        known: Vec<String>,
    },
    /// `{*name}`: a template names the rest as it names any parameter.
    Star(String),
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grammar(PatternError::QueryOrFragment(c)) => {
                write!(
                    f,
                    "a rewrite ends before `{c}`: the query is sent on as it came"
                )
            }
            Self::Grammar(PatternError::DotSegment) => write!(
                f,
                "a rewrite has no `.` or `..` segments: write the path without them"
            ),
            Self::Grammar(error) => error.fmt(f),
            Self::Unknown { name, known } if known.is_empty() => {
                write!(
                    f,
                    "the path has no parameter `{name}`, nor any other: write it as `{{{name}}}` in the path first"
                )
            }
            Self::Unknown { name, known } => write!(
                f,
                "the path has no parameter `{name}`: it has `{}`",
                known.join("`, `")
            ),
            Self::Star(name) => write!(f, "the star belongs in the path: write `{{{name}}}` here"),
        }
    }
}

impl std::error::Error for RewriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Grammar(error) => Some(error),
            Self::Unknown { .. } | Self::Star(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A parameter with the slash in front of it.
    Param(usize),
}

/// The path that is sent upstream: text with parameters of the matched path, each a whole segment.
///
/// Parameters never share a segment with text, so their bytes cannot combine into anything that the request did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pieces: Vec<Piece>,
}

impl Rewrite {
    /// Reads a template; `known` are the names of the path's parameters, in their order. A host parameter is
    /// none of them: a rewrite cannot name it.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, RewriteError> {
        let mut pieces: Vec<Piece> = Vec::new();
        for token in tokens(text).map_err(RewriteError::Grammar)? {
            match token {
                Token::Rest(name) => return Err(RewriteError::Star(name.to_owned())),
                Token::Segment(name) => {
                    let index = known.iter().position(|k| *k == name).ok_or_else(|| {
                        RewriteError::Unknown {
                            name: name.to_owned(),
                            known: known.iter().map(|&k| k.to_owned()).collect(),
                        }
                    })?;
                    pieces.push(Piece::Param(index));
                }
                Token::Literal(text) => match pieces.last_mut() {
                    Some(Piece::Text(before)) => {
                        before.push('/');
                        before.push_str(text);
                    }
                    _ => pieces.push(Piece::Text(format!("/{text}"))),
                },
            }
        }
        Ok(Self { pieces })
    }

    /// Appends the rewritten path to `out`; `path` is the one that `params` were taken from.
    ///
    /// Where the rest is missing together with its slash, the slash before it in the template goes too; a path that
    /// would be empty is `/`.
    pub fn apply(&self, params: &Params, path: &str, out: &mut String) {
        let before = out.len();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Param(index) => {
                    let raw = params.raw(*index, path);
                    if !raw.is_empty() && !raw.starts_with('/') {
                        out.push('/');
                    }
                    out.push_str(raw);
                }
            }
        }
        if out.len() == before {
            out.push('/');
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::super::grammar::has_dot_segment;
    use super::super::pattern::PathPattern;
    use super::*;

    fn rewritten(pattern: &str, template: &str, path: &str) -> Option<String> {
        let pattern = PathPattern::parse(pattern).unwrap();
        let known: Vec<_> = pattern.params().collect();
        let rewrite = Rewrite::parse(template, &known).unwrap();
        let mut out = String::new();
        rewrite.apply(&pattern.captures(path)?, path, &mut out);
        Some(out)
    }

    #[test]
    fn an_empty_rest_takes_the_slash_before_it_along() {
        for (path, sent) in [
            ("/vapi/assistant", "/assistant"),
            ("/vapi/assistant/", "/assistant/"),
            ("/vapi/assistant/1", "/assistant/1"),
            ("/vapi/assistant//1", "/assistant//1"),
        ] {
            let out = rewritten("/vapi/assistant/{*rest}", "/assistant/{rest}", path);
            assert_eq!(out.as_deref(), Some(sent));
        }
    }

    #[test]
    fn a_path_is_never_rewritten_to_nothing() {
        for (path, sent) in [
            ("/vapi", "/"),
            ("/vapi/", "/"),
            ("/vapi//", "//"),
            ("/vapi/x", "/x"),
        ] {
            assert_eq!(
                rewritten("/vapi/{*rest}", "/{rest}", path).as_deref(),
                Some(sent)
            );
        }
    }

    #[test]
    fn parameters_may_change_places_and_occur_twice_or_never() {
        let out = rewritten("/{a}/{b}/{*c}", "/x/{b}/y/z/{a}/{b}/", "/1/%2F/3");
        assert_eq!(out.as_deref(), Some("/x/%2F/y/z/1/%2F/"));
        assert_eq!(rewritten("/{a}", "/fixed", "/1").as_deref(), Some("/fixed"));
        assert_eq!(rewritten("/{a}", "/", "/1").as_deref(), Some("/"));
        assert_eq!(
            rewritten("/v/{*rest}", "/{rest}/end", "/v").as_deref(),
            Some("/end")
        );
        assert_eq!(
            rewritten("/v/{*rest}", "/{rest}/end", "/v/a").as_deref(),
            Some("/a/end")
        );
    }

    #[test]
    fn a_rewrite_appends_to_what_is_there() {
        let pattern = PathPattern::parse("/v/{*rest}").unwrap();
        let rewrite = Rewrite::parse("/{rest}", &["rest"]).unwrap();
        let mut out = "https://api.example".to_owned();
        rewrite.apply(&pattern.captures("/v").unwrap(), "/v", &mut out);
        assert_eq!(out, "https://api.example/");
    }

    #[test]
    fn a_mistake_in_a_template_says_what_to_write() {
        let table = [
            ("x", "a path starts with `/`: put one in front"),
            (
                "/x?{a}",
                "a rewrite ends before `?`: the query is sent on as it came",
            ),
            (
                "/../{a}",
                "a rewrite has no `.` or `..` segments: write the path without them",
            ),
            ("/{*a}", "the star belongs in the path: write `{a}` here"),
            ("/{b}", "the path has no parameter `b`: it has `a`, `rest`"),
            (
                "/{a}.json",
                "`{a}.json` mixes a parameter with other text: a parameter is a whole segment, between two slashes",
            ),
        ];
        for (template, message) in table {
            let error = Rewrite::parse(template, &["a", "rest"]).unwrap_err();
            assert_eq!(error.to_string(), message, "{template}");
        }
        let error = Rewrite::parse("/{b}", &[]).unwrap_err();
        assert!(error.to_string().contains("nor any other"), "{error}");
    }

    proptest! {
        #[test]
        fn what_matched_is_byte_for_byte_what_is_forwarded(tail in "([/.;+@%a-zA-Z0-9~|é-]|%2[fFeE]|//){0,24}") {
            let path = format!("/vapi{tail}");
            if let Some(out) = rewritten("/vapi/{*rest}", "/vapi/{rest}", &path) {
                prop_assert_eq!(&out, &path);
            }
            if let Some(out) = rewritten("/vapi/{*rest}", "/{rest}", &path) {
                prop_assert_eq!(out, if tail.is_empty() { "/" } else { &tail });
            }
            if let Some(out) = rewritten("/{a}/{b}/{*rest}", "/{a}/{b}/{rest}", &path) {
                prop_assert_eq!(&out, &path);
            }
        }

        #[test]
        fn a_rewrite_makes_no_dot_segment(path in "(/([.;%2eEfF5cC\\\\]|\\.\\.|%2[eE]|%2[fF]){0,4}){1,4}") {
            for (pattern, template) in [("/{a}/{*rest}", "/{rest}/{a}"), ("/{a}/{b}/{*rest}", "/{b}/{a}/x/{b}/{rest}")] {
                if let Some(out) = rewritten(pattern, template, &path) {
                    prop_assert!(has_dot_segment(&path) || !has_dot_segment(&out), "{path} became {out}");
                }
            }
        }
    }
}
