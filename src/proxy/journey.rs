//! One request's attempts: each takes a place and a permit, sends, and reads what comes back.
//!
//! Knows what stays the same over all of them. Whether another is made is the retry policy's
//! decision; here its facts are gathered, from what is certain and never from a guess.

mod authorized;

use crate::clock::{self, Duration};
use crate::live::bulkhead::{NoPlace, Place};
use crate::policy::outcome::Outcome;
use crate::policy::pace::Pace;
use crate::policy::retry::{self, Facts, Failed, Moment, Next, Safety};
use crate::profile::{BODY_START, Reading};
use crate::proxy::attempt::Attempt;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::{Brought, Prepared, Way};
use crate::proxy::outgoing::Outgoing;
use crate::proxy::refusal::{Reason, Refusal, failure_label};
use crate::proxy::traced;
use crate::proxy::turned_away::{busy, late, open, told};
use crate::upstream::body::UpstreamBody;
use crate::upstream::error::{Blame, SendError, UpstreamError};
use crate::upstream::pool::{Care, Reuse};
use crate::upstream::request_body::RequestBody;
use crate::upstream::send::{Link, Waits, send};
use crate::upstream::target::Endpoint;
use http::{HeaderMap, Request, Response, StatusCode, header};
use std::future::Future;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Which kept connections a request may have.
const REUSE: Reuse = Reuse {
    max_idle: Duration::from_secs(20),
    look_after: Duration::from_millis(10),
    care: Care::None,
};
/// And one that creates something: a vendor that closes an idle connection just as we use it would
/// leave the outcome unknown.
const CREATE_REUSE: Reuse = Reuse {
    max_idle: Duration::from_secs(2),
    look_after: Duration::ZERO,
    care: Care::Great,
};

/// What an attempt brought.
pub enum Tried {
    /// An answer, and what it means.
    Answered(Brought),
    /// None.
    Lost(SendError),
}

/// What stays the same over all attempts of one exchange.
pub struct Journey<'a> {
    way: &'a Way<'a>,
    endpoint: &'a Arc<Endpoint>,
    waits: Waits,
    safety: Safety,
    creates: bool,
    upgrades: bool,
    /// Attempts that count: those on connections that turned out to be closed do not.
    counted: u32,
    /// The token of ours that the last attempt carried.
    token: Option<u64>,
    /// Whether one was refused already.
    renewed: bool,
    left: Option<CancellationToken>,
}

impl<'a> Journey<'a> {
    /// The attempts of a request that is ready to go.
    pub fn new(
        exchange: &Exchange,
        way: &'a Way<'a>,
        endpoint: &'a Arc<Endpoint>,
        prepared: &Prepared,
    ) -> Self {
        let timeouts = way.timeouts;
        let creates = prepared.creates;
        let (total, set_by) = exchange.allowance(timeouts.total);
        let waits = Waits {
            connect: timeouts.connect,
            first_byte: timeouts.first_byte,
            idle: timeouts.idle,
            upload: Pace {
                pause: timeouts.idle.min(exchange.client.pace.pause),
                ..exchange.client.pace
            },
            total,
            set_by,
            deadline: exchange.arrived + total,
            reuse: if creates { CREATE_REUSE } else { REUSE },
        };
        Journey {
            way,
            endpoint,
            waits,
            safety: match prepared.upgrades {
                true => Safety::Neither,
                false => Safety::of(&prepared.head.method),
            },
            creates,
            upgrades: prepared.upgrades,
            counted: 0,
            token: None,
            renewed: false,
            left: exchange.left.clone(),
        }
    }

    /// One attempt.
    ///
    /// # Errors
    /// It could not even begin: no place, or the circuit is open.
    pub async fn attempt(
        &mut self,
        exchange: &mut Exchange,
        request: &mut Outgoing,
    ) -> Result<Tried, Refusal> {
        let place = self.place(exchange).await?;
        let mut now = clock::now();
        if now >= self.waits.deadline {
            return Err(late(exchange, self.way, &self.waits));
        }
        let permit = self.way.circuit.permit(now);
        let permit = permit.map_err(|no| open(exchange, self.way, no))?;
        let mut field = None;
        if let Some(credential) = self.way.credential {
            field = Some(Box::pin(self.value(credential)).await?);
            now = clock::now();
        }
        let mut attempt = Attempt::start(permit, self.way.upstream, place, now);
        exchange.attempts += 1;
        self.counted += 1;
        let more = self.is_repeatable() || self.may_renew();
        let last = self.counted >= self.way.retry.attempts && !more;
        let mut next = request.next(last);
        let Some(sent) = &mut next else {
            return Err(Refusal::new(
                Reason::Internal,
                "there is no request left to send",
            ));
        };
        if let Some((name, value)) = field {
            sent.headers_mut().insert(name, value);
        }
        exchange.upload = request.progress();
        attempt.span = traced::attempt(exchange, self.way, self.endpoint, sent);
        match self.send(exchange, &mut next).await {
            Ok(mut answer) => {
                let read = self.read(exchange, &mut answer).await;
                self.judge(exchange, &mut attempt, &answer, &read);
                Ok(Tried::Answered(Box::new(((answer, attempt), read))))
            }
            Err(failed) => {
                if let Some(span) = &mut attempt.span {
                    traced::lost(
                        span,
                        failure_label(&failed.error),
                        &failed.error.to_string(),
                    );
                }
                let forgiven = failed.stale && self.is_repeatable();
                if self.is_to_blame(&attempt, &failed.error) && !forgiven {
                    attempt.failed(exchange.id(), failed.error.to_string());
                }
                Ok(Tried::Lost(failed))
            }
        }
    }

    /// A place at the upstream, where those are counted.
    async fn place(&self, exchange: &Exchange) -> Result<Option<Place>, Refusal> {
        match self.way.bulkhead {
            None => Ok(None),
            Some(bulkhead) => {
                if let Some(place) = bulkhead.try_enter() {
                    return Ok(Some(place));
                }
                let entering = self.unless_left(bulkhead.enter(self.waits.deadline));
                match Box::pin(entering).await? {
                    Ok(place) => Ok(Some(place)),
                    Err(NoPlace::Late) => Err(late(exchange, self.way, &self.waits)),
                    Err(no) => Err(busy(exchange, self.way, no)),
                }
            }
        }
    }

    /// Whether an error speaks against the upstream. Where the caller would not wait any longer, only
    /// if the attempt had lasted for as long as makes an answer slow: nobody's haste opens the circuit
    /// for the others.
    fn is_to_blame(&self, attempt: &Attempt, error: &UpstreamError) -> bool {
        let slow_after = self.way.upstream_plan.breaker.slow_after;
        let slow = || clock::now().saturating_duration_since(attempt.started()) >= slow_after;
        error.blame() == Blame::Upstream || (error.is_callers_deadline() && slow())
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    /// The client has left: nothing more is sent for it.
    pub async fn back_off(&self, wait: Duration) -> Result<(), Refusal> {
        self.unless_left(tokio::time::sleep(wait)).await
    }

    /// Waits for something that comes before anything is sent. A client that leaves meanwhile ends
    /// it; where its leaving ends the whole exchange anyway, there is nothing to watch.
    async fn unless_left<T>(&self, wait: impl Future<Output = T>) -> Result<T, Refusal> {
        let Some(left) = &self.left else {
            return Ok(wait.await);
        };
        left.run_until_cancelled(wait).await.ok_or_else(|| {
            let detail = "the client left before this was sent";
            Refusal::new(Reason::RequestTimeout, detail)
        })
    }

    async fn send(
        &self,
        exchange: &Exchange,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let worker = &exchange.worker;
        let pool = self.way.upstream.pool(worker.id);
        let tls = &self.way.upstream_plan.tls;
        let link = Link {
            endpoint: self.endpoint,
            tls,
            pool,
            resolver: &worker.resolver,
            upgrades: self.upgrades,
        };
        send(&link, request, &self.waits).await
    }

    /// Whether a connection kept from earlier was closed under a request that may be sent again: it
    /// goes at once on a fresh one, which is no repeat that the upstream would notice.
    pub fn replaces_stale(&mut self, request: &Outgoing, tried: &Tried) -> bool {
        let stale = matches!(tried, Tried::Lost(failed) if failed.stale);
        let again = stale && self.is_repeatable() && request.is_replayable();
        if again {
            self.waits.reuse.max_idle = Duration::ZERO;
            self.counted = self.counted.saturating_sub(1);
        }
        again
    }

    /// Whether sending it twice is the same as once.
    fn is_repeatable(&self) -> bool {
        self.safety != Safety::Neither && !self.creates
    }

    /// What the answer means, by its head and, where the profile needs it, the start of its body.
    async fn read(&self, exchange: &Exchange, answer: &mut Response<UpstreamBody>) -> Reading {
        let profile = &self.way.upstream_plan.profile;
        let status = answer.status();
        let start = if profile.wants_body_start(status, answer.headers()) {
            Some(answer.body_mut().peek(BODY_START).await)
        } else {
            None
        };
        profile.read(&exchange.method, status, answer.headers(), start.as_deref())
    }

    /// What the answer says of the attempt; the rest of its body may still change it.
    fn judge(
        &self,
        exchange: &mut Exchange,
        attempt: &mut Attempt,
        answer: &Response<UpstreamBody>,
        read: &Reading,
    ) {
        let notes = read.notes.iter();
        let notes = notes.map(|(name, value)| (*name, value.clone().into()));
        exchange.notes.extend(notes);
        if let Some(span) = &mut attempt.span {
            traced::answered(span, answer);
        }
        attempt.expect(read.outcome);
        if let Some(note) = &read.note {
            self.way.upstream.metrics.noted(note);
            exchange.notes.push(("vendor_note", note.clone().into()));
        }
        let profile = &self.way.upstream_plan.profile;
        if let Some(now) = profile.concurrent_requests(answer.headers()) {
            self.way.upstream.metrics.concurrent_requests(now);
        }
        match read.outcome {
            Outcome::Failure => {
                let status = answer.status().as_u16();
                attempt.failed(exchange.id(), format!("it answered {status}"));
            }
            Outcome::Success if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                attempt.settle();
            }
            Outcome::Success if attempt.is_probe() && is_stream(answer.headers()) => {
                attempt.decide_early();
            }
            _ => {}
        }
    }

    /// What is known after an attempt; nothing where there is nothing to repeat.
    pub fn facts(&self, request: &Outgoing, tried: &Tried) -> Option<Facts> {
        let (failure, returned, worth) = match tried {
            Tried::Answered(answered) => (refused(&answered.0.0, &answered.1)?, false, true),
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
            attempt: self.counted,
            safety: self.safety,
            creates: self.creates,
            replayable: returned || request.is_replayable(),
            worth,
            failure,
        })
    }

    /// What the client is told in the end, and why it was not tried again.
    ///
    /// # Errors
    /// The attempt brought no answer.
    pub fn end(
        &self,
        exchange: &mut Exchange,
        tried: Tried,
        why: Option<&'static str>,
    ) -> Result<Brought, Refusal> {
        if let Some(why) = why {
            self.way.upstream.metrics.not_retried(why);
            exchange.notes.push(("not_retried", why.into()));
        }
        match tried {
            Tried::Answered(answered) => Ok(answered),
            Tried::Lost(failed) => Err(told(self.way, &failed)),
        }
    }

    /// Whether to try again.
    pub fn decide(&self, facts: Option<&Facts>) -> Next {
        let Some(facts) = facts else {
            return Next::Stop { why: None };
        };
        let settings = &self.way.retry;
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

/// What an answer that is no success says; nothing for one that is.
fn refused<B>(answer: &Response<B>, read: &Reading) -> Option<Failed> {
    let status = answer.status().as_u16();
    let asked = answer.headers().get(header::RETRY_AFTER);
    (status >= 400).then(|| Failed::Answered {
        status,
        outcome: read.outcome,
        never_processed: read.repeatable,
        retry_after: asked.and_then(|field| retry::parse_retry_after(field, clock::wall())),
    })
}

/// Whether the answer is a stream of events, which may never end.
pub fn is_stream(fields: &HeaderMap) -> bool {
    fields
        .get(header::CONTENT_TYPE)
        .and_then(|t| t.as_bytes().get(..17))
        .is_some_and(|t| t.eq_ignore_ascii_case(b"text/event-stream"))
}
