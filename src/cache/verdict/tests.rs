//! The verdicts against a naive reading of the RFC, and rule by rule where a word decides.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::clock;
use proptest::prelude::*;

fn settings(ttl: Option<u64>) -> Settings {
    Settings {
        ttl: ttl.map(Duration::from_secs),
        stale_while_revalidate: None,
        stale_if_error: None,
        max_bytes: 1 << 20,
        max_entry: 1 << 20,
        shared: false,
        ignore: Vec::new(),
    }
}

fn fields(lines: &[(&'static str, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, value.parse().unwrap());
    }
    map
}

/// What an answer says, as plain facts; the oracle reads these and not the fields made of them.
#[derive(Debug, Clone)]
struct Said {
    status: u16,
    no_store: bool,
    private: bool,
    no_cache: bool,
    must_revalidate: bool,
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    expires_in: Option<i64>,
    age: Option<u64>,
    cookie: bool,
    vary_all: bool,
    framed: bool,
    etag: bool,
}

fn said() -> impl Strategy<Value = Said> {
    let status = prop::sample::select(vec![
        200, 203, 204, 206, 300, 301, 302, 308, 404, 410, 429, 500, 503,
    ]);
    let lasts = || prop::option::of(0..100u64);
    let rare = || prop::bool::weighted(0.1);
    (
        (status, rare(), rare(), rare(), rare(), lasts()),
        (
            lasts(),
            prop::option::of(-50..100i64),
            lasts(),
            rare(),
            rare(),
            prop::bool::weighted(0.9),
            any::<bool>(),
        ),
    )
        .prop_map(
            |((status, no_store, private, no_cache, must_revalidate, max_age), b)| {
                let (s_maxage, expires_in, age, cookie, vary_all, framed, etag) = b;
                Said {
                    status,
                    no_store,
                    private,
                    no_cache,
                    must_revalidate,
                    max_age,
                    s_maxage,
                    expires_in,
                    age,
                    cookie,
                    vary_all,
                    framed,
                    etag,
                }
            },
        )
}

fn spelt(said: &Said, wall: SystemTime) -> HeaderMap {
    let mut words: Vec<String> = Vec::new();
    for (is, word) in [
        (said.no_store, "no-store"),
        (said.private, "Private"),
        (said.no_cache, "no-cache"),
        (said.must_revalidate, "must-revalidate"),
    ] {
        words.extend(is.then(|| word.to_owned()));
    }
    words.extend(said.max_age.map(|n| format!("max-age={n}")));
    words.extend(said.s_maxage.map(|n| format!("s-maxage=\"{n}\"")));
    let mut lines = vec![("date", httpdate::fmt_http_date(wall))];
    if !words.is_empty() {
        lines.push(("cache-control", words.join(", ")));
    }
    if let Some(after) = said.expires_in {
        let by = Duration::from_secs(after.unsigned_abs());
        let at = if after < 0 { wall - by } else { wall + by };
        lines.push(("expires", httpdate::fmt_http_date(at)));
    }
    lines.extend(said.age.map(|n| ("age", n.to_string())));
    lines.extend(said.cookie.then(|| ("set-cookie", "a=b".to_owned())));
    lines.extend(said.vary_all.then(|| ("vary", "accept, *".to_owned())));
    lines.extend(said.etag.then(|| ("etag", "\"a\"".to_owned())));
    lines.extend(said.framed.then(|| ("content-length", "1".to_owned())));
    fields(&lines)
}

/// Seconds from its coming for which it is fresh, if it may be kept.
fn oracle(ttl: Option<u64>, said: &Said, stale: bool) -> Option<u64> {
    let framed = said.framed || said.status == 204;
    if said.no_store || said.private || said.cookie || said.vary_all || !framed {
        return None;
    }
    let stated = match (said.s_maxage, said.max_age, said.expires_in) {
        (Some(n), ..) | (None, Some(n), _) => Some(n),
        (None, None, Some(n)) => Some(u64::try_from(n).unwrap_or(0)),
        _ => None,
    };
    let own = stated.map(|n| n.saturating_sub(said.age.unwrap_or(0)));
    let may_be_stale = !said.no_cache && !said.must_revalidate && said.s_maxage.is_none();
    let useful = said.etag || (stale && may_be_stale);
    match (said.status, ttl) {
        (200 | 203 | 301 | 308, Some(ttl)) => Some(ttl),
        (200 | 203 | 301 | 308, None) => own.or(useful.then_some(0)),
        (204 | 300 | 404 | 410, None) => own,
        (204 | 300 | 404 | 410, Some(ttl)) => own.map(|own| own.min(ttl)),
        _ => None,
    }
}

/// A request's `Cache-Control`, as plain facts.
#[derive(Debug, Clone)]
struct Wish {
    no_cache: bool,
    max_age: Option<u64>,
    min_fresh: Option<u64>,
}

proptest! {
    #[test]
    fn what_is_kept_and_given_is_what_a_naive_reading_says(
        said in said(),
        ttl in prop::option::of(1..100u64),
        (no_cache, max_age, min_fresh) in (prop::bool::weighted(0.2), prop::option::of(0..150u64), prop::option::of(0..50u64)),
        (swr, sie) in (prop::option::of(0..60u64), prop::option::of(0..60u64)),
        passed in 0..250u64,
    ) {
        let wish = Wish { no_cache, max_age, min_fresh };
        let (came, wall) = (clock::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let mut settings = settings(ttl);
        settings.stale_while_revalidate = swr.map(Duration::from_secs);
        settings.stale_if_error = sie.map(Duration::from_secs);
        let made = spelt(&said, wall);
        let answer = Answer {
            status: StatusCode::from_u16(said.status).unwrap(),
            version: Version::HTTP_11,
            fields: &made,
            asked: came,
            came,
            wall,
        };
        let kept = keep(&settings, &answer);
        let stale = swr.unwrap_or(0).max(sie.unwrap_or(0)) > 0;
        let expected = oracle(ttl, &said, stale);
        prop_assert_eq!(kept.ok().map(|f| f.lifetime.as_secs()), expected);
        let (Ok(freshness), Some(lifetime)) = (kept, expected) else { return Ok(()); };

        let now = came + Duration::from_secs(passed);
        let age = said.age.unwrap_or(0) + passed;
        prop_assert_eq!(freshness.age(now).as_secs(), age);
        let fresh = passed < lifetime;
        let may_be_stale = !said.no_cache && !said.must_revalidate && said.s_maxage.is_none();
        let stale_for = passed.saturating_sub(lifetime);
        let suits = wish.max_age.is_none_or(|most| age <= most)
            && wish.min_fresh.is_none_or(|least| lifetime.saturating_sub(passed) >= least);
        let wanted = if wish.no_cache || said.no_cache || !suits {
            Use::AskFirst
        } else if fresh {
            Use::Fresh
        } else if may_be_stale && stale_for < swr.unwrap_or(0) {
            Use::WhileRevalidating
        } else {
            Use::AskFirst
        };
        let request = Directives {
            no_cache: wish.no_cache,
            max_age: wish.max_age.map(Duration::from_secs),
            min_fresh: wish.min_fresh.map(Duration::from_secs),
            ..Directives::default()
        };
        prop_assert_eq!(freshness.for_request(&request, now), wanted);
        let stands_in = !wish.no_cache
            && ((fresh && !said.no_cache) || (may_be_stale && stale_for < sie.unwrap_or(0)));
        prop_assert_eq!(freshness.stands_in(&request, now), stands_in);
    }
}

#[test]
fn an_age_is_the_greater_of_what_is_stated_and_what_the_dates_say() {
    let (came, wall) = (
        clock::now(),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    );
    let date = |before| httpdate::fmt_http_date(wall - Duration::from_secs(before));
    for (lines, age) in [
        (vec![], 0),
        (vec![("age", "30".to_owned())], 32),
        (vec![("date", date(50))], 50),
        (vec![("date", date(1))], 0),
        (vec![("age", "60".to_owned()), ("date", date(50))], 62),
    ] {
        let made = fields(&lines);
        let answer = Answer {
            status: StatusCode::OK,
            version: Version::HTTP_11,
            fields: &made,
            asked: came,
            came: came + Duration::from_secs(2),
            wall,
        };
        assert_eq!(
            initial_age(&answer).map(|age| age.as_secs()),
            Some(age),
            "{lines:?}"
        );
    }
}

#[test]
fn an_age_that_cannot_be_read_leaves_nothing_of_the_origins_lifetime() {
    let (came, wall) = (clock::now(), SystemTime::UNIX_EPOCH);
    for lines in [
        vec![("age", "30, 40")],
        vec![("age", "0"), ("age", "0")],
        vec![("age", "-1")],
        vec![("age", "x")],
        vec![("age", "1.5")],
        vec![("age", "")],
    ] {
        let mut lines: Vec<_> = lines.into_iter().map(|(n, v)| (n, v.to_owned())).collect();
        lines.push(("cache-control", "max-age=60".to_owned()));
        lines.push(("content-length", "1".to_owned()));
        let made = fields(&lines);
        let answer = Answer {
            status: StatusCode::OK,
            version: Version::HTTP_11,
            fields: &made,
            asked: came,
            came,
            wall,
        };
        let lifetime = |ttl| keep(&settings(ttl), &answer).unwrap().lifetime.as_secs();
        assert_eq!((lifetime(None), lifetime(Some(9))), (0, 9), "{lines:?}");
    }
}
