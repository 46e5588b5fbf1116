//! A second breaker, slow and obvious, and the property that the real one never differs from it.
//!
//! The oracle keeps a list of everything that happened and recounts it for each decision: no counters, no
//! buckets, no fast path. Random sequences of operations drive both; admissions, waits, states and the order
//! of announcements must agree. Jitter is off here, since it has tests of its own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests, which need some instant to start from"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};

use super::{
    Backoff, Breaker, BreakerSettings, Forced, Mode, Override, Permit, Reason, Rejected, Snapshot,
    State, Totals, Transition, Verdict,
};
use crate::policy::window::Counts;

/// Something that the oracle remembers.
#[derive(Clone, Copy)]
enum Fact {
    /// Permits lent before this are stale, and so is the evidence.
    NewEpoch,
    /// Failures and hints before this are forgotten.
    FreshStart,
    /// The window was emptied.
    NewWindow { at: Instant, length: Duration },
    /// Another replica saw a failure; good until then.
    Hint { until: Instant },
    /// A verdict that was heeded.
    Call {
        at: Instant,
        verdict: Verdict,
        slow: bool,
        probe: bool,
    },
    /// A verdict of failure that was not stale.
    CountedFailure,
}

/// A permit as the oracle knows it.
#[derive(Clone, Copy)]
struct Lent {
    epoch: usize,
    role: Role,
    returned: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Ordinary,
    Probe,
    Bystander,
}

struct Oracle {
    settings: BreakerSettings,
    state: State,
    since: Instant,
    opens_until: Option<Instant>,
    forced: Option<Override>,
    growth: u32,
    facts: Vec<Fact>,
    lent: Vec<Lent>,
    transitions: Vec<Transition>,
}

impl Oracle {
    fn new(settings: BreakerSettings, now: Instant) -> Self {
        let length = settings.window;
        Self {
            settings,
            state: State::Closed,
            since: now,
            opens_until: None,
            forced: None,
            growth: 0,
            facts: vec![Fact::NewWindow { at: now, length }],
            lent: Vec::new(),
            transitions: Vec::new(),
        }
    }

    fn epoch(&self) -> usize {
        let begun = |fact: &&Fact| matches!(fact, Fact::NewEpoch);
        self.facts.iter().filter(begun).count()
    }

    fn streak(&self) -> u32 {
        let mut failures = 0;
        for fact in self.facts.iter().rev() {
            match fact {
                Fact::FreshStart => break,
                Fact::Call { verdict, .. } => match verdict {
                    Verdict::Failure => failures += 1,
                    Verdict::Success | Verdict::Neutral => break,
                    Verdict::Throttled | Verdict::Abandoned => {}
                },
                _ => {}
            }
        }
        failures
    }

    fn hinted(&self, now: Instant) -> bool {
        let mut recent = self.facts.iter().rev();
        let last = recent
            .find(|fact| matches!(fact, Fact::Hint { .. } | Fact::FreshStart | Fact::NewEpoch));
        matches!(last, Some(Fact::Hint { until }) if now < *until)
    }

    fn watches(&self) -> bool {
        let settings = &self.settings;
        settings.enabled && (settings.failure_rate.is_some() || settings.slow_rate.is_some())
    }

    fn counts(&self, now: Instant) -> Counts {
        let mut counts = Counts::default();
        let begun = |fact: &Fact| matches!(fact, Fact::NewWindow { .. });
        let start = self.facts.iter().rposition(begun).unwrap();
        let Fact::NewWindow { at: origin, length } = self.facts[start] else {
            return counts;
        };
        let tenth = |at: Instant| (at - origin).as_nanos() / (length.as_nanos() / 10);
        for fact in &self.facts[start..] {
            if let Fact::Call {
                at,
                verdict,
                slow,
                probe: false,
            } = *fact
                && !matches!(verdict, Verdict::Throttled | Verdict::Abandoned)
                && tenth(at) + 10 > tenth(now)
                && self.watches()
            {
                counts.calls += 1;
                counts.failures += u32::from(verdict == Verdict::Failure);
                counts.slow += u32::from(slow);
            }
        }
        counts
    }

    fn probes_out(&self) -> u32 {
        let epoch = self.epoch();
        let out = |lent: &&Lent| lent.epoch == epoch && lent.role == Role::Probe && !lent.returned;
        u32::try_from(self.lent.iter().filter(out).count()).unwrap()
    }

    fn probe_successes(&self) -> u32 {
        let this_epoch = self.facts.iter().rev();
        let this_epoch = this_epoch.take_while(|fact| !matches!(fact, Fact::NewEpoch));
        let good = this_epoch.filter(|fact| {
            matches!(
                fact,
                Fact::Call {
                    verdict: Verdict::Success | Verdict::Neutral,
                    probe: true,
                    ..
                }
            )
        });
        u32::try_from(good.count()).unwrap()
    }

    fn healthy(&self, now: Instant) -> bool {
        self.state == State::Closed && now - self.since >= self.settings.window
    }

    fn restart(&mut self, at: Instant) {
        let length = self.settings.window;
        self.facts.push(Fact::NewEpoch);
        self.facts.push(Fact::NewWindow { at, length });
        if self.state == State::Closed {
            self.facts.push(Fact::FreshStart);
        }
    }

    fn go(&mut self, to: State, opens_until: Option<Instant>, at: Instant, reason: Reason) {
        self.transitions.push(Transition {
            from: self.state,
            to,
            at,
            reason,
        });
        (self.state, self.opens_until, self.since) = (to, opens_until, at);
        self.restart(at);
    }

    fn advance(&mut self, now: Instant) {
        if let Some(forced) = self.forced.clone() {
            if forced.until <= now {
                self.end_override(forced.until, Reason::OverrideEnded);
            }
        } else if let Some(until) = self.opens_until
            && until <= now
        {
            self.go(State::HalfOpen, None, until, Reason::RecoveryTimeElapsed);
        }
    }

    fn end_override(&mut self, at: Instant, reason: Reason) {
        match self.forced.take() {
            Some(forced) if forced.state == State::Open => {
                self.go(State::HalfOpen, None, at, reason);
            }
            Some(_) => self.restart(at),
            None => {}
        }
    }

    fn permit(&mut self, now: Instant) -> Result<(), Rejected> {
        self.advance(now);
        let free = self.probes_out() < self.settings.probes;
        let refused = Rejected {
            state: self.state,
            retry_after: match self.opens_until {
                Some(until) => until - now,
                None => Duration::from_secs(1),
            },
        };
        let role = match self.state {
            _ if !self.settings.enabled => Role::Ordinary,
            State::Closed => Role::Ordinary,
            State::HalfOpen if free => Role::Probe,
            _ if self.settings.mode == Mode::Observe => Role::Bystander,
            _ => return Err(refused),
        };
        let epoch = self.epoch();
        self.lent.push(Lent {
            epoch,
            role,
            returned: false,
        });
        Ok(())
    }

    fn settle(&mut self, id: usize, verdict: Verdict, took: Duration, now: Instant) {
        self.advance(now);
        let lent = self.lent[id];
        self.lent[id].returned = true;
        if lent.returned || lent.epoch != self.epoch() {
            return;
        }
        if verdict == Verdict::Failure {
            self.facts.push(Fact::CountedFailure);
        }
        if lent.role == Role::Bystander || self.forced.is_some() || !self.settings.enabled {
            return;
        }
        self.facts.push(Fact::Call {
            at: now,
            verdict,
            slow: took >= self.settings.slow_after,
            probe: lent.role == Role::Probe,
        });
        if matches!(verdict, Verdict::Throttled | Verdict::Abandoned) {
            return;
        }
        match self.state {
            State::HalfOpen => self.after_probe(verdict, now),
            _ => self.after_call(verdict, now),
        }
    }

    fn after_probe(&mut self, verdict: Verdict, now: Instant) {
        let count = self.probe_successes();
        if verdict == Verdict::Failure {
            self.growth += 1;
            self.open(now, Reason::ProbeFailed);
        } else if count >= self.settings.success_threshold {
            let reason = Reason::ProbesSucceeded { count };
            self.go(State::Closed, None, now, reason);
        }
    }

    fn after_call(&mut self, verdict: Verdict, now: Instant) {
        let failed = verdict == Verdict::Failure;
        let Counts {
            calls,
            failures,
            slow,
        } = self.counts(now);
        let reached = |part: u32, limit: Option<f64>| {
            let enough = calls >= self.settings.minimum_calls;
            enough
                && part > 0
                && limit.is_some_and(|limit| f64::from(part) / f64::from(calls) >= limit)
        };
        let count = self.streak();
        let reason = if failed && count >= self.settings.failure_threshold {
            Reason::ConsecutiveFailures { count }
        } else if failed && self.hinted(now) {
            Reason::Hint
        } else if reached(failures, self.settings.failure_rate) {
            Reason::FailureRate { failures, calls }
        } else if reached(slow, self.settings.slow_rate) {
            Reason::SlowRate { slow, calls }
        } else {
            return;
        };
        if self.healthy(now) {
            self.growth = 0;
        }
        self.open(now, reason);
    }

    fn open(&mut self, now: Instant, reason: Reason) {
        let mut length = self.settings.recovery_timeout;
        let longest = self.settings.backoff.max.max(length);
        for _ in 0..self.growth {
            length = length.mul_f64(self.settings.backoff.factor).min(longest);
        }
        self.go(State::Open, Some(now + length), now, reason);
    }

    fn reconfigure(&mut self, settings: BreakerSettings, now: Instant) {
        self.advance(now);
        let watched = self.watches();
        let length = settings.window;
        let same = self.settings.window == length;
        self.settings = settings;
        if !self.settings.enabled {
            self.forced = None;
            self.facts.push(Fact::FreshStart);
            if self.state != State::Closed {
                self.go(State::Closed, None, now, Reason::Disabled);
            }
        }
        if !(watched && self.watches() && same) {
            self.facts.push(Fact::NewWindow { at: now, length });
        }
    }

    fn force(&mut self, forced: Forced, lasting: Duration, now: Instant) {
        self.advance(now);
        if !self.settings.enabled {
            return;
        }
        let operator = Reason::Operator {
            forced,
            reason: "drill".to_owned(),
        };
        let until = now + lasting;
        let (state, opens_until) = match forced {
            Forced::Auto => return self.end_override(now, operator),
            Forced::Open => (State::Open, Some(until)),
            Forced::Closed => (State::Closed, None),
        };
        if self.state == state {
            self.opens_until = opens_until;
            self.restart(now);
        } else {
            self.go(state, opens_until, now, operator);
        }
        self.forced = Some(Override {
            state,
            until,
            reason: "drill".to_owned(),
        });
    }

    fn hint(&mut self, now: Instant) {
        self.advance(now);
        if self.settings.enabled && self.forced.is_none() && self.state == State::Closed {
            let until = now + self.settings.recovery_timeout;
            self.facts.push(Fact::Hint { until });
        }
    }

    fn snapshot(&mut self, now: Instant) -> Snapshot {
        self.advance(now);
        let counted = |wanted: State| {
            let entered = self.transitions.iter().filter(|seen| seen.to == wanted);
            u64::try_from(entered.count()).unwrap()
        };
        let failed = |fact: &&Fact| matches!(fact, Fact::CountedFailure);
        Snapshot {
            state: self.state,
            since: self.since,
            until: self.forced.as_ref().map(|f| f.until).or(self.opens_until),
            consecutive_failures: self.streak(),
            window: self.counts(now),
            totals: Totals {
                failures: u64::try_from(self.facts.iter().filter(failed).count()).unwrap(),
                opens: counted(State::Open),
                closes: counted(State::Closed),
            },
            reopenings: if self.healthy(now) { 0 } else { self.growth },
            forced: self.forced.clone(),
            probes_in_flight: self.probes_out(),
            reason: self.transitions.last().map(|last| last.reason.clone()),
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Call(Verdict, Duration),
    Permit,
    Settle(Index, Verdict, Duration),
    Early(Index, Verdict, Duration),
    Drop(Index),
    Wait(Duration),
    Reconfigure(BreakerSettings),
    Force(Forced, Duration),
    Hint,
    Tick,
    Look,
}

/// One of a few round times, so that things often happen at the very same instant.
fn millis(choices: &'static [u64]) -> impl Strategy<Value = Duration> {
    select(choices).prop_map(Duration::from_millis)
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(Verdict::Failure),
        4 => Just(Verdict::Success),
        1 => Just(Verdict::Neutral),
        1 => Just(Verdict::Throttled),
        1 => Just(Verdict::Abandoned),
    ]
}

fn settings() -> impl Strategy<Value = BreakerSettings> {
    let switches = (
        prop_oneof![9 => Just(true), 1 => Just(false)],
        prop_oneof![4 => Just(Mode::Enforce), 1 => Just(Mode::Observe)],
    );
    let counts = (1..5_u32, 1..4_u32, 1..4_u32, 1..6_u32);
    let rates = (
        option::of(select(vec![0.2, 0.5, 1.0])),
        option::of(select(vec![0.3, 0.8])),
    );
    let times = (
        millis(&[5, 10, 20, 50]),
        millis(&[20, 50]),
        select(vec![1.0, 2.0, 3.0]),
        millis(&[1, 30, 200]),
    );
    (switches, counts, rates, times).prop_map(
        |((enabled, mode), (failing, good, probes, minimum), (failure_rate, slow_rate), times)| {
            let (recovery_timeout, window, factor, max) = times;
            BreakerSettings {
                enabled,
                mode,
                failure_threshold: failing,
                recovery_timeout,
                success_threshold: good,
                probes,
                failure_rate,
                slow_rate,
                slow_after: Duration::from_millis(5),
                window,
                minimum_calls: minimum,
                backoff: Backoff {
                    factor,
                    max,
                    jitter: 0.0,
                },
            }
        },
    )
}

fn ops() -> impl Strategy<Value = Op> {
    let orders = select(vec![Forced::Open, Forced::Closed, Forced::Auto]);
    prop_oneof![
        8 => (verdicts(), millis(&[0, 4, 5, 6])).prop_map(|(verdict, took)| Op::Call(verdict, took)),
        8 => Just(Op::Permit),
        6 => (any::<Index>(), verdicts(), millis(&[0, 4, 5, 6])).prop_map(|(i, v, t)| Op::Settle(i, v, t)),
        2 => (any::<Index>(), verdicts(), millis(&[0, 4, 5, 6])).prop_map(|(i, v, t)| Op::Early(i, v, t)),
        2 => any::<Index>().prop_map(Op::Drop),
        6 => millis(&[1, 5, 10, 20, 50]).prop_map(Op::Wait),
        1 => settings().prop_map(Op::Reconfigure),
        1 => (orders, millis(&[0, 10, 50])).prop_map(|(order, lasting)| Op::Force(order, lasting)),
        1 => Just(Op::Hint),
        2 => Just(Op::Tick),
        2 => Just(Op::Look),
    ]
}

/// The real breaker and the oracle, driven side by side.
struct Pair {
    breaker: Arc<Breaker>,
    oracle: Oracle,
    now: Instant,
    /// The permits that are out, with their places in the oracle's list.
    out: Vec<(Permit, usize)>,
    announced: Vec<Transition>,
}

impl Pair {
    fn new(settings: BreakerSettings) -> Self {
        let now = Instant::now();
        Self {
            breaker: Arc::new(Breaker::new(settings.clone(), 0, now)),
            oracle: Oracle::new(settings, now),
            now,
            out: Vec::new(),
            announced: Vec::new(),
        }
    }

    fn run(&mut self, op: Op) {
        let now = self.now;
        match op {
            Op::Call(verdict, took) => {
                if self.permit() {
                    let last = self.out.len() - 1;
                    self.settle(last, verdict, took);
                }
            }
            Op::Permit => {
                self.permit();
            }
            Op::Settle(index, verdict, took) => {
                if !self.out.is_empty() {
                    self.settle(index.index(self.out.len()), verdict, took);
                }
            }
            Op::Early(index, verdict, took) => {
                if !self.out.is_empty() {
                    let place = index.index(self.out.len());
                    let (permit, id) = &mut self.out[place];
                    let settled = permit.decide_early(verdict, took, now);
                    self.announced.extend(settled.transitions());
                    self.oracle.settle(*id, verdict, took, now);
                }
            }
            Op::Drop(index) => {
                if !self.out.is_empty() {
                    let (permit, id) = self.out.remove(index.index(self.out.len()));
                    drop(permit);
                    self.oracle.lent[id].returned = true;
                }
            }
            Op::Wait(time) => self.now += time,
            Op::Reconfigure(settings) => {
                self.breaker.reconfigure(settings.clone(), now);
                self.oracle.reconfigure(settings, now);
            }
            Op::Force(forced, lasting) => {
                let reason = "drill".to_owned();
                let announced = self.breaker.force(forced, lasting, reason, now);
                self.announced.extend(announced);
                self.oracle.force(forced, lasting, now);
            }
            Op::Hint => {
                let lasting = self.oracle.settings.recovery_timeout;
                self.breaker.hint(lasting, now);
                self.oracle.hint(now);
            }
            Op::Tick => self.announced.extend(self.breaker.tick(now)),
            Op::Look => self.look(),
        }
    }

    fn permit(&mut self) -> bool {
        let checked = self.breaker.check(self.now);
        let real = self.breaker.try_permit(self.now);
        let expected = self.oracle.permit(self.now);
        assert_eq!(checked, expected);
        assert_eq!(real.as_ref().map(|_| ()), expected.as_ref().copied());
        let Ok(permit) = real else { return false };
        let id = self.oracle.lent.len() - 1;
        assert_eq!(permit.is_probe(), self.oracle.lent[id].role == Role::Probe);
        self.out.push((permit, id));
        true
    }

    fn settle(&mut self, place: usize, verdict: Verdict, took: Duration) {
        let (permit, id) = self.out.remove(place);
        let settled = permit.settle(verdict, took, self.now);
        self.announced.extend(settled.transitions());
        self.oracle.settle(id, verdict, took, self.now);
    }

    fn look(&mut self) {
        let expected = self.oracle.snapshot(self.now);
        assert_eq!(self.breaker.state(self.now), expected.state);
        assert_eq!(self.breaker.snapshot(self.now), expected);
        assert_eq!(self.breaker.totals(), expected.totals);
    }

    fn finish(&mut self) {
        self.look();
        while let Some(transition) = self.breaker.tick(self.now) {
            self.announced.push(transition);
        }
        assert_eq!(self.announced, self.oracle.transitions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_breaker_never_differs_from_the_oracle(
        settings in settings(),
        ops in vec(ops(), 1..120),
    ) {
        let mut pair = Pair::new(settings);
        for op in ops {
            pair.run(op);
        }
        pair.finish();
    }

    #[test]
    fn a_reopening_stays_within_its_jitter_and_is_the_same_for_the_same_seed(
        seed in any::<u64>(),
        reopenings in 1..8_u32,
    ) {
        let waits = |seed: u64| {
            let mut now = Instant::now();
            let breaker = Arc::new(Breaker::new(BreakerSettings::default(), seed, now));
            for _ in 0..3 {
                let permit = breaker.try_permit(now).unwrap();
                let _ = permit.settle(Verdict::Failure, Duration::ZERO, now);
            }
            (0..reopenings).map(|_| {
                now += breaker.check(now).unwrap_err().retry_after;
                let probe = breaker.try_permit(now).unwrap();
                let _ = probe.settle(Verdict::Failure, Duration::ZERO, now);
                breaker.check(now).unwrap_err().retry_after
            }).collect::<Vec<Duration>>()
        };
        let drawn = waits(seed);
        assert_eq!(drawn, waits(seed));
        for (wait, grown) in drawn.iter().zip([60, 120, 240, 300, 300, 300, 300]) {
            let wait = wait.as_secs_f64();
            let low = f64::from(grown).min(300.0 / 1.2) - 1e-6;
            assert!((low..=300.0).contains(&wait), "{wait} of {grown}");
            assert!(wait < f64::from(grown) * 1.2 + 1e-6, "{wait} of {grown}");
        }
    }
}
