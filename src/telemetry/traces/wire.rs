//! The few shapes of OTLP that a trace needs, written and read as protocol buffers.
//!
//! A span is written as it comes to be known, straight into the bytes that are sent: no tree of
//! values is built for it, and a batch is its spans one after the other. Field numbers are those of
//! `opentelemetry/proto/trace/v1/trace.proto`; the tests read everything with the official types.

/// Longer texts are cut, in bytes: a span must not grow with what a client sends.
const LONGEST_TEXT: usize = 1024;

/// A value of an attribute.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Text, cut after 1 KiB.
    Text(&'a str),
    /// A whole number.
    Number(i64),
}

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED_32: u32 = 5;

fn tag(out: &mut Vec<u8>, field: u32, kind: u32) {
    varint(out, u64::from(field << 3 | kind));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0)
}

fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(10)
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A whole number; zero is the default and not written.
pub(super) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        tag(out, field, VARINT);
        varint(out, value);
    }
}

/// Eight bytes.
pub(super) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED_64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Four bytes.
pub(super) fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, FIXED_32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Bytes, a text or a message.
pub(super) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    tag(out, field, LENGTH);
    varint(out, wide(value.len()));
    out.extend_from_slice(value);
}

/// The length of what [`bytes`] writes for so many bytes under a field below 16.
fn bytes_len(length: usize) -> usize {
    1 + varint_len(wide(length)) + length
}

/// A `KeyValue` under that field.
pub(super) fn attribute(out: &mut Vec<u8>, field: u32, key: &str, value: Value<'_>) {
    let held = match value {
        Value::Text(text) => bytes_len(cut(text).len()),
        Value::Number(n) => 1 + varint_len(n.cast_unsigned()),
    };
    tag(out, field, LENGTH);
    varint(out, wide(bytes_len(key.len()) + bytes_len(held)));
    bytes(out, 1, key.as_bytes());
    tag(out, 2, LENGTH);
    varint(out, wide(held));
    match value {
        Value::Text(text) => bytes(out, 1, cut(text).as_bytes()),
        Value::Number(n) => {
            tag(out, 3, VARINT);
            varint(out, n.cast_unsigned());
        }
    }
}

fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(LONGEST_TEXT);
    text.get(..end).unwrap_or_default()
}

/// What a collector says in an `ExportTraceServiceResponse`: how many spans it refused, and why.
/// Nothing where it took all of them, or said nothing that can be read.
pub(super) fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let (partial, _) = first(answer, 1)?;
    let Found::Bytes(partial) = partial else {
        return None;
    };
    let (count, _) = first(partial, 1)?;
    let why = match first(partial, 2) {
        Some((Found::Bytes(why), _)) => cut(&String::from_utf8_lossy(why)).to_owned(),
        _ => String::new(),
    };
    match count {
        Found::Number(count) => Some((count, why)),
        Found::Bytes(_) => None,
    }
}

enum Found<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first value of that field, and what follows it.
fn first(mut message: &[u8], wanted: u32) -> Option<(Found<'_>, &[u8])> {
    loop {
        let (tag, rest) = take_varint(message)?;
        let (found, rest) = match u32::try_from(tag & 7).ok()? {
            VARINT => {
                let (value, rest) = take_varint(rest)?;
                (Some(Found::Number(value)), rest)
            }
            LENGTH => {
                let (length, rest) = take_varint(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Some(Found::Bytes(value)), rest)
            }
            FIXED_64 => (None, rest.get(8..)?),
            FIXED_32 => (None, rest.get(4..)?),
            _ => return None,
        };
        match found {
            Some(found) if tag >> 3 == u64::from(wanted) => return Some((found, rest)),
            _ => message = rest,
        }
    }
}

fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        let shift = u32::try_from(place * 7).ok()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(place + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::prelude::*;
    use prost::Message as _;

    proptest! {
        #[test]
        fn the_official_types_read_every_attribute(text in ".{0,2000}", whole: i64, key in "[a-z.]{1,200}") {
            let mut out = Vec::new();
            attribute(&mut out, 1, &key, Value::Text(&text));
            attribute(&mut out, 1, "n", Value::Number(whole));
            let read = Resource::decode(out.as_slice()).unwrap().attributes;
            let values: Vec<_> = read.iter().map(|a| a.value.clone().unwrap().value.unwrap()).collect();
            prop_assert_eq!(read.first().map(|a| a.key.as_str()), Some(key.as_str()));
            prop_assert_eq!(values, [Any::StringValue(cut(&text).to_owned()), Any::IntValue(whole)]);
        }

        #[test]
        fn what_a_collector_answers_is_read_and_never_panics(count in 1i64.., why in ".{0,50}", noise: Vec<u8>) {
            let partial_success = Some(ExportTracePartialSuccess {
                rejected_spans: count,
                error_message: why.clone(),
            });
            let answer = ExportTraceServiceResponse { partial_success }.encode_to_vec();
            prop_assert_eq!(rejected(&answer), Some((count.cast_unsigned(), why)));
            rejected(&noise);
        }
    }

    #[test]
    fn an_answer_without_a_word_refuses_nothing() {
        assert_eq!(rejected(&[]), None);
    }
}
