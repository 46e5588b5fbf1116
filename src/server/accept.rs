//! Taking connections: bounded, and never spinning when there is nothing to take them with.

use crate::clock::{self, Duration};
use crate::server::connection::{Place, serve};
use crate::server::watch::{Sweeper, Watch};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long to wait after an accept that failed, for want of file descriptors say.
const PAUSE: Duration = Duration::from_millis(50);

/// One listener on one worker.
pub struct Acceptor {
    /// The socket.
    pub socket: TcpListener,
    /// What its connections are served by.
    pub place: Place,
    /// The worker's sweeper.
    pub sweeper: Arc<Sweeper>,
    /// Connections of this listener, on all workers.
    pub open: Arc<AtomicUsize>,
    /// Cancelled when accepting ends.
    pub until: CancellationToken,
}

impl Acceptor {
    /// Accepts until told to stop, then empties the queue: whoever was let in is served.
    pub async fn run(self) {
        let mut complained = false;
        while !self.until.is_cancelled() {
            let room = self.open.load(Relaxed) < self.place.listener.limits.connections;
            tokio::select! {
                biased;
                () = self.until.cancelled() => break,
                accepted = self.socket.accept(), if room => match accepted {
                    Ok((tcp, address)) => {
                        complained = false;
                        self.take(tcp, address);
                    }
                    Err(e) if is_of_one_connection(&e) => {}
                    Err(e) => {
                        if !complained {
                            complained = true;
                            tracing::error!(listener = self.place.listener.name, error = %e, "cannot accept connections");
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                () = tokio::time::sleep(PAUSE), if !room => {}
            }
        }
        while let Some(Ok((tcp, address))) = accept_now(&self.socket).await {
            self.take(tcp, address);
        }
    }

    fn take(&self, tcp: TcpStream, address: SocketAddr) {
        tcp.set_nodelay(true).ok();
        let watch = Arc::new(Watch::default());
        let listener = Arc::clone(&self.place.listener);
        let age = listener.limits.max_connection_age.map(cut);
        self.sweeper
            .add(&watch, listener.timeouts, age, clock::now());
        let worker = Arc::clone(&self.place.worker);
        let place = Place {
            worker,
            listener,
            index: self.place.index,
            tls: self.place.tls.clone(),
        };
        let open = Arc::clone(&self.open);
        open.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            serve(tcp, address, place, watch).await;
            open.fetch_sub(1, Relaxed);
        });
    }
}

/// An age less up to a tenth, so that connections that came together do not go together.
fn cut(age: Duration) -> Duration {
    age.mul_f64(1.0 - fastrand::f64() / 10.0)
}

/// A connection that is in the queue already; `None` when it is empty.
async fn accept_now(socket: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    tokio::time::timeout(Duration::from_millis(1), socket.accept())
        .await
        .ok()
}

/// Whether an error concerns only the connection that was to be accepted.
fn is_of_one_connection(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
