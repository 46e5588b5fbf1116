//! One rule of the route table: the conditions it sets and whether a request meets them.
//!
//! Decides each condition on its own, in the order in which an operator would check them, and says which one failed.
//! A condition that is not set is met by every request. It must never look at more of a request than [`View`] shows,
//! and never at a body. Called by the matcher in `index` and, through it, by `check` and `explain`.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::method::Method;

use super::pattern::{HostPattern, Params, PathPattern, Slot};

/// The conditions of one route; a request must meet all that are set.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The number of the one listener that the request must have come in on.
    pub listener: Option<u16>,
    /// The host that it must be meant for.
    pub host: Option<HostPattern>,
    /// The path that it must ask for; without one, every path fits, `*` of `OPTIONS` too.
    pub path: Option<PathPattern>,
    /// The methods that it may use, exactly: `GET` does not take in `HEAD`. Empty: any.
    pub methods: Vec<Method>,
    /// Fields that it must carry; of several lines of one name, any may hold the value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `name=value` pairs that must stand in its query, compared as sent; a name without `=` has the empty value.
    pub query: Vec<(String, String)>,
}

/// What matching sees of a request.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The number of the listener that it came in on.
    pub listener: u16,
    /// The host of its authority without the port, in any case.
    pub host: &'a str,
    /// Its path as sent.
    pub path: &'a str,
    /// Its query as sent, without the `?`.
    pub query: Option<&'a str>,
    /// Its method.
    pub method: &'a Method,
    /// Its header fields.
    pub headers: &'a HeaderMap,
}

impl Rule {
    /// The first condition that the request fails, or `None` if it meets them all.
    #[must_use]
    pub fn mismatch(&self, view: &View<'_>) -> Option<Mismatch<'_>> {
        if let Some(host) = self
            .host
            .as_ref()
            .filter(|host| host.captures(view.host).is_none())
        {
            return Some(Mismatch::Host { wanted: host });
        }
        if let Some(path) = self
            .path
            .as_ref()
            .filter(|path| path.captures(view.path).is_none())
        {
            return Some(Mismatch::Path { wanted: path });
        }
        self.mismatch_off_path(view)
    }

    /// Like [`Rule::mismatch`], for a request whose host and path are known to fit.
    pub(super) fn mismatch_off_path(&self, view: &View<'_>) -> Option<Mismatch<'_>> {
        if let Some(wanted) = self.listener.filter(|wanted| *wanted != view.listener) {
            return Some(Mismatch::Listener { wanted });
        }
        if !self.methods.is_empty() && !self.methods.contains(view.method) {
            return Some(Mismatch::Method {
                allowed: &self.methods,
            });
        }
        let header = self
            .headers
            .iter()
            .find_map(|(name, value)| header_mismatch(view, name, value));
        header.or_else(|| {
            self.query
                .iter()
                .find_map(|(name, value)| query_mismatch(view, name, value))
        })
    }

    /// Whether a request whose host and path fit may still fail.
    pub(super) fn looks_off_path(&self) -> bool {
        self.listener.is_some()
            || !self.methods.is_empty()
            || !self.headers.is_empty()
            || !self.query.is_empty()
    }

    /// What the parameters stand for in a request whose host and path fit.
    pub(super) fn captures(&self, view: &View<'_>) -> Option<Params> {
        let mut params = match &self.path {
            Some(path) => path.captures(view.path)?,
            None => Params::default(),
        };
        if let Some(host) = &self.host {
            params.set_label(host.captures(view.host)?);
        }
        Some(params)
    }

    /// Every parameter of the rule with the place of its value: those of the path in order, then the host's.
    pub fn params(&self) -> impl Iterator<Item = (&str, Slot)> {
        let path = self.path.iter().flat_map(PathPattern::params);
        let path = path
            .enumerate()
            .map(|(index, name)| (name, Slot::Path(index)));
        let host = self.host.as_ref().and_then(HostPattern::param);
        path.chain(host.map(|name| (name, Slot::Host)))
    }

    /// Where the value of the parameter `name` is found; of a path and a host parameter of one name, the path's.
    #[must_use]
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.params()
            .find_map(|(known, slot)| (known == name).then_some(slot))
    }

    /// Whether every request that meets `other` meets this rule too. `false` may also mean that this cannot be told.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let listener = self.listener.is_none() || self.listener == other.listener;
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty()
                && other
                    .methods
                    .iter()
                    .all(|method| self.methods.contains(method)));
        listener
            && methods
            && covers_option(self.host.as_ref(), other.host.as_ref(), HostPattern::covers)
            && covers_option(self.path.as_ref(), other.path.as_ref(), PathPattern::covers)
            && self
                .headers
                .iter()
                .all(|wanted| other.headers.contains(wanted))
            && self.query.iter().all(|wanted| other.query.contains(wanted))
    }
}

fn covers_option<T>(ours: Option<&T>, theirs: Option<&T>, covers: impl Fn(&T, &T) -> bool) -> bool {
    match (ours, theirs) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(ours), Some(theirs)) => covers(ours, theirs),
    }
}

fn header_mismatch<'r>(
    view: &View<'_>,
    name: &'r HeaderName,
    value: &HeaderValue,
) -> Option<Mismatch<'r>> {
    let mut lines = view.headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Some(Mismatch::HeaderAbsent { name });
    }
    (!lines.any(|line| line == value)).then_some(Mismatch::HeaderDiffers { name })
}

fn query_mismatch<'r>(view: &View<'_>, name: &'r str, value: &str) -> Option<Mismatch<'r>> {
    let pairs = view
        .query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value)
        .peekable();
    if values.peek().is_none() {
        return Some(Mismatch::QueryAbsent { name });
    }
    (!values.any(|sent| sent == value)).then_some(Mismatch::QueryDiffers { name })
}

/// The condition that kept a rule from matching. Values of fields and queries are left out: they may be secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch<'r> {
    /// The request came in on another listener.
    Listener {
        /// The rule's listener.
        wanted: u16,
    },
    /// The host does not fit.
    Host {
        /// The rule's pattern.
        wanted: &'r HostPattern,
    },
    /// The path does not fit.
    Path {
        /// The rule's pattern.
        wanted: &'r PathPattern,
    },
    /// The method is not among the rule's.
    Method {
        /// The rule's methods.
        allowed: &'r [Method],
    },
    /// A field is missing.
    HeaderAbsent {
        /// Its name.
        name: &'r HeaderName,
    },
    /// A field is there, but no line of it holds the value.
    HeaderDiffers {
        /// Its name.
        name: &'r HeaderName,
    },
    /// A query parameter is missing.
    QueryAbsent {
        /// Its name.
        name: &'r str,
    },
    /// A query parameter is there with other values only.
    QueryDiffers {
        /// Its name.
        name: &'r str,
    },
    /// The table has no rule of this number.
    NoSuchRule,
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener { .. } => f.write_str("it is bound to another listener"),
            Self::Host { wanted } => write!(f, "the host does not fit `{}`", wanted.as_str()),
            Self::Path { wanted } => write!(f, "the path does not fit `{}`", wanted.as_str()),
            Self::Method { allowed } => {
                f.write_str("the method is not ")?;
                for (index, method) in allowed.iter().enumerate() {
                    write!(f, "{}{method}", if index == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
            Self::HeaderAbsent { name } => write!(f, "there is no `{name}` field"),
            Self::HeaderDiffers { name } => write!(f, "no `{name}` field has the value asked for"),
            Self::QueryAbsent { name } => write!(f, "the query has no `{name}`"),
            Self::QueryDiffers { name } => {
                write!(f, "no `{name}` of the query has the value asked for")
            }
            Self::NoSuchRule => f.write_str("there is no such rule"),
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
    use super::*;

    fn said(rule: &Rule, view: &View<'_>) -> String {
        rule.mismatch(view)
            .map(|mismatch| mismatch.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn the_condition_that_failed_is_named_without_its_value() {
        let mut headers = HeaderMap::new();
        headers.append("x-mode", HeaderValue::from_static("one"));
        headers.append("x-mode", HeaderValue::from_static("two"));
        let view = View {
            listener: 1,
            host: "api.example",
            path: "/a",
            query: Some("k=1&k=2&flag&e="),
            method: &Method::HEAD,
            headers: &headers,
        };
        let header = |value| Rule {
            headers: vec![(
                HeaderName::from_static("x-mode"),
                HeaderValue::from_static(value),
            )],
            ..Rule::default()
        };
        let query = |name: &str, value: &str| Rule {
            query: vec![(name.to_owned(), value.to_owned())],
            ..Rule::default()
        };
        let absent = Rule {
            headers: vec![(
                HeaderName::from_static("x-key"),
                HeaderValue::from_static("canary"),
            )],
            ..Rule::default()
        };
        let table = [
            (Rule::default(), ""),
            (
                Rule {
                    listener: Some(1),
                    ..Rule::default()
                },
                "",
            ),
            (
                Rule {
                    listener: Some(2),
                    ..Rule::default()
                },
                "it is bound to another listener",
            ),
            (
                Rule {
                    host: HostPattern::parse("{h}.test").ok(),
                    ..Rule::default()
                },
                "the host does not fit `{h}.test`",
            ),
            (
                Rule {
                    path: PathPattern::parse("/b").ok(),
                    ..Rule::default()
                },
                "the path does not fit `/b`",
            ),
            (
                Rule {
                    methods: vec![Method::GET, Method::POST],
                    ..Rule::default()
                },
                "the method is not GET or POST",
            ),
            (header("one"), ""),
            (header("two"), ""),
            (
                header("canary"),
                "no `x-mode` field has the value asked for",
            ),
            (absent, "there is no `x-key` field"),
            (query("k", "1"), ""),
            (query("k", "2"), ""),
            (query("flag", ""), ""),
            (query("e", ""), ""),
            (
                query("k", "canary"),
                "no `k` of the query has the value asked for",
            ),
            (query("K", "1"), "the query has no `K`"),
        ];
        for (rule, message) in table {
            assert_eq!(said(&rule, &view), message, "{rule:?}");
        }
    }

    #[test]
    fn parameters_of_path_and_host_are_found_by_name() {
        let rule = Rule {
            host: HostPattern::parse("{product}.test").ok(),
            path: PathPattern::parse("/{id}/{*rest}").ok(),
            ..Rule::default()
        };
        assert_eq!(rule.slot("id"), Some(Slot::Path(0)));
        assert_eq!(rule.slot("rest"), Some(Slot::Path(1)));
        assert_eq!(rule.slot("product"), Some(Slot::Host));
        assert_eq!(rule.slot("other"), None);
        let headers = HeaderMap::new();
        let view = View {
            listener: 0,
            host: "Api.TEST.",
            path: "/7/a/b",
            query: None,
            method: &Method::GET,
            headers: &headers,
        };
        let params = rule.captures(&view).unwrap();
        let values: Vec<_> = rule
            .params()
            .map(|(name, slot)| (name, params.get(slot, view.path, view.host)))
            .collect();
        assert_eq!(values, [("id", "7"), ("rest", "a/b"), ("product", "Api")]);
    }

    #[test]
    fn a_rule_covers_what_asks_for_no_less() {
        let path = |text: &str| Rule {
            path: Some(PathPattern::parse(text).unwrap()),
            ..Rule::default()
        };
        let host = |text: &str| Rule {
            host: Some(HostPattern::parse(text).unwrap()),
            ..Rule::default()
        };
        let methods = |methods: &[Method]| Rule {
            methods: methods.to_vec(),
            ..Rule::default()
        };
        let query = |pairs: &[&str]| Rule {
            query: pairs
                .iter()
                .map(|name| ((*name).to_owned(), "1".to_owned()))
                .collect(),
            ..Rule::default()
        };
        let listener = |listener| Rule {
            listener: Some(listener),
            ..Rule::default()
        };
        let covered = [
            (Rule::default(), path("/a")),
            (path("/a/{*x}"), path("/a")),
            (path("/a/{*x}"), path("/a/{b}/{*c}")),
            (path("/{x}/b"), path("/a/b")),
            (path("/{*x}"), path("/")),
            (host("{a}.test"), host("X.test")),
            (host("{a}.test"), host("{b}.TEST")),
            (
                methods(&[Method::GET, Method::PUT]),
                methods(&[Method::GET]),
            ),
            (query(&["a"]), query(&["b", "a"])),
            (listener(1), listener(1)),
        ];
        for (ours, theirs) in covered {
            assert!(ours.covers(&theirs), "{ours:?} covers {theirs:?}");
        }
        let open = [
            (path("/a"), Rule::default()),
            (path("/{*x}"), Rule::default()),
            (path("/a/{x}"), path("/a/{*x}")),
            (path("/{x}"), path("/")),
            (path("/a/{*x}"), path("/{*x}")),
            (path("/a/b/{*x}"), path("/a/{*x}")),
            (host("{a}.test"), host("a.b.test")),
            (host("a.test"), host("{a}.test")),
            (methods(&[Method::GET]), methods(&[])),
            (methods(&[Method::GET]), methods(&[Method::HEAD])),
            (query(&["a", "b"]), query(&["a"])),
            (listener(1), listener(2)),
            (listener(1), Rule::default()),
        ];
        for (ours, theirs) in open {
            assert!(!ours.covers(&theirs), "{ours:?} leaves room for {theirs:?}");
        }
    }
}
