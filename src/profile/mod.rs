//! What a vendor means by its answers, as data.
//!
//! A profile says which hosts a vendor's URL template may name, how an answer is to be read, which
//! requests make something that must not be made twice, and in which dialect the vendor's own SDK
//! expects an error. Ours and the operator's are the same kind of data. It never sends anything and
//! holds no state. Called by the route compiler (names), the forwarder (reading) and the refusals
//! (dialect).

pub mod addresses;
mod generic;
mod glance;
mod google;
mod microsoft;
pub mod paths;
pub mod reading;
pub mod rules;
mod twilio;
mod vapi;
mod words;

pub use self::reading::{BODY_START, Reading};
pub use self::rules::Created;

use self::reading::{Answer, text_of};
use self::rules::Rules;
use crate::policy::outcome::Outcome;
use http::{HeaderMap, Method, StatusCode, header};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// The shape of an error body that an SDK turns into its usual exception; and the profiles that are
/// ours, one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Plain HTTP: RFC 9110 status classes and RFC 9457 problems.
    #[default]
    Generic,
    /// Vapi: its SDKs repeat 408, 409, 429 and every 5xx, creating requests included.
    Vapi,
    /// Twilio: the host names the product; its SDKs want an integer `code`.
    Twilio,
    /// Google APIs: errors below `error`, with a numeric `code`.
    Google,
    /// Microsoft Graph: errors below `error`, with a textual `code`.
    Microsoft,
}

impl Dialect {
    /// Every dialect, in the order shown to people.
    pub const ALL: [Dialect; 5] = [
        Dialect::Vapi,
        Dialect::Twilio,
        Dialect::Google,
        Dialect::Microsoft,
        Dialect::Generic,
    ];

    /// The name used in `proxy.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Generic => "generic",
            Dialect::Vapi => "vapi",
            Dialect::Twilio => "twilio",
            Dialect::Google => "google",
            Dialect::Microsoft => "microsoft",
        }
    }
}

/// Whose conventions an upstream follows: one of ours or the operator's. A clone is the same one.
#[derive(Clone)]
pub struct Profile(Arc<Rules>);

/// Ours, in the order of [`Dialect::ALL`].
static OURS: LazyLock<[Profile; 5]> = LazyLock::new(|| {
    Dialect::ALL.map(|dialect| {
        Profile::new(match dialect {
            Dialect::Generic => generic::rules(),
            Dialect::Vapi => vapi::rules(),
            Dialect::Twilio => twilio::rules(),
            Dialect::Google => google::rules(),
            Dialect::Microsoft => microsoft::rules(),
        })
    })
});

impl From<Dialect> for Profile {
    fn from(dialect: Dialect) -> Self {
        let ours = OURS.iter().find(|profile| profile.dialect() == dialect);
        ours.map_or_else(|| Profile::new(generic::rules()), Profile::clone)
    }
}

impl PartialEq for Profile {
    /// Within one file a name means one profile.
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Profile {}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Profile").field(&self.0.name).finish()
    }
}

impl Profile {
    /// The profile of these rules.
    pub fn new(rules: Rules) -> Self {
        Profile(Arc::new(rules))
    }

    /// The name used in `proxy.yaml`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The shape of our errors.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect
    }

    /// Whether this profile restricts the host or path parameter `name`, so that no `allow` list
    /// is needed for it.
    pub fn restricts(&self, name: &str) -> bool {
        self.0.hosts.iter().any(|(known, _)| known == name)
    }

    /// Whether the parameter may have this value. Parameters that the profile does not restrict
    /// may have any.
    pub fn allows(&self, name: &str, value: &str) -> bool {
        let mut hosts = self.0.hosts.iter();
        let list = hosts.find(|(known, _)| known == name);
        list.is_none_or(|(_, allowed)| allowed.holds(value))
    }

    /// What it knows of its vendor.
    pub fn rules(&self) -> &Rules {
        &self.0
    }

    /// How an answer's status is to be counted, where nothing else of the answer is known.
    pub fn outcome(&self, status: StatusCode) -> Outcome {
        self.0.outcome(status)
    }

    /// Whether the first [`BODY_START`] bytes of the body of such an answer, or all of a shorter
    /// one, are needed to read it. A body that says that it is no JSON is not looked at.
    pub fn wants_body_start(&self, status: StatusCode, fields: &HeaderMap) -> bool {
        self.0.wants_body_start(status) && may_be_json(fields)
    }

    /// Whether an answer to this method may have to be read in its body, so that it must not be
    /// compressed: an encoded body is not looked at.
    pub fn reads_bodies(&self, method: &Method) -> bool {
        self.0.reads_all || self.0.creates.has(method)
    }

    /// What an answer to `method` means. `body_start` is the beginning of its body where it is
    /// known; with it, the answer to a request that makes something also shows the id of what it made.
    pub fn read(
        &self,
        method: &Method,
        status: StatusCode,
        fields: &HeaderMap,
        body_start: Option<&[u8]>,
    ) -> Reading {
        self.0.read(&Answer {
            method,
            status,
            fields,
            body: body_start,
        })
    }

    /// The vendor's own name for the request, such as Twilio's `Twilio-Request-Id`.
    pub fn request_id<'f>(&self, fields: &'f HeaderMap) -> Option<&'f str> {
        text_of(fields, &self.0.request_id.as_ref()?.name)
    }

    /// How many requests the account has under way, by the vendor's count, such as Twilio's
    /// `Twilio-Concurrent-Requests`.
    pub fn concurrent_requests(&self, fields: &HeaderMap) -> Option<u32> {
        let text = text_of(fields, &self.0.concurrent.as_ref()?.name)?;
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    }

    /// Whether a request makes something that must not be made twice. `path` is the path as it is
    /// sent to the upstream, byte for byte and without its query. Where a vendor is known, every
    /// POST does whose path is not exactly one of the harmless ones; a method in odd letters that
    /// some server might take for POST is one.
    pub fn creates(&self, method: &Method, path: &str) -> bool {
        self.0.creates.hold(method, path)
    }
}

/// Whether a body can be JSON, by what its answer says.
fn may_be_json(fields: &HeaderMap) -> bool {
    let media = fields.get(header::CONTENT_TYPE).map(|m| m.as_bytes());
    media.is_none_or(|media| {
        media
            .windows(4)
            .any(|part| part.eq_ignore_ascii_case(b"json"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_of_the_vendor_count_as_failures() {
        let vapi = Profile::from(Dialect::Vapi);
        let read = |code| vapi.outcome(StatusCode::from_u16(code).unwrap_or_default());
        assert_eq!(read(200), Outcome::Success);
        assert_eq!(read(302), Outcome::Success);
        assert_eq!(read(404), Outcome::Neutral);
        assert_eq!(read(429), Outcome::Throttled);
        assert_eq!(read(500), Outcome::Failure);
        assert_eq!(read(501), Outcome::Neutral);
        assert_eq!(read(503), Outcome::Failure);
    }

    #[test]
    fn a_parameter_that_no_profile_restricts_may_have_any_value() {
        let (vapi, twilio) = (Profile::from(Dialect::Vapi), Profile::from(Dialect::Twilio));
        assert!(vapi.allows("product", "anything"));
        assert!(twilio.allows("other", "anything"));
        assert!(!twilio.allows("product", "evil"));
    }
}

#[cfg(test)]
mod answers;
