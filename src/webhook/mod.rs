//! Who really called: whether a webhook carries the mark of the vendor that it claims to come from.
//!
//! A mark is checked over the request as it was received, byte for byte, and the address under which
//! the vendor knows the application. What is compared is compared in constant time, and neither a
//! secret nor a mark ever reaches a log or an answer. Hashing takes about a millisecond for the largest
//! body that is held by default (1 MiB), so it is done where it is needed and not handed to another
//! thread. Knows nothing of routes; called by the proxy once a request has passed its limits.

mod event;
mod form;
mod public_url;
mod secret;
pub mod twilio;
pub mod vapi;

pub use event::{By, Event, Replays};
pub use public_url::{PublicUrl, scheme};
pub use secret::{Hash, Secret, Secrets, Unusable, Written};
pub use twilio::Twilio;
pub use vapi::Vapi;

use crate::clock::{Duration, Instant, SystemTime};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Twilio waits 15 s for an answer; what comes later is lost, so ours comes before.
const TWILIO_WAITS: Duration = Duration::from_secs(15);
/// And Vapi 20 s, unless it was told otherwise,
const VAPI_WAITS: Duration = Duration::from_secs(20);
/// but 7.5 s where a caller waits for its assistant.
const ASSISTANT_TIME: Duration = Duration::from_secs(7);

/// By whose mark a route's requests are known, and how much of a body is held to find it.
pub struct Check {
    /// The vendor, and what it signs with.
    pub vendor: Vendor,
    /// The largest body, in bytes.
    pub largest: u64,
    /// How an event is known that comes again, if that is asked for.
    pub replays: Option<Replays>,
}

/// Who signs.
pub enum Vendor {
    /// Twilio.
    Twilio(Twilio),
    /// Vapi.
    Vapi(Vapi),
}

/// A request as its sender knows it.
pub struct Call<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Path and query as received.
    pub target: &'a str,
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// Whether it opens a WebSocket.
    pub websocket: bool,
    /// The whole body.
    pub body: &'a [u8],
}

/// What a request of a vendor's tells of.
pub struct Told<'a> {
    /// How long the answer is of use, where that is less than for others.
    pub time: Option<Duration>,
    /// The event, where it is asked for; none if it is one that may well come again.
    pub event: Option<Event<'a>>,
}

/// Why a request is not believed; ends the sentence "the request is refused: ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied(pub &'static str);

impl Check {
    /// Whether the head has what it must have; nothing of a body is worth reading otherwise.
    ///
    /// # Errors
    /// It lacks a mark, or has two.
    pub fn glance(&self, fields: &HeaderMap) -> Result<(), Denied> {
        match &self.vendor {
            Vendor::Twilio(twilio) => twilio.glance(fields),
            Vendor::Vapi(vapi) => vapi.glance(fields),
        }
    }

    /// Whether the vendor sent this.
    ///
    /// # Errors
    /// It did not, or somebody changed it on its way.
    pub fn verify(&self, call: &Call<'_>, now: (Instant, SystemTime)) -> Result<(), Denied> {
        match &self.vendor {
            Vendor::Twilio(twilio) => twilio.verify(call, now.0),
            Vendor::Vapi(vapi) => vapi.verify(call, now),
        }
    }

    /// What a request tells of whose mark fits.
    pub fn told<'a>(&self, call: &Call<'a>) -> Told<'a> {
        match &self.vendor {
            Vendor::Twilio(_) => Told {
                time: None,
                event: self
                    .replays
                    .and_then(|replays| twilio::event(call, replays.by)),
            },
            Vendor::Vapi(vapi) => vapi.told(call, self.replays.is_some()),
        }
    }

    /// How long the vendor waits for an answer.
    pub fn vendor_waits(&self) -> Duration {
        match &self.vendor {
            Vendor::Twilio(_) => TWILIO_WAITS,
            Vendor::Vapi(_) => VAPI_WAITS,
        }
    }

    /// What is checked, for people.
    pub fn words(&self) -> String {
        match &self.vendor {
            Vendor::Twilio(twilio) => format!(
                "X-Twilio-Signature over {} and its parameters, or the hash of its body",
                twilio.url.of("<target as sent>")
            ),
            Vendor::Vapi(vapi) => vapi.words(),
        }
    }
}

/// The value of a field that stands in the request once.
fn single<'f>(fields: &'f HeaderMap, name: &HeaderName) -> Option<&'f [u8]> {
    let mut all = fields.get_all(name).iter().map(HeaderValue::as_bytes);
    let (only, another) = (all.next()?, all.next());
    another.is_none().then_some(only)
}

/// Whether two marks are the same, in a time that depends on their lengths alone.
fn is_equal(ours: &[u8], theirs: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(ours, theirs).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
