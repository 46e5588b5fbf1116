//! The verbs: what a person types, one file each.
//!
//! Exit codes are the same for all: 0 well, 1 failed while running, 2 the words or the file are
//! wrong. Nothing imports this room.

pub mod breaker;
pub mod check;
mod columns;
pub mod credentials;
pub mod demo;
pub mod explain;
pub mod healthcheck;
pub mod login;
mod memory;
mod notify;
mod remote;
pub mod routes;
pub mod run;
mod say;
pub mod schema;
pub mod status;

use crate::telemetry::logging;
use clap::{CommandFactory, Parser, Subcommand};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A resilience sidecar for the Vapi and Twilio APIs.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Words {
    /// The route table.
    #[arg(
        long,
        short,
        global = true,
        env = "TRUNKLINE_CONFIG",
        default_value = "proxy.yaml",
        value_name = "FILE"
    )]
    config: PathBuf,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve until SIGTERM or SIGINT; SIGHUP reloads. What `trunkline` alone does.
    Run,
    /// Read the file as `run` would and print every problem as file:line:column.
    Check,
    /// Say which route wins for a request, why the earlier ones did not, and what would be done.
    Explain {
        /// The request's method.
        method: String,
        /// A path, or a URL whose host counts too.
        url: String,
        /// A header field of the request, as `Name: value`.
        #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
        headers: Vec<String>,
    },
    /// Print the compiled table, one line a route.
    Routes,
    /// Print what is held for callers: names, states and when tokens end, never values.
    Credentials,
    /// Let a person agree, and keep the refresh token of a credential.
    Login {
        /// The credential's name in the file.
        name: String,
        /// Print a code to type in on any device, for a machine without a browser.
        #[arg(long)]
        device: bool,
        /// The port on loopback to which the browser comes back; 0 takes a free one.
        #[arg(long, default_value_t = 0, conflicts_with = "device")]
        port: u16,
    },
    /// Print the JSON Schema of the file.
    Schema,
    /// Show how the running proxy is: circuits, limits, what is held.
    Status {
        /// Show it anew every second.
        #[arg(long, short)]
        watch: bool,
        /// For people, or as the API answers it.
        #[arg(long, short, value_enum, default_value = "table")]
        output: status::Output,
    },
    /// Hold a circuit of the running proxy open or closed for a while, or give it back.
    Breaker {
        /// What is to be done with it.
        #[arg(value_enum)]
        act: breaker::Act,
        /// The breaker: an upstream's name, or that of a shared one.
        name: String,
        /// How long it is held, such as 10m; at most 24h.
        #[arg(long = "for", value_name = "TIME", required_if_eq_any = [("act", "open"), ("act", "close")])]
        lasts: Option<String>,
        /// Why: for the log, and for whoever looks at the page.
        #[arg(long, required_if_eq_any = [("act", "open"), ("act", "close")])]
        reason: Option<String>,
    },
    /// The whole story on this machine: an outage, probes, recovery, a call that is not placed twice.
    Demo {
        /// Go on with the load when the story is over, until Ctrl-C.
        #[arg(long)]
        keep: bool,
        /// So many times as fast.
        #[arg(long, default_value_t = 1.0, value_name = "TIMES")]
        speed: f64,
    },
    /// Exit 0 if the running proxy is ready, 1 if not.
    Healthcheck,
    /// Print completions for a shell.
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
}

/// Does what the command line says. The result is the exit code.
pub fn main() -> u8 {
    let words = match Words::try_parse() {
        Ok(words) => words,
        Err(error) => return told(&error),
    };
    let verb = words.verb.unwrap_or(Verb::Run);
    logging::start(match verb {
        // It tells its own story.
        Verb::Demo { .. } => "off",
        _ => "info",
    });
    let code = done(verb, words.config.as_ref());
    logging::flush();
    code
}

fn done(verb: Verb, config: &Path) -> u8 {
    match verb {
        Verb::Run => run::run(config),
        Verb::Check => check::run(config),
        Verb::Explain {
            method,
            url,
            headers,
        } => explain::run(config, &method, &url, &headers),
        Verb::Routes => routes::run(config),
        Verb::Credentials => credentials::run(config),
        Verb::Login { name, device, port } => login::run(config, &name, device, port),
        Verb::Schema => schema::run(),
        Verb::Status { watch, output } => status::run(config, output, watch),
        Verb::Breaker {
            act,
            name,
            lasts,
            reason,
        } => {
            let reason = reason.unwrap_or_default();
            breaker::run(config, act, &name, lasts.as_deref(), &reason)
        }
        Verb::Demo { keep, speed } => demo::run(demo::Options { keep, speed }),
        Verb::Healthcheck => healthcheck::run(config),
        Verb::Completions { shell } => completions(shell),
    }
}

/// Says what is wrong with the words; or the help or the version, where that is what was asked for.
fn told(error: &clap::Error) -> u8 {
    let written = error.print().and_then(|()| io::stdout().flush());
    match (u8::try_from(error.exit_code()), written) {
        (Ok(0), Err(error)) => say::code(&error),
        (code, _) => code.unwrap_or(2),
    }
}

fn completions(shell: clap_complete::Shell) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Words::command(), "trunkline", &mut text);
    say::print(&String::from_utf8_lossy(&text)).map_or_else(|code| code, |()| 0)
}
