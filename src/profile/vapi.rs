//! Vapi: an account without a free line is told so in three ways, none of them a failure.
//!
//! A call that found no line is answered 201 with `concurrencyBlocked`, or 400 with a sentence; too
//! many requests are a 429. In each case no call was placed. A 201 is handed to the client all the
//! same: a record of the call exists, and what becomes of it is the client's to decide.

use super::{Dialect, generic};
use crate::profile::addresses::Place;
use crate::profile::rules::{Allowed, Case, Created, Creates, Holds, Rules, Sign};

pub(super) fn rules() -> Rules {
    let sentence = Sign::Member(
        vec!["message".to_owned(), "error".to_owned()],
        Holds::Phrase("over concurrency limit".to_owned()),
    );
    let blocked = Sign::Flag {
        members: vec![
            "subscriptionLimits.concurrencyBlocked".to_owned(),
            "concurrencyBlocked".to_owned(),
        ],
        // A batch of calls may have placed some before the lines ran out.
        unless: "results".to_owned(),
        single: "id".to_owned(),
    };
    Rules {
        name: Dialect::Vapi.name().to_owned(),
        dialect: Dialect::Vapi,
        cases: vec![
            Case::throttled(429, Sign::Status, Created::NeverProcessed),
            Case::throttled(400, sentence, Created::NeverProcessed).noted("over_concurrency"),
            Case::throttled(201, blocked, Created::NeverProcessed).noted("concurrency_blocked"),
        ],
        id: Some("id".to_owned()),
        creates: Creates::posts_unless(&QUERIES),
        homes: vec!["https://api.vapi.ai", "https://{host}.vapi.ai"],
        addresses: ADDRESSES.iter().map(|text| Place::parse(text)).collect(),
        hosts: vec![("host".to_owned(), Allowed::By(is_label))],
        ..generic::rules()
    }
}

/// Where a call, alone or in a list, says how to listen to it and to speak in it.
const ADDRESSES: [&str; 9] = [
    "transport.websocketCallUrl",
    "monitor.listenUrl",
    "monitor.controlUrl",
    "[].transport.websocketCallUrl",
    "[].monitor.listenUrl",
    "[].monitor.controlUrl",
    "results[].transport.websocketCallUrl",
    "results[].monitor.listenUrl",
    "results[].monitor.controlUrl",
];

/// Whether this is one label of a host name, so that with `.vapi.ai` behind it, it is a host of Vapi's:
/// a call is on a machine of its own.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// POSTs that only ask. Updates are PATCH.
const QUERIES: [&str; 3] = [
    "/analytics",
    "/reporting/insight/preview",
    "/reporting/insight/{uuid}/run",
];
