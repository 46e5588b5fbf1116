//! Path and host patterns of the route table, and which bytes of a request their parameters stand for.
//!
//! Decides whether one path or one host fits one pattern, and whether a pattern takes in all that another does. It
//! compares and carries the bytes as they came: nothing here may decode, normalise or change the case of a path. Called
//! by the matcher in `index`, which finds the pattern among thousands, and by the compiler of the route table.

use std::net::Ipv6Addr;

pub use super::grammar::{MAX_HOST, MAX_PARAMS, MAX_SEGMENTS, PatternError, has_dot_segment};
use super::grammar::{Token, split_segment, token, tokens};
pub use super::rewrite::{Rewrite, RewriteError};

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    Param(Box<str>),
}

impl Segment {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Param(_), Self::Param(_)) => true,
            (Self::Param(_), Self::Literal(text)) => !text.is_empty(),
            (Self::Literal(ours), Self::Literal(theirs)) => ours == theirs,
            (Self::Literal(_), Self::Param(_)) => false,
        }
    }
}

/// A path with parameters: `{name}` is one segment that is not empty, `{*name}` at the end is all that is left.
///
/// `/vapi/{*rest}` fits `/vapi/x`, `/vapi/` and `/vapi`; the slash before the rest belongs to the rest, so that the last
/// two stay apart in a [`Rewrite`]. Bytes are compared as sent, in their case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    segments: Vec<Segment>,
    tail: Option<Box<str>>,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut pattern = Self {
            text: text.into(),
            segments: Vec::new(),
            tail: None,
        };
        for token in tokens(text)? {
            if let Some(tail) = &pattern.tail {
                return Err(PatternError::RestNotLast(tail.to_string()));
            }
            if let Token::Segment(name) | Token::Rest(name) = token
                && pattern.params().any(|known| known == name)
            {
                return Err(PatternError::DuplicateName(name.to_owned()));
            }
            match token {
                Token::Literal(text) => pattern.segments.push(Segment::Literal(text.into())),
                Token::Segment(name) => pattern.segments.push(Segment::Param(name.into())),
                Token::Rest(name) => pattern.tail = Some(name.into()),
            }
        }
        if pattern.params().count() > MAX_PARAMS {
            return Err(PatternError::TooManyParameters);
        }
        if pattern.segments.len() > MAX_SEGMENTS {
            return Err(PatternError::TooManySegments);
        }
        Ok(pattern)
    }

    /// The names of the parameters, in the order in which they stand; [`Slot::Path`] counts along this list.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        let named = self.segments.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(&**name),
            Segment::Literal(_) => None,
        });
        named.chain(self.tail.as_deref())
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the parameters stand for in `path`, or `None` if it does not fit.
    #[must_use]
    pub fn captures(&self, path: &str) -> Option<Params> {
        if !path.starts_with('/') {
            return None;
        }
        let mut params = Params::default();
        let mut left = path;
        for segment in &self.segments {
            let (text, after) = split_segment(left)?;
            match segment {
                Segment::Literal(wanted) if **wanted != *text => return None,
                Segment::Literal(_) => {}
                Segment::Param(_) if text.is_empty() => return None,
                Segment::Param(_) => {
                    params.push(path.len() - left.len() + 1, path.len() - after.len())?
                }
            }
            left = after;
        }
        match self.tail {
            Some(_) => params.push(path.len() - left.len(), path.len())?,
            None if !left.is_empty() => return None,
            None => {}
        }
        Some(params)
    }

    /// Whether every path that fits `other` fits this pattern too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.segments.iter();
        for ours in &self.segments {
            if !theirs.next().is_some_and(|their| ours.covers(their)) {
                return false;
            }
        }
        self.tail.is_some() || (theirs.next().is_none() && other.tail.is_none())
    }

    /// Where the parameters stand, without the text between them.
    pub(super) fn outline(&self) -> Outline {
        let params = self.segments.iter().rev().fold(0, |bits, segment| {
            bits << 1 | u64::from(matches!(segment, Segment::Param(_)))
        });
        let segments = u8::try_from(self.segments.len()).unwrap_or(u8::MAX);
        Outline {
            params,
            segments,
            tail: self.tail.is_some(),
        }
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) fn has_tail(&self) -> bool {
        self.tail.is_some()
    }
}

/// Which segments of a pattern are parameters: all that is needed to find their values in a path known to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// One bit a segment, the first one lowest; [`MAX_SEGMENTS`] of them fit.
    params: u64,
    segments: u8,
    tail: bool,
}

impl Outline {
    /// What [`PathPattern::captures`] answers for the same path.
    pub(super) fn captures(self, path: &str) -> Option<Params> {
        let mut params = Params::default();
        let mut left = path;
        let mut bits = self.params;
        for _ in 0..self.segments {
            if bits == 0 && !self.tail {
                break;
            }
            let (_, after) = split_segment(left)?;
            if bits & 1 == 1 {
                params.push(path.len() - left.len() + 1, path.len() - after.len())?;
            }
            bits >>= 1;
            left = after;
        }
        if self.tail {
            params.push(path.len() - left.len(), path.len())?;
        }
        Some(params)
    }
}

/// A host, in any case, or a domain with one parameter in front: `{name}.example.com` takes exactly one label.
///
/// A final dot in the request's host makes no difference. IPv6 addresses stand in brackets and are compared as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    text: Box<str>,
    name: Option<Box<str>>,
    domain: Box<str>,
}

impl HostPattern {
    /// Reads a host pattern.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (name, domain) = match text.split_once('.') {
            Some((first, domain)) if first.contains(['{', '}']) => {
                (Some(host_param(first)?), domain)
            }
            _ => (None, text),
        };
        check_domain(domain)?;
        Ok(Self {
            text: text.into(),
            name,
            domain: domain.to_ascii_lowercase().into(),
        })
    }

    /// The name of the first label, if it is a parameter.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The label that the parameter stands for, empty for a host without one; `None` if `host` does not fit.
    #[must_use]
    pub fn captures<'h>(&self, host: &'h str) -> Option<&'h str> {
        let host = bare_host(host)?;
        let (label, domain) = match self.name {
            Some(_) => host.split_once('.').filter(|(label, _)| is_label(label))?,
            None => ("", host),
        };
        domain.eq_ignore_ascii_case(&self.domain).then_some(label)
    }

    /// Whether every host that fits `other` fits this pattern too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.name, &other.name) {
            (Some(_), None) => self.captures(&other.domain).is_some(),
            (None, Some(_)) => false,
            _ => self.domain == other.domain,
        }
    }

    /// The lower-case name, without the parameter and its dot.
    pub(super) fn domain(&self) -> &str {
        &self.domain
    }
}

fn host_param(first: &str) -> Result<Box<str>, PatternError> {
    match token(first) {
        Ok(Token::Segment(name)) => Ok(name.into()),
        Err(error @ (PatternError::EmptyName | PatternError::BadName(_))) => Err(error),
        _ => Err(PatternError::HostParameter(first.to_owned())),
    }
}

fn check_domain(domain: &str) -> Result<(), PatternError> {
    if let Some(c) = domain.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(PatternError::BadCharacter(c));
    }
    if domain.contains(['{', '}']) {
        return Err(PatternError::HostParameter(domain.to_owned()));
    }
    if let Some(address) = domain.strip_prefix('[') {
        return match address.split_once(']') {
            Some((ip, "")) if ip.parse::<Ipv6Addr>().is_ok() => Ok(()),
            Some((_, after)) if after.starts_with(':') => Err(PatternError::HostPort),
            _ => Err(PatternError::HostLabel(domain.to_owned())),
        };
    }
    if domain.is_empty() {
        return Err(PatternError::NoDomain);
    }
    if domain.contains(':') {
        return Err(PatternError::HostPort);
    }
    if domain.ends_with('.') {
        return Err(PatternError::HostFinalDot);
    }
    if domain.len() > MAX_HOST {
        return Err(PatternError::HostTooLong);
    }
    match domain.split('.').find(|label| !is_label(label)) {
        Some(label) => Err(PatternError::HostLabel(label.to_owned())),
        None => Ok(()),
    }
}

pub(super) fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A request's host without its final dot; `None` where it is too long for a host name.
pub(super) fn bare_host(host: &str) -> Option<&str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    (host.len() <= MAX_HOST).then_some(host)
}

/// Where the value of a parameter is found: in the path, counted along [`PathPattern::params`], or in the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The n-th parameter of the path.
    Path(usize),
    /// The first label of the host.
    Host,
}

/// Which bytes of a request the parameters of a rule stand for.
///
/// Holds positions only, inline, so it is `Copy` and outlives the request that it was taken from. Names belong to the
/// rule: turn a name into a [`Slot`] once, when the table is compiled, and the slot into a value for each request. The
/// path and host given later must be the ones that were matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// Start and end in the path. The rest's span begins at the slash in front of it, and is empty where there is none.
    spans: [(u32, u32); MAX_PARAMS],
    count: usize,
    label: usize,
}

impl Params {
    /// The bytes that the parameter stands for, as sent; empty for a slot that the rule does not have.
    #[must_use]
    pub fn get<'r>(&self, slot: Slot, path: &'r str, host: &'r str) -> &'r str {
        match slot {
            Slot::Host => host.get(..self.label).unwrap_or_default(),
            Slot::Path(index) => {
                let raw = self.raw(index, path);
                raw.strip_prefix('/').unwrap_or(raw)
            }
        }
    }

    pub(super) fn set_label(&mut self, label: &str) {
        self.label = label.len();
    }

    fn push(&mut self, start: usize, end: usize) -> Option<()> {
        *self.spans.get_mut(self.count)? = (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
        self.count += 1;
        Some(())
    }

    /// The bytes of a path parameter, those of the rest with the slash in front of it.
    pub(super) fn raw<'r>(&self, index: usize, path: &'r str) -> &'r str {
        let span = self.spans.get(index).filter(|_| index < self.count);
        let bounds = span.and_then(|&(start, end)| {
            Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        });
        bounds.and_then(|range| path.get(range)).unwrap_or_default()
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

    fn values<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
        let pattern = PathPattern::parse(pattern).unwrap();
        let params = pattern.captures(path)?;
        let slots = (0..pattern.params().count()).map(Slot::Path);
        Some(slots.map(|slot| params.get(slot, path, "")).collect())
    }

    #[test]
    fn a_path_is_matched_byte_for_byte() {
        assert_eq!(values("/a/b", "/a/b"), Some(vec![]));
        for other in [
            "/a/B", "/a/b/", "/a//b", "/a/%62", "/a", "a/b", "", "*", "/a/b.", "/a/b;x", "//a/b",
            "/a%2fb",
        ] {
            assert_eq!(values("/a/b", other), None, "{other}");
        }
        assert_eq!(values("/", "/"), Some(vec![]));
        assert_eq!(values("/a/", "/a/"), Some(vec![]));
        assert_eq!(values("/a/", "/a"), None);
        assert_eq!(values("/a//b", "/a//b"), Some(vec![]));
    }

    #[test]
    fn a_parameter_is_one_segment_that_is_not_empty() {
        assert_eq!(
            values("/{a}/x/{b}", "/1%2F2/x/+@;"),
            Some(vec!["1%2F2", "+@;"])
        );
        for other in ["//x/b", "/a/x/", "/a/x", "/a/x/b/", "/a/x/b/c"] {
            assert_eq!(values("/{a}/x/{b}", other), None, "{other}");
        }
    }

    #[test]
    fn the_rest_may_be_empty_and_carries_every_slash() {
        for (path, rest) in [
            ("/v", ""),
            ("/v/", ""),
            ("/v/x", "x"),
            ("/v//x/", "/x/"),
            ("/v//", "/"),
            ("/v/%2F", "%2F"),
        ] {
            assert_eq!(values("/v/{*rest}", path), Some(vec![rest]), "{path}");
        }
        assert_eq!(values("/v/{*rest}", "/vx"), None);
        assert_eq!(values("/{*rest}", "/"), Some(vec![""]));
        assert_eq!(values("/{*rest}", "/a/b"), Some(vec!["a/b"]));
        assert_eq!(values("/{*rest}", ""), None);
        assert_eq!(values("/{*rest}", "*"), None);
        assert_eq!(values("/{a}/{*rest}", "/1"), Some(vec!["1", ""]));
        assert_eq!(values("/{a}/{*rest}", "/"), None);
    }

    #[test]
    fn a_mistake_in_a_path_has_its_own_name() {
        use PatternError as E;
        let s = str::to_owned;
        let nine = "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}";
        let deep = "/a".repeat(MAX_SEGMENTS + 1);
        let table = [
            ("", E::NoLeadingSlash),
            ("a/b", E::NoLeadingSlash),
            ("{*rest}", E::NoLeadingSlash),
            ("/a?b=c", E::QueryOrFragment('?')),
            ("/a#b", E::QueryOrFragment('#')),
            ("/a b", E::BadCharacter(' ')),
            ("/a\tb", E::BadCharacter('\t')),
            ("/a\u{7f}", E::BadCharacter('\u{7f}')),
            ("/café", E::BadCharacter('é')),
            ("/a/../b", E::DotSegment),
            ("/.", E::DotSegment),
            ("/a/%2E%2e", E::DotSegment),
            ("/{a", E::UnclosedBrace(s("{a"))),
            ("/{a/b}", E::UnclosedBrace(s("{a"))),
            ("/{a{b}}", E::UnclosedBrace(s("{a{b}}"))),
            ("/a}", E::StrayBrace(s("a}"))),
            ("/{a}}", E::StrayBrace(s("{a}}"))),
            ("/{}", E::EmptyName),
            ("/{*}", E::EmptyName),
            ("/{a-b}", E::BadName(s("a-b"))),
            ("/{1a}", E::BadName(s("1a"))),
            ("/{a*}", E::BadName(s("a*"))),
            ("/{**a}", E::BadName(s("*a"))),
            ("/{a}/{a}", E::DuplicateName(s("a"))),
            ("/{a}/{*a}", E::DuplicateName(s("a"))),
            ("/{*a}/b", E::RestNotLast(s("a"))),
            ("/{*a}/", E::RestNotLast(s("a"))),
            ("/{*a}/{*b}", E::RestNotLast(s("a"))),
            ("/a{b}", E::Glued(s("a{b}"))),
            ("/{b}.json", E::Glued(s("{b}.json"))),
            ("/{a}{b}", E::Glued(s("{a}{b}"))),
            ("/x{*rest}", E::Glued(s("x{*rest}"))),
            (nine, E::TooManyParameters),
            (deep.as_str(), E::TooManySegments),
        ];
        for (text, error) in table {
            assert_eq!(PathPattern::parse(text), Err(error), "{text}");
        }
        assert!(PathPattern::parse(&nine[..nine.len() - 4]).is_ok());
        assert!(PathPattern::parse(&format!("{}/{{*rest}}", &deep[2..])).is_ok());
    }

    #[test]
    fn a_pattern_tells_its_parameters_in_order() {
        let pattern = PathPattern::parse("/{b}/x/{a}/{*rest}").unwrap();
        assert_eq!(pattern.params().collect::<Vec<_>>(), ["b", "a", "rest"]);
        assert_eq!(pattern.as_str(), "/{b}/x/{a}/{*rest}");
    }

    #[test]
    fn a_host_is_matched_in_any_case_and_with_its_final_dot() {
        let exact = HostPattern::parse("API.example.com").unwrap();
        for host in ["api.example.com", "Api.Example.Com", "api.example.com."] {
            assert_eq!(exact.captures(host), Some(""), "{host}");
        }
        for host in [
            "",
            "example.com",
            "x.api.example.com",
            "api.example.com..",
            "api.example.comx",
        ] {
            assert_eq!(exact.captures(host), None, "{host}");
        }
        let ip = HostPattern::parse("[::1]").unwrap();
        assert_eq!(ip.captures("[::1]"), Some(""));
        assert_eq!(
            HostPattern::parse("127.0.0.1")
                .unwrap()
                .captures("127.0.0.1"),
            Some("")
        );
    }

    #[test]
    fn a_host_parameter_takes_exactly_one_label() {
        let pattern = HostPattern::parse("{product}.Example.com").unwrap();
        assert_eq!(pattern.param(), Some("product"));
        assert_eq!(pattern.captures("API.example.com."), Some("API"));
        assert_eq!(pattern.captures("my-api_2.example.com"), Some("my-api_2"));
        let long = format!("{}.example.com", "a".repeat(64));
        for host in [
            "example.com",
            ".example.com",
            "a.b.example.com",
            "a%2e.example.com",
            "a@b.example.com",
            &long,
        ] {
            assert_eq!(pattern.captures(host), None, "{host}");
        }
    }

    #[test]
    fn a_mistake_in_a_host_has_its_own_name() {
        use PatternError as E;
        let s = str::to_owned;
        let long = "a.".repeat(MAX_HOST) + "a";
        let label = "a".repeat(64);
        let table = [
            ("", E::NoDomain),
            ("{a}.", E::NoDomain),
            ("{a}", E::HostParameter(s("{a}"))),
            ("a.example:80", E::HostPort),
            ("[::1]:80", E::HostPort),
            ("a.example.", E::HostFinalDot),
            (long.as_str(), E::HostTooLong),
            ("x.{a}.example", E::HostParameter(s("x.{a}.example"))),
            ("{a}.{b}.example", E::HostParameter(s("{b}.example"))),
            ("x{a}.example", E::HostParameter(s("x{a}"))),
            ("{*a}.example", E::HostParameter(s("{*a}"))),
            ("{a.example", E::HostParameter(s("{a"))),
            ("{}.example", E::EmptyName),
            ("{a b}.example", E::BadName(s("a b"))),
            ("a..example", E::HostLabel(String::new())),
            ("a/b", E::HostLabel(s("a/b"))),
            ("*.example", E::HostLabel(s("*"))),
            (label.as_str(), E::HostLabel(label.clone())),
            ("[::x]", E::HostLabel(s("[::x]"))),
            ("müller.example", E::BadCharacter('ü')),
            ("a b", E::BadCharacter(' ')),
        ];
        for (text, error) in table {
            assert_eq!(HostPattern::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn positions_outlive_the_request_and_unknown_slots_are_empty() {
        let pattern = PathPattern::parse("/{a}").unwrap();
        let params = {
            let path = String::from("/one");
            pattern.captures(&path).unwrap()
        };
        assert_eq!(params.get(Slot::Path(0), "/one", ""), "one");
        assert_eq!(params.get(Slot::Path(1), "/one", ""), "");
        assert_eq!(params.get(Slot::Path(99), "/one", ""), "");
        assert_eq!(params.get(Slot::Path(0), "/", ""), "");
        assert_eq!(params.get(Slot::Host, "/one", "h.example"), "");
    }
}
