//! The scalars of `proxy.yaml`, each in the words an operator writes: `30s`, `64KiB`, `50%`.
//!
//! A scalar takes its own type or a string, because `${NAME}` always expands to a string. Whether one
//! value makes sense by itself is decided here; whether two values agree is not. An error says only
//! what was expected: the reader adds what was found, unless that came out of the environment.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::{Value, json};

use super::scalar::{Raw, Scalar, ScalarVisitor, described, pattern, scalar};

pub use super::words::{Address, Identify, Network, Secret, Text};

scalar!(Flag, Dur, Size, Ratio, Factor);

/// `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(bool);

impl Flag {
    /// The value.
    #[must_use]
    pub fn get(self) -> bool {
        self.0
    }
}

impl Scalar for Flag {
    fn expected() -> Cow<'static, str> {
        "true or false".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw {
            Raw::Flag(flag) => Some(Flag(flag)),
            Raw::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(Flag(true)),
                "false" | "no" | "off" | "0" => Some(Flag(false)),
                _ => None,
            },
            Raw::Whole(_) | Raw::Broken(_) => None,
        }
    }

    fn forms() -> Vec<Value> {
        vec![
            json!({ "type": "boolean" }),
            pattern("^(true|false|yes|no|on|off|1|0)$"),
        ]
    }
}

/// A whole number from `MIN` to `MAX`, both allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count<const MIN: u32 = 1, const MAX: u32 = { u32::MAX }>(u32);

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// The value.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Scalar for Count<MIN, MAX> {
    fn expected() -> Cow<'static, str> {
        match MAX {
            u32::MAX => format!("a whole number of at least {MIN}").into(),
            _ => format!("a whole number from {MIN} to {MAX}").into(),
        }
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let number = match raw {
            Raw::Whole(number) => u32::try_from(number).ok()?,
            Raw::Text(text) => digits(text.trim())?.parse().ok()?,
            Raw::Flag(_) | Raw::Broken(_) => return None,
        };
        (MIN..=MAX).contains(&number).then_some(Count(number))
    }

    fn forms() -> Vec<Value> {
        vec![
            json!({ "type": "integer", "minimum": MIN, "maximum": MAX }),
            pattern("^[0-9]+$"),
        ]
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor(PhantomData))
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Count<MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        match MAX {
            u32::MAX => format!("CountFrom{MIN}").into(),
            _ => format!("CountFrom{MIN}To{MAX}").into(),
        }
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        described::<Self>()
    }
}

/// A length of time, to the millisecond; a bare number means seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dur(Duration);

/// Beyond ten years a duration is a slip of the finger, and adding it to a clock may overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

impl Dur {
    /// The value.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Scalar for Dur {
    fn expected() -> Cow<'static, str> {
        "a duration like 250ms, 30s or 5m".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let length = length(raw)?;
        (length <= LONGEST).then_some(Dur(length))
    }

    fn beyond(raw: Raw<'_>) -> Option<Cow<'static, str>> {
        let days = LONGEST.as_secs() / 86_400;
        length(raw).map(|_| format!("a duration of at most {days}d").into())
    }

    fn forms() -> Vec<Value> {
        vec![
            json!({ "type": "integer", "minimum": 0 }),
            pattern("^[0-9]+(ms|s|m|h|d)?$"),
        ]
    }
}

fn length(raw: Raw<'_>) -> Option<Duration> {
    match raw {
        Raw::Whole(seconds) => Some(Duration::from_secs(seconds)),
        Raw::Text(text) => duration(text.trim()),
        Raw::Flag(_) | Raw::Broken(_) => None,
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// The value in bytes.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl Scalar for Size {
    fn expected() -> Cow<'static, str> {
        "a size like 512B, 64KiB or 10MiB".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw {
            Raw::Whole(bytes) => Some(Size(bytes)),
            Raw::Text(text) => size(text.trim()).map(Size),
            Raw::Flag(_) | Raw::Broken(_) => None,
        }
    }

    fn forms() -> Vec<Value> {
        vec![
            json!({ "type": "integer", "minimum": 0 }),
            pattern("^[0-9]+(B|KiB|MiB|GiB|KB|kB|MB|GB)?$"),
        ]
    }
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let bytes: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// A share of a whole, 0.0 to 1.0.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// The value, 0.0 to 1.0.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Scalar for Ratio {
    fn expected() -> Cow<'static, str> {
        "a share like 50% or 0.5".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let share = match raw {
            Raw::Whole(0) => 0.0,
            Raw::Whole(1) => 1.0,
            Raw::Broken(share) => share,
            Raw::Text(text) => match text.trim().strip_suffix('%') {
                Some(percent) => decimal(percent.trim_end())? / 100.0,
                None => decimal(text.trim())?,
            },
            Raw::Flag(_) | Raw::Whole(_) => return None,
        };
        (0.0..=1.0).contains(&share).then_some(Ratio(share))
    }

    fn forms() -> Vec<Value> {
        vec![
            json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            pattern(r"^[0-9]+(\.[0-9]+)?%?$"),
        ]
    }
}

/// A multiplier of at least 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Factor(f64);

impl Factor {
    /// The value, at least 1.0 and finite.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Scalar for Factor {
    fn expected() -> Cow<'static, str> {
        "a number from 1 to 1000, such as 2 or 1.5".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let factor = match raw {
            Raw::Whole(number) => f64::from(u32::try_from(number).ok()?),
            Raw::Broken(number) => number,
            Raw::Text(text) => decimal(text.trim())?,
            Raw::Flag(_) => return None,
        };
        (1.0..=1000.0).contains(&factor).then_some(Factor(factor))
    }

    fn forms() -> Vec<Value> {
        vec![
            json!({ "type": "number", "minimum": 1, "maximum": 1000 }),
            pattern(r"^[0-9]+(\.[0-9]+)?$"),
        ]
    }
}

/// The text if it is digits alone; `parse` would also take a sign.
fn digits(text: &str) -> Option<&str> {
    let only = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    only.then_some(text)
}

/// A plain decimal number; `parse` would also take `inf`, `1e9` and signs.
fn decimal(text: &str) -> Option<f64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    digits(whole).and(digits(rest)).and(text.parse().ok())
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::{
        BoolDeserializer, Error as Refused, F64Deserializer, StrDeserializer, U64Deserializer,
    };

    fn text<T: for<'a> Deserialize<'a>>(text: &str) -> Option<T> {
        let reader: StrDeserializer<'_, Refused> = text.into_deserializer();
        T::deserialize(reader).ok()
    }

    fn whole<T: for<'a> Deserialize<'a>>(number: u64) -> Option<T> {
        let reader: U64Deserializer<Refused> = number.into_deserializer();
        T::deserialize(reader).ok()
    }

    fn broken<T: for<'a> Deserialize<'a>>(number: f64) -> Option<T> {
        let reader: F64Deserializer<Refused> = number.into_deserializer();
        T::deserialize(reader).ok()
    }

    fn flag<T: for<'a> Deserialize<'a>>(flag: bool) -> Option<T> {
        let reader: BoolDeserializer<Refused> = flag.into_deserializer();
        T::deserialize(reader).ok()
    }

    #[test]
    fn a_flag_is_a_flag_or_the_word_for_one() {
        assert!(flag::<Flag>(true).unwrap().get());
        for (word, value) in [("true", true), ("False", false), ("on", true), ("0", false)] {
            assert_eq!(text::<Flag>(word).map(Flag::get), Some(value), "{word}");
        }
        assert_eq!(text::<Flag>("maybe"), None);
        assert_eq!(whole::<Flag>(1), None);
    }

    #[test]
    fn a_count_keeps_to_its_range() {
        assert_eq!(whole::<Count>(7).map(Count::get), Some(7));
        assert_eq!(text::<Count>(" 7 ").map(Count::get), Some(7));
        assert_eq!(whole::<Count>(0), None);
        assert_eq!(whole::<Count<0>>(0).map(Count::get), Some(0));
        assert_eq!(whole::<Count<1, 128>>(129), None);
        assert_eq!(whole::<Count>(1 << 32), None);
        for bad in ["", "+1", "-1", "1.0", "x"] {
            assert_eq!(text::<Count>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_duration_has_a_unit_or_means_seconds() {
        for (input, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("30", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            let read = text::<Dur>(input).map(Dur::get);
            assert_eq!(read, Some(Duration::from_millis(millis)), "{input}");
        }
        assert_eq!(
            whole::<Dur>(30).map(Dur::get),
            Some(Duration::from_secs(30))
        );
        for bad in [
            "",
            "s",
            "3x",
            "-1s",
            "1.5s",
            "1m30s",
            "3651d",
            "99999999999999999999s",
        ] {
            assert_eq!(text::<Dur>(bad), None, "{bad}");
        }
        assert_eq!(text::<Dur>("18446744073709551615d"), None);
        assert_eq!(broken::<Dur>(1.5), None);
    }

    #[test]
    fn a_size_counts_in_powers_of_two_or_ten_as_written() {
        for (input, bytes) in [
            ("64KiB", 65_536),
            ("10MiB", 10 << 20),
            ("1MB", 1_000_000),
            ("512B", 512),
            ("7", 7),
        ] {
            assert_eq!(text::<Size>(input).map(Size::get), Some(bytes), "{input}");
        }
        assert_eq!(whole::<Size>(9).map(Size::get), Some(9));
        for bad in ["", "64K", "64kib", "KiB", "-1B", "99999999999GiB"] {
            assert_eq!(text::<Size>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_or_a_fraction() {
        assert_eq!(text::<Ratio>("50%").map(Ratio::get), Some(0.5));
        assert_eq!(text::<Ratio>("12.5%").map(Ratio::get), Some(0.125));
        assert_eq!(text::<Ratio>("0.25").map(Ratio::get), Some(0.25));
        assert_eq!(broken::<Ratio>(0.5).map(Ratio::get), Some(0.5));
        assert_eq!(whole::<Ratio>(1).map(Ratio::get), Some(1.0));
        assert_eq!(whole::<Ratio>(50), None);
        assert_eq!(broken::<Ratio>(f64::NAN), None);
        for bad in ["101%", "%", "-5%", "1.5", "inf", "1e-1"] {
            assert_eq!(text::<Ratio>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_factor_is_at_least_one() {
        assert_eq!(whole::<Factor>(2).map(Factor::get), Some(2.0));
        assert_eq!(text::<Factor>("1.5").map(Factor::get), Some(1.5));
        assert_eq!(broken::<Factor>(0.5), None);
        assert_eq!(broken::<Factor>(f64::INFINITY), None);
    }

    #[test]
    fn text_takes_flags_and_whole_numbers_as_they_are_spelt() {
        assert_eq!(text::<Text>("a").unwrap().as_str(), "a");
        assert_eq!(whole::<Text>(12).unwrap().as_str(), "12");
        assert_eq!(flag::<Text>(true).unwrap().as_str(), "true");
        assert_eq!(broken::<Text>(1.1), None);
    }

    #[test]
    fn a_secret_has_no_debug_output() {
        let secret = text::<Secret>("hunter2").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn an_address_is_ip_and_port() {
        assert_eq!(text::<Address>("[::1]:80").unwrap().get().port(), 80);
        for bad in ["localhost:80", "127.0.0.1", ":80", "127.0.0.1:65536"] {
            assert_eq!(text::<Address>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_network_is_a_prefix_or_one_address() {
        assert_eq!(
            text::<Network>("127.1.2.3/8").unwrap().get().to_string(),
            "127.0.0.0/8"
        );
        assert_eq!(text::<Network>("::1").unwrap().get().to_string(), "::1/128");
        assert_eq!(text::<Network>("10.0.0.0/33"), None);
        assert_eq!(text::<Network>("localhost"), None);
    }

    #[test]
    fn a_sign_of_identity_is_one_of_five() {
        let header = Identify::Header("X-Client-ID".to_owned());
        assert_eq!(text::<Identify>("header:X-Client-ID"), Some(header));
        assert_eq!(
            text::<Identify>("path:name"),
            Some(Identify::Path("name".to_owned()))
        );
        assert_eq!(text::<Identify>("ip"), Some(Identify::Ip));
        for bad in ["header:", "header:a b", "path", "cookie", "ip:x"] {
            assert_eq!(text::<Identify>(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_error_says_what_was_expected() {
        let reader: StrDeserializer<'_, Refused> = "3x".into_deserializer();
        let message = Dur::deserialize(reader).unwrap_err().to_string();
        assert!(
            message.ends_with("expected a duration like 250ms, 30s or 5m"),
            "{message}"
        );
    }
}
