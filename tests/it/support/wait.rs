//! Waiting for a condition, never for a time. Called by every test that depends on another process or thread.
//! A wait that runs out panics with what was waited for.

use std::thread;
use std::time::{Duration, Instant};

/// How long any condition may take to come true on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(()));
}

/// Waits until `probe` yields a value and returns it; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn until_some<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        thread::sleep(PAUSE);
    }
}
