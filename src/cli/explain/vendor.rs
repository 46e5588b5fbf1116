//! What is particular to a vendor: its signatures on what it sends, its addresses in what it answers.

use crate::routes::plan::{Listener, RoutePlan};

use super::steps::Step;

/// By whose signature the request must be known.
pub(super) fn verify(route: &RoutePlan) -> Option<Step> {
    let check = route.verify.as_ref()?;
    let again = check.replays.map_or_else(
        || "replays are not looked for".to_owned(),
        |replays| replays.words(),
    );
    let text = format!(
        "{}; 403 bad_signature where it does not fit, 413 above {} KiB of body; {again}",
        check.words(),
        check.largest >> 10
    );
    Some(("verify", text))
}

/// What becomes of the addresses in the answer.
pub(super) fn readdress(route: &RoutePlan, listener: Option<&Listener>) -> Option<Step> {
    route.back.as_ref()?;
    let own = listener.and_then(|listener| listener.public_url.as_ref());
    let own = own.map_or_else(
        || "the one that the client called".to_owned(),
        |url| url.address(false, ""),
    );
    let text = format!(
        "addresses of the vendor in the answer become ours ({own}), where a route leads there"
    );
    Some(("readdress", text))
}
