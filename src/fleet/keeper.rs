//! Keeps the store in use: connects, listens for its heart, and takes it out of use and back.
//!
//! The beat is what a request would need: a script that reads and writes. So a store that is full,
//! that has become a replica, or that loads its data is as lost as one that is dead. One task, on the
//! fleet's own thread; nobody waits for it.

use super::beat::Pulse;
use super::link::{Dialer, Link};
use super::roll::Anew;
use super::store::{Lost, Store};
use crate::clock::{self, Duration, Instant};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Between two beats of a store that is in use, and while others are awaited there.
const BEAT: Duration = Duration::from_millis(100);
const EAGER: Duration = Duration::from_millis(20);
/// Between two tries to reach one that is not: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(150);
/// A store that was in use for less than this before it was lost is taken back more slowly each time.
const STEADY: Duration = Duration::from_secs(2);
const LONGEST_HOLD: Duration = Duration::from_millis(600);

pub(super) struct Keeper {
    dialer: Dialer,
    store: Store,
    pulse: Arc<Pulse>,
    /// The link in use, or the one that may be used again.
    link: Option<Arc<Link>>,
    pause: Duration,
    /// When the store came into use, and how long it waits before it does so again.
    raised: Option<Instant>,
    hold: Duration,
    /// Whether the last beat came late.
    late: bool,
}

impl Keeper {
    pub(super) fn new(dialer: Dialer, store: Store, pulse: Arc<Pulse>) -> Keeper {
        Keeper {
            dialer,
            store,
            pulse,
            link: None,
            pause: FIRST_PAUSE,
            raised: None,
            hold: Duration::ZERO,
            late: false,
        }
    }

    pub(super) async fn run(mut self, until: CancellationToken) {
        loop {
            let pause = tokio::select! {
                () = until.cancelled() => break,
                pause = self.round() => pause,
            };
            let hold = tokio::select! {
                () = until.cancelled() => break,
                () = self.store.loss() => self.was_lost(),
                () = self.pulse.circuits.hurry.notified() => Duration::ZERO,
                () = tokio::time::sleep(pause) => Duration::ZERO,
            };
            tokio::select! {
                () = until.cancelled() => break,
                () = tokio::time::sleep(hold) => {}
            }
        }
        self.store.put_down(&Lost::Away);
    }

    /// One beat, on a new link where there is none; how long to wait for the next.
    async fn round(&mut self) -> Duration {
        let link = match self.link.take() {
            Some(link) => link,
            None => match self.dial().await {
                Ok(link) => link,
                Err(lost) => return self.failed(&lost),
            },
        };
        match self.pulse.beat(&self.store, &link).await {
            Ok(anew) => {
                self.took(link, anew);
                self.pulse.circuits.speak(&self.store).await;
                match self.pulse.roll.is_eager() {
                    true => EAGER,
                    false => BEAT,
                }
            }
            // One late beat may be this thread's own fault.
            Err(Lost::Late) if self.store.is_up() && !self.late => {
                self.late = true;
                self.link = Some(link);
                Duration::ZERO
            }
            Err(lost) => {
                self.store.put_down(&lost);
                self.was_lost().max(self.failed(&lost))
            }
        }
    }

    async fn dial(&mut self) -> Result<Arc<Link>, Lost> {
        let patience = self.dialer.patience;
        match tokio::time::timeout(patience, self.dialer.dial()).await {
            Ok(Ok(link)) => Ok(Arc::new(link)),
            Ok(Err(error)) => Err(Lost::Failed(error.to_string())),
            Err(_) => Err(Lost::Late),
        }
    }

    /// A store that a request lost during the beat stays out of use until the next: nobody is awaited yet.
    fn took(&mut self, link: Arc<Link>, anew: Anew) {
        self.pause = FIRST_PAUSE;
        self.late = false;
        if anew != Anew::No && !self.store.is_up() {
            self.raised = Some(clock::now());
            self.store.raise(Arc::clone(&link));
            self.pulse.rise();
        }
        self.link = Some(link);
    }

    /// How long to keep away from a store that was lost, if it was.
    fn was_lost(&mut self) -> Duration {
        if let (false, Some(raised)) = (self.store.is_up(), self.raised) {
            self.raised = None;
            let steady = clock::now().saturating_duration_since(raised) >= STEADY;
            self.hold = match steady {
                true => Duration::ZERO,
                false => (self.hold * 2).clamp(FIRST_PAUSE, LONGEST_HOLD),
            };
            return self.hold;
        }
        Duration::ZERO
    }

    fn failed(&mut self, lost: &Lost) -> Duration {
        self.store.note(lost);
        let pause = self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        pause
    }
}
