//! Plain HTTP: what RFC 9110 and RFC 6585 say of any server, and nothing more.
//!
//! A 429 asks for patience, but no standard says that nothing was processed, so a request that might
//! do its work twice is not repeated here after one. It leaves nothing unknown either: whoever asked was
//! told to come again, and may. Which requests create is not known: a route may say.

use crate::profile::Dialect;
use crate::profile::rules::{Case, Created, Creates, Rules, Sign};
use std::sync::Arc;

pub(super) fn rules() -> Rules {
    Rules {
        name: Dialect::Generic.name().to_owned(),
        based_on: None,
        dialect: Dialect::Generic,
        cases: vec![Case::throttled(429, Sign::Status, Created::TurnedAway)],
        id: None,
        code: None,
        request_id: None,
        concurrent: None,
        creates: Creates::default(),
        homes: Vec::new(),
        addresses: Arc::new([]),
        hosts: Vec::new(),
        reads_all: false,
    }
}
