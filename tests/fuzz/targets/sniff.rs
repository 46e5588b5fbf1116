//! What is read of a vendor's answers: however a body is cut into chunks, its addresses are turned as in the whole of it,
//! and a beginning of it says nothing that the whole takes back.
//!
//! The input is a byte that chooses, a byte a chunk up to a 0, and the body.

#![no_main]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use trunkline::profile::addresses::Scanner;
use trunkline::profile::{BODY_START, Dialect, Profile};

/// The body behind the scanner, and the texts that it was asked about.
fn scanned(profile: &Profile, chunks: &[&[u8]], edits: bool) -> (Vec<u8>, Vec<String>) {
    let mut scanner = Scanner::new(profile.rules().addresses.clone());
    let (mut out, mut asked) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let mut edit = |text: &str| {
            asked.push(text.to_owned());
            (edits && text.len() % 2 == 0).then(|| format!("<\"{text}\\\n>"))
        };
        out.extend_from_slice(&scanner.feed(Bytes::copy_from_slice(chunk), &mut edit));
    }
    out.extend_from_slice(&scanner.end());
    (out, asked)
}

/// Cuts `body` by these lengths, again and again.
fn cut<'b>(mut body: &'b [u8], lengths: &[u8]) -> Vec<&'b [u8]> {
    let mut chunks = Vec::new();
    for length in lengths.iter().cycle().map(|length| usize::from(*length)) {
        if body.is_empty() {
            break;
        }
        let (chunk, rest) = body.split_at(length.min(body.len()));
        chunks.push(chunk);
        body = rest;
    }
    chunks
}

/// How many values a document holds: as many as before, whatever their texts have become.
fn shape(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(shape).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(shape).sum::<usize>(),
        _ => 1,
    }
}

fn addresses(profile: &Profile, body: &[u8], lengths: &[u8]) {
    let chunks = cut(body, lengths);
    let (kept, asked) = scanned(profile, &chunks, false);
    assert_eq!(kept, body, "nothing was to change");
    let (whole, of_whole) = scanned(profile, &[body], true);
    let (pieces, of_pieces) = scanned(profile, &chunks, true);
    assert_eq!(whole, pieces);
    assert_eq!((&asked, &of_pieces), (&of_whole, &of_whole));
    if let Ok(document) = serde_json::from_slice::<Value>(body) {
        let edited = serde_json::from_slice::<Value>(&whole).expect("JSON stays JSON");
        assert_eq!(shape(&document), shape(&edited));
    }
}

fn meaning(profile: &Profile, chosen: u8, body: &[u8], lengths: &[u8]) {
    let statuses = [200, 201, 400, 404, 409, 429, 500, 503];
    let status = statuses[usize::from(chosen >> 4) % statuses.len()];
    let status = StatusCode::from_u16(status).expect("a status");
    let mut fields = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    fields.insert(header::CONTENT_TYPE, json);
    let read = |start| profile.read(&Method::POST, status, &fields, start);
    let whole = read(Some(body));
    assert_eq!(whole, read(Some(&body[..body.len().min(BODY_START)])));
    let mut end = 0;
    for chunk in cut(body, lengths).into_iter().take(64) {
        end += chunk.len();
        let start = read(Some(&body[..end]));
        assert!(start.id.is_none() || start.id == whole.id, "{start:?} and {whole:?}");
    }
    // What cannot be read has the careful meaning: nothing was seen to be refused.
    let unread = read(None);
    assert!(unread.id.is_none() && unread.notes.is_empty());
}

fuzz_target!(|input: &[u8]| {
    let Some((chosen, input)) = input.split_first() else {
        return;
    };
    let Some(end) = input.iter().position(|byte| *byte == 0).filter(|end| *end > 0) else {
        return;
    };
    let (lengths, body) = (&input[..end], &input[end + 1..]);
    let profile = Profile::from(Dialect::ALL[usize::from(chosen & 15) % Dialect::ALL.len()]);
    addresses(&profile, body, lengths);
    meaning(&profile, *chosen, body, lengths);
});
