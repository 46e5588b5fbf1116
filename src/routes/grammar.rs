//! The text of patterns: which characters, braces and names the route table accepts, and what each mistake is called.
//!
//! Decides how a path or template falls into segments, and whether a path holds a dot segment, which no pattern and no
//! request may. It must never repair a text: it is taken as written or refused with what to write instead. Called by
//! the path, host and rewrite patterns beside it; the dot-segment check also guards every request.

use std::fmt;

/// The most parameters that one path pattern may hold; their places travel inline with a match.
pub const MAX_PARAMS: usize = 8;
/// The most segments that one path pattern may hold; it bounds the depth of a search.
pub const MAX_SEGMENTS: usize = 64;
/// The longest host name that DNS can carry in text form, in bytes (RFC 1035 section 3.1).
pub const MAX_HOST: usize = 253;

/// Why a path or host pattern was refused; each message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// The path does not begin with a slash.
    NoLeadingSlash,
    /// `?` or `#`: that part of a URL is not the path.
    QueryOrFragment(char),
    /// Whitespace, a control character or anything beyond ASCII.
    BadCharacter(char),
    /// A `.` or `..` segment, plain or encoded: such requests are refused before they are matched.
    DotSegment,
    /// `{` without its `}` in the same segment.
    UnclosedBrace(String),
    /// `}` without its `{` in the same segment.
    StrayBrace(String),
    /// `{}` or `{*}`.
    EmptyName,
    /// A parameter name with other characters than letters, digits and `_`, or with a digit in front.
    BadName(String),
    /// Two parameters of one name.
    DuplicateName(String),
    /// `{*name}` with something after it.
    RestNotLast(String),
    /// A parameter that shares its segment with text or with another parameter.
    Glued(String),
    /// More than [`MAX_PARAMS`] parameters.
    TooManyParameters,
    /// More than [`MAX_SEGMENTS`] segments.
    TooManySegments,
    /// No host at all, or a parameter alone.
    NoDomain,
    /// A port, which matching ignores.
    HostPort,
    /// A dot at the end of the host; requests match with and without it.
    HostFinalDot,
    /// A host longer than [`MAX_HOST`].
    HostTooLong,
    /// A host parameter that is not the whole first label.
    HostParameter(String),
    /// A label that no host name can hold.
    HostLabel(String),
}

impl fmt::Display for PatternError {
    // One list of sentences: it reads better whole than in parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeadingSlash => write!(f, "a path starts with `/`: put one in front"),
            Self::QueryOrFragment(c) => {
                write!(f, "a path ends before `{c}`: match the query with `query`")
            }
            Self::BadCharacter(c) => {
                write!(
                    f,
                    "{c:?} cannot stand in a path or host as sent: write it percent-encoded in a path, as punycode in a host"
                )
            }
            Self::DotSegment => write!(
                f,
                "requests with `.` or `..` segments are refused, so this can never match: write the path without them"
            ),
            Self::UnclosedBrace(text) => write!(
                f,
                "`{text}` opens a brace that it does not close: write `{{name}}`"
            ),
            Self::StrayBrace(text) => write!(
                f,
                "`{text}` closes a brace that it does not open: write `{{name}}`"
            ),
            Self::EmptyName => write!(
                f,
                "a parameter needs a name: write `{{id}}`, or `{{*rest}}` for all that follows"
            ),
            Self::BadName(name) => write!(
                f,
                "`{name}` is no parameter name: use letters, digits and `_`, not starting with a digit"
            ),
            Self::DuplicateName(name) => write!(
                f,
                "the parameter `{name}` occurs twice: give each its own name"
            ),
            Self::RestNotLast(name) => write!(
                f,
                "`{{*{name}}}` takes the whole rest: move it to the end, or write `{{{name}}}` for one segment"
            ),
            Self::Glued(text) => write!(
                f,
                "`{text}` mixes a parameter with other text: a parameter is a whole segment, between two slashes"
            ),
            Self::TooManyParameters => write!(
                f,
                "a path holds at most {MAX_PARAMS} parameters: end it with `{{*rest}}`"
            ),
            Self::TooManySegments => write!(
                f,
                "a path holds at most {MAX_SEGMENTS} segments: end it with `{{*rest}}`"
            ),
            Self::NoDomain => write!(
                f,
                "a host names a domain: write `api.example.com` or `{{name}}.example.com`"
            ),
            Self::HostPort => write!(
                f,
                "the port of a request is ignored: leave it out of the host"
            ),
            Self::HostFinalDot => write!(
                f,
                "a host matches with and without its final dot: leave the dot out"
            ),
            Self::HostTooLong => write!(
                f,
                "no host name is longer than {MAX_HOST} bytes: shorten it"
            ),
            Self::HostParameter(text) => write!(
                f,
                "`{text}`: a host takes one parameter, as its whole first label: write `{{name}}.example.com`"
            ),
            Self::HostLabel(text) => write!(
                f,
                "`{text}` is no part of a host name: use letters, digits, `-` and `_`, at most 63"
            ),
        }
    }
}

impl std::error::Error for PatternError {}

/// One piece between two slashes, as written.
pub(super) enum Token<'t> {
    Literal(&'t str),
    Segment(&'t str),
    Rest(&'t str),
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, PatternError> {
    let Some(inner) = text.strip_prefix('/') else {
        return Err(PatternError::NoLeadingSlash);
    };
    for c in text.chars() {
        match c {
            '?' | '#' => return Err(PatternError::QueryOrFragment(c)),
            c if !c.is_ascii_graphic() => return Err(PatternError::BadCharacter(c)),
            _ => {}
        }
    }
    let tokens = inner.split('/').map(token).collect::<Result<Vec<_>, _>>()?;
    if has_dot_segment(text) {
        return Err(PatternError::DotSegment);
    }
    Ok(tokens)
}

pub(super) fn token(text: &str) -> Result<Token<'_>, PatternError> {
    if !text.contains(['{', '}']) {
        return Ok(Token::Literal(text));
    }
    let whole = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
    let Some(inner) = whole.filter(|inner| !inner.contains(['{', '}'])) else {
        return Err(brace_error(text));
    };
    match inner.strip_prefix('*') {
        Some(name) => check_name(name).map(Token::Rest),
        None => check_name(inner).map(Token::Segment),
    }
}

fn brace_error(text: &str) -> PatternError {
    let mut open = false;
    for c in text.chars() {
        match (c, open) {
            ('{', true) => return PatternError::UnclosedBrace(text.to_owned()),
            ('}', false) => return PatternError::StrayBrace(text.to_owned()),
            ('{', false) => open = true,
            ('}', true) => open = false,
            _ => {}
        }
    }
    if open {
        PatternError::UnclosedBrace(text.to_owned())
    } else {
        PatternError::Glued(text.to_owned())
    }
}

fn check_name(name: &str) -> Result<&str, PatternError> {
    let first = name.bytes().next().ok_or(PatternError::EmptyName)?;
    let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if legal && !first.is_ascii_digit() {
        Ok(name)
    } else {
        Err(PatternError::BadName(name.to_owned()))
    }
}

/// Takes the first segment off what is left of a path: its text without the slash in front, and what follows it.
///
/// `None` at the end of the path. `/a//b` holds the segments `a`, an empty one, and `b`.
pub(super) fn split_segment(left: &str) -> Option<(&str, &str)> {
    let text = left.strip_prefix('/')?;
    Some(
        text.find('/')
            .and_then(|at| text.split_at_checked(at))
            .unwrap_or((text, "")),
    )
}

/// Whether a server behind us could read a segment of `path` as `.` or `..`.
///
/// Dots count plain or as `%2e`; segments end at `/` and `\`, plain or encoded, and before `;parameters`. One level of
/// encoding is looked through: `%252e` is no dot to a server that decodes once.
#[must_use]
pub fn has_dot_segment(path: &str) -> bool {
    if !path.bytes().any(|b| b == b'.' || b == b'%') {
        return false;
    }
    // Dots since the segment began, or None once anything else has come.
    let mut dots = Some(0_usize);
    let mut left = path.as_bytes();
    while let Some((byte, after)) = decode_one(left) {
        let at_dots = matches!(dots, Some(1 | 2));
        dots = match byte {
            b'/' | b'\\' | b';' if at_dots => return true,
            b'/' | b'\\' => Some(0),
            b'.' => dots.map(|count| count + 1),
            _ => None,
        };
        left = after;
    }
    matches!(dots, Some(1 | 2))
}

fn decode_one(bytes: &[u8]) -> Option<(u8, &[u8])> {
    if let [b'%', high, low, after @ ..] = bytes
        && let (Some(high), Some(low)) = (hex(*high), hex(*low))
    {
        return Some((high << 4 | low, after));
    }
    bytes.split_first().map(|(byte, after)| (*byte, after))
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
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
    use super::*;

    #[test]
    fn a_dot_segment_is_seen_through_encodings_backslashes_and_parameters() {
        let held = [
            "/.",
            "/..",
            "/./",
            "/../",
            "/a/.",
            "/a/..",
            "/a/../b",
            "/a/./b",
            "..",
            ".",
            "../a",
            "/%2e",
            "/%2E",
            "/%2e%2e",
            "/%2E%2e/x",
            "/.%2e",
            "/%2e.",
            "/a/%2e./b",
            "/a%2f..",
            "/a%2F../b",
            "/a%2f..%2fb",
            "/..%2f",
            "/..%2F",
            "/%2e%2e%2f",
            "/a%5c..",
            "/a%5C..%5Cb",
            "/a\\..",
            "/a\\..\\b",
            "/..\\",
            "/..;",
            "/..;x=1/b",
            "/.;x/b",
            "/%2e%2e;x",
            "/a/..%3b/b",
            "/a/%2e%2e%3B",
            "//..",
            "/a//../b",
            "/x%2f.;y",
            "/%zz/..",
            "/%/..",
            "/a/..//",
        ];
        for path in held {
            assert!(has_dot_segment(path), "{path} holds one");
        }
    }

    #[test]
    fn dots_beside_other_bytes_are_no_dot_segment() {
        let free = [
            "",
            "/",
            "//",
            "/a/b",
            "/a.b",
            "/a./b",
            "/.a",
            "/..a",
            "/a..",
            "/...",
            "/%2e%2e%2e",
            "/....",
            "/2010-04-01/Calls.json",
            "/%2ea",
            "/a%2e",
            "/%252e",
            "/%252e%252e/",
            "/%2",
            "/%",
            "/%e2",
            "/.%2",
            "/.%",
            "/;..",
            "/a;..",
            "/a;/b",
            "/.well-known/x",
            "/x%2f",
            "/a%20b",
            "/..%00",
            "*",
        ];
        for path in free {
            assert!(!has_dot_segment(path), "{path} holds none");
        }
    }

    #[test]
    fn every_refusal_says_what_to_write() {
        let text = || "x".to_owned();
        let errors = [
            PatternError::NoLeadingSlash,
            PatternError::QueryOrFragment('?'),
            PatternError::BadCharacter('\n'),
            PatternError::DotSegment,
            PatternError::UnclosedBrace(text()),
            PatternError::StrayBrace(text()),
            PatternError::EmptyName,
            PatternError::BadName(text()),
            PatternError::DuplicateName(text()),
            PatternError::RestNotLast(text()),
            PatternError::Glued(text()),
            PatternError::TooManyParameters,
            PatternError::TooManySegments,
            PatternError::NoDomain,
            PatternError::HostPort,
            PatternError::HostFinalDot,
            PatternError::HostTooLong,
            PatternError::HostParameter(text()),
            PatternError::HostLabel(text()),
        ];
        for error in errors {
            let message = error.to_string();
            assert!(
                message.contains(": ") && !message.contains('\n'),
                "{message}"
            );
        }
        assert_eq!(
            PatternError::RestNotLast("rest".to_owned()).to_string(),
            "`{*rest}` takes the whole rest: move it to the end, or write `{rest}` for one segment"
        );
    }
}
