//! The identifier that ties an exchange together, from client to upstream and back.
//!
//! One that is offered is taken over as it is or not at all: never repaired, never cut. What is not
//! acceptable is replaced by a new UUIDv7, which sorts by time.

use crate::clock::{self, SystemTime};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The id that a request offers, if it offers exactly one and it is well formed.
pub fn offered(fields: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = fields.get_all(name).iter();
    let value = values.next()?;
    (values.next().is_none() && is_acceptable(value.as_bytes())).then(|| value.clone())
}

/// 1 to 128 characters of `A-Z a-z 0-9 . _ ~ : / + = @ -`.
fn is_acceptable(id: &[u8]) -> bool {
    let known = |b: &u8| b.is_ascii_alphanumeric() || b"._~:/+=@-".contains(b);
    (1..=128).contains(&id.len()) && id.iter().all(known)
}

/// A new id: the time, and chance enough for any traffic. It names an exchange and guards nothing, so
/// quick chance will do.
pub fn mint() -> HeaderValue {
    let since = clock::wall().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    let millis = u64::try_from(millis).unwrap_or(u64::MAX);
    let mut chance = [0u8; 10];
    fastrand::fill(&mut chance);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid();
    let mut text = [0u8; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn offer(values: &[&str]) -> Option<HeaderValue> {
        let name = HeaderName::from_static("x-correlation-id");
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        offered(&fields, &name)
    }

    #[test]
    fn only_one_well_formed_id_is_taken_over() {
        assert_eq!(offer(&["Ab9._~:/+=@-"]).unwrap(), "Ab9._~:/+=@-");
        let longest = "x".repeat(128);
        assert!(offer(&[&longest]).is_some());
        for bad in [
            &[][..],
            &[""],
            &["a b"],
            &["a\tb"],
            &["a,b"],
            &["é"],
            &["a", "a"],
        ] {
            assert_eq!(offer(bad), None, "{bad:?}");
        }
        assert_eq!(offer(&[&"x".repeat(129)]), None);
    }

    #[test]
    fn a_minted_id_is_a_uuid_of_version_7() {
        let id = mint();
        let id: uuid::Uuid = id.to_str().unwrap().parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
}
