//! The circuit breaker: who may call an upstream now, and what each call's end changes.
//!
//! One [`Breaker`] is shared by every worker. A caller takes a [`Permit`] for each attempt and settles it
//! when the answer's body has ended; a permit that is dropped unsettled counts as abandoned, so that no slot
//! is ever lost. It must never let more probes out than configured, never heed a verdict from before the last
//! transition, and never read a clock. Forwarding asks it, reloading reconfigures it, the admin listener
//! overrides it, and whoever keeps the time ticks it.
//!
//! While a circuit is closed, has no failure to remember and watches no rate, permits and successes touch
//! one atomic word and no lock; everything else is decided under one short lock.

mod circuit;
#[cfg(all(test, loom))]
mod interleavings;
#[cfg(test)]
mod oracle;
mod report;
mod settings;

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use self::circuit::{Circuit, Report, Role};
pub use self::report::{
    Forced, Override, Reason, Rejected, Settled, Snapshot, State, Totals, Transition, Unheeded,
    Verdict,
};
pub use self::settings::{Backoff, BreakerSettings, Mode};
use self::sync::{AtomicU64, Mutex, Ordering};

/// What the breaker synchronises with: the real thing, or the model checker's.
mod sync {
    #[cfg(all(test, loom))]
    pub(super) use loom::sync::Mutex;
    #[cfg(all(test, loom))]
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
    #[cfg(not(all(test, loom)))]
    pub(super) use std::sync::Mutex;
    #[cfg(not(all(test, loom)))]
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

/// The bit of the word that says that callers need not take the lock; the epoch stands above it.
const CALM: u64 = 1;

/// A circuit breaker, shared by all callers of one upstream.
pub struct Breaker {
    word: AtomicU64,
    failures: AtomicU64,
    opens: AtomicU64,
    closes: AtomicU64,
    circuit: Mutex<Circuit>,
}

impl Breaker {
    /// A closed circuit. `seed` fixes the jitter of its re-openings.
    #[must_use]
    pub fn new(settings: BreakerSettings, seed: u64, now: Instant) -> Self {
        let circuit = Circuit::new(settings, seed, now);
        Self {
            word: AtomicU64::new(word_of(&circuit)),
            failures: AtomicU64::new(0),
            opens: AtomicU64::new(0),
            closes: AtomicU64::new(0),
            circuit: Mutex::new(circuit),
        }
    }

    /// Whether a call would be let through at `now`. Takes no slot: for asking before queueing.
    ///
    /// # Errors
    /// The state that stands in the way and when to ask again.
    pub fn check(&self, now: Instant) -> Result<(), Rejected> {
        if self.calm_epoch().is_some() {
            return Ok(());
        }
        self.decide(now, |circuit| circuit.check(now).map(|_| ()))
    }

    /// Lets one call through at `now`.
    ///
    /// # Errors
    /// The state that stands in the way and when to ask again.
    pub fn try_permit(self: &Arc<Self>, now: Instant) -> Result<Permit, Rejected> {
        let (role, epoch) = match self.calm_epoch() {
            Some(epoch) => (Role::Ordinary, epoch),
            None => self.decide(now, |circuit| {
                circuit.admit(now).map(|role| (role, circuit.epoch()))
            })?,
        };
        Ok(Permit {
            breaker: Arc::clone(self),
            role,
            epoch,
            decided: false,
        })
    }

    /// Where the circuit stands at `now`; an opening that is over is half-open, noticed or not.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        if self.calm_epoch().is_some() {
            return State::Closed;
        }
        self.decide(now, |circuit| circuit.state())
    }

    /// Everything there is to show at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        self.decide(now, |circuit| circuit.snapshot(now))
    }

    /// What was counted since the breaker was made, without a lock.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            failures: self.failures.load(Ordering::Relaxed),
            opens: self.opens.load(Ordering::Relaxed),
            closes: self.closes.load(Ordering::Relaxed),
        }
    }

    /// Puts new settings in force from the next decision on. The state, an opening's end and the failures
    /// counted so far stay; switching the breaker off closes it.
    pub fn reconfigure(&self, settings: BreakerSettings, now: Instant) {
        self.decide(now, |circuit| circuit.reconfigure(settings, now));
    }

    /// Whether an operator's order would do what it says.
    ///
    /// # Errors
    /// Why it would not.
    pub fn heeds(&self, forced: Forced, now: Instant) -> Result<(), Unheeded> {
        self.decide(now, |circuit| circuit.heeds(forced))
    }

    /// Carries out an operator's order for the time `lasting`, which the caller bounds; [`Forced::Auto`]
    /// ends an override at once. Returns every transition not announced yet, oldest first.
    ///
    /// A breaker that is switched off takes no orders. One that only observes shows them and still refuses
    /// nothing.
    #[must_use = "a transition that is dropped is never announced"]
    pub fn force(
        &self,
        forced: Forced,
        lasting: Duration,
        reason: String,
        now: Instant,
    ) -> Vec<Transition> {
        self.decide(now, |circuit| {
            circuit.force(forced, lasting, reason, now);
            circuit.announce()
        })
    }

    /// Lets the clock do its part and returns the oldest transition not announced yet. Call it until it
    /// returns nothing, now and then, so that changes are announced without traffic.
    #[must_use = "a transition that is dropped is never announced"]
    pub fn tick(&self, now: Instant) -> Option<Transition> {
        self.decide(now, Circuit::announce_one)
    }

    /// Takes another replica's word that the upstream fails: for the time `lasting`, a single failure seen
    /// here opens the circuit. Nothing happens without one.
    pub fn hint(&self, lasting: Duration, now: Instant) {
        self.decide(now, |circuit| circuit.hint(lasting, now));
    }

    /// The epoch, if nothing but a failure could change anything in it.
    fn calm_epoch(&self) -> Option<u64> {
        let word = self.word.load(Ordering::Acquire);
        (word & CALM != 0).then_some(word >> 1)
    }

    /// Runs `decision` on a circuit that has caught up with the clock, and publishes what came of it.
    fn decide<T>(&self, now: Instant, decision: impl FnOnce(&mut Circuit) -> T) -> T {
        self.locked(|circuit| {
            circuit.advance(now);
            decision(circuit)
        })
    }

    fn locked<T>(&self, change: impl FnOnce(&mut Circuit) -> T) -> T {
        // A thread that died in here left numbers behind, not broken promises: the next one goes on.
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut circuit);
        let totals = circuit.totals();
        self.failures.store(totals.failures, Ordering::Relaxed);
        self.opens.store(totals.opens, Ordering::Relaxed);
        self.closes.store(totals.closes, Ordering::Relaxed);
        self.word.store(word_of(&circuit), Ordering::Release);
        outcome
    }

    fn settle(&self, report: Report, now: Instant) -> Settled {
        if report.verdict != Verdict::Failure && self.calm_epoch().is_some() {
            return Settled::default();
        }
        self.decide(now, |circuit| {
            let earlier = circuit.announce();
            circuit.settle(report, now);
            Settled {
                earlier,
                transition: circuit.announce_one(),
            }
        })
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("totals", &self.totals())
            .finish_non_exhaustive()
    }
}

fn word_of(circuit: &Circuit) -> u64 {
    (circuit.epoch() << 1) | u64::from(circuit.is_calm())
}

/// Leave for one attempt. Dropping it unsettled gives its slot back and decides nothing.
#[must_use = "a permit that is dropped at once permits nothing"]
pub struct Permit {
    breaker: Arc<Breaker>,
    role: Role,
    epoch: u64,
    decided: bool,
}

impl Permit {
    /// Says how the attempt ended, `took` after it began.
    pub fn settle(mut self, verdict: Verdict, took: Duration, now: Instant) -> Settled {
        self.decide_early(verdict, took, now)
    }

    /// Says how the attempt will be judged although its body has not ended: a long stream is decided at its
    /// head, and a probe's slot is free again. What comes after decides nothing more.
    pub fn decide_early(&mut self, verdict: Verdict, took: Duration, now: Instant) -> Settled {
        if self.decided {
            return Settled::default();
        }
        self.decided = true;
        let report = Report {
            role: self.role,
            epoch: self.epoch,
            verdict,
            took,
        };
        self.breaker.settle(report, now)
    }

    /// The term of the circuit's state that the attempt counts in; none if it has been decided.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        (!self.decided).then_some(self.epoch)
    }

    /// Whether the attempt finds out for all others if the upstream has recovered.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.role == Role::Probe
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("role", &self.role)
            .field("epoch", &self.epoch)
            .field("decided", &self.decided)
            .finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.role == Role::Probe && !self.decided {
            let (role, epoch) = (self.role, self.epoch);
            self.breaker.locked(|circuit| circuit.release(role, epoch));
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests, which need some instant to start from"
)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::Verdict::{Abandoned, Failure, Neutral, Success, Throttled};
    use super::*;
    use crate::policy::window::Counts;

    const SECOND: Duration = Duration::from_secs(1);
    const QUICK: Duration = Duration::from_millis(50);

    /// A breaker, the instant at which it was made, and what it announced.
    struct Rig {
        breaker: Arc<Breaker>,
        t0: Instant,
        seen: Vec<Transition>,
    }

    impl Rig {
        fn new(settings: BreakerSettings) -> Self {
            let t0 = Instant::now();
            Self {
                breaker: Arc::new(Breaker::new(settings, 1, t0)),
                t0,
                seen: Vec::new(),
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.t0 + SECOND * u32::try_from(seconds).unwrap()
        }

        fn permit(&self, seconds: u64) -> Permit {
            self.breaker.try_permit(self.at(seconds)).unwrap()
        }

        fn settle(&mut self, permit: Permit, verdict: Verdict, seconds: u64) {
            let settled = permit.settle(verdict, QUICK, self.at(seconds));
            self.seen.extend(settled.transitions());
        }

        /// Makes one call per verdict, all at once in time.
        fn calls(&mut self, verdicts: &[Verdict], seconds: u64) {
            for verdict in verdicts {
                let permit = self.permit(seconds);
                self.settle(permit, *verdict, seconds);
            }
        }

        fn state(&self, seconds: u64) -> State {
            self.breaker.state(self.at(seconds))
        }

        fn refusal(&self, seconds: u64) -> Rejected {
            let checked = self.breaker.check(self.at(seconds)).unwrap_err();
            let refused = self.breaker.try_permit(self.at(seconds)).unwrap_err();
            assert_eq!(checked, refused);
            refused
        }

        fn snapshot(&self, seconds: u64) -> Snapshot {
            self.breaker.snapshot(self.at(seconds))
        }

        fn force(&mut self, forced: Forced, lasting: u64, seconds: u64) -> Vec<State> {
            let announced = self.breaker.force(
                forced,
                SECOND * u32::try_from(lasting).unwrap(),
                "drill".to_owned(),
                self.at(seconds),
            );
            announced.iter().map(|transition| transition.to).collect()
        }

        fn reasons(&self) -> Vec<String> {
            self.seen
                .iter()
                .map(|seen| seen.reason.to_string())
                .collect()
        }
    }

    fn settings() -> BreakerSettings {
        BreakerSettings::default()
    }

    /// Three failures at second 0; half-open from second 30.
    fn tripped(settings: BreakerSettings) -> Rig {
        let mut rig = Rig::new(settings);
        rig.calls(&[Verdict::Failure; 3], 0);
        assert_eq!(rig.state(0), State::Open);
        rig
    }

    #[test]
    fn only_failures_in_a_row_open_the_circuit() {
        let cases: &[(&[Verdict], State, u32)] = &[
            (&[Failure, Failure], State::Closed, 2),
            (&[Failure, Failure, Failure], State::Open, 3),
            (&[Failure, Failure, Success, Failure], State::Closed, 1),
            (&[Failure, Failure, Neutral, Failure], State::Closed, 1),
            (
                &[Failure, Throttled, Failure, Abandoned, Failure],
                State::Open,
                3,
            ),
            (&[Throttled; 9], State::Closed, 0),
            (&[Abandoned; 9], State::Closed, 0),
            (&[Neutral; 9], State::Closed, 0),
        ];
        for (verdicts, state, streak) in cases {
            let mut rig = Rig::new(settings());
            rig.calls(verdicts, 0);
            let snapshot = rig.snapshot(0);
            assert_eq!(snapshot.state, *state, "{verdicts:?}");
            assert_eq!(snapshot.consecutive_failures, *streak, "{verdicts:?}");
        }
    }

    #[test]
    fn an_open_circuit_refuses_at_once_and_tells_the_true_time_left() {
        let rig = tripped(settings());
        assert_eq!(rig.refusal(0).retry_after, SECOND * 30);
        let late = rig.refusal(29);
        assert_eq!((late.state, late.retry_after), (State::Open, SECOND));
        assert_eq!(rig.reasons(), ["3 calls in a row failed"]);
        assert_eq!(rig.snapshot(29).until, Some(rig.at(30)));
    }

    #[test]
    fn half_open_begins_by_the_clock() {
        let rig = tripped(settings());
        assert_eq!(rig.state(30), State::HalfOpen);
        let noticed = rig.breaker.tick(rig.at(90)).unwrap();
        assert_eq!((noticed.from, noticed.to), (State::Open, State::HalfOpen));
        assert_eq!(noticed.at, rig.at(30));
        assert_eq!(noticed.reason, Reason::RecoveryTimeElapsed);
        assert_eq!(rig.breaker.tick(rig.at(90)), None);
    }

    #[test]
    fn probe_successes_close_the_circuit_and_neutral_answers_are_among_them() {
        for verdicts in [[Success, Success], [Neutral, Success], [Neutral, Neutral]] {
            let mut rig = tripped(settings());
            rig.calls(&verdicts[..1], 30);
            assert_eq!(rig.state(30), State::HalfOpen);
            rig.calls(&verdicts[1..], 30);
            assert_eq!(rig.state(30), State::Closed);
            let states: Vec<State> = rig.seen.iter().map(|seen| seen.to).collect();
            assert_eq!(states, [State::Open, State::HalfOpen, State::Closed]);
            assert_eq!(rig.reasons()[2], "2 probes succeeded");
        }
    }

    #[test]
    fn one_probe_failure_reopens_the_circuit_for_longer() {
        let mut rig = tripped(settings());
        rig.calls(&[Success, Failure], 30);
        let wait = rig.refusal(30).retry_after;
        assert!(wait >= SECOND * 60 && wait < SECOND * 72, "{wait:?}");
        assert_eq!(rig.snapshot(30).reopenings, 1);
        assert_eq!(rig.reasons()[2], "a probe failed");
    }

    #[test]
    fn throttled_and_abandoned_probes_give_the_slot_back_and_decide_nothing() {
        let mut rig = tripped(settings());
        for verdict in [Throttled, Abandoned, Throttled, Abandoned] {
            let permit = rig.permit(30);
            assert!(permit.is_probe());
            let refusal = rig.refusal(30);
            assert_eq!(refusal.state, State::HalfOpen);
            assert_eq!(refusal.retry_after, SECOND);
            rig.settle(permit, verdict, 30);
        }
        drop(rig.permit(30));
        assert_eq!(rig.snapshot(30).probes_in_flight, 0);
        assert_eq!(rig.state(30), State::HalfOpen);
    }

    #[test]
    fn asking_takes_no_slot() {
        let rig = tripped(settings());
        for _ in 0..10 {
            assert_eq!(rig.breaker.check(rig.at(30)), Ok(()));
        }
        assert_eq!(rig.snapshot(30).probes_in_flight, 0);
    }

    #[test]
    fn a_verdict_from_before_the_last_transition_decides_nothing() {
        let mut rig = Rig::new(settings());
        let (early, late, dropped) = (rig.permit(0), rig.permit(0), rig.permit(0));
        rig.calls(&[Failure; 3], 0);
        let probe = rig.permit(30);
        rig.settle(early, Failure, 30);
        rig.settle(late, Success, 30);
        drop(dropped);
        let snapshot = rig.snapshot(30);
        assert_eq!(snapshot.state, State::HalfOpen);
        assert_eq!(snapshot.probes_in_flight, 1);
        assert_eq!(snapshot.totals.failures, 3);
        rig.settle(probe, Failure, 30);
        assert_eq!(rig.state(30), State::Open);
    }

    #[test]
    fn a_probe_of_an_earlier_half_open_frees_no_slot_of_a_later_one() {
        let mut rig = tripped(BreakerSettings {
            probes: 2,
            ..settings()
        });
        let (failing, slow) = (rig.permit(30), rig.permit(30));
        rig.settle(failing, Failure, 30);
        let now = rig.at(200);
        let held = [rig.breaker.try_permit(now), rig.breaker.try_permit(now)];
        assert!(held.iter().all(Result::is_ok));
        drop(slow);
        assert_eq!(rig.snapshot(200).probes_in_flight, 2);
        assert!(rig.breaker.try_permit(now).is_err());
    }

    #[test]
    fn a_stream_is_decided_at_its_head_and_its_end_decides_nothing_more() {
        let mut rig = tripped(settings());
        let mut stream = rig.permit(30);
        let settled = stream.decide_early(Success, QUICK, rig.at(30));
        assert_eq!(settled.transition, None);
        assert_eq!(rig.snapshot(30).probes_in_flight, 0);
        rig.settle(stream, Failure, 31);
        assert_eq!(rig.state(31), State::HalfOpen);
        assert_eq!(rig.snapshot(31).totals.failures, 3);
        rig.calls(&[Success], 31);
        assert_eq!(rig.state(31), State::Closed);
    }

    #[test]
    fn the_failure_rate_opens_the_circuit_once_there_are_enough_calls() {
        let mut rig = Rig::new(BreakerSettings {
            failure_rate: Some(0.5),
            minimum_calls: 10,
            ..settings()
        });
        let pair = [Success, Failure];
        rig.calls(&pair.repeat(4), 0);
        rig.calls(&[Throttled, Abandoned, Success], 1);
        assert_eq!(rig.state(1), State::Closed);
        let expected = Counts {
            calls: 9,
            failures: 4,
            slow: 0,
        };
        assert_eq!(rig.snapshot(1).window, expected);
        rig.calls(&[Failure], 1);
        assert_eq!(rig.reasons(), ["5 of the last 10 calls failed"]);
    }

    #[test]
    fn failures_that_left_the_window_are_forgotten() {
        let mut rig = Rig::new(BreakerSettings {
            failure_rate: Some(0.5),
            minimum_calls: 4,
            failure_threshold: 100,
            ..settings()
        });
        rig.calls(&[Failure; 3], 0);
        rig.calls(&[Success; 4], 30);
        rig.calls(&[Failure; 3], 30);
        assert_eq!(rig.state(30), State::Closed);
        rig.calls(&[Failure], 30);
        assert_eq!(rig.state(30), State::Open);
    }

    #[test]
    fn the_slow_rate_opens_the_circuit_though_every_call_succeeds() {
        let mut rig = Rig::new(BreakerSettings {
            slow_rate: Some(0.8),
            slow_after: SECOND,
            minimum_calls: 5,
            ..settings()
        });
        rig.calls(&[Success], 0);
        for _ in 0..4 {
            let settled = rig.permit(1).settle(Success, SECOND, rig.at(1));
            rig.seen.extend(settled.transitions());
        }
        assert_eq!(rig.reasons(), ["4 of the last 5 calls were slow"]);
        assert_eq!(rig.state(1), State::Open);
    }

    #[test]
    fn a_healthy_window_resets_the_growth_and_a_shorter_peace_does_not() {
        for (peace, at_least, at_most) in [(29, 60, 72), (30, 30, 30)] {
            let mut rig = tripped(settings());
            rig.calls(&[Failure], 30);
            rig.calls(&[Success, Success], 110);
            rig.calls(&[Failure; 3], 110 + peace);
            let wait = rig.refusal(110 + peace).retry_after;
            assert!(wait >= SECOND * at_least, "{peace}: {wait:?}");
            assert!(wait <= SECOND * at_most, "{peace}: {wait:?}");
        }
    }

    #[test]
    fn observing_changes_states_and_refuses_nothing() {
        let observe = BreakerSettings {
            mode: Mode::Observe,
            ..settings()
        };
        let mut rig = tripped(observe);
        rig.calls(&[Success, Failure, Success], 1);
        assert_eq!(rig.state(1), State::Open);
        assert_eq!(rig.breaker.check(rig.at(1)), Ok(()));
        assert_eq!(rig.breaker.totals().failures, 4);
        let (probe, bystander) = (rig.permit(30), rig.permit(30));
        assert!(probe.is_probe() && !bystander.is_probe());
        rig.settle(bystander, Failure, 30);
        assert_eq!(rig.state(30), State::HalfOpen);
        rig.settle(probe, Success, 30);
        rig.calls(&[Success], 30);
        assert_eq!(rig.state(30), State::Closed);
    }

    #[test]
    fn a_breaker_that_is_off_permits_everything_and_still_counts_failures() {
        let off = BreakerSettings {
            enabled: false,
            ..settings()
        };
        let mut rig = Rig::new(off);
        rig.calls(&[Failure; 9], 0);
        rig.breaker.hint(SECOND * 30, rig.at(0));
        assert_eq!(rig.force(Forced::Open, 60, 0), []);
        rig.calls(&[Failure], 0);
        assert_eq!(rig.state(0), State::Closed);
        let expected = Totals {
            failures: 10,
            opens: 0,
            closes: 0,
        };
        assert_eq!(rig.breaker.totals(), expected);
    }

    #[test]
    fn the_state_survives_new_settings() {
        let mut rig = Rig::new(settings());
        rig.calls(&[Failure; 2], 0);
        let patient = BreakerSettings {
            failure_threshold: 4,
            ..settings()
        };
        rig.breaker.reconfigure(patient.clone(), rig.at(0));
        rig.calls(&[Failure], 0);
        assert_eq!(rig.state(0), State::Closed);
        rig.calls(&[Failure], 0);
        let brief = BreakerSettings {
            recovery_timeout: SECOND,
            ..patient
        };
        rig.breaker.reconfigure(brief, rig.at(0));
        assert_eq!(rig.refusal(29).retry_after, SECOND);
    }

    #[test]
    fn what_the_window_counted_survives_new_settings_unless_its_length_changes() {
        let watching = BreakerSettings {
            failure_rate: Some(0.9),
            ..settings()
        };
        let mut rig = Rig::new(watching.clone());
        rig.calls(&[Success, Failure], 0);
        let strict = BreakerSettings {
            failure_rate: Some(0.5),
            ..watching
        };
        rig.breaker.reconfigure(strict.clone(), rig.at(1));
        assert_eq!(rig.snapshot(1).window.calls, 2);
        let longer = BreakerSettings {
            window: SECOND * 60,
            ..strict
        };
        rig.breaker.reconfigure(longer, rig.at(2));
        assert_eq!(rig.snapshot(2).window.calls, 0);
    }

    #[test]
    fn switching_the_breaker_off_closes_it_and_is_announced() {
        let rig = tripped(settings());
        let off = BreakerSettings {
            enabled: false,
            ..settings()
        };
        rig.breaker.reconfigure(off, rig.at(1));
        assert_eq!(rig.state(1), State::Closed);
        let closed = rig.breaker.tick(rig.at(1)).unwrap();
        assert_eq!(
            (closed.to, closed.reason),
            (State::Closed, Reason::Disabled)
        );
        rig.breaker.reconfigure(settings(), rig.at(2));
        assert_eq!(rig.snapshot(2).consecutive_failures, 0);
    }

    #[test]
    fn a_circuit_held_open_ends_by_itself_in_probes() {
        let mut rig = Rig::new(settings());
        assert_eq!(rig.force(Forced::Open, 600, 0), [State::Open]);
        assert_eq!(rig.refusal(1).retry_after, SECOND * 599);
        let forced = rig.snapshot(1).forced.unwrap();
        assert_eq!((forced.state, forced.until), (State::Open, rig.at(600)));
        let ended = rig.breaker.tick(rig.at(600)).unwrap();
        assert_eq!(
            (ended.to, ended.reason),
            (State::HalfOpen, Reason::OverrideEnded)
        );
        assert_eq!(rig.snapshot(600).forced, None);
    }

    #[test]
    fn a_circuit_held_closed_stays_closed_and_then_counts_from_nothing() {
        let mut rig = tripped(settings());
        assert_eq!(rig.force(Forced::Closed, 60, 1), [State::Closed]);
        rig.calls(&[Failure; 9], 2);
        assert_eq!(rig.state(2), State::Closed);
        let late = rig.permit(2);
        rig.calls(&[Failure; 2], 61);
        rig.settle(late, Failure, 61);
        assert_eq!(rig.state(61), State::Closed);
        rig.calls(&[Failure], 61);
        assert_eq!(rig.state(61), State::Open);
    }

    #[test]
    fn an_override_can_be_ended_and_replaced() {
        let mut rig = Rig::new(settings());
        assert_eq!(rig.force(Forced::Auto, 0, 0), []);
        assert_eq!(rig.force(Forced::Open, 60, 0), [State::Open]);
        assert_eq!(rig.force(Forced::Open, 600, 1), []);
        assert_eq!(rig.state(61), State::Open);
        assert_eq!(rig.force(Forced::Closed, 60, 62), [State::Closed]);
        assert_eq!(rig.force(Forced::Open, 60, 63), [State::Open]);
        assert_eq!(rig.force(Forced::Auto, 0, 64), [State::HalfOpen]);
    }

    #[test]
    fn an_order_announces_what_the_clock_did_before_it() {
        let mut rig = tripped(settings());
        let states = rig.force(Forced::Open, 60, 45);
        assert_eq!(states, [State::HalfOpen, State::Open]);
    }

    #[test]
    fn after_a_hint_one_failure_is_enough_for_a_while() {
        for (failure_at, state) in [(29, State::Open), (30, State::Closed)] {
            let mut rig = Rig::new(settings());
            rig.breaker.hint(SECOND * 30, rig.at(0));
            rig.calls(&[Success, Neutral], 1);
            assert_eq!(rig.state(1), State::Closed);
            rig.calls(&[Failure], failure_at);
            assert_eq!(rig.state(failure_at), state);
        }
    }

    #[test]
    fn thresholds_of_nothing_count_as_one() {
        let mut rig = Rig::new(BreakerSettings {
            failure_threshold: 0,
            success_threshold: 0,
            probes: 0,
            ..settings()
        });
        rig.calls(&[Success], 0);
        assert_eq!(rig.state(0), State::Closed);
        rig.calls(&[Failure], 0);
        assert_eq!(rig.state(0), State::Open);
        rig.calls(&[Success], 30);
        assert_eq!(rig.state(30), State::Closed);
    }

    #[test]
    fn no_duration_overflows() {
        let mut rig = tripped(BreakerSettings {
            recovery_timeout: Duration::MAX,
            slow_after: Duration::MAX,
            window: Duration::MAX,
            ..settings()
        });
        assert!(rig.refusal(1).retry_after > SECOND * 1_000_000_000);
        let settled = rig
            .breaker
            .force(Forced::Closed, Duration::MAX, String::new(), rig.at(1));
        assert_eq!(settled.len(), 1);
        rig.calls(&[Failure; 9], 2);
        assert_eq!(rig.state(2), State::Closed);
    }

    #[test]
    fn a_thread_that_dies_inside_stops_nobody() {
        let mut rig = tripped(settings());
        let breaker = Arc::clone(&rig.breaker);
        let died = thread::spawn(move || breaker.locked(|_| panic!("on purpose")));
        assert!(died.join().is_err());
        assert_eq!(rig.refusal(1).retry_after, SECOND * 29);
        rig.calls(&[Success, Success], 30);
        assert_eq!(rig.state(30), State::Closed);
    }

    #[test]
    fn a_calm_circuit_is_decided_without_the_lock() {
        let rig = Rig::new(settings());
        let _held = rig.breaker.circuit.lock().unwrap();
        for verdict in [Success, Neutral, Throttled, Abandoned] {
            let _ = rig.permit(0).settle(verdict, QUICK, rig.at(0));
        }
        drop(rig.permit(0));
        assert_eq!(rig.state(0), State::Closed);
        assert_eq!(rig.breaker.check(rig.at(0)), Ok(()));
    }

    #[test]
    fn a_thousand_callers_at_once_get_exactly_the_probes() {
        for probes in [1, 3] {
            let rig = tripped(BreakerSettings {
                probes,
                ..settings()
            });
            let now = rig.at(30);
            let start = Barrier::new(1_000);
            let permits: Vec<Permit> = thread::scope(|scope| {
                let callers: Vec<_> = (0..1_000)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            rig.breaker.try_permit(now).ok()
                        })
                    })
                    .collect();
                callers
                    .into_iter()
                    .filter_map(|caller| caller.join().unwrap())
                    .collect()
            });
            assert_eq!(permits.len(), usize::try_from(probes).unwrap());
            assert_eq!(rig.snapshot(30).probes_in_flight, probes);
            drop(permits);
            assert_eq!(rig.snapshot(30).probes_in_flight, 0);
        }
    }

    #[test]
    fn probes_never_exceed_their_number_while_callers_come_and_go() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let rig = tripped(BreakerSettings {
            probes: 3,
            ..settings()
        });
        let now = rig.at(30);
        let (out, most, admitted) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for round in 0..500 {
                        let Ok(permit) = rig.breaker.try_permit(now) else {
                            continue;
                        };
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        admitted.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        out.fetch_sub(1, Ordering::SeqCst);
                        if round % 2 == 0 {
                            drop(permit);
                        } else {
                            let _ = permit.settle(Throttled, QUICK, now);
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert!(admitted.into_inner() >= 16);
        assert_eq!(rig.snapshot(30).probes_in_flight, 0);
    }
}
