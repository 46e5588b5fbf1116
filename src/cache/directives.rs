//! `Cache-Control` of a request or an answer (RFC 9111 5.2), read so that doubt never makes more of it.
//!
//! A lifetime that cannot be read is none, of two that differ the shorter counts, and a directive that
//! names fields is taken for the whole. Nothing here decides; `verdict` does.

use crate::clock::Duration;
use http::{HeaderMap, header};

/// The longest lifetime that is told apart, in seconds (RFC 9111 1.2.2).
const LONGEST: u64 = 1 << 31;

/// What was said, for a request and an answer alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`; in a request also by `Pragma`, where nothing else is said.
    pub no_cache: bool,
    /// `private`.
    pub private: bool,
    /// `must-revalidate`, `proxy-revalidate` or `s-maxage`: never used stale.
    pub revalidate: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age`.
    pub max_age: Option<Duration>,
    /// `s-maxage`.
    pub s_maxage: Option<Duration>,
    /// `min-fresh`.
    pub min_fresh: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 4).
    pub stale_if_error: Option<Duration>,
}

impl Directives {
    /// What an answer says.
    pub fn of_answer(fields: &HeaderMap) -> Directives {
        let mut said = Directives::default();
        for line in fields.get_all(header::CACHE_CONTROL) {
            each(line.as_bytes(), |name, value| said.take(name, value));
        }
        said
    }

    /// What a request says. `Pragma` counts where `Cache-Control` is absent (RFC 9111 5.4).
    pub fn of_request(fields: &HeaderMap) -> Directives {
        let mut said = Directives::of_answer(fields);
        if !fields.contains_key(header::CACHE_CONTROL)
            && let Some(pragma) = fields.get(header::PRAGMA)
        {
            each(pragma.as_bytes(), |name, _| {
                said.no_cache |= name.eq_ignore_ascii_case(b"no-cache");
            });
        }
        said
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let shorter = |known: &mut Option<Duration>| {
            let read = seconds(value);
            *known = Some(known.map_or(read, |known| known.min(read)));
        };
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("private") {
            self.private = true;
        } else if is("must-revalidate") || is("proxy-revalidate") {
            self.revalidate = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            shorter(&mut self.max_age);
        } else if is("s-maxage") {
            self.revalidate = true;
            shorter(&mut self.s_maxage);
        } else if is("min-fresh") {
            self.min_fresh = Some(seconds(value));
        } else if is("stale-while-revalidate") {
            shorter(&mut self.stale_while_revalidate);
        } else if is("stale-if-error") {
            shorter(&mut self.stale_if_error);
        }
    }
}

/// What cannot be read is no time at all.
fn seconds(value: Option<&[u8]>) -> Duration {
    value.and_then(whole_seconds).unwrap_or_default()
}

/// A number of digits alone.
pub(super) fn whole_seconds(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| {
        let sum = sum.saturating_mul(10);
        sum.saturating_add(u64::from(digit.wrapping_sub(b'0')))
    };
    let seconds = digits.iter().fold(0, add).min(LONGEST);
    Some(Duration::from_secs(seconds))
}

/// Calls `act` with each directive and its value, without the quotes.
fn each(line: &[u8], mut act: impl FnMut(&[u8], Option<&[u8]>)) {
    let mut rest = line;
    while !rest.is_empty() {
        let end = member_end(rest);
        let (member, after) = rest.split_at(end);
        let equals = member.iter().position(|b| *b == b'=');
        match equals.map(|at| member.split_at(at)) {
            None => act(member.trim_ascii(), None),
            Some((name, value)) => {
                let value = value.get(1..).unwrap_or_default().trim_ascii();
                act(name.trim_ascii(), Some(unquoted(value)));
            }
        }
        rest = after.get(1..).unwrap_or_default();
    }
}

/// Where the first member of a list ends: at a comma that stands in no quotes.
fn member_end(list: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    list.len()
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|v| v.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// The members of the lists in every line of a field, trimmed; quoted ones stay in their quotes.
pub(super) fn members<'a>(
    fields: &'a HeaderMap,
    name: &header::HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    fields.get_all(name).into_iter().flat_map(|line| {
        let mut rest = line.as_bytes();
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let (member, after) = rest.split_at(member_end(rest));
                rest = after.get(1..).unwrap_or_default();
                if !member.trim_ascii().is_empty() {
                    return Some(member.trim_ascii());
                }
            }
            None
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn said(lines: &[&str]) -> Directives {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(header::CACHE_CONTROL, line.parse().unwrap());
        }
        Directives::of_answer(&fields)
    }

    fn lasts(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn names_have_no_case_and_values_may_be_quoted() {
        let all = said(&[
            "Max-Age=\"60\" , NO-STORE",
            "private=\"a, no-cache\", s-maxage=5",
        ]);
        assert_eq!((all.max_age, all.s_maxage), (lasts(60), lasts(5)));
        assert!(all.no_store && all.private && all.revalidate);
        assert!(!all.no_cache, "it stands in quotes");
    }

    #[test]
    fn a_lifetime_in_doubt_is_the_shortest_that_it_can_be() {
        for (line, read) in [
            ("max-age=60, max-age=30", 30),
            ("max-age=-1", 0),
            ("max-age=1.5", 0),
            ("max-age", 0),
            ("max-age=", 0),
            ("max-age=x", 0),
            ("max-age= 7 ", 7),
            ("max-age=99999999999999999999999", LONGEST),
        ] {
            assert_eq!(said(&[line]).max_age, lasts(read), "{line}");
        }
    }

    #[test]
    fn pragma_counts_only_by_itself() {
        let mut fields = HeaderMap::new();
        fields.insert(header::PRAGMA, "No-Cache".parse().unwrap());
        assert!(Directives::of_request(&fields).no_cache);
        fields.insert(header::CACHE_CONTROL, "max-age=3".parse().unwrap());
        assert!(!Directives::of_request(&fields).no_cache);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(line in "[ -~]{0,80}") {
            said(&[&line]);
        }

        #[test]
        fn what_forbids_is_seen_wherever_it_stands(
            before in prop::collection::vec("(max-age=[0-9]{1,4}|public|x=\"[a-z,]{0,6}\"|immutable)", 0..4),
            word in prop::sample::select(vec!["no-store", "private", "no-cache"]),
        ) {
            let mut list = before;
            list.push(word.to_owned());
            let all = said(&[&list.join(" , ")]);
            let seen = match word { "no-store" => all.no_store, "private" => all.private, _ => all.no_cache };
            prop_assert!(seen);
        }
    }
}
