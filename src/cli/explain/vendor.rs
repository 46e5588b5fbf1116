//! What is particular to a vendor: its signatures on what it sends, its addresses in what it answers.

use crate::routes::plan::RoutePlan;

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
pub(super) fn readdress(route: &RoutePlan) -> Option<Step> {
    route.back.as_ref()?;
    let text = "addresses of the vendor in the answer become ours, where a route leads there";
    Some(("readdress", text.to_owned()))
}
