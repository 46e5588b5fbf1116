//! Sockets and threads: workers that listen, and a stop that loses nothing.
//!
//! Each worker is a thread with a runtime of its own: a connection, its exchanges and their
//! upstream connections never leave it. Knows how requests arrive and nothing of what is done with
//! them.

pub mod accept;
pub mod answer;
pub mod chunks;
pub mod connection;
pub mod frames;
pub mod gather;
pub mod io;
pub mod listen;
pub mod proxy_protocol;
pub mod tls;
pub mod watch;

use crate::clock::{self, Duration};
use crate::proxy::{Phase, Stopping, Worker};
use crate::routes::plan::{Drain, Listener};
use crate::server::accept::Acceptor;
use crate::server::connection::Place;
use crate::server::tls::Keeper;
use crate::server::watch::{Order, Sweeper};
use std::io as stdio;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio_util::sync::CancellationToken;

/// Upstream connections that lay idle for longer are closed.
const UPSTREAM_IDLE: Duration = Duration::from_secs(20);

/// How long connections that are cut have to write their access lines.
const LAST_LINES: Duration = Duration::from_millis(250);

/// So many tasks are polled before a busy worker looks at its sockets again: every ready exchange has had its turns
/// by then, and the answers that came meanwhile are found with one look.
const POLLS: u32 = 256;

/// A listener with its sockets, one a worker.
pub struct Bound {
    listener: Arc<Listener>,
    sockets: Vec<TcpListener>,
    open: Arc<AtomicUsize>,
    tls: Option<Arc<Keeper>>,
}

impl Bound {
    /// Binds a listener for so many workers.
    ///
    /// # Errors
    /// The address is taken, or not ours; or the certificate has changed and cannot be used.
    pub fn new(listener: &Listener, workers: usize) -> stdio::Result<Bound> {
        let sockets = listen::bind(listener.address, workers)?;
        let tls = listener
            .tls
            .as_ref()
            .map(Keeper::new)
            .transpose()?
            .map(Arc::new);
        let mut listener = listener.clone();
        if let Some(socket) = sockets.first() {
            listener.address = socket.local_addr()?;
        }
        Ok(Bound {
            listener: Arc::new(listener),
            sockets,
            open: Arc::default(),
            tls,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }
}

/// The running workers.
pub struct Server {
    sweepers: Vec<Arc<Sweeper>>,
    open: Vec<Arc<AtomicUsize>>,
    until: CancellationToken,
    stopping: Arc<Stopping>,
}

impl Server {
    /// Starts a thread for each worker, all listening on every one of `bound`.
    ///
    /// # Errors
    /// A thread or its runtime could not be started.
    pub fn start(
        workers: Vec<Arc<Worker>>,
        mut bound: Vec<Bound>,
        stopping: Arc<Stopping>,
    ) -> stdio::Result<Server> {
        let until = CancellationToken::new();
        let mut sweepers = Vec::new();
        let open = bound.iter().map(|b| Arc::clone(&b.open)).collect();
        for worker in workers {
            let sweeper = Arc::new(Sweeper::default());
            let entrances = entrances(&mut bound);
            let thread = Thread {
                worker,
                sweeper: Arc::clone(&sweeper),
                until: until.clone(),
                entrances,
            };
            sweepers.push(sweeper);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .event_interval(POLLS)
                .build()?;
            std::thread::Builder::new()
                .name(format!("worker-{}", thread.worker.id))
                .spawn(move || runtime.block_on(thread.run()))?;
        }
        Ok(Server {
            sweepers,
            open,
            until,
            stopping,
        })
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.open.iter().map(|n| n.load(Relaxed)).sum()
    }

    /// Stops without losing a request: goes on accepting, and asks every client to leave, until
    /// nothing new came for `quiet`; then closes the doors and waits for what is under way, all
    /// within `grace`. `arrivals` counts requests; `under_way` tells of attempts that nobody waits
    /// for any more.
    pub async fn drain(
        &self,
        drain: Drain,
        arrivals: impl Fn() -> u64,
        under_way: impl Fn() -> bool,
    ) {
        self.stopping.enter(Phase::Leaving);
        let end = clock::now() + drain.grace;
        let doors = end - (drain.grace / 5).min(Duration::from_secs(2));
        let step = (drain.quiet / 5).clamp(Duration::from_millis(5), Duration::from_millis(100));
        let (mut seen, mut since) = (arrivals(), clock::now());
        while clock::now() < doors && clock::now() - since < drain.quiet {
            tokio::time::sleep(step).await;
            let now = arrivals();
            if now != seen {
                (seen, since) = (now, clock::now());
            }
        }
        self.until.cancel();
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.ask_all(Order::Leave);
        while (self.connections() > 0 || under_way()) && clock::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.stopping.enter(Phase::Over);
        self.ask_all(Order::End);
        let end = clock::now() + LAST_LINES;
        while self.connections() > 0 && clock::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn ask_all(&self, order: Order) {
        for sweeper in &self.sweepers {
            sweeper.ask_all(order);
        }
    }
}

struct Entrance {
    socket: TcpListener,
    listener: Arc<Listener>,
    index: u16,
    open: Arc<AtomicUsize>,
    tls: Option<Arc<Keeper>>,
}

/// One socket of each listener.
fn entrances(bound: &mut [Bound]) -> Vec<Entrance> {
    let mut entrances = Vec::new();
    for (index, bound) in (0u16..).zip(bound) {
        if let Some(socket) = bound.sockets.pop() {
            let (listener, open) = (Arc::clone(&bound.listener), Arc::clone(&bound.open));
            entrances.push(Entrance {
                socket,
                listener,
                index,
                open,
                tls: bound.tls.clone(),
            });
        }
    }
    entrances
}

/// Counts so many changes of a listener's certificate; its series is there from the first call on.
fn count_reloads(worker: &Worker, listener: &str, result: &'static str, times: u64) {
    let labels = [("listener", listener), ("result", result)];
    let metrics = &worker.table().live.metrics;
    metrics
        .counter("trunkline_certificate_reloads_total", &labels)
        .increment(times);
}

struct Thread {
    worker: Arc<Worker>,
    sweeper: Arc<Sweeper>,
    until: CancellationToken,
    entrances: Vec<Entrance>,
}

impl Thread {
    async fn run(self) {
        let tick = watch::interval(self.entrances.iter().map(|e| e.listener.timeouts));
        let mut keepers = Vec::new();
        for entrance in self.entrances {
            let name = entrance.listener.name.clone();
            if let Some(keeper) = entrance.tls.clone().filter(|_| self.worker.id == 0) {
                for result in tls::RESULTS {
                    count_reloads(&self.worker, &name, result, 0);
                }
                keepers.push((keeper, name));
            }
            let Ok(socket) = tokio::net::TcpListener::from_std(entrance.socket) else {
                tracing::error!(listener = entrance.listener.name, "cannot listen");
                continue;
            };
            let worker = Arc::clone(&self.worker);
            let place = Place {
                worker,
                listener: entrance.listener,
                index: entrance.index,
                tls: entrance.tls,
            };
            let (sweeper, until) = (Arc::clone(&self.sweeper), self.until.clone());
            tokio::spawn(
                Acceptor {
                    socket,
                    place,
                    sweeper,
                    open: entrance.open,
                    until,
                }
                .run(),
            );
        }
        let mut pools = clock::now();
        loop {
            tokio::time::sleep(tick).await;
            let now = clock::now();
            self.sweeper.sweep(now);
            if now - pools >= Duration::from_secs(1) {
                pools = now;
                self.worker.table().sweep(self.worker.id, UPSTREAM_IDLE);
                for (keeper, listener) in &keepers {
                    if let Some(result) = keeper.look(listener) {
                        count_reloads(&self.worker, listener, result, 1);
                    }
                }
            }
        }
    }
}
