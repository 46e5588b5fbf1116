//! The operator's API, as far as it is read: the parts of the state, each alone or all together.

use super::{Admin, json, status};
use crate::clock;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use std::sync::Arc;

/// `GET /api/v1/status`.
pub async fn status(State(admin): State<Arc<Admin>>) -> Response {
    let whole = status::whole(&admin, status::Extent::All);
    json(StatusCode::OK, &whole)
}

/// `GET /api/v1/breakers`.
pub async fn breakers(State(admin): State<Arc<Admin>>) -> Response {
    list(status::breakers(&admin.tables.load()))
}

/// `GET /api/v1/routes`.
pub async fn routes(State(admin): State<Arc<Admin>>) -> Response {
    let table = admin.tables.load();
    list(status::routes(&table, status::Extent::All))
}

/// `GET /api/v1/duplicates`: creates that are refused for now, and why.
pub async fn duplicates(State(admin): State<Arc<Admin>>) -> Response {
    let guard = admin.tables.load().live.guard().clone();
    let held = guard.held_everywhere(clock::now(), clock::wall());
    list(status::duplicates(held.await))
}

fn list(items: Vec<Value>) -> Response {
    json(StatusCode::OK, &Value::Array(items))
}
