//! What moves a circuit from outside: new settings, an operator, and the word of another replica.
//!
//! Orders outrank what the circuit has seen. An override always ends by itself, new settings never undo what
//! is under way, and another replica's word alone changes no state. Only the breaker calls this, under its
//! lock, after the clock has caught up.

use std::time::{Duration, Instant};

use super::{Circuit, Phase, later};
use crate::policy::breaker::report::{Forced, Override, Reason, State};
use crate::policy::breaker::settings::BreakerSettings;
use crate::policy::window::Window;

impl Circuit {
    /// Puts new settings in the place of the old. What is under way keeps its end.
    pub(in crate::policy::breaker) fn reconfigure(
        &mut self,
        settings: BreakerSettings,
        now: Instant,
    ) {
        self.settings = settings;
        if !self.settings.enabled {
            self.switch_off(now);
        }
        let length = self.settings.window;
        self.window = match self.window.take() {
            _ if !self.settings.watches_rates() => None,
            Some(window) if window.length() == length => Some(window),
            _ => Some(Window::new(length, now)),
        };
    }

    fn switch_off(&mut self, now: Instant) {
        self.forced = None;
        self.streak = 0;
        self.hinted_until = None;
        if self.state() != State::Closed {
            self.enter(Phase::Closed, now, Reason::Disabled);
        }
    }

    /// Carries out an operator's order; a breaker that is switched off takes none.
    pub(in crate::policy::breaker) fn force(
        &mut self,
        forced: Forced,
        lasting: Duration,
        reason: String,
        now: Instant,
    ) {
        if !self.settings.enabled {
            return;
        }
        let until = later(now, lasting);
        let phase = match forced {
            Forced::Auto => return self.end_override(now, Reason::Operator { forced, reason }),
            Forced::Open => Phase::Open { until },
            Forced::Closed => Phase::Closed,
        };
        let state = phase.state();
        if self.state() == state {
            self.phase = phase;
            self.begin_epoch(now);
        } else {
            let reason = reason.clone();
            self.enter(phase, now, Reason::Operator { forced, reason });
        }
        self.forced = Some(Override {
            state,
            until,
            reason,
        });
    }

    /// After a held-open circuit come probes; a held-closed one starts counting from nothing.
    pub(super) fn end_override(&mut self, at: Instant, reason: Reason) {
        match self.forced.take().map(|forced| forced.state) {
            None => {}
            Some(State::Closed) => self.begin_epoch(at),
            Some(_) => self.enter(Phase::PROBING, at, reason),
        }
    }

    /// Takes another replica's evidence: while it lasts, a single failure here is enough to open.
    pub(in crate::policy::breaker) fn hint(&mut self, lasting: Duration, now: Instant) {
        if self.settings.enabled && self.forced.is_none() && self.state() == State::Closed {
            self.hinted_until = Some(later(now, lasting));
        }
    }
}
