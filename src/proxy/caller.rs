//! Whether a caller may use what we hold: asked before it can spend anything.
//!
//! The decision is [`Callers`]' own; here it becomes a refusal, and the caller's token leaves the
//! request, so that it goes nowhere else. Called once for each exchange, once its route is known.

use crate::clock;
use crate::credential::callers::CALLER_TOKEN;
use crate::credential::{Call, Callers, Denied, Proof};
use crate::proxy::entry::Entry;
use crate::proxy::exchange::Exchange;
use crate::proxy::refusal::{Reason, Refusal};
use http::{HeaderMap, header};
use std::net::IpAddr;

/// Lets the caller pass, or not.
///
/// # Errors
/// `caller_denied`.
pub fn admit(
    exchange: &Exchange,
    entry: &Entry,
    address: IpAddr,
    fields: &mut HeaderMap,
) -> Result<(), Refusal> {
    let Some(callers) = exchange.route().and_then(|route| route.callers.as_ref()) else {
        return Ok(());
    };
    let call = Call {
        host: entry.host(),
        authority: entry.authority(),
        address,
        fields,
    };
    let proof = callers.admit(&call, clock::now());
    fields.remove(&CALLER_TOKEN);
    match proof {
        Ok(Proof::Authorization) => {
            fields.remove(header::AUTHORIZATION);
            Ok(())
        }
        Ok(Proof::None | Proof::Field) => Ok(()),
        Err(denied) => Err(refusal(exchange, callers, denied)),
    }
}

fn refusal(exchange: &Exchange, callers: &Callers, denied: Denied) -> Refusal {
    let plan = exchange.route().and_then(|r| exchange.table.route_plan(r));
    let name = plan.map_or("", |plan| plan.name.as_str());
    let at_stake = match callers.holds {
        true => " goes out on a credential of ours",
        false => " is not for everybody",
    };
    let detail = format!("route {name}{at_stake}: {denied}");
    Refusal::new(Reason::CallerDenied, detail)
}
