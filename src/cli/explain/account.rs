//! On whose account a request goes out, and who may have it do so.

use crate::routes::plan::{Authorizes, Plan, RoutePlan};

use super::steps::Step;

/// Who may use the route, where not everybody may.
pub(super) fn callers(route: &RoutePlan) -> Option<Step> {
    let callers = route.callers.as_ref()?;
    let mut asked = Vec::new();
    if callers.holds {
        let host = match callers.names_host {
            true => "a host that the route names",
            false => "an address or localhost as Host",
        };
        asked.extend([host, "no page of another site"]);
    }
    let from = callers.allow_from.as_ref().map(|networks| {
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        format!("an address in {}", networks.join(", "))
    });
    asked.extend(from.as_deref());
    asked.extend(callers.token_file.as_ref().map(|_| "the caller's token"));
    let text = format!("asks for {}; 403 caller_denied otherwise", asked.join(", "));
    Some(("caller", text))
}

/// What is added for the caller, or would be.
pub(super) fn credential(plan: &Plan, route: &RoutePlan) -> Option<Step> {
    let known = |index: usize| plan.credentials.get(index);
    let text = match route.authorizes {
        Authorizes::Caller => return None,
        Authorizes::CallerInstead(index) => {
            let (name, set_by) = (&known(index)?.name, &known(index)?.set_by);
            format!("{name} is not set ({set_by} sets it): what the caller sent goes on")
        }
        Authorizes::Held(index) => {
            let (name, settings) = (&known(index)?.name, known(index)?.settings.as_ref()?);
            let (kind, header) = (settings.kind.name(), &settings.header);
            format!("{name} ({kind}) takes the place of what the caller sent as {header}")
        }
    };
    Some(("credential", text))
}
