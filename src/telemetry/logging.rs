//! The process's own log, on standard error: what it decided and what went wrong.
//!
//! JSON lines, or text on a terminal. `RUST_LOG` sets the level. Requests have their own line on
//! standard output, so that the two can be told apart and shipped apart.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging at that level, where `RUST_LOG` does not say another. Called once, by the verb.
pub fn start(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
