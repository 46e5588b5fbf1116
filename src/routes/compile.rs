//! From what the operator wrote to what runs: the one place that sees both.
//!
//! Decides what a missing key means, whether keys agree with each other and whether names lead
//! somewhere. It tells every problem at once, those of reading included, and never repairs one: a
//! plan comes out whole or not at all. It opens the files that the configuration names, so that a
//! bad one is found here and not by a request, and no socket. Called at start, by a reload, and by
//! the verbs that only look.

mod attempts;
mod backs;
mod breakers;
mod callers;
mod credentials;
mod ladders;
mod limits;
mod notes;
mod notify;
mod oauth;
mod process;
mod profiles;
mod route;
mod rules;
mod secrets;
mod state;
mod store;
mod stored;
mod stubs;
#[cfg(test)]
mod tests;
mod tracing;
mod upstreams;
mod vapis;
mod warnings;
mod webhooks;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::config::schema::{Environment, LogFormat};
use crate::config::{self, At, Env, Problem, Problems, Source};
use crate::profile::Profile;
use crate::routes::index::Matcher;
use crate::routes::plan::{CredentialPlan, Plan, UpstreamPlan};
use crate::telemetry::access::Format;

use notes::Notes;

pub use limits::in_words;

/// Bytes of bodies that are held at once, unless the file says otherwise.
const HELD_BODIES: u64 = 64 << 20;

/// The largest body that is held whole, in bytes.
const LARGEST_HELD: u64 = 1 << 20;

/// Reads a file and compiles it.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn load(path: &Path, env: Env<'_>) -> Result<Plan, Problems> {
    join(config::survey(path, env), env)
}

/// The same for a process that runs: it takes a regular file alone, so that it never waits for one.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn load_again(path: &Path, env: Env<'_>) -> Result<Plan, Problems> {
    join(config::survey_again(path, env), env)
}

/// Compiles a text as if it were the file of that name.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn parse(name: &str, text: &str, env: Env<'_>) -> Result<Plan, Problems> {
    join(config::survey_text(name, text, env), env)
}

/// Compiles what was read without a problem.
///
/// # Errors
/// Everything about it that does not fit together, in the order of the file.
pub fn compile(source: &Source, env: Env<'_>) -> Result<Plan, Problems> {
    let (plan, problems) = draft(source, &Problems::default(), env);
    let problems: Problems = problems.into_iter().collect();
    if problems.is_empty() {
        Ok(plan)
    } else {
        Err(problems)
    }
}

fn join((source, problems): (Option<Source>, Problems), env: Env<'_>) -> Result<Plan, Problems> {
    let Some(source) = source else {
        return Err(problems);
    };
    let (plan, later) = draft(&source, &problems, env);
    let problems = problems.and_later(later);
    if problems.is_empty() {
        Ok(plan)
    } else {
        Err(problems)
    }
}

/// What the names of the file stand for, as far as it has been read.
#[derive(Clone, Copy)]
struct Known<'a> {
    profiles: &'a [Profile],
    credentials: &'a [CredentialPlan],
    upstreams: &'a [UpstreamPlan],
}

/// The plan, fit to run only where there are no problems, neither `earlier` ones nor those returned.
fn draft(source: &Source, earlier: &Problems, env: Env<'_>) -> (Plan, Vec<Problem>) {
    let config = &source.config;
    let mut notes = Notes::new(source, earlier);
    let mut process = process::compile(&mut notes, env);
    let environment = environment_name(environment(source));
    let (traces, sampler) = tracing::compile(&mut notes, env, environment);
    process.traces = traces;
    let limits = limits::compile(&mut notes);
    let breakers = breakers::named(&mut notes);
    let profiles = profiles::compile(&mut notes);
    let credentials = credentials::named(&mut notes);
    let known = Known {
        profiles: &profiles,
        credentials: &credentials,
        upstreams: &[],
    };
    let upstreams = upstreams::compile(&mut notes, known);
    let known = Known {
        upstreams: &upstreams,
        ..known
    };
    let (rules, routes) = route::compile(&mut notes, &process, known);
    credentials::check(
        &mut notes,
        &process,
        (&rules, &routes),
        (&upstreams, &credentials),
    );
    let clients = callers::clients(&mut notes, &rules);
    let correlation = callers::correlation(&mut notes);
    let stubs_enabled = gate(&mut notes);
    let mut plan = Plan {
        file: source.file.clone(),
        hash: hash(source),
        environment,
        process,
        clients,
        correlation,
        stubs_enabled,
        held_bodies: held_bodies(&mut notes),
        access_log: access_log(config.access_log.format),
        sampler,
        limits,
        credentials,
        breakers,
        upstreams,
        routes,
        cache_bytes: stored::bound(&notes),
        notify: None,
        matcher: Arc::new(Matcher::build(rules)),
        warnings: Vec::new(),
    };
    plan.notify = notify::compile(&mut notes, &plan, env);
    if notes.is_sound() && earlier.is_empty() {
        warnings::look(&plan, &mut notes);
    }
    let (problems, warnings) = notes.finish();
    plan.warnings = warnings;
    (plan, problems)
}

fn environment(source: &Source) -> Environment {
    source
        .config
        .environment
        .unwrap_or(Environment::Development)
}

fn environment_name(environment: Environment) -> &'static str {
    match environment {
        Environment::Development => "development",
        Environment::Staging => "staging",
        Environment::Production => "production",
    }
}

fn access_log(format: Option<LogFormat>) -> Format {
    match format {
        Some(LogFormat::Json) => Format::Json,
        Some(LogFormat::Text) => Format::Text,
        Some(LogFormat::Off) => Format::Off,
        None if std::io::stdout().is_terminal() => Format::Text,
        None => Format::Json,
    }
}

/// The room for bodies that are held whole, in which the largest one must fit.
fn held_bodies(notes: &mut Notes<'_>) -> u64 {
    let Some(size) = notes.config().held_bodies.map(|size| size.get()) else {
        return HELD_BODIES;
    };
    if size < LARGEST_HELD {
        let what = "a body of 1MiB, the largest that is held, would not fit";
        notes.problem(&At::root().key("held_bodies"), what, "give at least 1MiB");
    }
    size
}

/// Whether canned answers are given; they are refused where real ones are expected.
fn gate(notes: &mut Notes<'_>) -> bool {
    let stubs = &notes.config().stubs;
    let enabled = stubs.enabled.is_none_or(|flag| flag.get());
    let environment = environment(notes.source());
    let refused = match &stubs.refuse_in {
        Some(list) => list.contains(&environment),
        None => environment == Environment::Production,
    };
    if !enabled || !refused {
        return enabled;
    }
    let at = match stubs.enabled {
        Some(_) => At::root().key("stubs").key("enabled"),
        None => At::root().key("environment"),
    };
    let switch = notes
        .variable(&at)
        .filter(|_| stubs.enabled.is_some())
        .map_or("`stubs.enabled: false`".to_owned(), |name| {
            format!("{name}=false")
        });
    let name = environment_name(environment);
    notes.problem(
        &at,
        format!("stubs are enabled in {name}: canned answers would stand in for real ones"),
        format!("set {switch}, or `stubs.refuse_in: []` if that is meant"),
    );
    enabled
}

/// The first 64 bits of a SHA-256 over the text and all that came of it, variables included.
fn hash(source: &Source) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(source.text.as_bytes());
    context.update(format!("{:?}", source.config).as_bytes());
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .take(8)
        .fold(String::with_capacity(16), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
