//! What the configuration means, checked and complete, before anything is running.
//!
//! A plan holds values only: no state, no sockets, no handles. `check`, `explain` and `routes` stop
//! here; a start or a reload installs the plan into a [`super::table::Table`]. Built by
//! [`super::compile`] alone.

mod listener;

pub use self::listener::{Listener, ListenerLimits, ListenerTimeouts};

use crate::cache::Settings;
use crate::clock::Duration;
use crate::policy::breaker::BreakerSettings;
use crate::policy::concurrency::Concurrency;
use crate::policy::deadline::DeadlineField;
use crate::policy::identity::Clients;
use crate::policy::rate_limit::{LimitSettings, OnLoss};
use crate::policy::retry::RetrySettings;
use crate::profile::Profile;
use crate::routes::pattern::{Rewrite, Slot};
use crate::routes::{back::Back, index::Matcher};
use crate::stub::Stub;
use crate::telemetry::{access, traces};
use crate::upstream::{target::Target, tls::Tls};
use crate::webhook::Check;
use crate::{credential, fleet, herald};
use http::HeaderName;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::sync::Arc;

/// The whole configuration.
pub struct Plan {
    /// The file it was read from.
    pub file: String,
    /// A hash of the file's text and of the variables it used, in hex: two plans that differ, differ here.
    pub hash: String,
    /// development, staging or production.
    pub environment: &'static str,
    /// What is bound once, at start.
    pub process: Process,
    /// Who is calling.
    pub clients: Clients,
    /// How exchanges are told apart.
    pub correlation: Correlation,
    /// Whether stubs answer.
    pub stubs_enabled: bool,
    /// How many bytes of bodies are held whole at once, over all connections.
    pub held_bodies: u64,
    /// How the access log is written.
    pub access_log: access::Format,
    /// Which requests are traced, where traces go anywhere.
    pub sampler: traces::Sampler,
    /// The limits, in file order.
    pub limits: Vec<LimitPlan>,
    /// The credentials, in file order.
    pub credentials: Vec<CredentialPlan>,
    /// The breakers that `breakers:` names.
    pub breakers: Vec<BreakerPlan>,
    /// The upstreams, in file order.
    pub upstreams: Vec<UpstreamPlan>,
    /// The routes, in file order: the order of the matcher's rules.
    pub routes: Vec<RoutePlan>,
    /// Bytes of all kept answers.
    pub cache_bytes: u64,
    /// Who is told of every change of a circuit.
    pub notify: Option<Arc<herald::Settings>>,
    /// Finds a route.
    pub matcher: Arc<Matcher>,
    /// What is allowed but risky, as `file:line:column: what (hint)`.
    pub warnings: Vec<String>,
}

/// What a reload cannot change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Where requests come in; the index is the matcher's listener number.
    pub listeners: Vec<Listener>,
    /// Where the operator looks.
    pub admin: Admin,
    /// Where Prometheus looks, if apart.
    pub metrics: Option<SocketAddr>,
    /// Workers; `None` is one per core.
    pub threads: Option<usize>,
    /// How a stop goes.
    pub drain: Drain,
    /// Where records of creates survive a crash.
    pub state_file: Option<std::path::PathBuf>,
    /// What replicas share, and where.
    pub store: Option<fleet::Settings>,
    /// Where traces go, if anywhere.
    pub traces: Option<Arc<traces::Settings>>,
}

/// The operator's listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    /// The file with the token that writes need; read at every write, so that it can be rotated.
    pub token_file: Option<std::path::PathBuf>,
    /// Whether writes are refused altogether.
    pub read_only: bool,
}

/// How a stop goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// The longest a stop takes.
    pub grace: Duration,
    /// Accepting ends when nothing new came for this long.
    pub quiet: Duration,
}

/// How exchanges are told apart.
#[derive(Debug, Clone)]
pub struct Correlation {
    /// The field that carries the id.
    pub header: HeaderName,
    /// Whose ids are taken over.
    pub accept: Accept,
}

/// Whose correlation ids are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Any client's.
    Anyone,
    /// Those that come through a trusted proxy.
    TrustedProxies,
    /// Nobody's: every id is ours.
    Nobody,
}

/// One rate limit.
pub struct LimitPlan {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub settings: LimitSettings,
    /// What it allows, in words: `10 a minute`.
    pub words: String,
    /// Which setting changes it: `RATE_LIMIT_PER_MINUTE or proxy.yaml:34`.
    pub set_by: String,
    /// What it does while the store that replicas share is away.
    pub on_loss: OnLoss,
}

/// One credential that is added for callers.
pub struct CredentialPlan {
    /// Its name.
    pub name: String,
    /// What it is; `None` while it is not set.
    pub settings: Option<Arc<credential::Settings>>,
    /// Which setting would set it, where it is not set.
    pub set_by: String,
}

/// Who authorizes the requests of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorizes {
    /// The caller: what it sent goes on as it is.
    Caller,
    /// The caller, since the credential of that index, which is optional, is not set.
    CallerInstead(usize),
    /// The credential of that index.
    Held(usize),
}

impl Authorizes {
    /// The index of the credential that we add.
    pub fn held(self) -> Option<usize> {
        match self {
            Authorizes::Held(index) => Some(index),
            Authorizes::Caller | Authorizes::CallerInstead(_) => None,
        }
    }
}

/// Who may use a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallersPlan {
    /// Networks that they call from; `None` is anywhere.
    pub allow_from: Option<Vec<IpNet>>,
    /// The file that holds the token that they send.
    pub token_file: Option<std::path::PathBuf>,
    /// Whether a credential of ours is at stake.
    pub holds: bool,
    /// Whether the route says which hosts it is for.
    pub names_host: bool,
}

/// One named breaker.
pub struct BreakerPlan {
    /// Its name.
    pub name: String,
    /// When it opens and closes.
    pub settings: BreakerSettings,
    /// Which setting changes it.
    pub set_by: String,
}

/// One upstream.
pub struct UpstreamPlan {
    /// Its name.
    pub name: String,
    /// Its URL as configured, with parameters in braces.
    pub url: String,
    /// What its answers mean.
    pub profile: Profile,
    /// Where it is.
    pub target: Target,
    /// How TLS is spoken to it; shared with the running table.
    pub tls: Arc<Tls>,
    /// Whether addresses in its answers are turned to ours, where the file says.
    pub rewrite_answers: Option<bool>,
    /// Whether it is sent `X-Forwarded-*`.
    pub forwarded: bool,
    /// Who authorizes what is sent to it, unless a route says otherwise.
    pub authorizes: Authorizes,
    /// Networks from which its routes let callers through.
    pub allow_from: Option<Vec<IpNet>>,
    /// The file that holds the token of its routes' callers.
    pub token_file: Option<std::path::PathBuf>,
    /// Whether it gets the `Host` that the client named.
    pub preserve_host: bool,
    /// Values that parameters may have, beside the profile's own lists.
    pub allow: Vec<(String, Vec<String>)>,
    /// Its waits.
    pub timeouts: Timeouts,
    /// How many requests it gets at once.
    pub concurrency: Concurrency,
    /// When its breaker opens and closes.
    pub breaker: BreakerSettings,
    /// Which setting changes its breaker.
    pub set_by: String,
}

/// The waits of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Names, TCP and TLS together.
    pub connect: Duration,
    /// From the end of the request to the head of the answer.
    pub first_byte: Duration,
    /// Between two chunks of a body.
    pub idle: Duration,
    /// From arrival to the head of the answer, over all attempts.
    pub total: Duration,
}

/// One route. Which rule matches it stands in the matcher, under the same index.
pub struct RoutePlan {
    /// Its name.
    pub name: String,
    /// The line of the file where it begins.
    pub line: usize,
    /// Index of its upstream.
    pub upstream: Option<usize>,
    /// Who authorizes its requests.
    pub authorizes: Authorizes,
    /// Who may use it, where not everybody may.
    pub callers: Option<CallersPlan>,
    /// The path to send, where it differs from the one that came.
    pub rewrite: Option<Rewrite>,
    /// Its way back, where addresses in answers are turned to ours.
    pub back: Option<Back>,
    /// Where the upstream's host parameter is found.
    pub host_param: Option<Slot>,
    /// Parameters whose values are restricted: where each is found, and its name.
    pub restricted: Vec<(Slot, String)>,
    /// Indexes of its limits, in the order they are checked.
    pub limits: Vec<usize>,
    /// Index of the named breaker it joins; `None` is its upstream's own.
    pub breaker: Option<usize>,
    /// By whose signature its requests are known.
    pub verify: Option<Arc<Check>>,
    /// Its canned answer.
    pub stub: Option<Arc<Stub>>,
    /// The dialect of its refusals.
    pub profile: Profile,
    /// Its waits.
    pub timeouts: Timeouts,
    /// Where a caller says how long it would wait itself; only less than `timeouts.total` counts.
    pub deadline: Option<DeadlineField>,
    /// Which failed attempts are repeated, and how often.
    pub retry: RetrySettings,
    /// Whether its requests create something, where that is not the profile's to say.
    pub creates: Option<bool>,
    /// How long a create of unknown outcome is not repeated; zero switches the guard off.
    pub duplicate_window: Duration,
    /// How many of its requests its upstream gets at once, where that is not the upstream's share.
    pub concurrency: Option<Concurrency>,
    /// Who answers when its upstream cannot, in order.
    pub fallback: Vec<Rung>,
    /// Which answers it keeps.
    pub cache: Option<Arc<Settings>>,
}

/// What answers in an upstream's place.
pub enum Rung {
    /// The kept answer, however old.
    Stale,
    /// A canned answer.
    Stub(Arc<Stub>),
    /// Another upstream.
    Upstream {
        /// Its index.
        index: usize,
        /// Where its host parameter is found.
        host_param: Option<Slot>,
    },
}

impl Plan {
    /// Reads what TLS to the upstreams needs, the machine's trust store among it, so that no request
    /// waits for files. What cannot be read is the answer of those who need it.
    pub fn make_tls_ready(&self) {
        let speak = self.upstreams.iter().filter(|up| up.target.tls());
        speak.for_each(|up| drop(up.tls.config()));
    }

    /// Whether a parameter of the route may have this value: by its upstream's own list where there
    /// is one, else by the profile's.
    pub fn allows(&self, route: &RoutePlan, name: &str, value: &str) -> bool {
        let upstream = route.upstream.and_then(|index| self.upstreams.get(index));
        let own = upstream.and_then(|u| u.allow.iter().find(|(known, _)| known == name));
        match own {
            Some((_, values)) => values.iter().any(|allowed| allowed == value),
            None => upstream
                .map_or(&route.profile, |u| &u.profile)
                .allows(name, value),
        }
    }

    /// The credential that is added to a route's requests.
    pub fn credential(&self, authorizes: Authorizes) -> Option<&CredentialPlan> {
        self.credentials.get(authorizes.held()?)
    }

    /// The breaker that guards a route, with its name, where the route has an upstream.
    pub fn breaker(&self, route: &RoutePlan) -> Option<(&str, &BreakerSettings)> {
        let upstream = self.upstreams.get(route.upstream?)?;
        match route.breaker.and_then(|index| self.breakers.get(index)) {
            Some(named) => Some((&named.name, &named.settings)),
            None => Some((&upstream.name, &upstream.breaker)),
        }
    }
}
