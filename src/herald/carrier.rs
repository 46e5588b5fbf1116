//! The task that carries news to the receiver.
//!
//! One delivery at a time, so that a receiver hears of changes in their order. One that is away or busy
//! is asked again, later and later, until the news are too old; one that says no is not. A redirect is a
//! no: a signed message goes where the configuration says and nowhere else. Ends when it is told to,
//! with the queue empty. Nothing waits for it but the end of the process.

use super::settings::Settings;
use super::sign::sign;
use super::{Herald, Message};
use crate::clock::{self, Duration};
use crate::policy::retry::parse_retry_after;
use crate::upstream::error::UpstreamError;
use crate::upstream::request_body::RequestBody;
use crate::upstream::resolve::Resolver;
use crate::upstream::send::{Link, Waits, send};
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use metrics::Counter;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A receiver's answer is read this far, in bytes.
const LONGEST_ANSWER: usize = 16 << 10;
/// The wait after the first try that failed; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest wait, whatever the receiver asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The wait when the process is about to end, where there is one repeat.
const LAST_PAUSE: Duration = Duration::from_millis(100);
/// Connections that lay idle for longer are not used.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// The running task.
pub struct Carrier {
    herald: Arc<Herald>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Carrier {
    /// Starts it on this runtime.
    pub fn start(herald: &Arc<Herald>) -> Carrier {
        let stop = CancellationToken::new();
        let round = Round {
            herald: Arc::clone(herald),
            resolver: Resolver::default(),
            stop: stop.clone(),
        };
        Carrier {
            herald: Arc::clone(herald),
            stop,
            task: tokio::spawn(round.run()),
        }
    }

    /// Delivers what waits and ends, within so long; what is left then is counted as lost.
    pub async fn finish(mut self, within: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(within, &mut self.task).await.is_ok() {
            return;
        }
        self.task.abort();
        let left = self.herald.waiting() + 1;
        tracing::warn!(left, "the receiver of notifications took too long");
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        self.herald.counters.expired.increment(left);
    }
}

struct Round {
    herald: Arc<Herald>,
    resolver: Resolver,
    stop: CancellationToken,
}

/// Why a try failed.
struct Failed {
    why: String,
    /// Whether it may be repeated, and after how long at least.
    again: Option<Duration>,
}

impl Round {
    async fn run(self) {
        while let Some(message) = self.next().await {
            let counter = self.carry(&message).await;
            counter.increment(1);
        }
    }

    /// Waits for news. None: there will be no more.
    async fn next(&self) -> Option<Message> {
        loop {
            if let Some(message) = self.herald.next() {
                return Some(message);
            }
            let came = self.herald.came.notified();
            self.stop.run_until_cancelled(came).await?;
        }
    }

    /// Carries a message for as long as it is worth it; where to count it.
    async fn carry(&self, message: &Message) -> &Counter {
        let counters = &self.herald.counters;
        let mut pause = PAUSE;
        let mut tries = 0_u32;
        loop {
            let Some(settings) = self.herald.settings.load_full() else {
                return &counters.dropped;
            };
            if clock::now().saturating_duration_since(message.came) >= settings.give_up_after {
                return &counters.expired;
            }
            tries += 1;
            let failed = match self.post(&settings, message).await {
                Ok(()) => {
                    self.went_well(&settings);
                    return &counters.delivered;
                }
                Err(failed) => failed,
            };
            self.went_wrong(&settings, &failed.why);
            let Some(least) = failed.again else {
                return &counters.rejected;
            };
            if self.stop.is_cancelled() && tries > 1 {
                return &counters.expired;
            }
            self.rest(spread(pause).max(least).min(LONGEST_PAUSE)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits so long, and not for long once the process is about to end.
    async fn rest(&self, pause: Duration) {
        let rest = self.stop.run_until_cancelled(tokio::time::sleep(pause));
        if rest.await.is_none() {
            tokio::time::sleep(LAST_PAUSE).await;
        }
    }

    async fn post(&self, settings: &Settings, message: &Message) -> Result<(), Failed> {
        let posted = tokio::time::timeout(settings.timeout, self.exchange(settings, message));
        posted.await.unwrap_or_else(|_| {
            Err(Failed {
                why: format!("no answer within {:?}", settings.timeout),
                again: Some(Duration::ZERO),
            })
        })
    }

    /// One request and its answer.
    async fn exchange(&self, settings: &Settings, message: &Message) -> Result<(), Failed> {
        let link = Link {
            endpoint: &settings.endpoint,
            tls: &settings.tls,
            pool: &settings.pool,
            resolver: &self.resolver,
            upgrades: false,
        };
        let sent = send(
            &link,
            &mut Some(request(settings, message)?),
            &Waits::within(settings.timeout, MAX_IDLE),
        )
        .await;
        let (head, body) = sent.map_err(|failed| lost(&failed.error))?.into_parts();
        // Read to its end, so that the connection can be used again; what it says is nobody's concern.
        let _ = Limited::new(body, LONGEST_ANSWER).collect().await;
        if head.status.is_success() {
            return Ok(());
        }
        let busy = head.status.is_server_error()
            || matches!(
                head.status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
            );
        let asked = head.headers.get(header::RETRY_AFTER);
        let asked = asked.and_then(|field| parse_retry_after(field, clock::wall()));
        Err(Failed {
            why: format!("it answered {}", head.status.as_u16()),
            again: busy.then(|| asked.unwrap_or_default()),
        })
    }

    fn went_well(&self, settings: &Settings) {
        if self.herald.trouble().take().is_some() {
            let receiver = settings.receiver();
            tracing::info!(receiver, "notifications are delivered again");
        }
    }

    /// The log tells changes alone.
    fn went_wrong(&self, settings: &Settings, why: &str) {
        if self.herald.trouble().replace(why.to_owned()).is_none() {
            let receiver = settings.receiver();
            tracing::warn!(
                receiver,
                why,
                "a notification is not delivered; requests go on"
            );
        }
    }
}

fn request(settings: &Settings, message: &Message) -> Result<Request<RequestBody>, Failed> {
    let unfit = |why: String| Failed { why, again: None };
    let signed = sign(settings, &message.id, &message.body, clock::wall());
    let mut request = Request::post(settings.path.as_str())
        .body(RequestBody::Whole(Some(message.body.clone())))
        .map_err(|_| unfit("its address cannot be sent".to_owned()))?;
    let agent = concat!("trunkline/", env!("CARGO_PKG_VERSION"));
    let fields = request.headers_mut();
    fields.insert(header::HOST, settings.endpoint.host_field.clone());
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", agent),
        ("webhook-id", message.id.as_str()),
        ("webhook-timestamp", signed.timestamp.as_str()),
        ("webhook-signature", signed.signature.as_str()),
    ] {
        let value = HeaderValue::from_str(value).map_err(|e| unfit(e.to_string()))?;
        fields.insert(HeaderName::from_static(name), value);
    }
    Ok(request)
}

/// Whatever went wrong on the way may pass: a receiver knows by the id what it has had before.
fn lost(error: &UpstreamError) -> Failed {
    Failed {
        why: error.to_string(),
        again: Some(Duration::ZERO),
    }
}

/// From half of it to all of it, so that many instances do not come at once.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
