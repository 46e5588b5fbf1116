//! How often may this key pass: one limit, a GCRA over keys, shared by all workers.
//!
//! The arithmetic is governor's; the memory is a table of fixed size (`cells`), so that no number of clients makes it
//! grow and no crowd of them frees a client that is blocked. It never reads a clock and never sleeps: the caller hands
//! in `now`, and turns a refusal into an answer. Called once per request by the admission step, and by a reload.
//!
//! governor measures time from a limiter's start, which would have to be read from a clock. Here each decision builds
//! its own limiter (two numbers and a borrow), whose time is always zero: the table stores absolute times, and a
//! `Standing` shows governor how far a key's time lies *ahead of now*, which is all that the algorithm needs.

mod line;
mod shared;

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use http::HeaderValue;

use self::line::Line;
pub use self::shared::{OnLoss, Terms};
use super::cells::{Cells, Moment};
use super::identity::ClientKey;

/// The longest time that a full burst may take to come back.
pub const MAX_WINDOW: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The largest `max_clients`; it takes 0.6 GB.
pub const MAX_CLIENTS: usize = 10_000_000;
/// The longest name of a limit, in bytes.
pub const MAX_NAME: usize = 64;

/// Keys that a limit by upstream or by route is sized for: they come from the configuration, not from clients.
const CONFIGURED_KEYS: usize = 16_384;
/// What a limit counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitBy {
    /// A bucket for each client.
    Client,
    /// One bucket for all that goes to an upstream.
    Upstream,
    /// One bucket for all that a route takes.
    Route,
}

/// Whether a limit refuses or only counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Refuses what is over the limit.
    Enforce,
    /// Lets everything pass and says what it would have refused.
    Observe,
}

/// One entry of `rate_limits`: `requests` in each `per` once the first `burst` are spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests that come back in each `per`.
    pub requests: NonZeroU32,
    /// The time in which `requests` come back, one by one.
    pub per: Duration,
    /// Requests that may come at once after a rest.
    pub burst: NonZeroU32,
    /// What is counted.
    pub by: LimitBy,
    /// Whether to refuse.
    pub mode: Mode,
    /// Clients to remember; beyond about twice as many, newcomers inherit the debt of those they displace.
    pub max_clients: usize,
}

/// Why a limit cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The name cannot be written in a header field.
    #[error("a limit's name must be 1 to {MAX_NAME} printable ASCII characters")]
    Name,
    /// No time in which requests could come back.
    #[error("`per` must be longer than zero")]
    NoTime,
    /// A bucket that practically never fills.
    #[error("`burst` takes longer than 366 days to come back; lower `burst` or `per`")]
    TooSlow,
    /// Nobody could be remembered, or the table would not fit.
    #[error("`max_clients` must be between 1 and {MAX_CLIENTS}")]
    Clients,
}

impl LimitSettings {
    /// The time after which one request comes back: at least 1 ns, and rounded up, so never more than was asked for.
    fn interval(&self) -> Result<Duration, LimitError> {
        let interval = self.per.as_nanos().div_ceil(self.requests.get().into());
        if interval == 0 {
            return Err(LimitError::NoTime);
        }
        if interval.saturating_mul(self.burst.get().into()) > MAX_WINDOW.as_nanos() {
            return Err(LimitError::TooSlow);
        }
        u64::try_from(interval)
            .map(Duration::from_nanos)
            .map_err(|_| LimitError::TooSlow)
    }

    /// Whole seconds in which a full burst comes back, rounded up: `burst * per / requests`.
    fn window_seconds(&self) -> u64 {
        let nanos = self.per.as_nanos().saturating_mul(self.burst.get().into());
        let window = nanos.div_ceil(self.requests.get().into());
        u64::try_from(window.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
    }

    /// How many keys to make room for.
    fn keys(&self) -> Result<usize, LimitError> {
        if !(1..=MAX_CLIENTS).contains(&self.max_clients) {
            return Err(LimitError::Clients);
        }
        Ok(match self.by {
            LimitBy::Client => self.max_clients,
            LimitBy::Upstream | LimitBy::Route => self.max_clients.min(CONFIGURED_KEYS),
        })
    }
}

/// What a limit says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Within the limit, and spent.
    Allowed {
        /// Requests that may follow at once.
        remaining: u32,
        /// Time until the whole burst is there again.
        reset: Duration,
    },
    /// Over the limit, and to be refused. Nothing is spent.
    Limited {
        /// Time until one request may pass, if nothing else comes in between.
        retry_after: Duration,
    },
    /// Over a limit that only observes: to be let through. Nothing is spent.
    Observed {
        /// Time until one request would have passed.
        retry_after: Duration,
    },
}

impl Decision {
    /// Whether the request goes on.
    pub fn passes(&self) -> bool {
        !matches!(self, Self::Limited { .. })
    }

    /// The word for metrics and log lines.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Allowed { .. } => "allowed",
            Self::Limited { .. } => "limited",
            Self::Observed { .. } => "observed",
        }
    }

    /// `Retry-After` of a refusal in whole seconds, rounded up, at least 1; nothing for what passes.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        (!self.passes()).then(|| self.parameters().1)
    }

    /// `r` and `t` of the `RateLimit` field. On a refusal `t` is the wait itself, as `Retry-After` must not be earlier.
    fn parameters(&self) -> (u32, u64) {
        match self {
            Self::Allowed { remaining, reset } => (*remaining, whole_seconds(*reset)),
            Self::Limited { retry_after } | Self::Observed { retry_after } => {
                (0, whole_seconds(*retry_after))
            }
        }
    }
}

fn whole_seconds(time: Duration) -> u64 {
    let begun = u64::from(time.subsec_nanos() > 0);
    time.as_secs().saturating_add(begun).max(1)
}

/// A named limit with the standing of everyone it counts.
#[derive(Debug)]
pub struct Limit {
    name: Box<str>,
    quoted: Box<str>,
    settings: LimitSettings,
    quota: Quota,
    most: u64,
    policy: HeaderValue,
    origin: Instant,
    cells: Arc<Cells>,
}

impl Limit {
    /// A limit that nobody has used yet. Times are kept relative to `now`; earlier instants count as `now`.
    ///
    /// # Errors
    /// Settings that no limit can serve.
    pub fn new(name: &str, settings: LimitSettings, now: Instant) -> Result<Self, LimitError> {
        let cells = Arc::new(Cells::for_clients(settings.keys()?));
        Self::over(name, settings, now, cells)
    }

    /// This limit under other settings, which hold from the next decision: everyone keeps the standing they have, cut
    /// to an empty bucket where the new settings are more generous.
    ///
    /// Both share one memory while its size is the same; with another `max_clients` the memory is copied, and what
    /// the old limit decides after that is not seen by the new one. So swap at once.
    ///
    /// # Errors
    /// As for [`Limit::new`].
    pub fn with_settings(&self, settings: LimitSettings) -> Result<Self, LimitError> {
        let keys = settings.keys()?;
        let cells = if self.cells.fits(keys) {
            Arc::clone(&self.cells)
        } else {
            Arc::new(self.cells.resized(keys))
        };
        Self::over(&self.name, settings, self.origin, cells)
    }

    fn over(
        name: &str,
        settings: LimitSettings,
        origin: Instant,
        cells: Arc<Cells>,
    ) -> Result<Self, LimitError> {
        let quoted = quoted(name)?;
        let quota = Quota::with_period(settings.interval()?)
            .ok_or(LimitError::NoTime)?
            .allow_burst(settings.burst);
        let window = settings.window_seconds();
        let policy = format!("{quoted};q={};w={window}", settings.burst);
        Ok(Self {
            name: name.into(),
            quoted,
            quota,
            most: nanos(quota.burst_size_replenished_in()),
            policy: HeaderValue::try_from(policy).map_err(|_| LimitError::Name)?,
            settings,
            origin,
            cells,
        })
    }

    /// Decides for one request of `key` at `now`, and spends it if it is within the limit.
    pub fn check(&self, key: ClientKey, now: Instant) -> Decision {
        let store = Standing {
            cells: &self.cells,
            moment: Moment {
                now: nanos(now.saturating_duration_since(self.origin)),
                most: self.most,
            },
            owed: Cell::new(0),
        };
        let limiter: RateLimiter<_, _, _, StateInformationMiddleware> =
            RateLimiter::new(self.quota, store, Now);
        match limiter.check_key(&key) {
            Ok(spent) => Decision::Allowed {
                remaining: spent.remaining_burst_capacity(),
                reset: Duration::from_nanos(limiter.into_state_store().owed.get()),
            },
            Err(refused) => {
                let retry_after = refused.wait_time_from(Now.now());
                match self.settings.mode {
                    Mode::Enforce => Decision::Limited { retry_after },
                    Mode::Observe => Decision::Observed { retry_after },
                }
            }
        }
    }

    /// The name it has in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was built from.
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// `RateLimit-Policy`: `"per_client";q=10;w=60`, where `q` is the burst and `w` the seconds in which it comes back.
    pub fn policy_header(&self) -> &HeaderValue {
        &self.policy
    }

    /// `RateLimit` for an answer to the request that was decided: `"per_client";r=9;t=6`.
    pub fn header(&self, decision: &Decision) -> HeaderValue {
        let (remaining, reset) = decision.parameters();
        let mut line = Line::new();
        line.push(self.quoted.as_bytes());
        line.push(b";r=");
        line.push_number(remaining.into());
        line.push(b";t=");
        line.push_number(reset);
        HeaderValue::from_bytes(line.bytes())
            .expect("a checked name and decimal digits are visible ASCII")
    }

    /// Places in use in the limit's memory: at most [`Limit::places`], and never fewer than before.
    pub fn clients_held(&self) -> usize {
        self.cells.taken()
    }

    /// Places in the limit's memory.
    pub fn places(&self) -> usize {
        self.cells.capacity()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A name as an RFC 9651 string.
fn quoted(name: &str) -> Result<Box<str>, LimitError> {
    let printable = name.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if name.is_empty() || name.len() > MAX_NAME || !printable {
        return Err(LimitError::Name);
    }
    let escaped = name.replace('\\', r"\\").replace('"', "\\\"");
    Ok(format!("\"{escaped}\"").into())
}

/// The clock of a limiter that lives for one decision: it is always now.
struct Now;

impl Clock for Now {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::default()
    }
}

/// The table as seen at one instant: absolute times inside, time ahead of now outside.
struct Standing<'a> {
    cells: &'a Cells,
    moment: Moment,
    /// What the key owes after an allowed request, which governor keeps to itself.
    owed: Cell<u64>,
}

impl StateStore for Standing<'_> {
    type Key = ClientKey;

    fn measure_and_replace<T, F, E>(&self, key: &ClientKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let now = self.moment.now;
        self.cells.update(key.as_u64(), self.moment, |arrival| {
            let ahead = Nanos::from(arrival.saturating_sub(now));
            let (answer, owed) = decide(Some(ahead))?;
            self.owed.set(owed.as_u64());
            Ok((answer, now.saturating_add(owed.as_u64())))
        })
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn settings(requests: u32, per: Duration) -> LimitSettings {
        let requests = NonZeroU32::new(requests).unwrap();
        LimitSettings {
            requests,
            per,
            burst: requests,
            by: LimitBy::Client,
            mode: Mode::Enforce,
            max_clients: 1000,
        }
    }

    fn ten_a_minute() -> LimitSettings {
        settings(10, Duration::from_secs(60))
    }

    fn key(number: u32) -> ClientKey {
        ClientKey::of("test", &number.to_le_bytes())
    }

    fn spend(limit: &Limit, times: u32, now: Instant) {
        for _ in 0..times {
            assert!(limit.check(key(0), now).passes());
        }
    }

    /// The algorithm by the book, with a memory that forgets nothing.
    struct Exact {
        interval: u64,
        tolerance: u64,
        arrivals: HashMap<u32, u64>,
    }

    impl Exact {
        fn of(settings: &LimitSettings) -> Self {
            let interval = nanos(settings.interval().unwrap());
            Self {
                interval,
                tolerance: interval * u64::from(settings.burst.get() - 1),
                arrivals: HashMap::new(),
            }
        }

        fn allows(&self, client: u32, now: u64) -> bool {
            let arrival = self.arrivals.get(&client).copied().unwrap_or(0);
            arrival <= now + self.tolerance
        }

        fn spend(&mut self, client: u32, now: u64) {
            let arrival = self.arrivals.entry(client).or_default();
            *arrival = now.max(*arrival) + self.interval;
        }
    }

    #[test]
    fn the_request_after_the_burst_is_refused_until_one_comes_back() {
        let t0 = Instant::now();
        let limit = Limit::new("per_client", ten_a_minute(), t0).unwrap();
        for spent in 1..=10 {
            let expected = Decision::Allowed {
                remaining: 10 - spent,
                reset: Duration::from_secs(6 * u64::from(spent)),
            };
            assert_eq!(limit.check(key(0), t0), expected);
        }
        let refused = limit.check(key(0), t0 + Duration::from_secs(2));
        let retry_after = Duration::from_secs(4);
        assert_eq!(refused, Decision::Limited { retry_after });
        assert_eq!(refused.retry_after_seconds(), Some(4));
        assert!(
            !limit
                .check(key(0), t0 + Duration::from_millis(5999))
                .passes()
        );
        assert!(limit.check(key(0), t0 + Duration::from_secs(6)).passes());
        assert!(!limit.check(key(0), t0 + Duration::from_secs(6)).passes());
        assert!(limit.check(key(1), t0).passes());
    }

    #[test]
    fn an_instant_before_the_origin_counts_as_the_origin() {
        let t0 = Instant::now() + Duration::from_secs(100);
        let limit = Limit::new("per_client", ten_a_minute(), t0).unwrap();
        spend(&limit, 10, t0 - Duration::from_secs(50));
        assert!(!limit.check(key(0), t0).passes());
    }

    #[test]
    fn an_observing_limit_lets_everything_pass_and_says_what_it_saw() {
        let t0 = Instant::now();
        let mut observing = ten_a_minute();
        observing.mode = Mode::Observe;
        let limit = Limit::new("per_client", observing, t0).unwrap();
        spend(&limit, 10, t0);
        let decision = limit.check(key(0), t0);
        assert!(decision.passes());
        assert_eq!(decision.label(), "observed");
        assert_eq!(decision.retry_after_seconds(), None);
    }

    #[test]
    fn the_fields_tell_the_burst_its_window_what_is_left_and_when_it_is_back() {
        let t0 = Instant::now();
        let limit = Limit::new("per_client", ten_a_minute(), t0).unwrap();
        assert_eq!(limit.policy_header(), "\"per_client\";q=10;w=60");
        let first = limit.check(key(0), t0);
        assert_eq!(limit.header(&first), "\"per_client\";r=9;t=6");
        spend(&limit, 9, t0);
        let refused = limit.check(key(0), t0 + Duration::from_millis(100));
        assert_eq!(limit.header(&refused), "\"per_client\";r=0;t=6");
        assert_eq!(refused.retry_after_seconds(), Some(6));
    }

    #[test]
    fn the_window_is_that_of_the_burst() {
        let t0 = Instant::now();
        for (requests, per, burst, expected) in [
            (10, 60_000, 25, "\"x\";q=25;w=150"),
            (3, 1_000, 1, "\"x\";q=1;w=1"),
            (7, 10_000, 5, "\"x\";q=5;w=8"),
            (
                1_000_000_000,
                60_000,
                1_000_000_000,
                "\"x\";q=1000000000;w=60",
            ),
        ] {
            let mut settings = settings(requests, Duration::from_millis(per));
            settings.burst = NonZeroU32::new(burst).unwrap();
            let limit = Limit::new("x", settings, t0).unwrap();
            assert_eq!(limit.policy_header(), expected);
        }
    }

    #[test]
    fn a_name_is_escaped_and_one_that_no_field_can_hold_is_refused() {
        let t0 = Instant::now();
        let longest = "\"".repeat(MAX_NAME);
        let limit = Limit::new(
            &longest,
            settings(u32::MAX, Duration::from_secs(u64::from(u32::MAX) / 1000)),
            t0,
        )
        .unwrap();
        let spent = limit.check(key(0), t0);
        let expected = format!("\"{}\";r=4294967294;t=1", "\\\"".repeat(MAX_NAME));
        assert_eq!(limit.header(&spent), expected.as_str());
        for name in ["", "limité", "a\nb", &"x".repeat(MAX_NAME + 1)] {
            let refused = Limit::new(name, ten_a_minute(), t0);
            assert_eq!(refused.unwrap_err(), LimitError::Name);
        }
    }

    #[test]
    fn settings_that_no_limit_can_serve_are_refused() {
        let t0 = Instant::now();
        let with = |change: fn(&mut LimitSettings)| {
            let mut changed = ten_a_minute();
            change(&mut changed);
            Limit::new("x", changed, t0).unwrap_err()
        };
        assert_eq!(with(|s| s.per = Duration::ZERO), LimitError::NoTime);
        assert_eq!(with(|s| s.per = Duration::MAX), LimitError::TooSlow);
        assert_eq!(with(|s| s.burst = NonZeroU32::MAX), LimitError::TooSlow);
        assert_eq!(with(|s| s.max_clients = 0), LimitError::Clients);
        assert_eq!(with(|s| s.max_clients = usize::MAX), LimitError::Clients);
    }

    #[test]
    fn a_rate_above_one_a_nanosecond_still_limits() {
        let t0 = Instant::now();
        let limit = Limit::new("x", settings(u32::MAX, Duration::from_nanos(3)), t0).unwrap();
        assert!(limit.check(key(0), t0).passes());
        let mut single = settings(u32::MAX, Duration::from_nanos(3));
        single.burst = NonZeroU32::MIN;
        let limit = Limit::new("x", single, t0).unwrap();
        spend(&limit, 1, t0);
        assert!(!limit.check(key(0), t0).passes());
        assert!(limit.check(key(0), t0 + Duration::from_nanos(1)).passes());
    }

    #[test]
    fn ten_times_the_rate_gets_the_rate_within_one_percent() {
        let t0 = Instant::now();
        for rate in [7_u32, 50, 333, 1000] {
            let limit = Limit::new("x", settings(rate, Duration::from_secs(1)), t0).unwrap();
            let asked = 10 * rate * 200;
            let passed = (0..asked)
                .map(|at| t0 + Duration::from_secs(200) * at / asked)
                .filter(|now| limit.check(key(0), *now).passes())
                .count();
            let fair = f64::from(rate * 200 + rate);
            let error = (f64::from(u32::try_from(passed).unwrap()) - fair).abs() / fair;
            assert!(error <= 0.01, "{passed} of {fair} at {rate}/s");
        }
    }

    #[test]
    fn other_settings_hold_from_the_next_decision_and_spend_what_was_spent() {
        let t0 = Instant::now();
        let limit = Limit::new("per_client", ten_a_minute(), t0).unwrap();
        spend(&limit, 10, t0);
        let mut larger = ten_a_minute();
        larger.max_clients = 50_000;
        let mut observing = ten_a_minute();
        observing.mode = Mode::Observe;
        for (changed, passes) in [(ten_a_minute(), false), (larger, false), (observing, true)] {
            let limit = limit.with_settings(changed).unwrap();
            assert_eq!(limit.check(key(0), t0).passes(), passes);
            assert_eq!(limit.clients_held(), 1);
        }
    }

    #[test]
    fn more_generous_settings_free_whoever_the_old_ones_held_for_longer() {
        let t0 = Instant::now();
        let slow = settings(1, Duration::from_secs(3600));
        let limit = Limit::new("per_client", slow, t0).unwrap();
        spend(&limit, 1, t0);
        let limit = limit.with_settings(ten_a_minute()).unwrap();
        let retry_after = Duration::from_secs(6);
        assert_eq!(limit.check(key(0), t0), Decision::Limited { retry_after });
        assert!(limit.check(key(0), t0 + retry_after).passes());
    }

    #[test]
    fn a_crowd_never_frees_a_client_that_is_blocked() {
        let t0 = Instant::now();
        let mut small = ten_a_minute();
        small.max_clients = 1;
        let limit = Limit::new("per_client", small, t0).unwrap();
        spend(&limit, 10, t0);
        for stranger in 1..20_000 {
            let now = t0 + Duration::from_micros(u64::from(stranger) * 299);
            limit.check(key(stranger), now);
            assert!(!limit.check(key(0), now).passes(), "freed by {stranger}");
        }
        assert_eq!(limit.clients_held(), limit.places());
    }

    #[test]
    fn workers_together_pass_exactly_the_burst() {
        let t0 = Instant::now();
        let limit = Limit::new("x", settings(1000, Duration::from_secs(60)), t0).unwrap();
        let ask = || {
            (0..500)
                .filter(|_| limit.check(key(0), t0).passes())
                .count()
        };
        let passed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        assert_eq!(passed, 1000);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask { client: u32, pause: u64 },
        Resize(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let ask = |clients: u32| {
            (0..clients, 0..400_u64).prop_map(|(client, pause)| Step::Ask { client, pause })
        };
        let resize = prop_oneof![Just(1_usize), Just(9), Just(20), Just(60)];
        prop::collection::vec(
            prop_oneof![20 => ask(200), 20 => ask(4), 1 => resize.prop_map(Step::Resize)],
            1..800,
        )
    }

    fn small(requests: u32, burst: u32, max_clients: usize) -> LimitSettings {
        LimitSettings {
            burst: NonZeroU32::new(burst).unwrap(),
            max_clients,
            ..settings(requests, Duration::from_nanos(10_000))
        }
    }

    proptest! {
        #[test]
        fn what_passes_a_bounded_table_would_pass_an_exact_one(
            steps in steps(), requests in 1..50_u32, burst in 1..6_u32,
        ) {
            let t0 = Instant::now();
            let first = small(requests, burst, 1);
            let mut exact = Exact::of(&first);
            let mut independent = Exact::of(&first);
            let mut lead: HashMap<u32, i64> = HashMap::new();
            let mut limit = Limit::new("x", first, t0).unwrap();
            let mut now = 0;
            for step in steps {
                let (client, pause) = match step {
                    Step::Ask { client, pause } => (client, pause),
                    Step::Resize(clients) => {
                        limit = limit.with_settings(small(requests, burst, clients)).unwrap();
                        continue;
                    }
                };
                now += pause;
                let lead = lead.entry(client).or_default();
                if independent.allows(client, now) {
                    independent.spend(client, now);
                    *lead += 1;
                }
                if limit.check(key(client), t0 + Duration::from_nanos(now)).passes() {
                    prop_assert!(exact.allows(client, now), "client {client} freed at {now}");
                    exact.spend(client, now);
                    *lead -= 1;
                }
                prop_assert!(*lead >= 0, "client {client} got more than alone at {now}");
            }
        }

        #[test]
        fn with_room_for_all_the_table_is_exact(
            asks in prop::collection::vec((0..16_u32, 0..400_u64), 1..600),
            requests in 1..50_u32, burst in 1..6_u32,
        ) {
            let t0 = Instant::now();
            let mut exact = Exact::of(&small(requests, burst, 1));
            let limit = Limit::new("x", small(requests, burst, 1), t0).unwrap();
            let mut now = 0;
            for (client, pause) in asks {
                now += pause;
                let passes = limit.check(key(client), t0 + Duration::from_nanos(now)).passes();
                prop_assert_eq!(passes, exact.allows(client, now));
                if passes {
                    exact.spend(client, now);
                }
            }
        }
    }
}
