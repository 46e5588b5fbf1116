//! Answers do not lead around the proxy: the vendor's own addresses in them become ours, and nothing else changes.

use std::time::Duration;

use crate::support::proxy::File;
use crate::support::*;

/// Twilio and Vapi as in the shipped file, both played by `upstream`.
fn vendors(upstream: &Upstream, keys: &str) -> Proxy {
    Proxy::start(format!(
        "
upstreams:
  twilio: {{ url: \"{url}\", profile: twilio{keys} }}
  vapi: {{ url: \"{url}\", profile: vapi{keys} }}
  vapi-live: {{ url: \"https://{{host}}.vapi.ai\", profile: vapi{keys} }}
routes:
  - {{ name: twilio, match: {{ path: \"/twilio/{{product}}/{{*rest}}\" }}, upstream: twilio, rewrite: \"/{{rest}}\" }}
  - {{ name: vapi-settings, match: {{ path: \"/vapi/assistant/{{*rest}}\", methods: [GET] }}, upstream: vapi, rewrite: \"/assistant/{{rest}}\" }}
  - {{ name: vapi, match: {{ path: \"/vapi/{{*rest}}\" }}, upstream: vapi, rewrite: \"/{{rest}}\" }}
  - {{ name: vapi-live, match: {{ path: \"/vapi-live/{{host}}/{{*rest}}\" }}, upstream: vapi-live, rewrite: \"/{{rest}}\" }}
",
        url = upstream.url()
    ))
}

const PAGE: &str = r#"{ "meta" : {"page":0, "key":"services",
  "next_page_url": "https:\/\/messaging.twilio.com/v1/Services?PageSize=2&Page=1&PageToken=PA%2B1",
  "previous_page_url": null, "url": "https://messaging.twilio.com/v1/Services?PageSize=2"},
 "services": [{"sid":"MG1", "x": 1.50e+1, "url":"https://messaging.dublin.ie1.twilio.com/v1/Services/MG1",
  "status_callback":"https://messaging.twilio.com/v1/Hooks", "note":"\u00e9 \/",
  "links":{"us_app":"https://evil.twilio.com/x","senders":"https://messaging.twilio.com:443/v1/S/../x",
   "other":"https://my.example.com/a","phone_numbers":"https://messaging.twilio.com/v1/Services/MG1/PhoneNumbers"}}]}
"#;

fn ours(proxy: &Proxy) -> String {
    let base = format!("http://{}", proxy.address());
    PAGE.replace(
        "https:\\/\\/messaging.twilio.com/v1/Services?PageSize=2&Page=1",
        &format!("{base}/twilio/messaging/v1/Services?PageSize=2&Page=1"),
    )
    .replace(
        "\"https://messaging.twilio.com/v1/Services?PageSize=2\"",
        &format!("\"{base}/twilio/messaging/v1/Services?PageSize=2\""),
    )
    .replace(
        "https://messaging.dublin.ie1.twilio.com/",
        &format!("{base}/twilio/messaging.dublin.ie1/"),
    )
    .replace(
        "https://messaging.twilio.com/v1/Services/MG1/PhoneNumbers",
        &format!("{base}/twilio/messaging/v1/Services/MG1/PhoneNumbers"),
    )
}

fn page() -> Step {
    reply(200)
        .header("Content-Type", "application/json")
        .header("ETag", "\"v1\"")
        .body(PAGE)
}

#[test]
fn a_page_names_the_next_one_at_our_address_and_every_other_byte_stays() {
    let upstream = Upstream::script([page()]);
    let proxy = vendors(&upstream, "");
    let answer = proxy
        .get("/twilio/messaging/v1/Services?PageSize=2")
        .whole();
    assert_eq!(answer.text(), ours(&proxy));
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(answer.header("etag"), Some("W/\"v1\""));
    assert_eq!(
        upstream.only_request().header("accept-encoding"),
        Some("identity")
    );
    let next = answer.json()["meta"]["next_page_url"]
        .as_str()
        .unwrap()
        .to_owned();
    let target = next.split_once(&proxy.address().to_string()).unwrap().1;
    proxy.get(target);
    assert_eq!(
        upstream.requests()[1].target,
        "/v1/Services?PageSize=2&Page=1&PageToken=PA%2B1"
    );
}

#[test]
fn the_address_is_the_one_that_the_client_used() {
    let upstream = Upstream::script([page()]);
    let proxy = vendors(&upstream, "");
    let answer =
        proxy.send(&get("/twilio/messaging/v1/Services").header("Host", "sidecar.internal:81"));
    let url = answer.json()["meta"]["url"].as_str().unwrap().to_owned();
    assert_eq!(
        url,
        "http://sidecar.internal:81/twilio/messaging/v1/Services?PageSize=2"
    );
}

#[test]
fn chunks_may_end_anywhere_and_a_cut_body_stays_cut() {
    let pieces: Vec<String> = PAGE
        .chars()
        .collect::<Vec<_>>()
        .chunks(7)
        .map(|c| c.iter().collect())
        .collect();
    let mut bytes =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_owned();
    for piece in &pieces {
        bytes += &format!("{:x}\r\n{piece}\r\n", piece.len());
    }
    let whole = raw(format!("{bytes}0\r\n\r\n"));
    let cut = raw(&bytes).closing();
    let upstream = Upstream::script([whole, cut]);
    let proxy = vendors(&upstream, "");
    assert_eq!(
        proxy.get("/twilio/messaging/v1/A").whole().text(),
        ours(&proxy)
    );
    assert!(!proxy.get("/twilio/messaging/v1/B").complete());
}

#[test]
fn what_was_edited_passes_at_once() {
    let gate = Gate::default();
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"a\": 1,";
    let upstream = Upstream::script([raw(head).then_behind(&gate, "\"b\"")]);
    let proxy = vendors(&upstream, "");
    let mut client = proxy.connect();
    client.patience(Duration::from_secs(20));
    client.start(&get("/twilio/messaging/v1/A"));
    client.wait_for_bytes("{\"a\": 1,");
    gate.open();
}

#[test]
fn what_is_not_to_be_read_passes_unchanged() {
    let zipped = page().header("Content-Encoding", "gzip");
    let text = reply(200).header("Content-Type", "text/plain").body(PAGE);
    let part = reply(206)
        .header("Content-Type", "application/json")
        .body(PAGE);
    for (step, keys) in [
        (zipped, ""),
        (text, ""),
        (part, ""),
        (page(), ", rewrite_answers: false"),
    ] {
        let upstream = Upstream::script([step]);
        let proxy = vendors(&upstream, keys);
        let answer = proxy.get("/twilio/messaging/v1/Services").whole();
        assert_eq!(answer.text(), PAGE);
        assert_eq!(
            answer.header("content-length"),
            Some(PAGE.len().to_string().as_str())
        );
    }
}

#[test]
fn a_head_and_an_unchanged_answer_promise_no_bytes() {
    let head = raw(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"v1\"\r\nContent-Length: {}\r\n\r\n",
        PAGE.len()
    ));
    let unchanged = raw("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n");
    let upstream = Upstream::script([head, unchanged]);
    let proxy = vendors(&upstream, "");
    let answer = proxy.send(&request("HEAD", "/twilio/messaging/v1/Services"));
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, None)
    );
    assert_eq!(answer.header("etag"), Some("W/\"v1\""));
    let asked = get("/twilio/messaging/v1/Services").header("If-None-Match", "W/\"v1\"");
    let answer = proxy.send(&asked);
    assert_eq!(
        (answer.status, answer.header("etag")),
        (304, Some("W/\"v1\""))
    );
}

#[test]
fn a_call_is_listened_to_and_controlled_through_us() {
    let live = "aws-us-west-2-production1-phone-call-websocket.vapi.ai";
    let call = format!(
        r#"{{"id":"c1","transport":{{"websocketCallUrl":"wss://api.vapi.ai/c1/transport"}},"monitor":{{"listenUrl":"wss://{live}/c1/listen","controlUrl":"https://{live}/c1/control"}},"assistant":{{"monitor":{{"listenUrl":"wss://{live}/x"}}}}}}"#
    );
    let upstream = Upstream::script([
        reply(201)
            .header("Content-Type", "application/json; charset=utf-8")
            .body(&call),
        reply(200)
            .header("Content-Type", "application/json")
            .body(format!("[{call}]")),
    ]);
    let proxy = vendors(&upstream, "");
    let at = proxy.address();
    let label = live.strip_suffix(".vapi.ai").unwrap();
    let made = proxy
        .send(&post("/vapi/call", "{}").header("Content-Type", "application/json"))
        .json();
    let listed = proxy.get("/vapi/call").json()[0].clone();
    for call in [made, listed] {
        assert_eq!(
            call["transport"]["websocketCallUrl"],
            format!("ws://{at}/vapi/c1/transport")
        );
        assert_eq!(
            call["monitor"]["listenUrl"],
            format!("ws://{at}/vapi-live/{label}/c1/listen")
        );
        assert_eq!(
            call["monitor"]["controlUrl"],
            format!("http://{at}/vapi-live/{label}/c1/control")
        );
        assert_eq!(
            call["assistant"]["monitor"]["listenUrl"],
            format!("wss://{live}/x")
        );
    }
}

#[test]
fn a_label_of_a_client_reaches_no_host_but_vapis() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = vendors(&upstream, "");
    for label in [
        "evil.example",
        "a.b",
        "a%2eevil",
        "A",
        "-a",
        "a-",
        "a_b",
        "a@b",
        "a:1",
        "127.0.0.1",
        "a%00",
    ] {
        let answer = proxy.get(&format!("/vapi-live/{label}/x"));
        assert_eq!(answer.status, 404, "{label}: {}", answer.text());
    }
    assert_eq!(upstream.connections(), 0);
    let told = verbs::verb_in(
        proxy.config(),
        &["explain", "GET", "/vapi-live/aws-1/c1/listen"],
        &[],
    );
    assert!(
        told.stdout.contains("GET https://aws-1.vapi.ai/c1/listen"),
        "{}",
        told.text()
    );
}

#[test]
fn location_and_link_lead_to_us_too() {
    let step = reply(201)
        .header("Location", "https://messaging.twilio.com/v1/Services/MG1")
        .header("Link", "<https://messaging.twilio.com/v1/A?p=1>; rel=\"next\", <https://my.example.com/b>; rel=b");
    let upstream = Upstream::script([
        step,
        reply(201).header("Location", "https://my.example.com/x"),
    ]);
    let proxy = vendors(&upstream, "");
    let base = format!("http://{}/twilio/messaging/v1", proxy.address());
    let answer = proxy.get("/twilio/messaging/v1/A");
    assert_eq!(
        answer.header("location"),
        Some(format!("{base}/Services/MG1").as_str())
    );
    let link = format!("<{base}/A?p=1>; rel=\"next\", <https://my.example.com/b>; rel=b");
    assert_eq!(answer.header("link"), Some(link.as_str()));
    let elsewhere = proxy.get("/twilio/messaging/v1/A");
    assert_eq!(
        elsewhere.header("location"),
        Some("https://my.example.com/x")
    );
}

#[test]
fn a_location_without_a_host_leads_through_the_route_that_took_its_prefix() {
    let upstream = Upstream::choosing(|_, request| {
        reply(201).header("Location", request.header("x-location").unwrap())
    });
    let proxy = vendors(&upstream, "");
    let ours = format!("http://{}/twilio/messaging/v1/B", proxy.address());
    for (target, given, told) in [
        ("/twilio/messaging/v1/A", "/v1/B", "/twilio/messaging/v1/B"),
        (
            "/twilio/messaging/v1/A",
            "/v1/B?to=a%2Fb&u=x://y#z",
            "/twilio/messaging/v1/B?to=a%2Fb&u=x://y#z",
        ),
        ("/twilio/messaging/v1/A", "B", "B"),
        ("/twilio/messaging/v1/A", "?Page=2", "?Page=2"),
        ("/twilio/messaging/v1/A", "../v2/B", "../v2/B"),
        (
            "/twilio/messaging/v1/A",
            "../../v1/B",
            "/twilio/messaging/v1/B",
        ),
        ("/twilio/messaging", "v1/B", "/twilio/messaging/v1/B"),
        (
            "/twilio/messaging/v1/A",
            "//messaging.twilio.com/v1/B",
            ours.as_str(),
        ),
        (
            "/twilio/messaging/v1/A",
            "//my.example.com/v1/B",
            "//my.example.com/v1/B",
        ),
        ("/twilio/messaging/v1/A", "mailto:a@b", "mailto:a@b"),
        ("/vapi/assistant/1", "/call/2", "/vapi/call/2"),
        ("/vapi/assistant/1", "/assistant/2", "/vapi/assistant/2"),
    ] {
        let answer = proxy.send(&get(target).header("X-Location", given));
        assert_eq!(answer.header("location"), Some(told), "{target} {given}");
    }
}

#[test]
fn behind_something_that_ends_tls_the_address_is_the_declared_one() {
    let call = r#"{"transport":{"websocketCallUrl":"wss://api.vapi.ai/c1/transport"}}"#;
    let upstream = Upstream::script([
        reply(201)
            .header("Content-Type", "application/json")
            .header("Location", "https://api.vapi.ai/call/c1?a=b")
            .body(call),
        reply(201).header("Location", "/call/c1"),
        reply(201).header("Location", "/call/c1"),
    ]);
    let declared =
        |url: &str| format!("- {{ name: app, address: \"@LISTEN@\", public_url: \"{url}\" }}");
    let proxy = Proxy::start(format!(
        "
listen:
  {}
upstreams:
  vapi: {{ url: \"{}\", profile: vapi }}
routes:
  - {{ name: vapi, match: {{ path: \"/vapi/{{*rest}}\" }}, upstream: vapi, rewrite: \"/{{rest}}\" }}
",
        declared("https://sidecar.example:8443/gate/"),
        upstream.url()
    ));
    let call = get("/vapi/call").header("Host", "10.0.0.1:8080");
    let answer = proxy.send(&call);
    assert_eq!(
        answer.json()["transport"]["websocketCallUrl"],
        "wss://sidecar.example:8443/gate/vapi/c1/transport"
    );
    assert_eq!(
        answer.header("location"),
        Some("https://sidecar.example:8443/gate/vapi/call/c1?a=b")
    );
    // What the gateway takes away stands in a path without a host too.
    let answer = proxy.send(&call);
    assert_eq!(answer.header("location"), Some("/gate/vapi/call/c1"));
    let told = verbs::verb_in(proxy.config(), &["explain", "GET", "/vapi/call"], &[]);
    assert!(
        told.stdout
            .contains("become ours (https://sidecar.example:8443/gate)"),
        "{}",
        told.text()
    );
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    let moved = text.replace("https://sidecar.example:8443/gate/", "http://other.example");
    std::fs::write(proxy.config(), moved).unwrap();
    proxy.signal("HUP");
    until("the reload", || {
        proxy.send(&call).header("location") == Some("/vapi/call/c1")
    });
    assert!(
        !proxy.stderr().contains("a changed listener"),
        "{}",
        proxy.stderr()
    );
}

#[test]
fn a_declared_address_that_is_none_is_a_problem_at_its_place() {
    let ended = verbs::check(
        "listen:\n  - name: app\n    address: \"@LISTEN@\"\n    public_url: sidecar\nroutes: [{ name: a, match: { path: / }, stub: {} }]\n",
    );
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .text()
            .contains(":4:17: this is not a public address: it names no scheme"),
        "{}",
        ended.text()
    );
}

#[test]
fn an_address_that_no_route_leads_to_stays_the_vendors() {
    let upstream = Upstream::script([page()]);
    let yaml = format!(
        "
upstreams:
  twilio: {{ url: \"{url}\", profile: twilio }}
  other: {{ url: \"{url}\" }}
routes:
  - {{ name: first, match: {{ path: \"/twilio/messaging/v1/Services/{{*rest}}\" }}, upstream: other, rewrite: \"/{{rest}}\" }}
  - {{ name: twilio, match: {{ path: \"/twilio/{{product}}/{{*rest}}\" }}, upstream: twilio, rewrite: \"/{{rest}}\" }}
",
        url = upstream.url()
    );
    let proxy = Proxy::on(File::write(&yaml), &[]);
    let answer = proxy.get("/twilio/messaging/v1/A").json();
    let phone = &answer["services"][0]["links"]["phone_numbers"];
    assert_eq!(
        phone,
        "https://messaging.twilio.com/v1/Services/MG1/PhoneNumbers"
    );
}

#[test]
fn the_log_counts_the_bytes_that_the_client_got() {
    let upstream = Upstream::script([page()]);
    let proxy = vendors(&upstream, "");
    let path = "/twilio/messaging/v1/Services";
    let got = proxy.get(path).whole().text().len();
    assert_ne!(got, PAGE.len());
    assert_eq!(proxy.wait_for_line(path)["bytes_out"], got);
}
