//! The operator's listener: what is going on, and the few things that may be changed.
//!
//! Reads are open to whoever reaches the address; writes take a token, or on loopback a request
//! that no foreign web page can make. Nothing here is on a request's path.

pub mod api;
pub mod guard;
pub mod held;
pub mod kept;
pub mod page;
pub mod pulse;
pub mod status;
pub mod store;
pub mod stream;
pub mod viewers;
pub mod writes;

use crate::admin::pulse::Pulse;
use crate::admin::viewers::Viewers;
use crate::proxy::{Phase, Stopping};
use crate::reload::Reloader;
use crate::routes::table::Table;
use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at once to the operator's listener.
const CONNECTIONS: usize = 256;
/// How long a head may take there, and after it a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the operator's listener looks at.
pub struct Admin {
    /// The running table.
    pub tables: Arc<ArcSwap<Table>>,
    /// Replaces it.
    pub reloader: Arc<Reloader>,
    /// How far a stop has come.
    pub stopping: Arc<Stopping>,
    /// Where the listener was bound.
    pub address: SocketAddr,
    /// When the process started.
    pub started: std::time::SystemTime,
    /// The last minutes of every upstream.
    pub pulse: Pulse,
    /// Who watches the page.
    pub viewers: Viewers,
}

/// Who sent a request to the operator's listener.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Everything, behind its guards.
pub fn router(admin: Arc<Admin>) -> Router {
    let guarded = Router::new()
        .route("/", get(page::show))
        .route("/page/changes", get(stream::page))
        .route("/page/style.css", get(page::style))
        .route("/page/script.js", get(page::script))
        .route("/favicon.svg", get(page::icon))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/breakers", get(api::breakers))
        .route("/api/v1/routes", get(api::routes))
        .route("/api/v1/credentials", get(held::credentials))
        .route("/api/v1/events", get(stream::events))
        .route("/api/v1/breakers/{name}", put(writes::force))
        .route("/api/v1/cache/{route}", delete(kept::purge))
        .route("/api/v1/duplicates", get(api::duplicates))
        .route("/api/v1/duplicates/{id}", delete(writes::lift))
        .route("/-/reload", post(writes::reload))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&admin),
            guard::check,
        ));
    scraped(Arc::clone(&admin)).merge(guarded.with_state(admin))
}

/// What Prometheus and the kubelet ask for, by address.
pub fn scraped(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(admin)
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let table = admin.tables.load_full();
    table.publish();
    let page = table
        .live
        .metrics
        .render(&|label, value| table.has_lost(label, value));
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        page,
    )
        .into_response()
}

/// Ready until a stop begins. An open circuit does not count: a sidecar that is not ready would
/// take its application out of service with it.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.stopping.phase() {
        Phase::Serving => "ready\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
    }
}

/// Serves `router` until the process ends.
pub async fn serve(socket: std::net::TcpListener, router: Router) -> std::io::Result<()> {
    let socket = TcpListener::from_std(socket)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return Ok(());
        };
        let Ok((tcp, peer)) = socket.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let router = TowerToHyperService::new(router.clone());
        let service = hyper::service::service_fn(move |mut request: hyper::Request<_>| {
            request.extensions_mut().insert(Peer(peer));
            hyper::service::Service::call(&router, request)
        });
        tokio::spawn(async move {
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(tcp), service)
                .await
                .ok();
            drop(permit);
        });
    }
}

/// A JSON answer.
fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut text = value.to_string();
    text.push('\n');
    let fields = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, fields, Body::from(text)).into_response()
}

/// A refusal of the operator's listener: a problem document (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = serde_json::json!({"title": title, "status": status.as_u16(), "detail": detail});
    let mut answer = json(status, &body);
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/problem+json"),
    );
    answer
}
