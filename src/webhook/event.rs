//! What tells one event of a vendor from every other, so that it is known when it comes again.
//!
//! Only what the vendor's mark covers makes an event what it is; whoever holds a copy of a request can
//! change the rest. Where vendors say which delivery is a retry of theirs, that decides whether the same
//! event may come again. Decides nothing about what is then answered; called by the proxy for requests
//! whose mark fits.

use crate::clock::Duration;

/// For how long, and how closely, a route knows an event again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replays {
    /// Counted from the answer.
    pub window: Duration,
    /// What makes an event of Twilio's what it is.
    pub by: By,
}

/// What makes an event of Twilio's what it is: one call asks the same address with the same parameters
/// again and again where a menu or a wait loops, and only the token, which is not signed, tells those apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// The signature and the token together.
    #[default]
    Token,
    /// The signature alone: with another token, the same is a replay.
    Signature,
}

impl Replays {
    /// What is done about events that come again, for people.
    pub fn words(&self) -> String {
        let as_well = match self.by {
            By::Token => "",
            By::Signature => ", under another token too",
        };
        format!(
            "an event that comes again within {:?}{as_well} reaches the application once: the vendor's retry gets the \
             recorded 2xx, a replay 403 replayed",
            self.window
        )
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// What makes it this event and no other.
    pub parts: [&'a [u8]; 2],
    /// What its sender calls the delivery; under another name it is a replay.
    pub delivery: &'a [u8],
    /// What makes it the same event where the delivery is left out, if that is then another key: who tells it so after
    /// it was answered does not tell it for the first time.
    pub unnamed: Option<[&'a [u8]; 2]>,
    /// Whether its vendor may be telling it again, as far as this request shows.
    pub may_be_retry: bool,
}
