//! A form as Twilio signs it: name and value of each distinct pair, sorted, one behind the other.
//!
//! Every webhook of Twilio's passes here, so a form is read once, into one piece of memory, and sorted by
//! the first bytes of the names wherever these decide. What a form says is what the URL standard says it
//! does (`application/x-www-form-urlencoded`): the tests hold it against the library for that. Called by the
//! check of Twilio's signature.

use memchr::memchr3;
use std::cmp::Ordering;

/// More pairs than this are no webhook: Twilio sends some dozens, and sorting takes time.
const MOST: usize = 10_000;
/// Twilio sends about so many.
const USUAL: usize = 32;

/// A form has too many pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// Where a pair stands in the text: its value is behind its name.
struct Pair {
    /// The first bytes of the name, as a number that sorts as they do.
    first: u64,
    starts: usize,
    value: usize,
    ends: usize,
}

/// What of a form is signed. Neither names nor values are trimmed, and may be empty.
pub(super) fn signed(body: &[u8]) -> Result<Vec<u8>, TooMany> {
    let (mut text, mut pairs) = read(body)?;
    if !text.is_ascii() {
        text = mended(&text, &mut pairs);
    }
    for pair in &mut pairs {
        pair.first = pair.first(&text);
    }
    // Bytes of UTF-8 sort as their characters do.
    pairs.sort_unstable_by(|a, b| a.order(b, &text));
    let mut signed = Vec::with_capacity(text.len());
    let mut last: Option<&Pair> = None;
    for pair in &pairs {
        if last.is_none_or(|last| last.order(pair, &text) != Ordering::Equal) {
            signed.extend_from_slice(text.get(pair.starts..pair.ends).unwrap_or_default());
        }
        last = Some(pair);
    }
    Ok(signed)
}

/// The pairs as they stand in the form, decoded, and yet of any bytes.
fn read(body: &[u8]) -> Result<(Vec<u8>, Vec<Pair>), TooMany> {
    let mut text = Vec::with_capacity(body.len());
    let mut pairs = Vec::with_capacity(USUAL);
    let mut rest = body;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(b"&") {
            rest = behind;
            continue;
        }
        if pairs.len() == MOST {
            return Err(TooMany);
        }
        let starts = text.len();
        let (value, behind) = pair(rest, &mut text);
        pairs.push(Pair {
            first: 0,
            starts,
            value,
            ends: text.len(),
        });
        rest = behind;
    }
    Ok((text, pairs))
}

/// Adds what the pair stands for that the form begins with: where its value begins, and what is behind the
/// pair. A percent sign without two digits stands for itself, and so does every equals sign but the first.
fn pair<'b>(form: &'b [u8], text: &mut Vec<u8>) -> (usize, &'b [u8]) {
    let (mut rest, mut value) = (form, None);
    loop {
        let at = memchr3(b'&', b'%', b'+', rest).unwrap_or(rest.len());
        let (plain, marked) = rest.split_at(at);
        let equals = match value {
            None => plain.iter().position(|b| *b == b'='),
            Some(_) => None,
        };
        let (name, behind) = plain.split_at(equals.unwrap_or(plain.len()));
        text.extend_from_slice(name);
        if let Some(behind) = behind.strip_prefix(b"=") {
            value = Some(text.len());
            text.extend_from_slice(behind);
        }
        rest = match marked {
            [b'+', rest @ ..] => {
                text.push(b' ');
                rest
            }
            [b'%', rest @ ..] => {
                let (byte, rest) = byte(rest).unwrap_or((b'%', rest));
                text.push(byte);
                rest
            }
            behind => return (value.unwrap_or(text.len()), behind),
        };
    }
}

/// The byte that two hexadecimal digits name, and what is behind them.
fn byte(digits: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = digits else {
        return None;
    };
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    };
    Some((digit(*high)? << 4 | digit(*low)?, rest))
}

/// The same text with U+FFFD in the place of what is no UTF-8, name by name and value by value.
fn mended(text: &[u8], pairs: &mut [Pair]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(text.len());
    for pair in pairs {
        let (name, value) = (pair.name(text), pair.value(text));
        let starts = whole.len();
        whole.extend_from_slice(String::from_utf8_lossy(name).as_bytes());
        let behind = whole.len();
        whole.extend_from_slice(String::from_utf8_lossy(value).as_bytes());
        (pair.starts, pair.value, pair.ends) = (starts, behind, whole.len());
    }
    whole
}

impl Pair {
    /// The first eight bytes of its name, with zeros behind a shorter one: where two such numbers differ, the
    /// names sort as they do.
    fn first(&self, text: &[u8]) -> u64 {
        let name = self.name(text);
        let behind = u32::try_from(8 * name.len()).unwrap_or(u32::MAX);
        let behind = u64::MAX.checked_shr(behind).unwrap_or(0);
        if let Some(eight) = text.get(self.starts..).and_then(<[u8]>::first_chunk) {
            return u64::from_be_bytes(*eight) & !behind;
        }
        let mut first = [0; 8];
        first
            .iter_mut()
            .zip(name)
            .for_each(|(place, byte)| *place = *byte);
        u64::from_be_bytes(first)
    }

    fn name<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.starts..self.value).unwrap_or_default()
    }

    fn value<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.value..self.ends).unwrap_or_default()
    }

    fn order(&self, other: &Pair, text: &[u8]) -> Ordering {
        let by_first = self.first.cmp(&other.first);
        by_first.then_with(|| {
            let names = self.name(text).cmp(other.name(text));
            names.then_with(|| self.value(text).cmp(other.value(text)))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use url::form_urlencoded;

    /// The same, straight from the description.
    fn plainly(body: &[u8]) -> Result<Vec<u8>, TooMany> {
        let mut pairs: Vec<_> = form_urlencoded::parse(body).collect();
        if pairs.len() > MOST {
            return Err(TooMany);
        }
        pairs.sort();
        pairs.dedup();
        let both = pairs.iter().flat_map(|(n, v)| [n.as_bytes(), v.as_bytes()]);
        Ok(both.flatten().copied().collect())
    }

    fn shown(body: &str) -> String {
        String::from_utf8(signed(body.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn forms_are_read_as_they_came() {
        assert_eq!(shown("b=+x+&a=&&c&b=%C3%A9&b=+x+"), "ab x béc");
        assert_eq!(shown("a=%&a=%zz&a=1=2"), "a%a%zza1=2");
        // What stands for no character is one all the same, each name and value by itself.
        assert_eq!(shown("a%C3=%A9&%ff"), "a\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn names_that_begin_alike_are_sorted_to_their_ends() {
        assert_eq!(
            shown("MessageStatus=2&MessageSid=1&Message=3"),
            "Message3MessageSid1MessageStatus2"
        );
        assert_eq!(shown("a%00=1&a=2&a=1"), "a1a2a\u{0}1");
        assert_eq!(shown("ab=c&a=bc&ab=c"), "abcabc");
    }

    #[test]
    fn more_pairs_than_any_webhook_has_are_none() {
        assert_eq!(signed("a&".repeat(MOST + 1).as_bytes()), Err(TooMany));
        assert_eq!(signed("a&".repeat(MOST).as_bytes()), Ok(b"a".to_vec()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn a_form_is_signed_as_its_description_has_it(
            body in proptest::collection::vec(
                prop_oneof![
                    4 => proptest::sample::select(b"&=&=%+".to_vec()),
                    4 => proptest::sample::select(b"abAB2CcF9eE0".to_vec()),
                    1 => any::<u8>(),
                ],
                0..80,
            ),
        ) {
            prop_assert_eq!(signed(&body), plainly(&body));
        }

        #[test]
        fn many_like_pairs_are_signed_as_their_description_has_it(
            pairs in proptest::collection::vec((0usize..5, 0usize..5), 0..60),
        ) {
            let names = ["Called", "CalledCity", "CallerCountry", "Calle%72City", "To"];
            let values = ["", "%2B1", "%2b1", "a+é", "1"];
            let written = |(name, value): &(usize, usize)| {
                Some(format!("{}={}", names.get(*name)?, values.get(*value)?))
            };
            let body: Vec<String> = pairs.iter().filter_map(written).collect();
            let body = body.join("&");
            prop_assert_eq!(signed(body.as_bytes()), plainly(body.as_bytes()));
        }
    }
}
