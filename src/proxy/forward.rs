//! To the upstream and back: attempts under one deadline, each with a place and a permit of its own.
//!
//! Asks the circuit, waits for a place, sends, reads the head of the answer as the profile means
//! it, and hands the body on. Whether a failed attempt is repeated is the retry policy's decision,
//! from what is known for certain of it; backing off holds neither place nor permit.

use crate::clock::{self, Duration};
use crate::live::bulkhead::NoPlace;
use crate::live::circuit::Circuit;
use crate::policy::breaker::{Rejected, State};
use crate::policy::outcome::Outcome;
use crate::policy::retry::{self, Facts, Failed, Moment, Next, Safety};
use crate::proxy::attempt::Attempt;
use crate::proxy::entry::Entry;
use crate::proxy::exchange::Exchange;
use crate::proxy::outgoing::{self, Outgoing};
use crate::proxy::refusal::{Reason, Refusal};
use crate::routes::pattern::Params;
use crate::routes::plan::{RoutePlan, UpstreamPlan};
use crate::routes::table::{Route, Upstream};
use crate::telemetry::metrics::Source;
use crate::upstream::body::UpstreamBody;
use crate::upstream::error::{Blame, SendError};
use crate::upstream::request_body::RequestBody;
use crate::upstream::send::{Link, Waits, send};
use crate::upstream::target::Endpoint;
use http::request::Parts;
use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use std::sync::Arc;

/// A reused connection may have been idle for at most this long.
const MAX_IDLE: Duration = Duration::from_secs(20);
/// And for a request that creates something, this long: a vendor that closes an idle connection
/// just as we use it would leave the outcome unknown.
const MAX_IDLE_CREATE: Duration = Duration::from_secs(2);

/// Where one exchange goes: its route and upstream, as planned and as running.
pub struct Way<'a> {
    pub route: &'a Route,
    pub route_plan: &'a RoutePlan,
    pub upstream: &'a Arc<Upstream>,
    pub upstream_plan: &'a UpstreamPlan,
    pub circuit: &'a Arc<Circuit>,
    /// Which setting changes its breaker.
    pub set_by: &'a str,
}

/// The answer's head, its body, and the attempt that brought it.
pub type Answered = (Response<UpstreamBody>, Attempt);

/// Sends the request to its upstream, and again where that is safe and of use.
///
/// # Errors
/// What the client is told instead of an answer.
pub async fn forward(
    exchange: &mut Exchange,
    way: &Way<'_>,
    entry: &Entry,
    params: &Params,
    (mut head, body): (Parts, &mut Option<Incoming>),
) -> Result<Answered, Refusal> {
    exchange.source = Source::Upstream;
    let endpoint = outgoing::endpoint(way, params, exchange.uri.path(), entry.host())?;
    check(exchange, way)?;
    outgoing::prepare(exchange, way, entry, params, (&mut head, &endpoint))?;
    let mut journey = Journey::new(exchange, way, &endpoint, &head);
    let keep = if way.route_plan.retry.attempts > 1 {
        way.route_plan.retry.replay_body
    } else {
        0
    };
    let mut request = Outgoing::new(
        head,
        body.take(),
        usize::try_from(keep).unwrap_or(usize::MAX),
    );
    way.upstream.budget.request(clock::now());
    loop {
        let tried = journey.attempt(exchange, &mut request).await?;
        if journey.replaces_stale(&request, &tried) {
            way.upstream.metrics.retried("stale_connection");
            exchange
                .notes
                .push(("retried", "stale_connection".to_owned()));
            continue;
        }
        let facts = journey.facts(exchange, &request, &tried);
        match journey.decide(&facts) {
            Next::Again { after, reason } if way.circuit.check(clock::now()).is_ok() => {
                way.upstream.metrics.retried(reason.label());
                exchange.notes.push(("retried", reason.label().to_owned()));
                match tried {
                    Tried::Lost(SendError {
                        request: Some(unsent),
                        ..
                    }) => request.put_back(unsent),
                    // Its place and its permit go before the wait.
                    over => drop(over),
                }
                tokio::time::sleep(after).await;
                check(exchange, way)?;
            }
            Next::Again { .. } => return journey.end(exchange, tried, Some("circuit_open")),
            Next::Stop { why } => return journey.end(exchange, tried, why.map(|why| why.label())),
        }
    }
}

/// What an attempt brought.
enum Tried {
    Answered(Box<Answered>),
    Lost(SendError),
}

/// What stays the same over all attempts of one exchange.
struct Journey<'a> {
    way: &'a Way<'a>,
    endpoint: &'a Arc<Endpoint>,
    waits: Waits,
    safety: Safety,
    creates: bool,
}

impl<'a> Journey<'a> {
    fn new(
        exchange: &Exchange,
        way: &'a Way<'a>,
        endpoint: &'a Arc<Endpoint>,
        head: &Parts,
    ) -> Self {
        let timeouts = way.route_plan.timeouts;
        let creates = way
            .upstream_plan
            .profile
            .creates(&head.method, head.uri.path());
        let waits = Waits {
            connect: timeouts.connect,
            first_byte: timeouts.first_byte,
            idle: timeouts.idle,
            upload_idle: timeouts.idle.min(exchange.client.body_idle),
            total: timeouts.total,
            deadline: exchange.arrived + timeouts.total,
            max_idle: if creates { MAX_IDLE_CREATE } else { MAX_IDLE },
        };
        Journey {
            way,
            endpoint,
            waits,
            safety: Safety::of(&head.method),
            creates,
        }
    }

    /// One attempt.
    ///
    /// # Errors
    /// It could not even begin: no place, or the circuit is open.
    async fn attempt(
        &self,
        exchange: &mut Exchange,
        request: &mut Outgoing,
    ) -> Result<Tried, Refusal> {
        let place = match &self.way.route.bulkhead {
            Some(bulkhead) => Some(
                bulkhead
                    .enter()
                    .await
                    .map_err(|no| busy(exchange, self.way, no))?,
            ),
            None => None,
        };
        let permit = self
            .way
            .circuit
            .permit(clock::now())
            .map_err(|no| open(exchange, self.way, no))?;
        let mut attempt = Attempt::start(permit, self.way.upstream, place);
        exchange.attempts += 1;
        let last = exchange.attempts >= self.way.route_plan.retry.attempts && !self.is_repeatable();
        let Some(sent) = request.next(last) else {
            return Err(Refusal::new(
                Reason::Internal,
                "there is no request left to send",
            ));
        };
        exchange.upload = request.progress();
        match self.send(exchange, sent).await {
            Ok(answer) => {
                self.judge(exchange, &mut attempt, &answer);
                Ok(Tried::Answered(Box::new((answer, attempt))))
            }
            Err(failed) => {
                let forgiven = failed.stale && self.is_repeatable();
                if failed.error.blame() == Blame::Upstream && !forgiven {
                    attempt.failed(exchange.id(), failed.error.to_string());
                }
                Ok(Tried::Lost(failed))
            }
        }
    }

    async fn send(
        &self,
        exchange: &Exchange,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let worker = &exchange.worker;
        let pool = self.way.upstream.pool(worker.id);
        let tls = &self.way.upstream_plan.tls;
        let link = Link {
            endpoint: self.endpoint,
            tls,
            pool,
            resolver: &worker.resolver,
        };
        send(&link, request, &self.waits).await
    }

    /// Whether a connection kept from earlier was closed under a request that may be sent again: it
    /// goes at once on a fresh one, which is no repeat that the upstream would notice.
    fn replaces_stale(&mut self, request: &Outgoing, tried: &Tried) -> bool {
        let stale = matches!(tried, Tried::Lost(failed) if failed.stale);
        let again = stale && self.is_repeatable() && request.is_replayable();
        if again {
            self.waits.max_idle = Duration::ZERO;
        }
        again
    }

    /// Whether sending it twice is the same as once.
    fn is_repeatable(&self) -> bool {
        self.safety != Safety::Neither && !self.creates
    }

    /// What the head of an answer says of the attempt; the body may still change it.
    fn judge<B>(&self, exchange: &mut Exchange, attempt: &mut Attempt, answer: &Response<B>) {
        let profile = self.way.upstream_plan.profile;
        let read = profile.read(&exchange.method, answer.status(), answer.headers(), None);
        exchange.notes.extend(read.notes);
        attempt.expect(read.outcome);
        if let Some(now) = profile.concurrent_requests(answer.headers()) {
            self.way.upstream.metrics.concurrent_requests(now);
        }
        match read.outcome {
            Outcome::Failure => {
                attempt.failed(
                    exchange.id(),
                    format!("it answered {}", answer.status().as_u16()),
                );
            }
            Outcome::Success if attempt.is_probe() && is_stream(answer.headers()) => {
                attempt.decide_early()
            }
            _ => {}
        }
    }

    fn facts(&self, exchange: &Exchange, request: &Outgoing, tried: &Tried) -> Option<Facts> {
        let (failure, returned, worth) = match tried {
            Tried::Answered(answered) => (self.answered(exchange, &answered.0)?, false, true),
            Tried::Lost(failed) if failed.error.blame() == Blame::Client => return None,
            Tried::Lost(failed) => {
                let failure = if failed.sent {
                    Failed::NoAnswer
                } else {
                    Failed::NotSent
                };
                (failure, failed.request.is_some(), failed.error.may_pass())
            }
        };
        Some(Facts {
            attempt: exchange.attempts,
            safety: self.safety,
            creates: self.creates,
            replayable: returned || request.is_replayable(),
            worth,
            failure,
        })
    }

    /// What an answer that is no success says; nothing for one that is.
    fn answered<B>(&self, exchange: &Exchange, answer: &Response<B>) -> Option<Failed> {
        let status = answer.status();
        if status.as_u16() < 400 {
            return None;
        }
        let read =
            self.way
                .upstream_plan
                .profile
                .read(&exchange.method, status, answer.headers(), None);
        let asked = answer.headers().get(header::RETRY_AFTER);
        Some(Failed::Answered {
            status: status.as_u16(),
            outcome: read.outcome,
            never_processed: read.repeatable,
            retry_after: asked.and_then(|field| retry::parse_retry_after(field, clock::wall())),
        })
    }

    /// What the client is told in the end, and why it was not tried again.
    fn end(
        &self,
        exchange: &mut Exchange,
        tried: Tried,
        why: Option<&'static str>,
    ) -> Result<Answered, Refusal> {
        if let Some(why) = why {
            self.way.upstream.metrics.not_retried(why);
            exchange.notes.push(("not_retried", why.to_owned()));
        }
        match tried {
            Tried::Answered(answered) => Ok(*answered),
            Tried::Lost(failed) => Err(told(self.way, &failed)),
        }
    }

    fn decide(&self, facts: &Option<Facts>) -> Next {
        let Some(facts) = facts else {
            return Next::Stop { why: None };
        };
        let settings = &self.way.route_plan.retry;
        let now = clock::now();
        let moment = Moment {
            now,
            deadline: self.waits.deadline,
            random: fastrand::f64(),
        };
        retry::next(facts, settings, moment, || {
            self.way.upstream.budget.try_retry(now, settings.budget)
        })
    }
}

/// Whether the answer is a stream of events, which may never end.
fn is_stream(fields: &HeaderMap) -> bool {
    fields
        .get(header::CONTENT_TYPE)
        .and_then(|t| t.as_bytes().get(..17))
        .is_some_and(|t| t.eq_ignore_ascii_case(b"text/event-stream"))
}

fn told(way: &Way<'_>, failed: &SendError) -> Refusal {
    Refusal::from_upstream(&way.upstream_plan.name, &failed.error, failed.sent)
}

fn check(exchange: &Exchange, way: &Way<'_>) -> Result<(), Refusal> {
    way.circuit
        .check(clock::now())
        .map_err(|no| open(exchange, way, no))
}

fn open(exchange: &Exchange, way: &Way<'_>, no: Rejected) -> Refusal {
    let name = &way.circuit.name;
    let wait = no.retry_after;
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let why = match no.state {
        State::HalfOpen => {
            format!("the circuit of {name} is half-open and its probes are under way")
        }
        _ => {
            let last = way.circuit.evidence().pop();
            let last = last.map(|e| format!(" (last failure: {})", e.error));
            format!("the circuit of {name} is open{}", last.unwrap_or_default())
        }
    };
    let before = match exchange.attempts {
        0 => format!("{name} was not contacted"),
        n => format!("{name} was not contacted again after {n} attempts"),
    };
    let detail = format!(
        "{why}; {before}, next try in {seconds} s; {} sets this",
        way.set_by
    );
    let mut refusal = Refusal::new(Reason::CircuitOpen, detail).retry_after(wait);
    refusal.contacted = exchange.attempts > 0;
    refusal
}

fn busy(exchange: &Exchange, way: &Way<'_>, no: NoPlace) -> Refusal {
    let name = &way.upstream_plan.name;
    if no == NoPlace::Emptied
        && let Err(no) = way.circuit.check(clock::now())
    {
        return open(exchange, way, no);
    }
    let share = way
        .route_plan
        .concurrency
        .unwrap_or(way.upstream_plan.concurrency);
    let why = match no {
        NoPlace::Full => format!("and {} more wait already", share.queue),
        _ => format!("and none ended within {:?}", share.wait),
    };
    let limit = share.limit;
    let detail = format!(
        "upstream {name} has {limit} requests of ours under way, {why}; concurrency in proxy.yaml sets this"
    );
    let mut refusal =
        Refusal::new(Reason::UpstreamBusy, detail).retry_after(Duration::from_secs(1));
    refusal.contacted = exchange.attempts > 0;
    refusal
}
