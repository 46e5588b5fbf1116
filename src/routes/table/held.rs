//! What is held for callers, installed: credentials by name, and who may use them.

use super::Table;
use crate::credential::{Callers, Credential, Source, Watched};
use crate::live::Live;
use crate::routes::plan::{CallersPlan, CredentialPlan, Plan, RoutePlan, Rung};
use std::sync::Arc;

/// The credentials that are set, under the plan's indexes. Tokens are asked for where a route may need
/// one that does not only have a stub answer.
pub(super) fn install(plan: &Plan, live: &Live) -> Vec<Option<Arc<Credential>>> {
    let needed = |index: usize| {
        let stubbed = |route: &RoutePlan| plan.stubs_enabled && route.stub.is_some();
        let by_route = |route: &RoutePlan| {
            let rungs = route.fallback.iter().filter_map(|rung| match rung {
                Rung::Upstream { index, .. } => plan.upstreams.get(*index),
                Rung::Stub(_) | Rung::Stale => None,
            });
            let mut uses = std::iter::once(route.authorizes).chain(rungs.map(|u| u.authorizes));
            !stubbed(route) && uses.any(|authorizes| authorizes.held() == Some(index))
        };
        plan.routes.iter().any(by_route)
    };
    let install = |(index, credential): (usize, &CredentialPlan)| {
        let settings = credential.settings.as_ref()?;
        let installed = live
            .credentials
            .get(&credential.name, settings, needed(index));
        Some(Arc::new(installed))
    };
    let names: Vec<&str> = plan.credentials.iter().map(|c| c.name.as_str()).collect();
    live.credentials.retain(&names);
    plan.credentials.iter().enumerate().map(install).collect()
}

/// Who may use a route.
pub(super) fn callers(plan: &CallersPlan) -> Callers {
    let token = plan.token_file.clone();
    Callers {
        allow_from: plan.allow_from.clone(),
        token: token.map(|file| Watched::line(Source::File(file))),
        holds: plan.holds,
        names_host: plan.names_host,
    }
}

/// Brings the gauges of every credential up to date.
pub(super) fn publish(table: &Table) {
    for credential in table.credentials.iter().flatten() {
        let shown = credential.shown();
        table.live.credentials.publish(&credential.name, &shown);
    }
}
