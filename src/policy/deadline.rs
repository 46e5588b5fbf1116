//! A caller's own deadline: how long a header field says that its request may take.
//!
//! Reads the field and nothing else; that it may lower a wait and never raise one is decided where
//! waits are made. A value that cannot be read is told apart from none at all, so that the log can
//! say so. Called once for each request of a route that names such a field.

use http::{HeaderMap, HeaderName};
use std::time::Duration;

/// A gRPC time has at most so many digits.
const GRPC_DIGITS: usize = 8;

/// A field that carries a deadline. Its name says how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlineField {
    name: HeaderName,
    written: Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// Whole milliseconds: the name ends in `-ms`.
    Milliseconds,
    /// As in `grpc-timeout`: digits and one of `H`, `M`, `S`, `m`, `u`, `n`.
    Grpc,
    /// Digits and one of `ms`, `s`, `m`, `h`; without a unit, seconds.
    Plain,
}

/// What a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    Nothing,
    /// It is of no use after this long.
    Within(Duration),
    /// Something that is no time.
    Unreadable,
}

impl DeadlineField {
    /// The field of that name.
    #[must_use]
    pub fn new(name: HeaderName) -> Self {
        let written = match name.as_str() {
            "grpc-timeout" => Written::Grpc,
            name if name.ends_with("-ms") => Written::Milliseconds,
            _ => Written::Plain,
        };
        DeadlineField { name, written }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// What `fields` say. A field that is repeated says nothing that can be read.
    #[must_use]
    pub fn read(&self, fields: &HeaderMap) -> Wish {
        let mut values = fields.get_all(&self.name).iter();
        let Some(value) = values.next() else {
            return Wish::Nothing;
        };
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        text.and_then(|text| self.time(text.trim()))
            .map_or(Wish::Unreadable, Wish::Within)
    }

    fn time(&self, text: &str) -> Option<Duration> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        match (self.written, unit) {
            (Written::Milliseconds, "") | (Written::Plain, "ms") => {
                Some(Duration::from_millis(number))
            }
            (Written::Plain, "" | "s") => seconds(1),
            (Written::Plain, "m") => seconds(60),
            (Written::Plain, "h") => seconds(3_600),
            (Written::Grpc, unit) if digits <= GRPC_DIGITS => match unit {
                "H" => seconds(3_600),
                "M" => seconds(60),
                "S" => seconds(1),
                "m" => Some(Duration::from_millis(number)),
                "u" => Some(Duration::from_micros(number)),
                "n" => Some(Duration::from_nanos(number)),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn read(name: &'static str, text: &str) -> Wish {
        let field = DeadlineField::new(HeaderName::from_static(name));
        let mut fields = HeaderMap::new();
        fields.insert(name, HeaderValue::from_str(text).unwrap());
        field.read(&fields)
    }

    fn ms(time: u64) -> Wish {
        Wish::Within(Duration::from_millis(time))
    }

    #[test]
    fn the_name_says_how_the_time_is_written() {
        assert_eq!(read("x-request-timeout-ms", "2500"), ms(2_500));
        assert_eq!(read("x-request-timeout", "30"), ms(30_000));
        assert_eq!(read("x-request-timeout", " 30s "), ms(30_000));
        assert_eq!(read("x-request-timeout", "250ms"), ms(250));
        assert_eq!(read("x-request-timeout", "2m"), ms(120_000));
        assert_eq!(read("x-request-timeout", "1h"), ms(3_600_000));
        for (text, time) in [
            ("10S", 10_000),
            ("500m", 500),
            ("1M", 60_000),
            ("1H", 3_600_000),
            ("1500u", 1),
        ] {
            let Wish::Within(read) = read("grpc-timeout", text) else {
                unreachable!("{text}");
            };
            assert_eq!(read.as_millis(), time, "{text}");
        }
        assert_eq!(read("grpc-timeout", "0m"), ms(0));
    }

    #[test]
    fn what_is_no_time_is_told_apart_from_nothing() {
        for (name, text) in [
            ("x-request-timeout-ms", ""),
            ("x-request-timeout-ms", "5s"),
            ("x-request-timeout-ms", "-1"),
            ("x-request-timeout-ms", "1.5"),
            ("x-request-timeout-ms", "99999999999999999999"),
            ("x-request-timeout", "5 s"),
            ("x-request-timeout", "soon"),
            ("x-request-timeout", "99999999999999999h"),
            ("grpc-timeout", "500"),
            ("grpc-timeout", "500ms"),
            ("grpc-timeout", "123456789S"),
            ("grpc-timeout", "S"),
        ] {
            assert_eq!(read(name, text), Wish::Unreadable, "{name}: {text}");
        }
        let field = DeadlineField::new(HeaderName::from_static("x-t-ms"));
        let mut fields = HeaderMap::new();
        assert_eq!(field.read(&fields), Wish::Nothing);
        fields.append("x-t-ms", HeaderValue::from_static("1"));
        fields.append("x-t-ms", HeaderValue::from_static("1"));
        assert_eq!(field.read(&fields), Wish::Unreadable);
    }

    proptest! {
        #[test]
        fn every_number_of_milliseconds_is_read_as_itself(number in any::<u32>()) {
            let text = number.to_string();
            prop_assert_eq!(read("x-t-ms", &text), ms(u64::from(number)));
        }

        #[test]
        fn no_text_is_too_odd(text in "[ -~]{0,24}") {
            for name in ["x-t-ms", "x-t", "grpc-timeout"] {
                prop_assert!(read(name, &text) != Wish::Nothing);
            }
        }
    }
}
