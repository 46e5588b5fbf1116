//! What makes two requests ask for the same answer: a digest over all that goes upstream.
//!
//! Everything that the origin gets to see is part of it, so that no field that is not part of the key
//! can shape an answer for others: the account, the address, and every further field, but for those
//! that differ from call to call by their nature (traces, conditions, directives for caches). Nothing
//! here prints or keeps a credential.

use crate::guard::{Digest, Parts};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// The identity of a kept answer, but for what it varies by among the fields left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Digest);

/// The identity of what an answer shows: its address, whoever asks and with whatever query.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource(Digest);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resource(..)")
    }
}

/// A place at an upstream, as it is sent there.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host and port.
    pub authority: &'a str,
    /// The path, raw.
    pub path: &'a str,
}

/// A request for a representation, as it goes out.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Its route.
    pub route: &'a str,
    /// Where it goes.
    pub place: Place<'a>,
    /// The host that it names there, where that is not the place's own.
    pub host: Option<&'a HeaderValue>,
    /// Its query, raw; an empty one differs from none.
    pub query: Option<&'a str>,
    /// The name of the credential that we add; without one, it is the account of its Authorization fields.
    pub injected: Option<&'a str>,
    /// Which client's, where the credential is not its own.
    pub client: Option<u128>,
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// Fields that the route leaves out.
    pub ignore: &'a [HeaderName],
    /// The field in whose place ours is sent.
    pub replaced: Option<&'a HeaderName>,
    /// The field that carries the correlation id.
    pub correlation: &'a HeaderName,
}

impl Key {
    /// The key of that request.
    pub fn of(wanted: &Wanted<'_>) -> Key {
        let mut parts = Parts::of("cache 2", "request");
        let client = wanted.client.map(u128::to_be_bytes);
        let may_lack = [
            wanted.host.map(HeaderValue::as_bytes),
            wanted.query.map(str::as_bytes),
            wanted.injected.map(str::as_bytes),
            client.as_ref().map(<[u8; 16]>::as_slice),
        ];
        let [host, query, injected, own] = may_lack.map(|part| u8::from(part.is_some()));
        let [a, b, c, d] = u32::try_from(wanted.ignore.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        parts.add_short(&[host, query, injected, own, a, b, c, d]);
        for part in may_lack.into_iter().flatten() {
            parts.add_short(part);
        }
        // What was kept while fields were left out is not for the time when they count again.
        for name in wanted.ignore {
            parts.add_short(name.as_str().as_bytes());
        }
        parts.add_short(wanted.route.as_bytes());
        add_place(&mut parts, &wanted.place, Parts::add_short);
        // Whose account it is, no route can leave out.
        let is_account = |name: &HeaderName| wanted.injected.is_none() && name == AUTHORIZATION;
        let counts = |name: &HeaderName| {
            is_account(name)
                || !differs_by_nature(name.as_str())
                    && name != wanted.correlation
                    && Some(name) != wanted.replaced
                    && !wanted.ignore.contains(name)
        };
        let mut lines = Vec::with_capacity(wanted.fields.len());
        lines.extend(wanted.fields.iter().filter(|line| counts(line.0)));
        // Lines of one name stay in their order.
        lines.sort_by_key(|line| line.0.as_str());
        for group in lines.chunk_by(|a, b| a.0 == b.0) {
            parts.add_short(group.first().map_or("", |line| line.0.as_str()).as_bytes());
            // How many, so that an empty line is not taken for their end, and a line for a name.
            parts.add_short(&u32::try_from(group.len()).unwrap_or(u32::MAX).to_be_bytes());
            for (_, value) in group {
                parts.add_short(value.as_bytes());
            }
        }
        Key(parts.end())
    }

    /// All of it. It stands for the credential too: it goes nowhere as it is.
    pub(super) fn bytes(&self) -> &Digest {
        &self.0
    }
}

impl Resource {
    /// The resource at that place. A slash at its end makes no difference.
    pub fn at(place: &Place<'_>) -> Resource {
        // Replicas of any version tell each other of changes by these.
        let mut parts = Parts::of("trunkline cache 1", "resource");
        let path = place.path.trim_end_matches('/');
        add_place(&mut parts, &Place { path, ..*place }, Parts::add);
        Resource(parts.end())
    }

    /// What a change at that place may have changed: itself, and the collections that it is in. The
    /// list of `/Messages/SM1.json` is `/Messages.json`.
    pub fn changed_at(place: &Place<'_>) -> Vec<Resource> {
        let path = place.path.trim_end_matches('/');
        let mut changed = vec![Resource::at(place)];
        let Some((parent, last)) = path.rsplit_once('/') else {
            return changed;
        };
        changed.push(Resource::at(&Place {
            path: parent,
            ..*place
        }));
        if let Some((_, extension)) = last.rsplit_once('.') {
            let path = format!("{parent}.{extension}");
            changed.push(Resource::at(&Place {
                path: &path,
                ..*place
            }));
        }
        changed
    }

    /// All of it, for another store's name of it.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The one of that name.
    pub(super) fn from_hex(text: &str) -> Option<Resource> {
        let mut out = Digest::default();
        let digits = text.as_bytes();
        if digits.len() != 2 * out.len() {
            return None;
        }
        for (place, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *place = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Resource(out))
    }
}

/// Whether a field says nothing about what is wanted: it ties the request to others, is about the
/// connection or about caches, or is counted elsewhere.
fn differs_by_nature(name: &str) -> bool {
    let traces = matches!(
        name,
        "traceparent"
            | "tracestate"
            | "b3"
            | "x-request-id"
            | "request-id"
            | "x-correlation-id"
            | "x-amzn-trace-id"
            | "x-cloud-trace-context"
            | "sentry-trace"
            | "uber-trace-id"
            | "elastic-apm-traceparent"
    );
    let plumbing = matches!(
        name,
        "host"
            | "via"
            | "date"
            | "content-length"
            | "cache-control"
            | "pragma"
            | "if-none-match"
            | "if-modified-since"
            | "priority"
            | "x-forwarded-for"
    );
    traces || plumbing || name.starts_with("x-b3-") || name.starts_with("x-datadog-")
}

/// What a request holds in the fields that an answer varies by (RFC 9111 4.1), lines joined.
#[derive(Clone, PartialEq, Eq)]
pub struct Selecting(Vec<(HeaderName, Option<Vec<u8>>)>);

impl fmt::Debug for Selecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selecting({} fields)", self.0.len())
    }
}

impl Selecting {
    /// What `request` holds in the fields that `answer` names.
    pub fn of(answer: &HeaderMap, request: &HeaderMap) -> Selecting {
        let names = super::directives::members(answer, &http::header::VARY);
        let names: Vec<_> = names
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        Selecting::by(names.iter(), request)
    }

    /// What `request` holds in these fields.
    pub(super) fn by<'a>(
        names: impl Iterator<Item = &'a HeaderName>,
        request: &HeaderMap,
    ) -> Selecting {
        let fields = names.map(|name| (name.clone(), held(request, name)));
        let mut fields: Vec<_> = fields.collect();
        fields.sort_unstable_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        fields.dedup_by(|a, b| a.0 == b.0);
        Selecting(fields)
    }

    /// Whether another request would be given the same.
    pub fn fits(&self, request: &HeaderMap) -> bool {
        let same = |(name, value): &(HeaderName, Option<Vec<u8>>)| held(request, name) == *value;
        self.0.iter().all(same)
    }

    /// The bytes that it takes.
    pub fn weight(&self) -> usize {
        let one =
            |(_, value): &(HeaderName, Option<Vec<u8>>)| 64 + value.as_ref().map_or(0, Vec::len);
        self.0.iter().map(one).sum()
    }

    /// The fields and what they held.
    pub fn parts(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (name, value.as_deref()))
    }
}

fn held(request: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut lines = request.get_all(name).iter().map(HeaderValue::as_bytes);
    let mut joined = lines.next()?.trim_ascii().to_vec();
    for line in lines {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.trim_ascii());
    }
    Some(joined)
}

/// How a part is added to a digest.
type Adding = fn(&mut Parts, &[u8]);

fn add_place(parts: &mut Parts, place: &Place<'_>, add: Adding) {
    add(parts, if place.tls { b"https" } else { b"http" });
    if place
        .authority
        .bytes()
        .any(|byte| byte.is_ascii_uppercase())
    {
        add(parts, place.authority.to_ascii_lowercase().as_bytes());
    } else {
        add(parts, place.authority.as_bytes());
    }
    add(parts, place.path.as_bytes());
}

fn hex(digest: &Digest) -> String {
    use fmt::Write as _;
    digest
        .iter()
        .fold(String::with_capacity(64), |mut out, byte| {
            write!(out, "{byte:02x}").ok();
            out
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        map
    }

    #[derive(Clone)]
    struct Raw {
        route: String,
        tls: bool,
        authority: String,
        path: String,
        host: Option<HeaderValue>,
        query: Option<String>,
        injected: Option<&'static str>,
        client: Option<u128>,
        fields: HeaderMap,
        ignore: Vec<HeaderName>,
    }

    fn raw(lines: &[(&str, &str)]) -> Raw {
        Raw {
            route: "r".to_owned(),
            tls: true,
            authority: "api.example.com".to_owned(),
            path: "/a".to_owned(),
            host: None,
            query: None,
            injected: None,
            client: None,
            fields: fields(lines),
            ignore: Vec::new(),
        }
    }

    impl Raw {
        fn with(mut self, change: impl FnOnce(&mut Raw)) -> Key {
            change(&mut self);
            self.key()
        }

        fn key(&self) -> Key {
            Key::of(&Wanted {
                route: &self.route,
                place: Place {
                    tls: self.tls,
                    authority: &self.authority,
                    path: &self.path,
                },
                host: self.host.as_ref(),
                query: self.query.as_deref(),
                injected: self.injected,
                client: self.client,
                fields: &self.fields,
                ignore: &self.ignore,
                replaced: None,
                correlation: &HeaderName::from_static("x-own-id"),
            })
        }
    }

    #[test]
    fn every_part_of_a_request_makes_another_key() {
        let plain = raw(&[]).key();
        let keys = [
            plain,
            raw(&[]).with(|r| r.route = "s".to_owned()),
            raw(&[]).with(|r| r.tls = false),
            raw(&[]).with(|r| r.authority = "b.example.com".to_owned()),
            raw(&[]).with(|r| r.path = "/A".to_owned()),
            raw(&[]).with(|r| r.host = Some(HeaderValue::from_static("t1.example"))),
            raw(&[]).with(|r| r.host = Some(HeaderValue::from_static("t2.example"))),
            raw(&[]).with(|r| r.query = Some(String::new())),
            raw(&[]).with(|r| r.query = Some("a=1".to_owned())),
            raw(&[]).with(|r| r.injected = Some("x")),
            raw(&[]).with(|r| r.client = Some(1)),
            raw(&[]).with(|r| r.query = Some("x".to_owned())),
            raw(&[]).with(|r| r.host = Some(HeaderValue::from_static("x"))),
            raw(&[("authorization", "Bearer a")]).key(),
            raw(&[("authorization", "Bearer b")]).key(),
            raw(&[("x-api-key", "a")]).key(),
            raw(&[("x-api-key", "b")]).key(),
            raw(&[("x-forwarded-host", "evil")]).key(),
            raw(&[("accept", "a")]).key(),
            raw(&[("cookie", "a=1")]).key(),
            raw(&[("baggage", "a=1")]).key(),
            raw(&[("idempotency-key", "a")]).key(),
            raw(&[("x-a", "b"), ("x-a", "c")]).key(),
            raw(&[("x-a", "b"), ("x-b", "c")]).key(),
            raw(&[("x-a", ""), ("x-b", "c")]).key(),
            raw(&[("x-a", ""), ("x-a", ""), ("x-a", "x-b"), ("x-a", "c")]).key(),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[..place].contains(key), "{place}");
        }
        let caseless = raw(&[]).with(|r| r.authority = "API.example.com".to_owned());
        assert_eq!(plain, caseless);
    }

    #[test]
    fn what_differs_from_call_to_call_makes_no_other_key() {
        let plain = raw(&[]).key();
        for name in [
            "traceparent",
            "X-Request-ID",
            "x-own-id",
            "If-None-Match",
            "Cache-Control",
        ] {
            assert_eq!(raw(&[(name, "1")]).key(), plain, "{name}");
        }
        let account = raw(&[("authorization", "Bearer a")]);
        assert_ne!(
            account.with(|r| r.ignore = vec![AUTHORIZATION]),
            plain,
            "no route can leave out whose account it is"
        );
        let left_out = |r: &mut Raw| r.ignore = vec![http::header::USER_AGENT];
        let agent = raw(&[("user-agent", "a")]).with(left_out);
        assert_eq!(agent, raw(&[]).with(left_out));
        assert_ne!(
            agent, plain,
            "and what is kept so is not for who leaves nothing out"
        );
    }

    #[test]
    fn a_change_reaches_the_collections_that_a_thing_is_in() {
        let place = |path| Place {
            tls: true,
            authority: "a",
            path,
        };
        let changed = Resource::changed_at(&place("/2010/Messages/SM1.json"));
        for path in [
            "/2010/Messages/SM1.json",
            "/2010/Messages",
            "/2010/Messages.json",
            "/2010/Messages/",
        ] {
            assert!(changed.contains(&Resource::at(&place(path))), "{path}");
        }
        assert!(!changed.contains(&Resource::at(&place("/2010"))));
        let assistant = Resource::changed_at(&place("/assistant/1"));
        assert!(assistant.contains(&Resource::at(&place("/assistant"))));
    }

    proptest! {
        #[test]
        fn bytes_that_move_from_one_part_to_the_next_make_another_key(
            path in "/[a-c]{0,3}", query in "[a-c=]{0,3}", name in "x-[a-c]{1,2}", value in "[a-c]{0,3}",
            other in ("/[a-c]{0,3}", "[a-c=]{0,3}", "x-[a-c]{1,2}", "[a-c]{0,3}"),
        ) {
            let make = |p: &str, q: &str, n: &str, v: &str| raw(&[(n, v)]).with(|r| {
                r.path = p.to_owned();
                r.query = Some(q.to_owned());
            });
            let same = (&path, &query, &name, &value) == (&other.0, &other.1, &other.2, &other.3);
            let keys = make(&path, &query, &name, &value) == make(&other.0, &other.1, &other.2, &other.3);
            prop_assert_eq!(same, keys);
        }

        #[test]
        fn the_order_of_fields_makes_no_difference(mut names in prop::collection::hash_set("x-[a-e]{1,3}", 1..5)) {
            let forward: Vec<_> = names.drain().collect();
            let lines: Vec<_> = forward.iter().map(|n| (n.as_str(), "1")).collect();
            let back: Vec<_> = lines.iter().rev().copied().collect();
            prop_assert_eq!(raw(&lines).key(), raw(&back).key());
        }
    }
}
