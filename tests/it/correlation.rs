//! One correlation id per exchange: carried or minted, sent upstream, echoed on every answer, never two of them.

use crate::support::*;

const HEADER: &str = "x-correlation-id";

#[track_caller]
fn assert_minted(id: &str) {
    let dashes: Vec<usize> = id
        .char_indices()
        .filter(|(_, letter)| *letter == '-')
        .map(|(at, _)| at)
        .collect();
    assert_eq!(
        (id.len(), dashes),
        (36, vec![8, 13, 18, 23]),
        "a UUID: {id}"
    );
    assert!(
        id.chars().all(|letter| letter == '-'
            || letter.is_ascii_digit()
            || ('a'..='f').contains(&letter)),
        "{id}"
    );
    assert_eq!(&id[14..15], "7", "version 7: {id}");
    assert!("89ab".contains(&id[19..20]), "{id}");
}

/// The one id of an answer.
#[track_caller]
fn id_of(answer: &Response) -> String {
    let ids = answer.fields.all(HEADER);
    assert_eq!(ids.len(), 1, "exactly one: {}", answer.head);
    ids[0].to_owned()
}

/// Sends an id and yields what the upstream saw and what came back.
#[track_caller]
fn through(sent: Option<&str>) -> (String, String) {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    let request = sent.into_iter().fold(get("/x"), |request, id| {
        request.header("X-Correlation-ID", id)
    });
    let answer = proxy.send(&request);
    let received = upstream.only_request();
    let arrived = received.fields.all(HEADER);
    assert_eq!(arrived.len(), 1, "{}", received.head);
    assert_eq!(proxy.wait_for_line("/x")["correlation_id"], arrived[0]);
    (arrived[0].to_owned(), id_of(&answer))
}

#[test]
fn a_valid_id_is_carried_through() {
    for id in ["abc", "call-42_a.b~c:d/e+f=g@h", &"x".repeat(128)] {
        assert_eq!(through(Some(id)), (id.to_owned(), id.to_owned()));
    }
}

#[test]
fn a_missing_id_is_minted() {
    let (sent, echoed) = through(None);
    assert_eq!(sent, echoed);
    assert_minted(&sent);
}

#[test]
fn an_invalid_id_is_replaced_and_never_repaired() {
    for id in [
        "has space",
        "quote\"",
        "a,b",
        "semi;colon",
        "<script>",
        "\u{e9}",
        "",
        "tab\there",
        &"x".repeat(129),
    ] {
        let (sent, echoed) = through(Some(id));
        assert_eq!(sent, echoed);
        assert_minted(&sent);
    }
}

#[test]
fn two_ids_are_none() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    let answer = proxy.send(
        &get("/x")
            .header("X-Correlation-ID", "one")
            .header("X-Correlation-ID", "two"),
    );
    let received = upstream.only_request();
    assert_eq!(received.fields.all(HEADER), [id_of(&answer).as_str()]);
}

#[test]
fn every_exchange_on_a_connection_has_its_own() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    let ids: Vec<String> = (0..3).map(|_| id_of(&client.send(&get("/x")))).collect();
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2],
        "{ids:?}"
    );
}

#[test]
fn an_upstreams_id_does_not_stand_beside_ours() {
    let upstream = Upstream::script([reply(200)
        .header("X-Correlation-ID", "theirs")
        .header("x-correlation-id", "again")]);
    let proxy = Proxy::start(straight_to(&upstream));
    let answer = proxy.send(&get("/x").header("X-Correlation-ID", "ours"));
    assert_eq!(id_of(&answer), "ours");
}

#[test]
fn every_answer_of_ours_echoes_it() {
    let upstream = Upstream::script([reply(500)]);
    let refused = refusing_address();
    let proxy = Proxy::start(format!(
        "
stubs: {{ enabled: true }}
rate_limits:
  none: {{ requests: 1, per: 1h }}
upstreams:
  up: {{ url: \"{}\", breaker: {{ failure_threshold: 1, recovery_timeout: 60s }} }}
  gone: {{ url: \"http://{refused}\", breaker: {{ enabled: false }} }}
routes:
  - {{ name: up, match: {{ path: /up }}, upstream: up }}
  - {{ name: gone, match: {{ path: /gone }}, upstream: gone }}
  - {{ name: stub, match: {{ path: /stub }}, stub: {{ status: 200, body: hello }} }}
  - {{ name: limited, match: {{ path: /limited }}, rate_limit: none, stub: {{ status: 200, body: hello }} }}
",
        upstream.url()
    ));
    let rows = [
        ("/up", 500),
        ("/up", 503),
        ("/gone", 502),
        ("/stub", 200),
        ("/limited", 200),
        ("/limited", 429),
        ("/nowhere", 404),
        ("/a/../b", 400),
    ];
    for (number, (path, status)) in rows.into_iter().enumerate() {
        let id = format!("row-{number}");
        let answer = proxy.send(&get(path).header("X-Correlation-ID", &id));
        assert_eq!((answer.status, id_of(&answer)), (status, id), "{path}");
        if status >= 400 && status != 500 {
            assert_eq!(answer.json()["correlation_id"], format!("row-{number}"));
        }
    }
    let answer =
        proxy.send(&request("CONNECT", "a.example:443").header("X-Correlation-ID", "row-connect"));
    assert_eq!(id_of(&answer), "row-connect");
}

#[test]
fn the_header_can_have_another_name() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "correlation: {{ header: X-Request-ID }}\n{}",
        straight_to(&upstream)
    ));
    let answer = proxy.send(
        &get("/x")
            .header("X-Request-ID", "mine")
            .header("X-Correlation-ID", "other"),
    );
    assert_eq!(answer.fields.all("x-request-id"), ["mine"]);
    assert_eq!(answer.fields.all(HEADER), Vec::<&str>::new());
    let received = upstream.only_request();
    assert_eq!(received.fields.all("x-request-id"), ["mine"]);
    assert_eq!(
        received.fields.all(HEADER),
        ["other"],
        "then this is a header like any other"
    );
}

#[test]
fn ids_can_be_accepted_from_nobody() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "correlation: {{ accept_from: nobody }}\n{}",
        straight_to(&upstream)
    ));
    let answer = proxy.send(&get("/x").header("X-Correlation-ID", "mine"));
    assert_minted(&id_of(&answer));
    assert_eq!(
        upstream.only_request().fields.all(HEADER),
        [id_of(&answer).as_str()]
    );
}

#[test]
fn ids_can_be_accepted_from_trusted_proxies_alone() {
    for (trusted, carried) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let upstream = Upstream::answering("");
        let proxy = Proxy::start(format!(
            "correlation: {{ accept_from: trusted_proxies }}\nclients: {{ trusted_proxies: [{trusted}] }}\n{}",
            straight_to(&upstream)
        ));
        let answer = proxy.send(&get("/x").header("X-Correlation-ID", "mine"));
        assert_eq!(id_of(&answer) == "mine", carried, "from {trusted}");
    }
}

#[test]
fn an_id_never_breaks_a_log_line() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    proxy.send(&get("/x").header("X-Correlation-ID", "a\",\"status\":999,\"b\":\""));
    let line = proxy.wait_for_line("/x");
    assert_eq!(line["status"], 200);
    assert_minted(line["correlation_id"].as_str().unwrap());
}
