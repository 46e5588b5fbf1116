//! A small load: three clients that ask both vendors in turn and count what they get.

use super::caller;
use crate::clock::Duration;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the clients got.
#[derive(Default)]
pub(super) struct Counts {
    /// Answers that a vendor gave well.
    pub(super) well: AtomicU64,
    /// Anything else.
    pub(super) ill: AtomicU64,
    /// Those of `well` that came from Twilio.
    pub(super) twilio: AtomicU64,
}

const CLIENTS: [&str; 3] = ["ada", "grace", "edsger"];
const PATHS: [&str; 2] = [
    "/vapi/assistant/asst-1",
    "/twilio/2010-04-01/Accounts/AC1/Messages.json",
];

/// Goes on until it is dropped.
pub(super) async fn run(app: SocketAddr, speed: f64, counts: &Counts) {
    let pause = Duration::from_millis(330).div_f64(speed.clamp(0.5, 4.0));
    let client = |name| async move {
        loop {
            for path in PATHS {
                let reply = caller::call(app, path, name, None).await;
                let is_well = reply.is_ok_and(|reply| reply.status == 200);
                let count = if is_well { &counts.well } else { &counts.ill };
                count.fetch_add(1, Relaxed);
                if is_well && path.starts_with("/twilio") {
                    counts.twilio.fetch_add(1, Relaxed);
                }
                tokio::time::sleep(pause.mul_f64(0.6 + 0.8 * fastrand::f64())).await;
            }
        }
    };
    let [first, second, third] = CLIENTS;
    tokio::join!(client(first), client(second), client(third));
}
