//! The state machine of one circuit, as if there were one thread in the world.
//!
//! Decides who may call, what each verdict changes, and when the clock moves the circuit on. Every change
//! of state starts a new epoch, and a verdict of an older epoch changes nothing. It must never read a clock
//! and never panic, whatever the settings say. Only the breaker above it calls it, under its lock, and
//! always lets the clock catch up (`advance`) before anything else.

mod orders;

use std::time::{Duration, Instant};

use super::report::{
    Forced, Override, Reason, Rejected, Snapshot, State, Totals, Transition, Unheeded, Verdict,
};
use super::settings::{BreakerSettings, Mode};
use crate::policy::window::{Counts, Window};

/// What a caller beyond the probes is told to wait.
const PROBES_OUT: Duration = Duration::from_secs(1);

/// In which capacity a call was permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A call through a closed circuit.
    Ordinary,
    /// A call that holds one of the half-open circuit's slots.
    Probe,
    /// A call that would have been refused if refusals were carried out.
    Bystander,
}

/// What the holder of a permit has to report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) role: Role,
    pub(super) epoch: u64,
    pub(super) verdict: Verdict,
    pub(super) took: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    HalfOpen { out: u32, successes: u32 },
    Open { until: Instant },
}

impl Phase {
    const PROBING: Self = Self::HalfOpen {
        out: 0,
        successes: 0,
    };

    const fn state(self) -> State {
        match self {
            Self::Closed => State::Closed,
            Self::HalfOpen { .. } => State::HalfOpen,
            Self::Open { .. } => State::Open,
        }
    }
}

/// One circuit.
#[derive(Debug)]
pub(super) struct Circuit {
    settings: BreakerSettings,
    phase: Phase,
    forced: Option<Override>,
    epoch: u64,
    since: Instant,
    streak: u32,
    /// Present while a rate is set.
    window: Option<Window>,
    reopenings: u32,
    hinted_until: Option<Instant>,
    random: Random,
    totals: Totals,
    last_reason: Option<Reason>,
    unannounced: Vec<Transition>,
}

impl Circuit {
    pub(super) fn new(settings: BreakerSettings, seed: u64, now: Instant) -> Self {
        let window = settings
            .watches_rates()
            .then(|| Window::new(settings.window, now));
        Self {
            settings,
            phase: Phase::Closed,
            forced: None,
            epoch: 0,
            since: now,
            streak: 0,
            window,
            reopenings: 0,
            hinted_until: None,
            random: Random(seed),
            totals: Totals::default(),
            last_reason: None,
            unannounced: Vec::new(),
        }
    }

    pub(super) const fn state(&self) -> State {
        self.phase.state()
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether nothing but a failure, an order or a new configuration can change anything, now or later:
    /// then callers need not look here at all.
    pub(super) const fn is_calm(&self) -> bool {
        let counting = self.streak != 0 || self.window.is_some() || self.forced.is_some();
        !self.settings.enabled || (matches!(self.phase, Phase::Closed) && !counting)
    }

    /// Whether an order would do what it says: a breaker that only observes refuses nothing.
    pub(super) const fn heeds(&self, forced: Forced) -> Result<(), Unheeded> {
        match (forced, self.settings.mode) {
            (Forced::Auto, _) => Ok(()),
            _ if !self.settings.enabled => Err(Unheeded::Off),
            (Forced::Open, Mode::Observe) => Err(Unheeded::Observes),
            _ => Ok(()),
        }
    }

    /// Does what was due by `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        if let Some(end) = self.forced.as_ref().map(|forced| forced.until) {
            if end <= now {
                self.end_override(end, Reason::OverrideEnded);
            }
        } else if let Phase::Open { until } = self.phase
            && until <= now
        {
            self.enter(Phase::PROBING, until, Reason::RecoveryTimeElapsed);
        }
    }

    /// What a caller would be told at `now`; spends nothing.
    pub(super) fn check(&self, now: Instant) -> Result<Role, Rejected> {
        let retry_after = match self.phase {
            _ if !self.settings.enabled => return Ok(Role::Ordinary),
            Phase::Closed => return Ok(Role::Ordinary),
            Phase::HalfOpen { out, .. } if out < self.settings.probes.max(1) => {
                return Ok(Role::Probe);
            }
            Phase::HalfOpen { .. } => PROBES_OUT,
            Phase::Open { until } => until.saturating_duration_since(now),
        };
        match self.settings.mode {
            Mode::Observe => Ok(Role::Bystander),
            Mode::Enforce => Err(Rejected {
                state: self.state(),
                retry_after,
            }),
        }
    }

    /// Lets a caller through, taking a slot if the circuit is half-open.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Role, Rejected> {
        let role = self.check(now)?;
        if role == Role::Probe
            && let Phase::HalfOpen { out, .. } = &mut self.phase
        {
            *out = out.saturating_add(1);
        }
        Ok(role)
    }

    /// Takes a probe's slot back, unless the epoch that lent it is over.
    pub(super) fn release(&mut self, role: Role, epoch: u64) {
        if role == Role::Probe
            && epoch == self.epoch
            && let Phase::HalfOpen { out, .. } = &mut self.phase
        {
            *out = out.saturating_sub(1);
        }
    }

    /// Hears how a call ended.
    pub(super) fn settle(&mut self, report: Report, now: Instant) {
        if report.epoch != self.epoch {
            return;
        }
        if report.verdict == Verdict::Failure {
            self.totals.failures = self.totals.failures.saturating_add(1);
        }
        self.release(report.role, report.epoch);
        if !self.settings.enabled || self.forced.is_some() {
            return;
        }
        match (report.role, self.phase) {
            (Role::Ordinary, Phase::Closed) => self.judge_call(report, now),
            (Role::Probe, Phase::HalfOpen { .. }) => self.judge_probe(report.verdict, now),
            _ => {}
        }
    }

    fn judge_call(&mut self, report: Report, now: Instant) {
        let failed = report.verdict == Verdict::Failure;
        self.streak = match report.verdict {
            Verdict::Throttled | Verdict::Abandoned => return,
            Verdict::Success | Verdict::Neutral => 0,
            Verdict::Failure => self.streak.saturating_add(1),
        };
        if let Some(window) = &mut self.window {
            window.record(now, failed, report.took >= self.settings.slow_after);
        }
        let reason = self
            .streak_reason(failed, now)
            .or_else(|| self.rate_reason(now));
        if let Some(reason) = reason {
            self.open(now, reason);
        }
    }

    fn streak_reason(&self, failed: bool, now: Instant) -> Option<Reason> {
        if !failed {
            None
        } else if self.streak >= self.settings.failure_threshold.max(1) {
            Some(Reason::ConsecutiveFailures { count: self.streak })
        } else {
            self.hinted_until
                .is_some_and(|until| now < until)
                .then_some(Reason::Hint)
        }
    }

    fn rate_reason(&self, now: Instant) -> Option<Reason> {
        let counts = self.window.as_ref()?.counts(now);
        let Counts {
            calls,
            failures,
            slow,
        } = counts;
        // A rate of nothing is no reason to open while nothing has gone wrong.
        let reached = |share: Option<f64>, limit: Option<f64>| {
            share
                .zip(limit)
                .is_some_and(|(share, limit)| share > 0.0 && share >= limit)
        };
        let minimum = self.settings.minimum_calls;
        if reached(counts.failure_rate(minimum), self.settings.failure_rate) {
            Some(Reason::FailureRate { failures, calls })
        } else if reached(counts.slow_rate(minimum), self.settings.slow_rate) {
            Some(Reason::SlowRate { slow, calls })
        } else {
            None
        }
    }

    fn judge_probe(&mut self, verdict: Verdict, now: Instant) {
        match verdict {
            Verdict::Throttled | Verdict::Abandoned => {}
            Verdict::Failure => {
                self.streak = self.streak.saturating_add(1);
                self.open(now, Reason::ProbeFailed);
            }
            Verdict::Success | Verdict::Neutral => {
                self.streak = 0;
                let Phase::HalfOpen { successes, .. } = &mut self.phase else {
                    return;
                };
                *successes = successes.saturating_add(1);
                let count = *successes;
                if count >= self.settings.success_threshold.max(1) {
                    self.enter(Phase::Closed, now, Reason::ProbesSucceeded { count });
                }
            }
        }
    }

    fn open(&mut self, now: Instant, reason: Reason) {
        self.reopenings = self.growth(now);
        if self.state() == State::HalfOpen {
            self.reopenings = self.reopenings.saturating_add(1);
        }
        let length = self
            .settings
            .opening(self.reopenings, self.random.fraction());
        let until = later(now, length);
        self.enter(Phase::Open { until }, now, reason);
    }

    /// The re-openings that still count: none after the circuit was closed for a whole window.
    fn growth(&self, now: Instant) -> u32 {
        let stood = now.saturating_duration_since(self.since);
        let healthy = self.state() == State::Closed && stood >= self.settings.window;
        if healthy { 0 } else { self.reopenings }
    }

    fn enter(&mut self, phase: Phase, at: Instant, reason: Reason) {
        let (from, to) = (self.state(), phase.state());
        self.phase = phase;
        self.since = at;
        self.last_reason = Some(reason.clone());
        match to {
            State::Open => self.totals.opens = self.totals.opens.saturating_add(1),
            State::Closed => self.totals.closes = self.totals.closes.saturating_add(1),
            State::HalfOpen => {}
        }
        self.unannounced.push(Transition {
            from,
            to,
            at,
            reason,
        });
        self.begin_epoch(at);
    }

    /// Makes every permit that is out stale and forgets the evidence gathered so far.
    fn begin_epoch(&mut self, at: Instant) {
        self.epoch = self.epoch.wrapping_add(1);
        self.hinted_until = None;
        self.window = self
            .window
            .as_ref()
            .map(|old| Window::new(old.length(), at));
        if self.state() == State::Closed {
            self.streak = 0;
        }
    }

    /// The transitions that nobody has been told of, oldest first.
    pub(super) fn announce(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.unannounced)
    }

    /// The oldest transition that nobody has been told of.
    pub(super) fn announce_one(&mut self) -> Option<Transition> {
        (!self.unannounced.is_empty()).then(|| self.unannounced.remove(0))
    }

    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
        let next_probe = match self.phase {
            Phase::Open { until } => Some(until),
            Phase::Closed | Phase::HalfOpen { .. } => None,
        };
        let probes_in_flight = match self.phase {
            Phase::HalfOpen { out, .. } => out,
            Phase::Closed | Phase::Open { .. } => 0,
        };
        Snapshot {
            state: self.state(),
            since: self.since,
            until: self.forced.as_ref().map(|f| f.until).or(next_probe),
            consecutive_failures: self.streak,
            window: self
                .window
                .as_ref()
                .map(|window| window.counts(now))
                .unwrap_or_default(),
            totals: self.totals,
            reopenings: self.growth(now),
            forced: self.forced.clone(),
            probes_in_flight,
            reason: self.last_reason.clone(),
        }
    }
}

/// `at + by`, or the latest instant that halving `by` can reach where that does not exist.
fn later(at: Instant, by: Duration) -> Instant {
    let mut by = by;
    loop {
        if let Some(instant) = at.checked_add(by) {
            return instant;
        }
        by /= 2;
    }
}

/// SplitMix64: small, and the same for the same seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// The next number from 0 up to, never reaching, 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let high = u32::try_from(mixed >> 32).unwrap_or(u32::MAX);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests need some instant to start from"
)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_instant_is_found_without_overflow() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(later(now, second), now + second);
        assert!(later(now, Duration::MAX) > now + Duration::from_secs(1 << 40));
    }

    #[test]
    fn the_same_seed_draws_the_same_numbers_below_one() {
        let draw = |seed| {
            let mut random = Random(seed);
            (0..1_000).map(|_| random.fraction()).collect::<Vec<f64>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|number| (0.0..1.0).contains(number)));
        let mean = draw(7).iter().sum::<f64>() / 1_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
