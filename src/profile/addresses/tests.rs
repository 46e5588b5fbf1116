//! The scanner against a naive oracle: parse the whole document, edit, compare.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use proptest::prelude::*;
use serde_json::Value;

const PLACES: [&str; 8] = [
    "meta.next",
    "url",
    "links.*",
    "*[].url",
    "*[].links.*",
    "[].a.b",
    "a[][].b",
    "meta.a[]",
];

fn places() -> Arc<[Place]> {
    PLACES.iter().map(|text| Place::parse(text)).collect()
}

fn mark(text: &str) -> Option<String> {
    (!text.contains('n')).then(|| format!("<\"{text}\\>"))
}

/// What comes out for these chunks.
fn fed(chunks: &[&[u8]]) -> Vec<u8> {
    let mut scanner = Scanner::new(places());
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&scanner.feed(Bytes::copy_from_slice(chunk), &mut mark));
    }
    out.extend_from_slice(&scanner.end());
    out
}

fn cut<'t>(text: &'t [u8], cuts: &[usize]) -> Vec<&'t [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    ends.push(text.len());
    ends.sort_unstable();
    let mut begin = 0;
    ends.into_iter()
        .map(|end| {
            let piece = &text[begin..end];
            begin = end;
            piece
        })
        .collect()
}

/// The document with its texts at the places edited, by walking the parsed whole of it.
fn walked(value: &Value, path: &mut Vec<Option<String>>) -> Value {
    match value {
        Value::String(text) if is_place(path) => mark(text).map_or(value.clone(), Value::String),
        Value::Array(items) => {
            let each = items.iter().map(|item| {
                path.push(None);
                let item = walked(item, path);
                path.pop();
                item
            });
            Value::Array(each.collect())
        }
        Value::Object(members) => {
            let each = members.iter().map(|(name, value)| {
                path.push(Some(name.clone()));
                let value = walked(value, path);
                path.pop();
                (name.clone(), value)
            });
            Value::Object(each.collect())
        }
        other => other.clone(),
    }
}

fn is_place(path: &[Option<String>]) -> bool {
    places().iter().any(|place| {
        place.0.len() == path.len()
            && place.0.iter().zip(path).all(|(step, at)| match (step, at) {
                (Step::Item, None) | (Step::Any, Some(_)) => true,
                (Step::Name(name), Some(at)) => name == at,
                _ => false,
            })
    })
}

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-cn\"\\\\é\u{1}/{}\\[\\],: ]{0,8}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("meta".to_owned()),
        Just("next".to_owned()),
        Just("url".to_owned()),
        Just("links".to_owned()),
        Just("a".to_owned()),
        Just("b".to_owned()),
        "[a\"\\\\é]{0,3}",
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_document_in_any_chunks_is_edited_as_by_hand(
        document in documents(),
        pretty: bool,
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let text = match pretty {
            true => serde_json::to_string_pretty(&document).unwrap(),
            false => document.to_string(),
        };
        let wanted = walked(&document, &mut Vec::new());
        let wanted = match pretty {
            true => serde_json::to_string_pretty(&wanted).unwrap(),
            false => wanted.to_string(),
        };
        let out = fed(&cut(text.as_bytes(), &cuts));
        prop_assert_eq!(String::from_utf8(out).unwrap(), wanted, "{}", text);
    }

    #[test]
    fn what_chunks_a_body_came_in_makes_no_difference(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "[\\[\\]{}\",:\\\\ urlmetanxk0-9]{0,64}".prop_map(String::into_bytes),
        ],
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        prop_assert_eq!(fed(&cut(&body, &cuts)), fed(&[&body]));
    }
}

#[test]
fn everything_but_the_address_stays_as_it_was_written() {
    let text = r#" { "x" : 1.50e+01, "é\/" : "\u00e9\/" ,
        "u\u0072l" : "ab" ,"url2":"ab", "meta":{"next":"a\/b" , "k":[ ]} }  "#;
    let wanted = r#" { "x" : 1.50e+01, "é\/" : "\u00e9\/" ,
        "u\u0072l" : "<\"ab\\>" ,"url2":"ab", "meta":{"next":"<\"a/b\\>" , "k":[ ]} }  "#;
    assert_eq!(fed(&[text.as_bytes()]), wanted.as_bytes());
    let each: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(fed(&each), wanted.as_bytes());
}

#[test]
fn what_is_no_json_passes_unchanged() {
    for text in [
        "",
        "x",
        "<html>",
        "\u{feff}{\"url\":\"a\"}",
        "{'url':'a'}",
        "{\"url\" \"a\"}",
        "[}",
        "{]",
        "{\"url\":\"a",
        "{\"url\":}",
        "{,\"url\":\"a\"}",
    ] {
        assert_eq!(fed(&[text.as_bytes()]), text.as_bytes(), "{text}");
        let each: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(fed(&each), text.as_bytes(), "{text}");
    }
}

#[test]
fn a_text_too_long_for_an_address_is_not_held() {
    let text = format!(
        "{{\"url\":\"{}\",\"meta\":{{\"next\":\"b\"}}}}",
        "a".repeat(3 * LONGEST)
    );
    let mut scanner = Scanner::new(places());
    let mut out = Vec::new();
    for chunk in text.as_bytes().chunks(100) {
        out.extend_from_slice(&scanner.feed(Bytes::copy_from_slice(chunk), &mut mark));
        assert!(scanner.held_len() <= LONGEST + 100);
    }
    assert_eq!(
        String::from_utf8(out).unwrap(),
        text.replace("\"b\"", "\"<\\\"b\\\\>\"")
    );
}

#[test]
fn deep_nesting_takes_little_and_passes() {
    let text = "[".repeat(3 * DEEPEST) + &"]".repeat(3 * DEEPEST);
    assert_eq!(fed(&[text.as_bytes()]), text.as_bytes());
}
