//! The shape of a profile of the operator's own: what a service means by its answers.
//!
//! Same rules as the rest of the schema: every key may be absent, and whether the keys of one answer
//! agree with each other is decided when the file is compiled.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::scalar::{Raw, Scalar, ScalarVisitor, described, pattern, scalar};
use super::shape::{Named, OneOrMany};
use super::units::Text;

scalar!(ProfileName, Statuses);

/// What a service means by its answers, where it is none of the vendors that are known.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OwnProfile {
    /// The profile that holds for all that is not said here. Default `generic`.
    pub based_on: Option<Dialect>,
    /// The shape of our own answers. Default: that of `based_on`.
    pub dialect: Option<Dialect>,
    /// Answers that do not mean what `based_on` makes of them; the first that fits counts.
    pub answers: Vec<AnswerCase>,
    /// Methods whose requests create something that must not be made twice. Default: as `based_on` says,
    /// which is `[POST]` for a vendor and none for `generic`.
    pub creates: Option<Vec<Text>>,
    /// Requests by these methods that create nothing, each `METHOD /path` as it is sent to the upstream;
    /// `{word}` and `{uuid}` stand for a part of a segment.
    pub harmless: Vec<Text>,
    /// The member of a JSON answer that names what was made, such as `data.id`. Default: as `based_on` says.
    pub id_field: Option<Text>,
    /// The header of an answer that names the request in the service's own log.
    pub request_id_header: Option<Text>,
    /// The values that each parameter of a URL may take.
    pub allow: Named<Vec<Text>>,
}

/// An answer that means something of its own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerCase {
    /// Its status: `503`, `5xx`, `520-526`, or a list of those. Mandatory.
    pub status: Option<OneOrMany<Statuses>>,
    /// The member that its JSON body must have within the first 8 KiB, such as `error.code`.
    pub json_field: Option<Text>,
    /// The header that it must have.
    pub header: Option<Text>,
    /// What that member or header must be, one of these. Default: anything.
    pub equals: Option<OneOrMany<Text>>,
    /// What that member or header must say, in upper or lower case. Default: anything.
    pub contains: Option<Text>,
    /// How it counts. Default: as its status does.
    pub outcome: Option<AnswerOutcome>,
    /// Whether the request was processed. Default: `done` after a success, `never` after a 4xx that
    /// stays neutral, else `unknown`; a throttled 4xx is not repeated, and guarded for nothing.
    pub processed: Option<Processed>,
    /// The name under which it is counted and logged. Default: none.
    pub note: Option<Text>,
}

/// One of the profiles that are known without being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum Dialect {
    Vapi,
    Twilio,
    Google,
    Microsoft,
    Generic,
}

/// How an answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnswerOutcome {
    /// The service did what was asked.
    Success,
    /// The service failed: it counts for the breaker.
    Failure,
    /// The service asks for patience.
    Throttled,
    /// The fault is the request's.
    Neutral,
}

/// Whether a request was processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Processed {
    /// Certainly not: it may be sent again.
    Never,
    /// Yes.
    Done,
    /// Nobody can say.
    Unknown,
}

/// The name of a profile, known or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileName(String);

impl ProfileName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for ProfileName {
    fn expected() -> Cow<'static, str> {
        "the name of a profile, such as vapi, twilio, google, microsoft, generic or one of `profiles`"
            .into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw {
            Raw::Text(name) => Some(ProfileName(name.trim().to_owned())),
            Raw::Flag(_) | Raw::Whole(_) | Raw::Broken(_) => None,
        }
    }

    fn forms() -> Vec<Value> {
        let known = ["vapi", "twilio", "google", "microsoft", "generic"];
        vec![
            json!({ "type": "string", "enum": known }),
            pattern("^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"),
        ]
    }
}

/// The first and last of a range of status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses(u16, u16);

impl Statuses {
    /// The first and the last.
    #[must_use]
    pub fn get(self) -> (u16, u16) {
        (self.0, self.1)
    }
}

impl Scalar for Statuses {
    fn expected() -> Cow<'static, str> {
        "a status from 200 to 599 like 503, a class like 5xx or a range like 520-526".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let (first, last) = match raw {
            Raw::Whole(code) => {
                let code = u16::try_from(code).ok()?;
                (code, code)
            }
            Raw::Text(text) => statuses(text.trim())?,
            Raw::Flag(_) | Raw::Broken(_) => return None,
        };
        (200 <= first && first <= last && last <= 599).then_some(Statuses(first, last))
    }

    fn forms() -> Vec<Value> {
        vec![
            json!({ "type": "integer", "minimum": 200, "maximum": 599 }),
            pattern("^[2-5]([0-9][0-9]|[xX][xX])(-[2-5][0-9][0-9])?$"),
        ]
    }
}

fn statuses(text: &str) -> Option<(u16, u16)> {
    let code = |digits: &str| {
        let plain = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|_| plain)
    };
    if let Some((first, last)) = text.split_once('-') {
        return Some((code(first.trim())?, code(last.trim())?));
    }
    match text.strip_suffix("xx").or(text.strip_suffix("XX")) {
        Some(class) => {
            let class = class.parse::<u16>().ok().filter(|c| *c < 10)?;
            Some((class * 100, class * 100 + 99))
        }
        None => code(text).map(|code| (code, code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_classes_or_ranges() {
        let read = |text| Statuses::read(Raw::Text(text)).map(Statuses::get);
        assert_eq!(read("503"), Some((503, 503)));
        assert_eq!(read("5xx"), Some((500, 599)));
        assert_eq!(read("4XX"), Some((400, 499)));
        assert_eq!(read("520-526"), Some((520, 526)));
        assert_eq!(read(" 520 - 526 "), Some((520, 526)));
        for bad in [
            "", "xx", "6xx", "1xx", "55xx", "199", "600", "526-520", "5", "+503", "5xx-599", "a-b",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let whole = |code| Statuses::read(Raw::Whole(code)).map(Statuses::get);
        assert_eq!(whole(429), Some((429, 429)));
        assert_eq!((whole(42), whole(70_000)), (None, None));
    }
}
