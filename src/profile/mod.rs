//! What a vendor means by its answers, as data.
//!
//! A profile says which hosts a vendor's URL template may name, how a status is to be read, and in
//! which dialect the vendor's own SDK expects an error. It never sends anything and holds no state.
//! Called by the route compiler (names), the forwarder (reading) and the refusals (dialect).

mod twilio;

use crate::policy::outcome::Outcome;
use http::StatusCode;

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

    /// How an answer's status is to be counted (the body is still to come).
    pub fn outcome(self, status: StatusCode) -> Outcome {
        match status.as_u16() {
            429 => Outcome::Throttled,
            501 => Outcome::Neutral,
            500..=599 => Outcome::Failure,
            400..=499 => Outcome::Neutral,
            _ => Outcome::Success,
        }
    }
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
