//! What a vendor means by its answers, as data.
//!
//! A profile says which hosts a vendor's URL template may name, how an answer is to be read, which
//! requests make something that must not be made twice, and in which dialect the vendor's own SDK
//! expects an error. It never sends anything and holds no state. Called by the route compiler
//! (names), the forwarder (reading) and the refusals (dialect).

mod generic;
mod glance;
mod google;
mod microsoft;
pub mod paths;
pub mod reading;
pub mod rules;
mod twilio;
mod vapi;

pub use self::reading::{BODY_START, Reading};
pub use self::rules::Created;

use self::reading::{Answer, text_of};
use self::rules::{Posts, Rules};
use crate::policy::outcome::Outcome;
use http::{HeaderMap, Method, StatusCode};

/// Whose conventions an upstream follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
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

/// The shape of an error body that an SDK turns into its usual exception.
pub type Dialect = Profile;

impl Profile {
    /// Every profile, in the order shown to people.
    pub const ALL: [Profile; 5] = [
        Profile::Vapi,
        Profile::Twilio,
        Profile::Google,
        Profile::Microsoft,
        Profile::Generic,
    ];

    /// The name used in `proxy.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Generic => "generic",
            Profile::Vapi => "vapi",
            Profile::Twilio => "twilio",
            Profile::Google => "google",
            Profile::Microsoft => "microsoft",
        }
    }

    /// The profile of that name.
    pub fn parse(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|p| p.name() == name)
    }

    /// Whether this profile restricts the host or path parameter `name`, so that no `allow` list
    /// is needed for it.
    pub fn restricts(self, name: &str) -> bool {
        self == Profile::Twilio && name == "product"
    }

    /// Whether the parameter may have this value. Parameters that the profile does not restrict
    /// may have any.
    pub fn allows(self, name: &str, value: &str) -> bool {
        !self.restricts(name) || twilio::is_product_label(value)
    }

    /// What it knows of its vendor.
    pub fn rules(self) -> &'static Rules {
        match self {
            Profile::Generic => &generic::RULES,
            Profile::Vapi => &vapi::RULES,
            Profile::Twilio => &twilio::RULES,
            Profile::Google => &google::RULES,
            Profile::Microsoft => &microsoft::RULES,
        }
    }

    /// How an answer's status is to be counted, where nothing else of the answer is known.
    pub fn outcome(self, status: StatusCode) -> Outcome {
        self.rules().outcome(status)
    }

    /// Whether the first [`BODY_START`] bytes of the body of such an answer, or all of a shorter
    /// one, are needed to read it.
    pub fn wants_body_start(self, status: StatusCode) -> bool {
        self.rules().wants_body_start(status)
    }

    /// Whether an answer to this method may have to be read in its body, so that it must not be
    /// compressed: an encoded body is not looked at.
    pub fn reads_bodies(self, method: &Method) -> bool {
        let posts = matches!(self.rules().posts, Posts::CreateUnless(_));
        posts && is_post(method)
    }

    /// What an answer to `method` means. `body_start` is the beginning of its body where it is
    /// known; with it, a POST's answer also shows the id of what it made.
    pub fn read(
        self,
        method: &Method,
        status: StatusCode,
        fields: &HeaderMap,
        body_start: Option<&[u8]>,
    ) -> Reading {
        self.rules().read(&Answer {
            method,
            status,
            fields,
            body: body_start,
        })
    }

    /// The vendor's own name for the request, such as Twilio's `Twilio-Request-Id`.
    pub fn request_id(self, fields: &HeaderMap) -> Option<&str> {
        text_of(fields, self.rules().request_id?.name)
    }

    /// How many requests the account has under way, by the vendor's count, such as Twilio's
    /// `Twilio-Concurrent-Requests`.
    pub fn concurrent_requests(self, fields: &HeaderMap) -> Option<u32> {
        let text = text_of(fields, self.rules().concurrent?.name)?;
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    }

    /// Whether a request makes something that must not be made twice. `path` is the path as it is
    /// sent to the upstream, byte for byte and without its query. Where a vendor is known, every
    /// POST does whose path is not exactly one of the harmless ones; a method in odd letters that
    /// some server might take for POST is one.
    pub fn creates(self, method: &Method, path: &str) -> bool {
        match self.rules().posts {
            Posts::Unknown => false,
            Posts::CreateUnless(harmless) => {
                is_post(method) && !harmless.iter().any(|shape| paths::fits(shape, path))
            }
        }
    }
}

fn is_post(method: &Method) -> bool {
    method.as_str().eq_ignore_ascii_case("POST")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_of_the_vendor_count_as_failures() {
        let read = |code| Profile::Vapi.outcome(StatusCode::from_u16(code).unwrap_or_default());
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
        assert!(Profile::Vapi.allows("product", "anything"));
        assert!(Profile::Twilio.allows("other", "anything"));
        assert!(!Profile::Twilio.allows("product", "evil"));
    }
}

#[cfg(test)]
mod answers;
