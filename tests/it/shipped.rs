//! The file that is shipped does what it promises, over real HTTP and through its own variables:
//! stub gate, breaker, recovery, rate limit, correlation.

use crate::support::proxy::File;
use crate::support::verbs::{project, verb_in};
use crate::support::*;

/// The shipped file, for addresses of its own.
fn file() -> File {
    let text = crate::support::verbs::shipped("proxy.yaml");
    File::write(&format!("# @LISTEN@ @ADMIN@\n{text}"))
}

fn on(file: File, environment: &[(&str, &str)]) -> Proxy {
    let (listen, admin) = (
        file.address("LISTEN").to_string(),
        file.address("ADMIN").to_string(),
    );
    let own = [
        ("TRUNKLINE_LISTEN", listen.as_str()),
        ("TRUNKLINE_ADMIN", admin.as_str()),
    ];
    Proxy::on(file, &[own.as_slice(), environment].concat())
}

/// The shipped file on addresses of its own, with Vapi and Twilio at `upstream`.
fn shipped(upstream: &Upstream, environment: &[(&str, &str)]) -> Proxy {
    let url = upstream.url();
    let vendors = [
        ("VAPI_URL", url.as_str()),
        ("TWILIO_URL", url.as_str()),
        ("GOOGLE_CALENDAR_URL", url.as_str()),
        ("GMAIL_URL", url.as_str()),
        ("GRAPH_URL", url.as_str()),
    ];
    on(file(), &[vendors.as_slice(), environment].concat())
}

/// The vendors are reached by TLS, and the machine's trust store is on a disk that does not answer: what
/// needs no vendor is answered at once.
#[test]
fn what_needs_no_vendor_does_not_wait_for_the_trust_store() {
    let file = file();
    let store = file.beside("store.pem", "");
    std::fs::remove_file(&store).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&store).status();
    assert!(made.unwrap().success());
    let mut proxy = on(file, &[("SSL_CERT_FILE", store.to_str().unwrap())]);
    let stub = proxy.get("/google/calendar/v3/calendars/primary/events");
    assert_eq!(stub.status, 200, "{}", stub.text());
    assert_eq!(proxy.ask(&get("/readyz")).status, 200);
    assert!(proxy.stop().success());
}

const ROOMY: (&str, &str) = ("RATE_LIMIT_PER_MINUTE", "1000");

#[test]
fn calendar_and_mail_answer_from_stubs_while_stubs_are_on() {
    let upstream = Upstream::answering("");
    let proxy = shipped(&upstream, &[ROOMY]);
    let requests = [
        get("/api/v1/integrations/calendar/google/events"),
        get("/google/calendar/v3/calendars/primary/events"),
        post("/google/calendar/v3/freeBusy", "{}").header("Content-Type", "application/json"),
        post(
            "/google/gmail/v1/users/me/messages/send",
            "{\"raw\": \"YQ\"}",
        )
        .header("Content-Type", "application/json"),
        get("/graph/v1.0/me/events"),
        post("/graph/v1.0/me/sendMail", "{\"message\": {}}")
            .header("Content-Type", "application/json"),
    ];
    for request in requests {
        let answer = proxy.send(&request);
        assert!(
            answer.status < 300,
            "{request:?}: {}{}",
            answer.head,
            answer.text()
        );
        assert!(answer.header("x-stub").is_some(), "{request:?}");
        assert!(answer.header("x-correlation-id").is_some(), "{request:?}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn calendar_and_mail_are_403_while_stubs_are_off() {
    let upstream = Upstream::answering("");
    let proxy = shipped(&upstream, &[ROOMY, ("INTEGRATIONS_STUB_MODE", "false")]);
    let calendar = proxy.get("/api/v1/integrations/calendar/google/events");
    let mail = proxy.send(&post("/google/gmail/v1/users/me/messages/send", "{}"));
    // What says nothing authorizes nobody.
    let empty = |value: &str| {
        let mail = post("/google/gmail/v1/users/me/messages/send", "{}");
        proxy.send(&mail.header("Authorization", value))
    };
    for answer in [calendar, mail, empty(""), empty("   "), empty("\t")] {
        assert_eq!(answer.status, 403);
        assert!(
            answer
                .header("proxy-status")
                .unwrap()
                .contains("stub_disabled")
        );
        assert!(
            answer.text().contains("GOOGLE_CLIENT_ID"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(upstream.connections(), 0);
}

/// What the application asks for, and what the vendor is asked for then.
const REAL: [(&str, &str, &str); 12] = [
    (
        "GET",
        "/api/v1/integrations/calendar/google/events?maxResults=2",
        "/calendar/v3/calendars/primary/events?maxResults=2",
    ),
    (
        "POST",
        "/api/v1/integrations/calendar/google/events",
        "/calendar/v3/calendars/primary/events",
    ),
    (
        "DELETE",
        "/api/v1/integrations/calendar/google/events/a%40b",
        "/calendar/v3/calendars/primary/events/a%40b",
    ),
    (
        "POST",
        "/api/v1/integrations/calendar/google/freebusy",
        "/calendar/v3/freeBusy",
    ),
    (
        "GET",
        "/api/v1/integrations/calendar/google/calendars",
        "/calendar/v3/users/me/calendarList",
    ),
    (
        "POST",
        "/api/v1/integrations/email/gmail/send",
        "/gmail/v1/users/me/messages/send",
    ),
    (
        "GET",
        "/google/calendar/v3/calendars/x%40y/events",
        "/calendar/v3/calendars/x%40y/events",
    ),
    (
        "GET",
        "/api/v1/integrations/calendar/microsoft/calendarView?startDateTime=1",
        "/v1.0/me/calendarView?startDateTime=1",
    ),
    (
        "PATCH",
        "/api/v1/integrations/calendar/microsoft/events/AA=",
        "/v1.0/me/events/AA=",
    ),
    (
        "POST",
        "/api/v1/integrations/calendar/microsoft/freebusy",
        "/v1.0/me/calendar/getSchedule",
    ),
    (
        "POST",
        "/api/v1/integrations/email/microsoft/send",
        "/v1.0/me/sendMail",
    ),
    ("GET", "/graph/v1.0/me/events", "/v1.0/me/events"),
];

const OFF: (&str, &str) = ("INTEGRATIONS_STUB_MODE", "false");

#[test]
fn with_stubs_off_the_same_paths_reach_the_vendors_with_what_the_caller_sent() {
    let upstream = Upstream::answering("{}");
    let proxy = shipped(&upstream, &[ROOMY, OFF]);
    for (method, path, _) in REAL {
        let answer = proxy.send(&request(method, path).header("Authorization", "Bearer mine"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let sent = upstream.requests();
    for ((method, path, wanted), sent) in REAL.iter().zip(&sent) {
        assert_eq!(
            (sent.method.as_str(), sent.target.as_str()),
            (*method, *wanted),
            "{path}"
        );
        assert_eq!(sent.header("authorization"), Some("Bearer mine"));
    }
    assert_eq!(sent.len(), REAL.len());
}

#[test]
fn with_stubs_off_and_a_login_held_here_the_application_needs_none() {
    let upstream = Upstream::answering("{}");
    let token = "{\"access_token\":\"held\",\"expires_in\":3600,\"token_type\":\"Bearer\"}";
    let issuer = Upstream::answering(token);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("refresh");
    std::fs::write(&file, "refresh").unwrap();
    let (file, url) = (file.display().to_string(), issuer.url());
    let environment = [
        ROOMY,
        OFF,
        ("GOOGLE_CLIENT_ID", "us"),
        ("GOOGLE_REFRESH_TOKEN_FILE", file.as_str()),
        ("GOOGLE_TOKEN_URL", url.as_str()),
        ("MICROSOFT_CLIENT_ID", "us"),
        ("MICROSOFT_REFRESH_TOKEN_FILE", file.as_str()),
        ("MICROSOFT_TOKEN_URL", url.as_str()),
    ];
    let proxy = shipped(&upstream, &environment);
    for (method, path, _) in REAL {
        let answer = proxy.send(&request(method, path));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    assert!(
        upstream
            .requests()
            .iter()
            .all(|sent| sent.header("authorization") == Some("Bearer held"))
    );
    assert_eq!(issuer.count(), 2, "one call for each provider");
}

#[test]
fn check_says_who_answers_on_each_route() {
    let path = project().join("proxy.yaml");
    let said = |environment: &[(&str, &str)]| {
        let ended = verb_in(&path, &["check"], environment);
        assert_eq!(ended.code, Some(0), "{}", ended.text());
        ended.stdout
    };
    assert!(
        said(&[])
            .contains("canned; with stubs off, https://gmail.googleapis.com with the caller's own")
    );
    let off = said(&[OFF]);
    assert!(
        off.contains(
            "403 stub_disabled without one: google is not set (GOOGLE_CLIENT_ID or proxy.yaml:"
        ),
        "{off}"
    );
    let held = said(&[OFF, ("GOOGLE_CLIENT_ID", "us")]);
    assert!(
        held.contains("https://gmail.googleapis.com with the credential google: gmail-send"),
        "{held}"
    );
}

#[test]
fn production_refuses_stubs_and_names_the_variable() {
    let path = project().join("proxy.yaml");
    for verb in ["check", "run"] {
        let ended = verb_in(&path, &[verb], &[("ENVIRONMENT", "production")]);
        assert_eq!(ended.code, Some(2), "{}", ended.text());
        assert!(
            ended.text().contains("INTEGRATIONS_STUB_MODE"),
            "{}",
            ended.text()
        );
    }
    let off = [
        ("ENVIRONMENT", "production"),
        ("INTEGRATIONS_STUB_MODE", "false"),
    ];
    let ended = verb_in(&path, &["check"], &off);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
}

#[test]
fn the_breaker_opens_after_the_threshold_for_calls_and_messages_together() {
    let upstream = Upstream::script([reply(500)]);
    let proxy = shipped(&upstream, &[ROOMY]);
    let create = |what: &str, number: usize| {
        let path = format!("/twilio/api/2010-04-01/Accounts/AC1/{what}.json");
        proxy.send(
            &post(&path, format!("To=%2B1&Body={number}"))
                .header("Content-Type", "application/x-www-form-urlencoded"),
        )
    };
    for (number, what) in ["Calls", "Messages", "Calls"].into_iter().enumerate() {
        assert_eq!(create(what, number).status, 500);
    }
    proxy.wait_for_breaker("twilio", 2.0);
    for (number, what) in ["Messages", "Calls"].into_iter().enumerate() {
        let answer = create(what, 10 + number);
        assert_eq!(
            (answer.status, answer.json()["details"]["reason"].as_str()),
            (503, Some("circuit_open"))
        );
    }
    assert_eq!(upstream.count(), 3);
}

#[test]
fn it_recovers_through_half_open() {
    let upstream = Upstream::script([reply(500), reply(500), reply(200)]);
    let environment = [
        ROOMY,
        ("CIRCUIT_BREAKER_THRESHOLD", "2"),
        ("CIRCUIT_BREAKER_RECOVERY_TIMEOUT", "1"),
        ("CIRCUIT_BREAKER_SUCCESS_THRESHOLD", "1"),
    ];
    let proxy = shipped(&upstream, &environment);
    for _ in 0..2 {
        assert_eq!(proxy.get("/vapi/assistant").status, 500);
    }
    proxy.wait_for_breaker("vapi", 1.0);
    assert_eq!(proxy.get("/vapi/assistant").status, 200);
    proxy.wait_for_breaker("vapi", 0.0);
    assert_eq!(upstream.requests()[0].target, "/assistant");
}

#[test]
fn the_breaker_can_be_switched_off() {
    let upstream = Upstream::script([reply(500)]);
    let proxy = shipped(&upstream, &[ROOMY, ("CIRCUIT_BREAKER_ENABLED", "false")]);
    for _ in 0..6 {
        assert_eq!(proxy.get("/vapi/assistant").status, 500);
    }
    assert_eq!(upstream.count(), 6);
}

#[test]
fn the_eleventh_request_within_a_minute_is_429() {
    let upstream = Upstream::answering("");
    let proxy = shipped(&upstream, &[]);
    let statuses: Vec<u16> = (0..11)
        .map(|_| {
            proxy
                .get("/api/v1/integrations/calendar/google/events")
                .status
        })
        .collect();
    assert_eq!(statuses[..10], [200; 10]);
    let answers: Vec<Response> = (0..3)
        .map(|_| proxy.get("/api/v1/integrations/calendar/google/events"))
        .collect();
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
}

#[test]
fn the_four_metrics_stand_at_zero_for_both_vendors() {
    let upstream = Upstream::answering("");
    let proxy = shipped(&upstream, &[]);
    let metrics = proxy.metrics();
    for service in ["vapi", "twilio"] {
        for name in ["state", "failures_total", "opens_total", "closes_total"] {
            let value = metrics.value(&format!("circuit_breaker_{name}"), &[("service", service)]);
            assert_eq!(value, Some(0.0), "circuit_breaker_{name} of {service}");
        }
    }
}

#[test]
fn a_correlation_id_is_carried_or_minted() {
    let upstream = Upstream::answering("{}");
    let proxy = shipped(&upstream, &[ROOMY]);
    let carried = proxy.send(&get("/vapi/phone-number").header("X-Correlation-ID", "call-1"));
    assert_eq!(carried.header("x-correlation-id"), Some("call-1"));
    let minted = proxy
        .get("/vapi/phone-number")
        .header("x-correlation-id")
        .unwrap()
        .to_owned();
    assert_eq!(minted.len(), 36);
    let sent: Vec<String> = upstream
        .requests()
        .iter()
        .map(|received| received.header("x-correlation-id").unwrap().to_owned())
        .collect();
    assert_eq!(sent, ["call-1".to_owned(), minted]);
}
