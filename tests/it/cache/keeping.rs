//! What is kept, for how long, and how it is given: each rule of RFC 9111 that concerns a shared cache, as a row.

use super::*;

type Fields<'a> = &'a [(&'a str, &'a str)];

/// How many requests of two equal ones reach the upstream, if its answers carry these fields.
fn reach(cache: &str, answer: Fields<'_>, request: Fields<'_>) -> usize {
    let up = numbered(answer);
    let proxy = keeping(&up, cache);
    let asked = request
        .iter()
        .fold(get("/a"), |r, (name, value)| r.header(name, value));
    for _ in 0..2 {
        assert_eq!(proxy.send(&asked).whole().status, 200);
    }
    up.count()
}

#[test]
fn a_kept_answer_is_given_again_with_its_age() {
    let up = numbered(&[("X-Own", "1"), ("Connection", "X-Hop"), ("X-Hop", "1")]);
    let proxy = keeping(&up, "ttl: 5m");
    let first = proxy.get("/a?x=1").whole();
    assert_eq!(
        first.header("Cache-Status"),
        Some("trunkline; fwd=uri-miss; fwd-status=200; stored")
    );
    let second = proxy.send(&get("/a?x=1").header("X-Correlation-ID", "second"));
    let second = second.whole();
    assert_eq!((second.status, second.text().as_str()), (200, "0"));
    assert_eq!(second.header("X-Own"), Some("1"));
    assert_eq!(second.header("X-Hop"), None);
    assert_eq!(second.fields.all("X-Correlation-ID"), ["second"]);
    assert_eq!(second.header("Content-Length"), Some("1"));
    let age: u64 = second.header("Age").unwrap().parse().unwrap();
    assert!(age < 60, "{age}");
    let status = second.header("Cache-Status").unwrap();
    assert!(status.starts_with("trunkline; hit; ttl="), "{status}");
    assert_eq!(up.count(), 1);
    assert_eq!(
        (results(&proxy, "miss"), results(&proxy, "hit")),
        (1.0, 1.0)
    );
    let by_cache = [("source", "cache"), ("code", "200")];
    let requests = proxy.metrics();
    assert_eq!(
        requests.value("trunkline_requests_total", &by_cache),
        Some(1.0)
    );
    let line = until_some("the second access line", || {
        let mut lines = proxy.log_lines().into_iter();
        lines.find(|line| line["correlation_id"] == "second")
    });
    assert_eq!(
        (
            line["source"].as_str(),
            line["cache"].as_str(),
            line["attempts"].as_u64()
        ),
        (Some("cache"), Some("hit"), Some(0))
    );
}

#[test]
fn ttl_stands_in_place_of_the_origins_lifetime_and_never_over_what_forbids() {
    let rows: &[(Fields<'_>, usize)] = &[
        (&[], 1),
        (&[("Cache-Control", "max-age=0")], 1),
        (&[("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")], 1),
        (&[("Cache-Control", "public, must-revalidate")], 1),
        (&[("Cache-Control", "no-store")], 2),
        (
            &[
                ("Cache-Control", "max-age=60"),
                ("Cache-Control", "No-Store"),
            ],
            2,
        ),
        (&[("Cache-Control", "private")], 2),
        (&[("Cache-Control", "private=\"x-a\", max-age=60")], 2),
        (&[("Cache-Control", "no-cache")], 2),
        (&[("Set-Cookie", "a=b")], 2),
        (&[("Vary", "*")], 2),
        (&[("Vary", "Accept, *")], 2),
        (&[("Content-Range", "bytes 0-0/1")], 2),
        (&[("Content-Type", "text/event-stream; charset=utf-8")], 2),
    ];
    for (answer, count) in rows {
        assert_eq!(reach("ttl: 5m", answer, &[]), *count, "{answer:?}");
    }
}

#[test]
fn without_ttl_an_answer_is_fresh_for_as_long_as_it_says() {
    let rows: &[(Fields<'_>, usize)] = &[
        (&[], 2),
        (&[("Cache-Control", "max-age=60")], 1),
        (&[("Cache-Control", "MAX-AGE=\"60\"")], 1),
        (&[("Cache-Control", "max-age=0, s-maxage=60")], 1),
        (&[("Cache-Control", "max-age=60, s-maxage=0")], 2),
        (&[("Cache-Control", "max-age=60, max-age=0")], 2),
        (&[("Cache-Control", "max-age=1x")], 2),
        (&[("Cache-Control", "max-age=60"), ("Age", "61")], 2),
        (
            &[
                ("Cache-Control", "max-age=60"),
                ("Date", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ],
            2,
        ),
        (&[("Expires", "Fri, 01 Jan 2100 00:00:00 GMT")], 1),
        (&[("Expires", "0")], 2),
        (
            &[
                ("Expires", "Fri, 01 Jan 2100 00:00:00 GMT"),
                ("Cache-Control", "max-age=0"),
            ],
            2,
        ),
        (&[("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")], 2),
    ];
    for (answer, count) in rows {
        assert_eq!(reach("", answer, &[]), *count, "{answer:?}");
    }
}

#[test]
fn what_a_request_says_of_caches_is_heard() {
    let rows: &[(Fields<'_>, usize)] = &[
        (&[("Cache-Control", "max-age=60")], 1),
        (&[("Cache-Control", "max-stale=60")], 1),
        (&[("Cache-Control", "no-transform")], 1),
        (&[("Cache-Control", "no-cache")], 2),
        (&[("Cache-Control", "no-store")], 2),
        (&[("Pragma", "no-cache")], 2),
        (
            &[("Pragma", "no-cache"), ("Cache-Control", "max-age=60")],
            1,
        ),
        (&[("Cache-Control", "min-fresh=400")], 2),
        (&[("Range", "bytes=0-0")], 2),
        (&[("If-Match", "\"a\"")], 2),
        (
            &[("If-Unmodified-Since", "Thu, 01 Jan 2026 00:00:00 GMT")],
            2,
        ),
        (&[("Authorization", "Bearer a")], 1),
    ];
    for (request, count) in rows {
        assert_eq!(reach("ttl: 5m", &[], request), *count, "{request:?}");
    }
}

#[test]
fn who_wants_only_what_is_kept_is_told_when_nothing_is() {
    let up = numbered(&[]);
    let proxy = keeping(&up, "ttl: 5m");
    let only = get("/a").header("Cache-Control", "only-if-cached");
    let none = proxy.send(&only);
    assert_eq!((none.status, up.count()), (504, 0));
    assert_eq!(none.json()["reason"], "not_cached");
    proxy.get("/a");
    assert_eq!((proxy.send(&only).status, up.count()), (200, 1));
    // No part is kept, nor what is only to come on a condition.
    for (name, value) in [("Range", "bytes=0-1"), ("If-Match", "\"a\"")] {
        let asked = only.clone().header(name, value);
        assert_eq!((proxy.send(&asked).status, up.count()), (504, 1), "{name}");
    }
    // What changes something is never answered from what is kept: the word is not for it.
    let change = post("/a", "{}").header("Cache-Control", "only-if-cached");
    assert_eq!((proxy.send(&change).status, up.count()), (200, 2));
}

#[test]
fn only_statuses_that_mean_the_thing_itself_are_kept() {
    for (status, fields, kept) in [
        (200, "", true),
        (203, "", true),
        (301, "", true),
        (308, "", true),
        (204, "", false),
        (302, "", false),
        (404, "", false),
        (404, "max-age=60", true),
        (410, "max-age=60", true),
        (404, "max-age=0", false),
        (206, "max-age=60", false),
        (400, "max-age=60", false),
        (401, "max-age=60", false),
        (403, "max-age=60", false),
        (429, "max-age=60", false),
        (500, "max-age=60", false),
        (503, "max-age=60", false),
    ] {
        let mut step = reply(status).body("x");
        if !fields.is_empty() {
            step = step.header("Cache-Control", fields);
        }
        let up = Upstream::script([step]);
        let proxy = with(&up, "breaker: { enabled: false }", "cache: { ttl: 5m }");
        for _ in 0..2 {
            assert_eq!(proxy.get("/a").status, status);
        }
        let count = if kept { 1 } else { 2 };
        assert_eq!(up.count(), count, "{status} {fields}");
    }
}

#[test]
fn a_part_and_what_was_cut_are_never_kept() {
    for step in [
        close_mid_body(10, "abc"),
        reset_mid_body(10, "abc"),
        raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab").closing(),
        reply(200)
            .body("whole, for all that one can see")
            .until_close(),
    ] {
        let up = Upstream::script([step, reply(200).body("whole")]);
        let proxy = keeping(&up, "ttl: 5m");
        let first = proxy.try_get("/a");
        let whole = first.is_some_and(|first| first.complete());
        assert_eq!(proxy.get("/a").whole().text(), "whole", "{whole}");
        assert_eq!(up.count(), 2);
    }
}

#[test]
fn other_methods_go_to_the_upstream() {
    let up = numbered(&[]);
    let proxy = keeping(&up, "ttl: 5m");
    for (count, method) in (1..).zip(["POST", "OPTIONS", "POST", "OPTIONS"]) {
        let answer = proxy.send(&request(method, "/a").body("x"));
        assert_eq!(answer.header("Cache-Status"), Some("trunkline; fwd=method"));
        assert_eq!(up.count(), count);
    }
    assert_eq!(results(&proxy, "bypass"), 4.0);
    let with_body = request("GET", "/a").body("x");
    assert_eq!((proxy.send(&with_body).status, up.count()), (200, 5));
    assert_eq!((proxy.send(&with_body).status, up.count()), (200, 6));
}

#[test]
fn head_is_answered_from_what_get_brought() {
    let up = Upstream::script([reply(200).body("four").chunked()]);
    let proxy = keeping(&up, "ttl: 5m");
    assert_eq!(proxy.send(&head("/a")).status, 200);
    assert_eq!(proxy.get("/a").whole().text(), "four");
    assert_eq!(up.count(), 2);
    let mut client = proxy.connect();
    let answer = client.send(&head("/a"));
    assert_eq!(
        (answer.status, answer.header("Content-Length")),
        (200, Some("4"))
    );
    assert_eq!(answer.body, b"");
    assert_eq!(client.send(&get("/a")).whole().text(), "four");
    assert_eq!(up.count(), 2);
}

#[test]
fn a_client_that_has_it_already_is_told_so() {
    let day = "Thu, 01 Jan 2026 00:00:00 GMT";
    let up = numbered(&[("ETag", "\"v1\""), ("Last-Modified", day), ("X-Own", "1")]);
    let proxy = keeping(&up, "ttl: 5m");
    proxy.get("/a").whole();
    for (name, value, status) in [
        ("If-None-Match", "\"v1\"", 304),
        ("If-None-Match", "W/\"v1\"", 304),
        ("If-None-Match", "\"v0\", \"v1\"", 304),
        ("If-None-Match", "\"a,\\\"v1\", \"v1\"", 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"v0\"", 200),
        ("If-Modified-Since", day, 304),
        ("If-Modified-Since", "Fri, 02 Jan 2026 00:00:00 GMT", 304),
        ("If-Modified-Since", "Wed, 31 Dec 2025 00:00:00 GMT", 200),
        ("If-Modified-Since", "nonsense", 200),
    ] {
        let answer = proxy.send(&get("/a").header(name, value)).whole();
        assert_eq!(answer.status, status, "{name}: {value}");
        assert_eq!(answer.header("ETag"), Some("\"v1\""));
        if status == 304 {
            assert_eq!(
                (answer.header("Content-Length"), answer.body.len()),
                (None, 0)
            );
            assert!(answer.header("Age").is_some());
        }
    }
    let both = get("/a")
        .header("If-None-Match", "\"v0\"")
        .header("If-Modified-Since", day);
    assert_eq!(proxy.send(&both).status, 200, "the tag counts");
    assert_eq!(up.count(), 1);
}

#[test]
fn a_clients_condition_does_not_keep_the_answer_from_being_kept() {
    let up = numbered(&[("ETag", "\"v1\"")]);
    let proxy = keeping(&up, "ttl: 5m");
    let conditional = get("/a").header("If-None-Match", "\"v1\"");
    assert_eq!(proxy.send(&conditional).whole().status, 304);
    assert_eq!(up.only_request().header("if-none-match"), None);
    assert_eq!(proxy.get("/a").whole().text(), "0");
}

#[test]
fn what_must_be_asked_about_each_time_is_confirmed_and_not_sent_again() {
    let up = Upstream::choosing(|number, request| match request.header("if-none-match") {
        Some("\"v1\"") => reply(304)
            .header("ETag", "\"v1\"")
            .header("X-Own", &number.to_string()),
        _ => reply(200)
            .body("first")
            .header("ETag", "\"v1\"")
            .header("Cache-Control", "no-cache"),
    });
    let proxy = keeping(&up, "ttl: 5m");
    assert_eq!(proxy.get("/a").whole().text(), "first");
    for number in ["1", "2"] {
        let answer = proxy.get("/a").whole();
        assert_eq!((answer.status, answer.text().as_str()), (200, "first"));
        assert_eq!(
            answer.header("X-Own"),
            Some(number),
            "a confirmation's fields count"
        );
        let status = answer.header("Cache-Status").unwrap();
        assert!(status.contains("fwd=stale; fwd-status=304"), "{status}");
    }
    assert_eq!((up.count(), results(&proxy, "revalidated")), (3, 2.0));
    let has_it = get("/a").header("If-None-Match", "\"v1\"");
    assert_eq!(proxy.send(&has_it).whole().status, 304);
}

#[test]
fn a_stale_answer_is_replaced_or_confirmed() {
    let up = Upstream::choosing(|number, request| {
        let tag = format!("\"v{}\"", number / 2);
        let known = request.header("if-none-match").map(str::to_owned);
        match known == Some(tag.clone()) {
            true => reply(304).header("ETag", &tag),
            false => reply(200)
                .body(&tag)
                .header("ETag", &tag)
                .header("Cache-Control", "max-age=0"),
        }
    });
    let proxy = keeping(&up, "");
    for (text, result) in [
        ("\"v0\"", "miss"),
        ("\"v0\"", "revalidated"),
        ("\"v1\"", "miss"),
        ("\"v1\"", "revalidated"),
    ] {
        let before = results(&proxy, result);
        assert_eq!(proxy.get("/a").whole().text(), text);
        assert_eq!(results(&proxy, result), before + 1.0, "{text} {result}");
    }
}

#[test]
fn a_confirmation_of_something_else_confirms_nothing() {
    let up = Upstream::script([
        reply(200)
            .body("first")
            .header("ETag", "\"v1\"")
            .header("Cache-Control", "max-age=0"),
        reply(304).header("ETag", "\"v2\""),
        reply(200).body("second").header("ETag", "\"v2\""),
    ]);
    let proxy = keeping(&up, "");
    assert_eq!(proxy.get("/a").whole().text(), "first");
    assert_eq!(proxy.get("/a").whole().text(), "second");
    assert_eq!(up.requests()[2].header("if-none-match"), None);
}

#[test]
fn what_a_confirmation_forbids_to_keep_is_given_once_more_and_goes() {
    for (name, value) in [("Cache-Control", "no-store"), ("Vary", "*")] {
        let up = Upstream::script([
            reply(200)
                .body("first")
                .header("ETag", "\"v1\"")
                .header("Cache-Control", "max-age=0"),
            reply(304)
                .header("Cache-Control", "max-age=60")
                .header(name, value),
            reply(200).body("second"),
        ]);
        let proxy = keeping(&up, "");
        assert_eq!(proxy.get("/a").whole().text(), "first");
        assert_eq!(proxy.get("/a").whole().text(), "first");
        assert_eq!(proxy.get("/a").whole().text(), "second", "{name}");
        assert_eq!(up.requests()[2].header("if-none-match"), None);
    }
}

#[test]
fn an_answer_without_a_date_is_dated_by_its_coming() {
    let up = numbered(&[]);
    let proxy = keeping(&up, "ttl: 5m");
    let first = proxy.get("/a").whole();
    let mut later = proxy.get("/a").whole();
    until("it to be of some age", || {
        later = proxy.get("/a").whole();
        later.header("Age") >= Some("1")
    });
    assert_eq!(later.header("Date"), first.header("Date"));
}

#[test]
fn a_failure_to_confirm_is_told_as_one() {
    let up = Upstream::script([
        reply(200)
            .body("first")
            .header("ETag", "\"v1\"")
            .header("Cache-Control", "max-age=0"),
        close(),
    ]);
    let proxy = with(&up, "retry: { attempts: 1 }", "cache: {}");
    proxy.get("/a").whole();
    let failed = proxy.get("/a").whole();
    assert_eq!(failed.status, 502);
    let status = failed.header("Cache-Status");
    assert_eq!(status, Some("trunkline; fwd=stale"));
}

#[test]
fn answers_vary_by_what_they_say_among_the_fields_left_out() {
    let up = Upstream::choosing(|number, _| {
        reply(200)
            .body(number.to_string())
            .header("Vary", "user-agent, User-Agent")
    });
    let proxy = keeping(&up, "ttl: 5m, ignore: [User-Agent, X-Trial]");
    let mut texts = Vec::new();
    for (agent, trial) in [("a", "1"), ("b", "2"), ("a", "3"), (" b ", "4")] {
        let asked = get("/a")
            .header("User-Agent", agent)
            .header("X-Trial", trial);
        texts.push(proxy.send(&asked).whole().text());
    }
    texts.push(proxy.get("/a").whole().text());
    assert_eq!(texts, ["0", "1", "0", "1", "2"]);
}

#[test]
fn limits_count_what_is_given_from_the_cache() {
    let up = numbered(&[]);
    let yaml = format!(
        "
rate_limits: {{ few: {{ requests: 2 }} }}
upstreams: {{ up: {{ url: \"{}\" }} }}
routes:
  - {{ name: kept, match: {{ path: /a }}, upstream: up, rate_limit: few, cache: {{ ttl: 5m }} }}
",
        up.url()
    );
    let proxy = Proxy::start(yaml);
    let statuses: Vec<u16> = (0..3).map(|_| proxy.get("/a").status).collect();
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(up.count(), 1);
}
