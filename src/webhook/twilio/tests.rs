//! Twilio's published vectors, and what each changed byte does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use super::*;
use crate::webhook::Written;
use http::HeaderValue;
use secrecy::SecretString;

const TARGET: &str = "/myapp.php?foo=1&bar=2";
const FORM: &str = "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";
const DUPLICATES: &str = "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234";
const SIGNED: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
const SIGNED_SHA256: &str = "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=";

fn secrets(given: &[&str]) -> Secrets {
    let given: Vec<_> = given.iter().map(|s| SecretString::from(*s)).collect();
    Secrets::open(&given, Vec::new(), Written::Plain, Instant::now()).unwrap()
}

fn twilio(url: &str, given: &[&str]) -> Twilio {
    Twilio {
        url: PublicUrl::parse(url).unwrap(),
        secrets: secrets(given),
    }
}

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        fields.append(name, HeaderValue::from_str(value).unwrap());
    }
    fields
}

const TYPE: (&str, &str) = (
    "content-type",
    "application/x-www-form-urlencoded; charset=UTF-8",
);

fn signed(signature: &str) -> HeaderMap {
    fields(&[TYPE, ("x-twilio-signature", signature)])
}

fn call<'a>(target: &'a str, fields: &'a HeaderMap, body: &'a str) -> Call<'a> {
    Call {
        method: &http::Method::POST,
        target,
        fields,
        websocket: false,
        body: body.as_bytes(),
    }
}

/// What becomes of a form that is signed so, for that public address.
fn form(url: &str, target: &str, signature: &str, body: &str) -> Result<(), Denied> {
    let fields = signed(signature);
    twilio(url, &["12345"]).verify(&call(target, &fields, body), Instant::now())
}

#[test]
fn published_signatures_of_forms_fit() {
    for (url, body, signature) in [
        ("https://mycompany.com", FORM, SIGNED),
        ("https://mycompany.com:1234", FORM, SIGNED),
        (
            "http://mycompany.com:1234",
            FORM,
            "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=",
        ),
        (
            "https://mycompany.com",
            FORM,
            "kvajT1Ptam85bY51eRf/AJRuM3w=",
        ),
        ("http://mycompany.com", FORM, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        (
            "https://mycompany.com",
            DUPLICATES,
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
        ),
    ] {
        assert_eq!(form(url, TARGET, signature, body), Ok(()), "{url} {body}");
    }
}

#[test]
fn the_newer_algorithm_is_chosen_by_its_field() {
    let settings = |value: &str| {
        fields(&[
            TYPE,
            ("x-twilio-signature", SIGNED_SHA256),
            ("x-twilio-webhooks-signature-settings", value),
        ])
    };
    let check = |fields: &HeaderMap| {
        let twilio = twilio("https://mycompany.com", &["12345"]);
        twilio.verify(&call(TARGET, fields, FORM), Instant::now())
    };
    for value in [
        "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256",
        "algorithm = hmac_sha256 ,key=x",
        "algorithm=,algorithm=HMAC_SHA256",
    ] {
        assert_eq!(check(&settings(value)), Ok(()), "{value}");
    }
    for value in [
        "algorithm=HMAC_SHA1",
        "key=x",
        "algorithm",
        "Algorithm=HMAC_SHA256",
    ] {
        assert_eq!(check(&settings(value)), Err(WRONG), "{value}");
    }
    for value in ["algorithm=HMAC_MD5", "algorithm=none,algorithm=HMAC_SHA256"] {
        assert_eq!(check(&settings(value)), Err(NO_ALGORITHM), "{value}");
    }
    let mut twice = settings("algorithm=HMAC_SHA256");
    twice.append(&SETTINGS, HeaderValue::from_static("algorithm=HMAC_SHA256"));
    assert_eq!(check(&twice), Err(NO_ALGORITHM));
}

#[test]
fn published_signatures_of_json_bodies_fit_and_another_body_does_not() {
    let body = r#"{"property": "value", "boolean": true}"#;
    let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let check = |target: &str, signature: &str, body: &str| {
        let fields = fields(&[
            ("content-type", "application/json"),
            ("x-twilio-signature", signature),
        ]);
        let twilio = twilio("https://mycompany.com", &["12345"]);
        twilio.verify(&call(target, &fields, body), Instant::now())
    };
    let target = format!("{TARGET}&bodySHA256={hash}");
    let signature = "a9nBmqA0ju/hNViExpshrM61xv4=";
    assert_eq!(check(&target, signature, body), Ok(()));
    assert_eq!(check(&target, signature, "{}"), Err(WRONG_BODY));
    assert_eq!(check(&target, signature, ""), Err(WRONG_BODY));
    let bare = format!("/myapp.php?bodySHA256={hash}");
    assert_eq!(check(&bare, "y77kIzt2vzLz71DgmJGsen2scGs=", body), Ok(()));
    let target = format!("{TARGET}&bodySHA256={empty}");
    assert_eq!(check(&target, "Ldidvp12m26NI7eqEvxnEpkd9Hc=", "{}"), Ok(()));
    assert_eq!(
        check(TARGET, "Ldidvp12m26NI7eqEvxnEpkd9Hc=", "{}"),
        Err(UNCOVERED)
    );
    let none = format!("{TARGET}&bodySHA256=");
    assert_eq!(check(&none, "x", "{}"), Err(UNCOVERED));
}

#[test]
fn a_body_that_the_address_names_by_hash_is_checked_whatever_its_type_says() {
    let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let target = format!("{TARGET}&bodySHA256={hash}");
    let outcome = form(
        "https://mycompany.com",
        &target,
        "a9nBmqA0ju/hNViExpshrM61xv4=",
        "",
    );
    assert_eq!(outcome, Err(WRONG_BODY));
}

#[test]
fn a_websocket_is_signed_by_its_own_scheme_and_without_parameters() {
    let check = |target: &str, signature: &str, websocket| {
        let fields = fields(&[("x-twilio-signature", signature)]);
        let call = Call {
            websocket,
            ..call(target, &fields, "")
        };
        twilio("https://mycompany.com", &["12345"]).verify(&call, Instant::now())
    };
    assert_eq!(
        check("/stream", "DlELQE5iuG0XFAEQgMbv2UNcQU4=", true),
        Ok(())
    );
    assert_eq!(
        check("/stream/", "u+LCj3K4Zdmo8l24BEQ1agcRZe8=", true),
        Ok(())
    );
    assert_eq!(
        check("/stream", "DlELQE5iuG0XFAEQgMbv2UNcQU4=", false),
        Err(WRONG)
    );
    assert_eq!(
        check("/stream/", "DlELQE5iuG0XFAEQgMbv2UNcQU4=", true),
        Err(WRONG)
    );
}

#[test]
fn during_a_rotation_both_secrets_hold() {
    for given in [["12345", "next"], ["last", "12345"]] {
        let fields = signed(SIGNED);
        let twilio = twilio("https://mycompany.com", &given);
        assert_eq!(
            twilio.verify(&call(TARGET, &fields, FORM), Instant::now()),
            Ok(())
        );
    }
    let fields = signed(SIGNED);
    let other = twilio("https://mycompany.com", &["1234", "123456"]);
    assert_eq!(
        other.verify(&call(TARGET, &fields, FORM), Instant::now()),
        Err(WRONG)
    );
}

#[test]
fn a_missing_or_second_signature_is_seen_in_the_head() {
    let twilio = twilio("https://mycompany.com", &["12345"]);
    assert_eq!(twilio.glance(&fields(&[TYPE])), Err(NO_SIGNATURE));
    let mut twice = signed(SIGNED);
    twice.append(&SIGNATURE, HeaderValue::from_static(SIGNED));
    assert_eq!(twilio.glance(&twice), Err(NO_SIGNATURE));
    assert_eq!(
        twilio.verify(&call(TARGET, &twice, FORM), Instant::now()),
        Err(NO_SIGNATURE)
    );
    assert_eq!(twilio.glance(&signed("")), Ok(()));
    assert_eq!(form("https://mycompany.com", TARGET, "", FORM), Err(WRONG));
}

#[test]
fn every_flipped_bit_of_address_body_and_signature_is_refused() {
    let url = "https://mycompany.com";
    let flipped = |text: &str, at: usize, bit: u8| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1 << bit;
        String::from_utf8(bytes).ok()
    };
    for bit in 0..7 {
        for at in 0..TARGET.len() {
            let target = flipped(TARGET, at, bit).unwrap();
            assert_eq!(form(url, &target, SIGNED, FORM), Err(WRONG), "{target}");
        }
        for at in 0..SIGNED.len() {
            let changed = flipped(SIGNED, at, bit).unwrap();
            if HeaderValue::from_str(&changed).is_ok() {
                assert_eq!(form(url, TARGET, &changed, FORM), Err(WRONG), "{changed}");
            }
        }
        for at in 0..FORM.len() {
            let body = flipped(FORM, at, bit).unwrap();
            // `%2b` and `%2B` are one character, and the form is the same.
            let same = form::signed(body.as_bytes()) == form::signed(FORM.as_bytes());
            let outcome = form(url, TARGET, SIGNED, &body);
            assert_eq!(outcome.is_ok(), same, "{body}");
        }
    }
}

#[test]
fn a_form_with_too_many_parameters_is_refused() {
    let many = "a&".repeat(10_001);
    assert_eq!(
        form("https://mycompany.com", TARGET, SIGNED, &many),
        Err(TOO_MANY)
    );
}
