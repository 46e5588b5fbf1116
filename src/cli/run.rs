//! `run`: from a file to a serving process, and to a clean end.
//!
//! Everything that can be wrong is found before the first socket is bound. One thread with a
//! runtime of its own does what is not a request: signals, the operator's listener, upkeep.

use super::memory;
use super::say;
use crate::admin::pulse::Pulse;
use crate::admin::viewers::{self, Viewers};
use crate::admin::{self, Admin};
use crate::cli::notify;
use crate::clock::{self, Duration};
use crate::credential::News;
use crate::credential::keeper::{Change, keep};
use crate::herald::Carrier;
use crate::live::Live;
use crate::proxy::{Stopping, Worker};
use crate::reload::Reloader;
use crate::routes::compile;
use crate::routes::plan::{Plan, Process};
use crate::routes::table::Table;
use crate::server::{Bound, Server, listen};
use crate::telemetry::access::AccessLog;
use crate::telemetry::logging;
use crate::telemetry::traces::{self, Traces, export::Exporter};
use crate::upstream::resolve::Resolver;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long the last spans and notifications have to be delivered, whatever is left of the grace: enough for a
/// collector that is there, and not much for one that is not.
const LEAST_FLUSH: Duration = Duration::from_secs(1);
const LONGEST_FLUSH: Duration = Duration::from_secs(5);

/// Serves until told to stop. The exit code: 0 after a drain, 1 failed, 2 the file is wrong.
pub fn run(config: &Path) -> u8 {
    let started = clock::wall();
    let plan = match compile::load(config, &|name| std::env::var_os(name)) {
        Ok(plan) => plan,
        Err(problems) => {
            say::aside(&problems);
            return 2;
        }
    };
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    match serve(config, plan, started, std::future::pending()) {
        Ok(()) => 0,
        Err(e) => {
            tracing::error!("{e:#}");
            say::aside(format_args!("trunkline: {e:#}"));
            1
        }
    }
}

/// The parts of a running process.
struct Running {
    server: Server,
    workers: Vec<Arc<Worker>>,
    tables: Arc<ArcSwap<Table>>,
    live: Arc<Live>,
    reloader: Arc<Reloader>,
    log: Arc<AccessLog>,
    exporter: Option<Exporter>,
    carrier: Carrier,
}

/// Serves until a signal comes or what runs `beside` it has ended; then drains.
///
/// # Errors
/// Why it could not start, or why the drain was cut short.
pub(super) fn serve(
    config: &Path,
    plan: Plan,
    started: clock::SystemTime,
    beside: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let count = worker_count(&plan.process);
    let process = plan.process.clone();
    let bound = bind(&process, count)?;
    let admin_socket = bind_one(process.admin.address, "admin")?;
    let metrics_socket = process
        .metrics
        .map(|a| bind_one(a, "metrics"))
        .transpose()?;
    announce(&plan, &bound, &admin_socket, count);
    memory::announce(&plan);
    let live = start_live(&process)?;
    let table = Table::install(plan, &live, count)?;
    let tables = Arc::new(ArcSwap::from_pointee(table));
    let stopping = Arc::new(Stopping::default());
    let log = start_logs().context("cannot start the logs")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (traces, exporter) = runtime.block_on(start_traces(&process, &live))?;
    let workers = workers(count, &tables, (&log, traces), &stopping);
    let server = Server::start(workers.clone(), bound, Arc::clone(&stopping))
        .context("cannot start the workers")?;
    make_tls_ready(&tables).context("cannot start a thread")?;
    let (told, lived) = (Arc::clone(&tables), Arc::clone(&live));
    let reloader = Arc::new(Reloader::new(config.to_owned(), told, lived, count));
    let admin = Arc::new(Admin {
        tables: Arc::clone(&tables),
        reloader: Arc::clone(&reloader),
        stopping,
        address: admin_socket.local_addr()?,
        started,
        pulse: Pulse::default(),
        viewers: Viewers::default(),
    });
    let carrier = runtime.block_on(async { Carrier::start(&live.herald) });
    let running = Running {
        server,
        workers,
        tables,
        live,
        reloader,
        log,
        exporter,
        carrier,
    };
    runtime.block_on(async {
        if let Some(socket) = metrics_socket {
            tokio::spawn(admin::serve(socket, admin::scraped(Arc::clone(&admin))));
        }
        tokio::spawn(viewers::follow(Arc::clone(&admin)));
        tokio::spawn(admin::serve(admin_socket, admin::router(admin)));
        running.with_tokens(beside).await
    })
}

/// Reads what TLS to the upstreams needs while the workers answer already. Nothing waits for that thread but a
/// request that needs the same.
fn make_tls_ready(tables: &Arc<ArcSwap<Table>>) -> std::io::Result<()> {
    let tables = Arc::clone(tables);
    let thread = std::thread::Builder::new().name("trust".to_owned());
    thread.spawn(move || tables.load().plan.make_tls_ready())?;
    Ok(())
}

/// Keeps the tokens fresh that are held for callers, and tells everyone what changes.
async fn keep_tokens(live: Arc<Live>, stop: CancellationToken) {
    let tell = |change: Change| {
        let name = change.name.as_str();
        let what = match change.news {
            News::Recovered => {
                tracing::info!(credential = name, "credential: there is a token again");
                "there is a token again".to_owned()
            }
            News::Failed(why) => {
                tracing::warn!(credential = name, error = why, "credential: no new token");
                format!("no new token: {why}")
            }
            News::Died(why) => {
                tracing::error!(credential = name, error = why, "credential: dead");
                format!("dead until it is renewed: {why}")
            }
        };
        let facts = serde_json::Value::Null;
        live.events.announce("credential", name, what, facts);
    };
    let resolver = Arc::new(Resolver::default());
    keep(&live.credentials, resolver, stop, tell).await;
}

/// Nobody waits for whoever reads the logs, from now on.
fn start_logs() -> std::io::Result<Arc<AccessLog>> {
    logging::never_wait()?;
    AccessLog::start()
}

/// The state that outlives every reload, with its metrics at their start.
fn start_live(process: &Process) -> anyhow::Result<Arc<Live>> {
    let live = Arc::new(Live::default());
    if let Some(file) = &process.state_file {
        live.guard_in(file)
            .with_context(|| format!("cannot use the state_file {}", file.display()))?;
    }
    if let Some(store) = &process.store {
        live.share(store)
            .with_context(|| format!("cannot share through the store at {}", store.address()))?;
    }
    live.metrics
        .gauge(
            "trunkline_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
        )
        .set(1.0);
    live.metrics
        .counter("trunkline_access_log_dropped_total", &[])
        .increment(0);
    Ok(live)
}

/// The task that delivers traces, if any are to be, and where spans are handed to it.
async fn start_traces(
    process: &Process,
    live: &Live,
) -> anyhow::Result<(Option<Arc<Traces>>, Option<Exporter>)> {
    traces::describe(&live.metrics);
    let Some(settings) = &process.traces else {
        return Ok((None, None));
    };
    let started = Exporter::start(settings, &live.metrics).map_err(anyhow::Error::msg);
    let (traces, exporter) = started.context("cannot send traces")?;
    tracing::info!(collector = settings.url(), "traces are sent");
    Ok((Some(traces), Some(exporter)))
}

fn worker_count(process: &Process) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    process.threads.unwrap_or_else(cores)
}

fn bind(process: &Process, workers: usize) -> anyhow::Result<Vec<Bound>> {
    let bind = |listener| {
        Bound::new(listener, workers)
            .with_context(|| cannot_listen(&listener.name, listener.address))
    };
    process.listeners.iter().map(bind).collect()
}

fn bind_one(address: std::net::SocketAddr, name: &str) -> anyhow::Result<std::net::TcpListener> {
    listen::bind_one(address).with_context(|| cannot_listen(name, address))
}

fn cannot_listen(name: &str, address: std::net::SocketAddr) -> String {
    format!("cannot listen on {address} ({name}); is another process there?")
}

fn workers(
    count: usize,
    tables: &Arc<ArcSwap<Table>>,
    (log, traces): (&Arc<AccessLog>, Option<Arc<Traces>>),
    stopping: &Arc<Stopping>,
) -> Vec<Arc<Worker>> {
    let resolver = Arc::new(Resolver::default());
    let worker = |id| {
        Arc::new(Worker {
            id,
            tables: Arc::clone(tables),
            log: log.appender(),
            traces: traces.clone(),
            resolver: Arc::clone(&resolver),
            stopping: Arc::clone(stopping),
            arrivals: AtomicU64::new(0),
        })
    };
    (0..count).map(worker).collect()
}

/// One line that says what was started.
fn announce(plan: &Plan, bound: &[Bound], admin: &std::net::TcpListener, workers: usize) {
    let listeners: Vec<String> = bound.iter().map(|b| b.address().to_string()).collect();
    let admin = admin
        .local_addr()
        .map(|a| a.to_string())
        .unwrap_or_default();
    tracing::info!(
        listen = listeners.join(","),
        admin,
        workers,
        environment = plan.environment,
        stubs = plan.stubs_enabled,
        routes = plan.routes.len(),
        upstreams = plan.upstreams.len(),
        config = plan.file,
        "trunkline {}",
        env!("CARGO_PKG_VERSION")
    );
}

impl Running {
    /// Whether any attempt at an upstream is under way.
    fn has_attempts(&self) -> bool {
        let table = self.tables.load();
        table
            .upstreams
            .iter()
            .any(|u| u.in_flight.load(Relaxed) > 0)
    }

    /// Loads the file again; what came of it is told elsewhere.
    async fn load_again(&self) {
        notify::reloading();
        let reloader = Arc::clone(&self.reloader);
        tokio::task::spawn_blocking(move || reloader.reload().is_ok())
            .await
            .ok();
        notify::ready();
    }

    /// Runs to the end, with the tokens kept fresh until the last request has gone.
    async fn with_tokens(self, beside: impl Future<Output = ()>) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(keep_tokens(Arc::clone(&self.live), stop.clone()));
        let ended = self.until_told(beside).await;
        stop.cancel();
        keeper.await.ok();
        ended
    }

    /// Reloads, ticks and keeps up until a signal asks for the end, or `beside` ends; then drains.
    async fn until_told(mut self, beside: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        let mut ticks = 0u32;
        let mut beside = std::pin::pin!(beside);
        notify::ready();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = &mut beside => break,
                _ = hang_up.recv() => self.load_again().await,
                _ = tick.tick() => {
                    self.live.tick();
                    if ticks.is_multiple_of(2) && self.reloader.has_changed() {
                        self.load_again().await;
                    }
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(4) {
                        self.live.metrics.upkeep();
                        let dropped = self.live.metrics.counter("trunkline_access_log_dropped_total", &[]);
                        dropped.absolute(self.log.dropped());
                    }
                }
            }
        }
        tracing::info!("draining");
        notify::stopping();
        let drain = self.tables.load().plan.process.drain;
        let end = clock::now() + drain.grace;
        let arrivals = || self.workers.iter().map(|w| w.arrivals.load(Relaxed)).sum();
        let ended = tokio::select! {
            () = self.server.drain(drain, arrivals, || self.has_attempts()) => true,
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
        };
        self.live.flush().await;
        self.log.flush_within(LEAST_FLUSH);
        if !ended {
            anyhow::bail!(
                "stopped at once by a second signal, {} connections cut",
                self.server.connections()
            );
        }
        let left = end.saturating_duration_since(clock::now());
        let left = left.clamp(LEAST_FLUSH, LONGEST_FLUSH);
        let traces = async {
            if let Some(exporter) = self.exporter.take() {
                exporter.finish(left).await;
            }
        };
        tokio::join!(traces, self.carrier.finish(left));
        tracing::info!("drained");
        self.log.flush_within(LEAST_FLUSH);
        Ok(())
    }
}
