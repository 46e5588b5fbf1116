//! What is held for callers, as the API shows it: names and states, and never what it is.

use super::{Admin, json};
use crate::clock;
use crate::credential::Credential;
use crate::routes::plan::CredentialPlan;
use crate::routes::table::Table;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /api/v1/credentials`.
pub async fn credentials(State(admin): State<Arc<Admin>>) -> Response {
    json(StatusCode::OK, &Value::Array(all(&admin.tables.load())))
}

/// Every credential: what can be seen of it, and never what it is.
pub fn all(table: &Table) -> Vec<Value> {
    let describe = |(plan, held): (&CredentialPlan, &Option<Arc<Credential>>)| {
        let Some(held) = held else {
            return json!({"name": plan.name, "state": "not set", "set_by": plan.set_by});
        };
        let shown = held.shown();
        json!({
            "name": plan.name,
            "kind": held.kind,
            "state": shown.phase.label(),
            "expires_at": shown.expires.map(clock::rfc3339),
            "last_refresh": shown.last_refresh.map(clock::rfc3339),
            "last_error": shown.last_error,
        })
    };
    table
        .plan
        .credentials
        .iter()
        .zip(&table.credentials)
        .map(describe)
        .collect()
}
