//! Waiting for a condition, never for a time. Called by every test that depends on another process or thread.
//! A wait that runs out panics with what was waited for.

use std::thread;
use std::time::{Duration, Instant};

/// How long any condition may take to come true on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a process may take to read its file, and to start or to end: an unoptimised build on a machine that is
/// busy with something else.
pub const PATIENCE_WITH_A_PROCESS: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(()));
}

/// Waits until `probe` yields a value and returns it; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn until_some<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// Waits until `probe` yields a value and returns it; panics with `what` after `patience`.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain: {what}"
        );
        thread::sleep(PAUSE);
    }
}
