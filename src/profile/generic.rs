//! Plain HTTP: what RFC 9110 and RFC 6585 say of any server, and nothing more.
//!
//! A 429 asks for patience, but no standard says that nothing was processed, so a request that might
//! do its work twice is not repeated after one. Which POSTs create is not known: a route may say.

use crate::profile::rules::{Created, Posts, Rules, Sign, Throttle};

pub(super) const RULES: Rules = Rules {
    throttles: &[Throttle {
        status: 429,
        sign: Sign::Status,
        created: Created::Unknown,
    }],
    id: None,
    code: None,
    request_id: None,
    concurrent: None,
    posts: Posts::Unknown,
};
