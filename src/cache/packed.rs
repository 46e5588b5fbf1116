//! A kept answer as bytes, for the store that replicas share; read back with doubt.
//!
//! Times are those of the store's clock, so that an answer is as old at one replica as at another. What
//! a client sent in the fields that an answer varies by is there as digests alone. What does not read to
//! its last byte is no answer. Pure; sealed and opened by `second`.

use super::kept::{Head, Home, Kept};
use super::key::Selecting;
use super::verdict::Freshness;
use crate::clock::{Duration, Instant};
use crate::fleet::pieces::{Reader, Writer};
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;

/// How far the store's clock may seem to run behind before an answer is from the future, in milliseconds.
const SKEW: u64 = 1_000;

/// The moment, by this process and by the store's clock in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) here: Instant,
    pub(super) there: u64,
}

/// When an answer was true: it is of use as long as this stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// The life of the store.
    pub(super) life: Arc<str>,
    /// The marks that all replicas hold of the route.
    pub(super) route: String,
    /// The mark of the resource, in the store.
    pub(super) resource: Bytes,
}

/// The answer as bytes.
pub(super) fn pack(entry: &Kept, mark: &Mark, now: Now) -> Vec<u8> {
    let (head, fresh) = (&*entry.head, &entry.head.freshness);
    let mut out = Writer::with_room(entry.weight() + 256);
    out.piece(mark.life.as_bytes());
    out.piece(mark.route.as_bytes());
    out.piece(&mark.resource);
    let age = millis(now.here.saturating_duration_since(fresh.came));
    out.number(now.there.saturating_sub(age));
    for span in [
        fresh.initial_age,
        fresh.lifetime,
        fresh.while_revalidating,
        fresh.if_error,
    ] {
        out.number(millis(span));
    }
    out.number(u64::from(fresh.always_ask) | u64::from(fresh.may_be_stale) << 1);
    out.number(u64::from(head.status.as_u16()));
    out.piece(head.home.asked.as_bytes());
    let selecting: Vec<_> = head.selecting.parts().collect();
    out.count(selecting.len());
    for (name, value) in selecting {
        out.piece(name.as_str().as_bytes());
        out.piece(&held(value));
    }
    out.count(head.fields.len());
    for (name, value) in &head.fields {
        out.piece(name.as_str().as_bytes());
        out.piece(value.as_bytes());
    }
    out.piece(&entry.body);
    out.end()
}

/// The answer from its bytes, for a request with these fields at that home, if it is of that mark.
pub(super) fn unpack(
    bytes: Vec<u8>,
    mark: &Mark,
    now: Now,
    (home, request): (&Home, &HeaderMap),
) -> Option<Kept> {
    let bytes = Bytes::from(bytes);
    let mut read = Reader::new(&bytes);
    let same = read.piece()? == mark.life.as_bytes()
        && read.piece()? == mark.route.as_bytes()
        && read.piece()? == mark.resource;
    if !same {
        return None;
    }
    let came = read.number()?;
    let freshness = freshness(&mut read, since(came, now)?)?;
    let status = StatusCode::from_u16(u16::try_from(read.number()?).ok()?).ok()?;
    let asked = std::str::from_utf8(read.piece()?).ok()?.into();
    let mut selecting = Vec::new();
    for _ in 0..read.number()? {
        let name = HeaderName::from_bytes(read.piece()?).ok()?;
        selecting.push((name, read.piece()?.to_vec()));
    }
    let selecting = chosen(selecting, request)?;
    let mut fields = HeaderMap::new();
    for _ in 0..read.number()? {
        let name = HeaderName::from_bytes(read.piece()?).ok()?;
        let value = HeaderValue::from_bytes(read.piece()?).ok()?;
        fields.try_append(name, value).ok()?;
    }
    let body = bytes.slice_ref(read.piece()?);
    let home = Home {
        asked,
        ..home.clone()
    };
    let head = Head {
        home,
        status,
        fields,
        selecting,
        freshness,
    };
    read.is_at_end().then(|| Kept {
        head: Arc::new(head),
        body,
    })
}

/// When that was, here.
fn since(came: u64, now: Now) -> Option<Instant> {
    if came > now.there.saturating_add(SKEW) {
        return None;
    }
    let age = now.there.saturating_sub(came);
    now.here.checked_sub(Duration::from_millis(age))
}

/// What the request holds in those fields, if it is what an earlier one held.
fn chosen(fields: Vec<(HeaderName, Vec<u8>)>, request: &HeaderMap) -> Option<Selecting> {
    let names = fields.iter().map(|(name, _)| name);
    let selecting = Selecting::by(names, request);
    let own: Vec<Vec<u8>> = selecting.parts().map(|(_, value)| held(value)).collect();
    let same = own.iter().eq(fields.iter().map(|(_, wanted)| wanted));
    same.then_some(selecting)
}

/// What a field held, without saying it.
fn held(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        None => Vec::new(),
        Some(value) => digest(&SHA256, value).as_ref().to_vec(),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn freshness(read: &mut Reader<'_>, came: Instant) -> Option<Freshness> {
    let mut span = || read.number().map(Duration::from_millis);
    let (initial_age, lifetime) = (span()?, span()?);
    let (while_revalidating, if_error) = (span()?, span()?);
    let flags = read.number()?;
    Some(Freshness {
        came,
        initial_age,
        lifetime,
        doubted: None,
        always_ask: flags & 1 != 0,
        may_be_stale: flags & 2 != 0,
        while_revalidating,
        if_error,
    })
}

const _: () = assert!(SHA256_OUTPUT_LEN > 0, "a held field differs from none");

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]
mod tests {
    use super::super::key::{Key, Place, Resource, Wanted};
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn home() -> Home {
        let place = Place {
            tls: true,
            authority: "up",
            path: "/a",
        };
        let key = Key::of(&Wanted {
            route: "r",
            place,
            host: None,
            query: None,
            injected: Some("a"),
            client: None,
            fields: &HeaderMap::new(),
            ignore: &[],
            replaced: None,
            correlation: &HeaderName::from_static("x-id"),
        });
        Home {
            route: Arc::from("r"),
            key,
            resource: Resource::at(&place),
            asked: "/r/a".into(),
            sent: "/a".into(),
        }
    }

    fn kept(request: &HeaderMap, body: &[u8], came: Instant) -> Kept {
        let answer = fields(&[
            ("vary", "authorization, accept"),
            ("x-two", "1"),
            ("x-two", "2"),
        ]);
        Kept {
            head: Arc::new(Head {
                home: home(),
                status: StatusCode::NOT_FOUND,
                selecting: Selecting::of(&answer, request),
                fields: answer,
                freshness: Freshness {
                    came,
                    initial_age: SECOND * 3,
                    lifetime: SECOND * 60,
                    doubted: None,
                    always_ask: false,
                    may_be_stale: true,
                    while_revalidating: SECOND * 7,
                    if_error: SECOND * 90,
                },
            }),
            body: Bytes::copy_from_slice(body),
        }
    }

    fn mark(resource: &'static str) -> Mark {
        Mark {
            life: Arc::from("life"),
            route: "a b".to_owned(),
            resource: Bytes::from_static(resource.as_bytes()),
        }
    }

    fn at(here: Instant, there: u64) -> Now {
        Now { here, there }
    }

    #[test]
    fn an_answer_is_as_old_elsewhere_as_here() {
        let (t0, request) = (
            Instant::now(),
            fields(&[("authorization", "Bearer canary")]),
        );
        let entry = kept(&request, b"body", t0);
        let bytes = pack(&entry, &mark("m"), at(t0 + SECOND * 5, 105_000));
        assert!(!bytes.windows(6).any(|part| part == b"canary"));
        // Another process, whose clock began at some other time; ten seconds later by the store's.
        let other = Instant::now() + SECOND * 1000;
        let found = unpack(bytes, &mark("m"), at(other, 115_000), (&home(), &request)).unwrap();
        let fresh = &found.head.freshness;
        assert_eq!(fresh.age(other), SECOND * 18);
        assert_eq!(fresh.left(other), SECOND * 45);
        assert_eq!(fresh.stale_for(other + SECOND * 50), SECOND * 5);
        assert_eq!((fresh.always_ask, fresh.may_be_stale), (false, true));
        assert_eq!(
            (fresh.while_revalidating, fresh.if_error),
            (SECOND * 7, SECOND * 90)
        );
        assert_eq!(found.head.status, entry.head.status);
        assert_eq!(found.head.fields, entry.head.fields);
        assert_eq!(found.head.selecting, entry.head.selecting);
        assert_eq!(found.body, entry.body);
    }

    #[test]
    fn what_is_of_another_time_or_request_is_no_answer() {
        let (t0, request) = (Instant::now(), fields(&[("accept", "a")]));
        let bytes = || pack(&kept(&request, b"x", t0), &mark("m"), at(t0, 100_000));
        let read = |mark: &Mark, there, request: &HeaderMap| {
            unpack(bytes(), mark, at(t0, there), (&home(), request))
        };
        assert!(read(&mark("m"), 100_000, &request).is_some());
        assert!(read(&mark("n"), 100_000, &request).is_none());
        let mut other = mark("m");
        other.life = Arc::from("another");
        assert!(read(&other, 100_000, &request).is_none());
        other = mark("m");
        other.route = "a c".to_owned();
        assert!(read(&other, 100_000, &request).is_none());
        assert!(read(&mark("m"), 90_000, &request).is_none(), "the future");
        for lines in [
            &[][..],
            &[("accept", "b")],
            &[("accept", "a"), ("authorization", "")],
        ] {
            assert!(read(&mark("m"), 100_000, &fields(lines)).is_none());
        }
    }

    proptest! {
        #[test]
        fn what_is_cut_or_goes_on_is_no_answer(body in prop::collection::vec(any::<u8>(), 0..40), more in 1usize..5) {
            let (t0, request) = (Instant::now(), HeaderMap::new());
            let whole = pack(&kept(&request, &body, t0), &mark("m"), at(t0, 1));
            let read = |bytes: Vec<u8>| unpack(bytes, &mark("m"), at(t0, 1), (&home(), &request));
            prop_assert!(read(whole.clone()).is_some_and(|found| found.body == body));
            for at in 0..whole.len() {
                prop_assert!(read(whole[..at].to_vec()).is_none());
            }
            let mut longer = whole;
            longer.extend(std::iter::repeat_n(0, more));
            prop_assert!(read(longer).is_none());
        }

        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let now = at(Instant::now(), 1);
            prop_assert!(unpack(bytes, &mark("m"), now, (&home(), &HeaderMap::new())).is_none());
        }
    }
}
