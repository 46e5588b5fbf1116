//! The binary: the TLS provider, and a verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if installed.is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
    ExitCode::from(trunkline::cli::main())
}
