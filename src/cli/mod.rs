//! The verbs: what a person types, one file each.
//!
//! Exit codes are the same for all: 0 well, 1 failed while running, 2 the words or the file are
//! wrong. Nothing imports this room.

pub mod check;
pub mod explain;
pub mod healthcheck;
pub mod routes;
pub mod run;
pub mod schema;

use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

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
    /// Print the JSON Schema of the file.
    Schema,
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
    let words = Words::parse();
    match words.verb.unwrap_or(Verb::Run) {
        Verb::Run => run::run(&words.config),
        Verb::Check => check::run(&words.config),
        Verb::Explain {
            method,
            url,
            headers,
        } => explain::run(&words.config, &method, &url, &headers),
        Verb::Routes => routes::run(&words.config),
        Verb::Schema => schema::run(),
        Verb::Healthcheck => healthcheck::run(&words.config),
        Verb::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Words::command(),
                "trunkline",
                &mut std::io::stdout(),
            );
            0
        }
    }
}
