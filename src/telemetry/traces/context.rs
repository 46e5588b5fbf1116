//! W3C Trace Context: which trace a request belongs to, and who its parent is.
//!
//! Reads and writes the `traceparent` field, and nothing else. A field that is not sound is no
//! field: the trace starts here (section 3.2.2.3).

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field that names the trace and the parent.
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What other tracing systems add to it.
pub static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Entries of a `tracestate`; more may be dropped (section 3.3.1.1), and are, whole.
const MOST_ENTRIES: usize = 32;
/// The flag that says that the parent was sampled.
const SAMPLED: u8 = 1;
/// The flag that says that the trace's id is random (level 2); passed on as it came.
const RANDOM: u8 = 2;

/// What a sound `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: u128,
    /// The span that sent the request.
    pub span: u64,
    flags: u8,
}

impl Parent {
    /// The parent that a request names; none where it names several.
    pub fn of(fields: &HeaderMap) -> Option<Parent> {
        let mut lines = fields.get_all(&TRACEPARENT).iter();
        let only = lines.next().filter(|_| lines.next().is_none())?;
        Parent::read(only)
    }

    /// Reads the field.
    pub fn read(field: &HeaderValue) -> Option<Parent> {
        let text = field.as_bytes();
        let (version, rest) = text.split_at_checked(2)?;
        let version = hex(version)?;
        let rest = rest.strip_prefix(b"-")?;
        let (trace, rest) = rest.split_at_checked(32)?;
        let (span, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
        let (flags, rest) = rest.strip_prefix(b"-")?.split_at_checked(2)?;
        let ends = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let parent = Parent {
            trace: hex(trace)?,
            span: u64::try_from(hex(span)?).ok()?,
            flags: u8::try_from(hex(flags)?).ok()?,
        };
        (ends && parent.trace != 0 && parent.span != 0).then_some(parent)
    }

    /// Whether whoever sent it keeps its own span.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags of its children that are kept.
    pub fn kept(self) -> u8 {
        self.flags & RANDOM | SAMPLED
    }
}

/// The flags of a kept span without a parent.
pub const ROOT: u8 = SAMPLED;

/// Lower-case digits alone are hex here (section 3.2.2).
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// The field for a request whose parent is this span.
pub fn traceparent(trace: u128, span: u64, flags: u8) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("00-{trace:032x}-{span:016x}-{flags:02x}")).ok()
}

/// The `tracestate` that belongs to a sound parent, as one line.
pub fn state(fields: &HeaderMap) -> String {
    let lines = fields.get_all(&TRACESTATE).iter();
    let texts: Option<Vec<&str>> = lines.map(|line| line.to_str().ok()).collect();
    let state = texts.unwrap_or_default().join(",");
    match state.split(',').count() <= MOST_ENTRIES {
        true => state,
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<Parent> {
        Parent::read(&HeaderValue::from_str(text).unwrap())
    }

    #[test]
    fn a_sound_field_is_read() {
        let parent = read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(parent.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(parent.span, 0x00f0_67aa_0ba9_02b7);
        assert!(parent.is_sampled());
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-what-comes";
        let later = read(later).unwrap();
        assert!(!later.is_sampled());
        assert_eq!(later.kept(), 3);
    }

    #[test]
    fn anything_else_is_no_parent() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for bad in [
            "",
            "00",
            &format!("00-{trace}-00f067aa0ba902b7"),
            &format!("00-{trace}-00f067aa0ba902b7-01-more"),
            &format!("01-{trace}-00f067aa0ba902b7-01.more"),
            &format!("ff-{trace}-00f067aa0ba902b7-01"),
            &format!("00-{trace}-0000000000000000-01"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            &format!("00-{trace}-00f067aa0ba902b7-0g"),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let twice = format!("00-{trace}-00f067aa0ba902b7-01");
        let mut fields = HeaderMap::new();
        for _ in 0..2 {
            fields.append(&TRACEPARENT, twice.parse().unwrap());
        }
        assert_eq!(Parent::of(&fields), None);
    }

    #[test]
    fn a_tracestate_is_one_line_or_dropped_whole() {
        let mut fields = HeaderMap::new();
        fields.append(&TRACESTATE, "a=1,b=2".parse().unwrap());
        fields.append(&TRACESTATE, "c=3".parse().unwrap());
        assert_eq!(state(&fields), "a=1,b=2,c=3");
        fields.append(&TRACESTATE, vec!["d=4"; 30].join(",").parse().unwrap());
        assert_eq!(state(&fields), "");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace in 1u128.., span in 1u64..) {
            let field = traceparent(trace, span, ROOT).unwrap();
            let parent = Parent::read(&field).unwrap();
            prop_assert_eq!((parent.trace, parent.span, parent.is_sampled()), (trace, span, true));
        }

        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            if let Ok(field) = HeaderValue::from_bytes(&noise) {
                Parent::read(&field);
            }
        }
    }
}
