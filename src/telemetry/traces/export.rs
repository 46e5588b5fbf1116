//! The task that delivers spans to the collector.
//!
//! One delivery at a time, of whatever has gathered. A collector that is away or says that it is
//! busy is asked again, later and later; one that refuses is not. Ends when it is told to, with the
//! queue empty: what cannot be delivered by then is counted as lost. Nothing waits for it but the
//! end of the process.

use super::settings::Settings;
use super::{Counters, DROPPED, EXPORTED, Traces, dropped, wire};
use crate::clock::{self, Duration};
use crate::telemetry::metrics::Metrics;
use crate::upstream::error::UpstreamError;
use crate::upstream::pool::Pool;
use crate::upstream::request_body::RequestBody;
use crate::upstream::resolve::Resolver;
use crate::upstream::send::{Link, Waits, send};
use crate::upstream::tls::{Tls, TlsSettings, read_roots};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Spans in one delivery.
const MOST: usize = 512;
/// A collector's answer is read this far, in bytes.
const LONGEST_ANSWER: usize = 64 << 10;
/// Deliveries of the same spans, the first included.
const TRIES: u32 = 5;
/// The wait after the first that failed; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest wait, whatever the collector asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The wait when the process is about to end, where there is one repeat.
const LAST_PAUSE: Duration = Duration::from_millis(100);
/// Connections that lay idle for longer are not used.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// The running task.
pub struct Exporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Starts it on this runtime; spans go to what is returned beside it.
    ///
    /// # Errors
    /// The file of trusted roots cannot be used any more.
    pub fn start(settings: &Settings, metrics: &Metrics) -> Result<(Arc<Traces>, Self), String> {
        let roots = settings.ca_file.as_deref().map(read_roots).transpose()?;
        let tls = Tls::new(TlsSettings {
            roots,
            ..TlsSettings::default()
        });
        let (queue, waiting) = mpsc::channel(settings.queue);
        let stop = CancellationToken::new();
        let delivery = Delivery {
            settings: settings.clone(),
            resource: settings.resource(),
            tls,
            pool: Arc::default(),
            resolver: Resolver::default(),
            waiting,
            counters: Counters {
                exported: metrics.counter(EXPORTED, &[]),
                failed: dropped(metrics, "not_delivered"),
                rejected: dropped(metrics, "rejected"),
            },
            stop: stop.clone(),
            failing: false,
        };
        let task = tokio::spawn(delivery.run());
        let overflow = dropped(metrics, "queue_full");
        Ok((
            Arc::new(Traces { queue, overflow }),
            Exporter { stop, task },
        ))
    }

    /// Delivers what has gathered and ends, within so long.
    pub async fn finish(mut self, within: Duration) {
        self.stop.cancel();
        let ended = tokio::time::timeout(within, &mut self.task).await;
        if ended.is_err() {
            self.task.abort();
            tracing::warn!(
                "the collector of traces took too long; the last spans are lost ({DROPPED} does not count them)"
            );
        }
    }
}

struct Delivery {
    settings: Settings,
    /// Who we are, encoded.
    resource: Vec<u8>,
    tls: Tls,
    pool: Arc<Pool>,
    resolver: Resolver,
    waiting: mpsc::Receiver<Vec<u8>>,
    counters: Counters,
    stop: CancellationToken,
    /// Whether the last delivery failed: the log tells changes alone.
    failing: bool,
}

/// Why a delivery failed.
struct Failed {
    why: String,
    /// Whether it may be repeated, and after how long at least.
    again: Option<Duration>,
}

impl Delivery {
    async fn run(mut self) {
        let mut spans = Vec::with_capacity(MOST);
        while self.gather(&mut spans).await {
            let (count, body) = (spans.len(), Bytes::from(self.body(&spans)));
            spans.clear();
            self.deliver(u64::try_from(count).unwrap_or(0), body).await;
        }
    }

    /// Waits for spans, then a little longer for more. `false`: there will be none.
    async fn gather(&mut self, spans: &mut Vec<Vec<u8>>) -> bool {
        let (mut until, mut stopping) = (None, self.stop.is_cancelled());
        loop {
            if stopping {
                self.waiting.close();
            }
            let room = MOST.saturating_sub(spans.len());
            if room == 0 {
                return true;
            }
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                came = self.waiting.recv_many(spans, room) => match came {
                    0 => return !spans.is_empty(),
                    _ => {
                        let due = || (clock::now() + self.settings.gather).into();
                        until.get_or_insert_with(due);
                    }
                },
                () = over => return true,
                () = self.stop.cancelled(), if !stopping => stopping = true,
            }
        }
    }

    /// An encoded `ExportTraceServiceRequest`.
    fn body(&self, spans: &[Vec<u8>]) -> Vec<u8> {
        let room: usize = spans.iter().map(|s| s.len() + 8).sum();
        let mut scope = Vec::new();
        wire::bytes(&mut scope, 1, b"trunkline");
        wire::bytes(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
        let mut scoped = Vec::with_capacity(room + 64);
        wire::bytes(&mut scoped, 1, &scope);
        for span in spans {
            wire::bytes(&mut scoped, 2, span);
        }
        let mut ours = Vec::with_capacity(scoped.len() + self.resource.len() + 16);
        wire::bytes(&mut ours, 1, &self.resource);
        wire::bytes(&mut ours, 2, &scoped);
        let mut out = Vec::with_capacity(ours.len() + 8);
        wire::bytes(&mut out, 1, &ours);
        out
    }

    /// Delivers a batch, again where that may help, or counts it as lost.
    async fn deliver(&mut self, count: u64, body: Bytes) {
        let mut pause = PAUSE;
        for tried in 1.. {
            let failed = match self.post(body.clone()).await {
                Ok(answer) => return self.delivered(count, &answer),
                Err(failed) => failed,
            };
            let last = match self.stop.is_cancelled() {
                true => 2,
                false => TRIES,
            };
            let Some(least) = failed.again.filter(|_| tried < last) else {
                return self.lost(count, &failed.why);
            };
            self.tell(&failed.why);
            let wait = pause.max(least).min(LONGEST_PAUSE);
            pause *= 2;
            let stopped = self.stop.run_until_cancelled(tokio::time::sleep(wait));
            if stopped.await.is_none() {
                tokio::time::sleep(LAST_PAUSE).await;
            }
        }
    }

    async fn post(&self, body: Bytes) -> Result<Bytes, Failed> {
        let posted = tokio::time::timeout(self.settings.timeout, self.exchange(body)).await;
        posted.unwrap_or_else(|_| {
            let why = format!("no answer within {:?}", self.settings.timeout);
            Err(Failed {
                why,
                again: Some(Duration::ZERO),
            })
        })
    }

    /// One request and its answer.
    async fn exchange(&self, body: Bytes) -> Result<Bytes, Failed> {
        let link = Link {
            endpoint: &self.settings.endpoint,
            tls: &self.tls,
            pool: &self.pool,
            resolver: &self.resolver,
            upgrades: false,
        };
        let answer = send(
            &link,
            &mut Some(self.request(body)?),
            &Waits::within(self.settings.timeout, MAX_IDLE),
        )
        .await;
        let answer = answer.map_err(|failed| lost(&failed.error))?;
        let (head, body) = answer.into_parts();
        let read = Limited::new(body, LONGEST_ANSWER).collect().await;
        let read = read.map(|read| read.to_bytes()).unwrap_or_default();
        if head.status.is_success() {
            return Ok(read);
        }
        let busy = matches!(
            head.status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let asked = head.headers.get(header::RETRY_AFTER);
        let asked = asked.and_then(|field| field.to_str().ok()?.parse().ok());
        Err(Failed {
            why: format!("it answered {}", head.status.as_u16()),
            again: busy.then(|| Duration::from_secs(asked.unwrap_or(0))),
        })
    }

    fn request(&self, body: Bytes) -> Result<Request<RequestBody>, Failed> {
        let fixed = [
            (header::HOST, self.settings.endpoint.host_field.clone()),
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-protobuf"),
            ),
            (
                header::USER_AGENT,
                HeaderValue::from_static(concat!("trunkline/", env!("CARGO_PKG_VERSION"))),
            ),
        ];
        let mut request = Request::post(self.settings.path.as_str())
            .body(RequestBody::Whole(Some(body)))
            .map_err(|e| Failed {
                why: e.to_string(),
                again: None,
            })?;
        let given = self.settings.headers.iter().cloned();
        request.headers_mut().extend(fixed.into_iter().chain(given));
        Ok(request)
    }

    fn delivered(&mut self, count: u64, answer: &[u8]) {
        if self.failing {
            self.failing = false;
            tracing::info!(
                collector = self.settings.url(),
                "traces are delivered again"
            );
        }
        let refused = match wire::rejected(answer) {
            None => 0,
            Some((refused, why)) => {
                tracing::warn!(refused, why, "the collector refused spans");
                refused.min(count)
            }
        };
        self.counters.rejected.increment(refused);
        self.counters.exported.increment(count - refused);
    }

    fn lost(&mut self, count: u64, why: &str) {
        self.tell(why);
        self.counters.failed.increment(count);
    }

    fn tell(&mut self, why: &str) {
        if !self.failing {
            self.failing = true;
            let collector = self.settings.url();
            tracing::warn!(collector, why, "traces are not delivered; requests go on");
        }
    }
}

fn lost(error: &UpstreamError) -> Failed {
    let again = error.may_pass() || matches!(error, UpstreamError::ConnectTimeout { .. });
    Failed {
        why: error.to_string(),
        again: again.then_some(Duration::ZERO),
    }
}
