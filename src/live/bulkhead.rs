//! How many requests an upstream gets at once, and who waits for a place: first come, first served.
//!
//! A place is held until the answer's body has ended, and is handed straight to whoever waits
//! longest. The waiting room is bounded in length and time; a client that leaves, leaves it at once,
//! and an opening circuit empties it. Shared by all workers; survives a reload under new settings.

use super::lock;
use crate::clock::{self, Instant};
use crate::policy::concurrency::Concurrency;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Why there was no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// The waiting room is full too.
    Full,
    /// The wait was too long.
    TimedOut,
    /// The deadline came first.
    Late,
    /// The circuit opened meanwhile.
    Emptied,
}

/// The places of one upstream or route.
pub struct Bulkhead(Mutex<Inner>);

struct Inner {
    settings: Concurrency,
    taken: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

impl Inner {
    /// Whether there was a free place that nobody waits for: it is taken now.
    fn takes_one(&mut self) -> bool {
        let free = self.taken < self.settings.limit && self.waiting.is_empty();
        if free {
            self.taken += 1;
        }
        free
    }
}

/// A place; dropping it hands it on.
pub struct Place(Option<Arc<Bulkhead>>);

impl Bulkhead {
    /// An empty one.
    pub fn new(settings: Concurrency) -> Arc<Self> {
        Arc::new(Bulkhead(Mutex::new(Inner {
            settings,
            taken: 0,
            waiting: VecDeque::new(),
        })))
    }

    /// Other settings from now on. Whoever has a place keeps it; new places go to those who wait.
    pub fn reconfigure(self: &Arc<Self>, settings: Concurrency) {
        lock(&self.0).settings = settings;
        self.hand_on();
    }

    /// A place, if there is one now and nobody waits for it.
    pub fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let taken = lock(&self.0).takes_one();
        taken.then(|| Place(Some(Arc::clone(self))))
    }

    /// A place, at once or after a wait that ends at the deadline at the latest.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn enter(self: &Arc<Self>, deadline: Instant) -> Result<Place, NoPlace> {
        let (handed, wait) = {
            let mut inner = lock(&self.0);
            if inner.takes_one() {
                return Ok(Place(Some(Arc::clone(self))));
            }
            if inner.waiting.len() >= inner.settings.queue {
                inner.waiting.retain(|waiter| !waiter.is_closed());
            }
            if inner.waiting.len() >= inner.settings.queue {
                return Err(NoPlace::Full);
            }
            let (sender, handed) = oneshot::channel();
            inner.waiting.push_back(sender);
            (handed, inner.settings.wait)
        };
        let left = deadline.saturating_duration_since(clock::now());
        match tokio::time::timeout(wait.min(left), handed).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(NoPlace::Emptied),
            Err(_) if left < wait => Err(NoPlace::Late),
            Err(_) => Err(NoPlace::TimedOut),
        }
    }

    /// Sends everyone who waits away: the circuit has opened.
    pub fn empty(&self) {
        let gone = std::mem::take(&mut lock(&self.0).waiting);
        drop(gone);
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        lock(&self.0)
            .waiting
            .iter()
            .filter(|waiter| !waiter.is_closed())
            .count()
    }

    fn release(self: &Arc<Self>) {
        {
            let mut inner = lock(&self.0);
            inner.taken = inner.taken.saturating_sub(1);
            if inner.waiting.is_empty() {
                return;
            }
        }
        self.hand_on();
    }

    /// Gives free places to those who wait longest. A place that its taker did not stay for comes
    /// back here, after the lock is free again.
    fn hand_on(self: &Arc<Self>) {
        loop {
            let waiter = {
                let mut inner = lock(&self.0);
                if inner.taken >= inner.settings.limit {
                    return;
                }
                let Some(waiter) = inner.waiting.pop_front() else {
                    return;
                };
                inner.taken += 1;
                waiter
            };
            if let Err(mut refused) = waiter.send(Place(Some(Arc::clone(self)))) {
                refused.0 = None;
                let mut inner = lock(&self.0);
                inner.taken = inner.taken.saturating_sub(1);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(bulkhead) = self.0.take() {
            bulkhead.release();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::clock::Duration;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn bulkhead(limit: usize, queue: usize) -> Arc<Bulkhead> {
        Bulkhead::new(Concurrency {
            limit,
            queue,
            wait: Duration::from_secs(1),
        })
    }

    fn far() -> Instant {
        clock::now() + Duration::from_secs(60)
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_handed_on_in_the_order_of_arrival() {
        let bulkhead = bulkhead(1, 2);
        let first = bulkhead.enter(far()).await.unwrap();
        let (mut second, mut third) = (pin!(bulkhead.enter(far())), pin!(bulkhead.enter(far())));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        assert_eq!(bulkhead.enter(far()).await.err(), Some(NoPlace::Full));
        drop(first);
        assert!(poll(third.as_mut()).is_pending());
        let Poll::Ready(Ok(place)) = poll(second.as_mut()) else {
            unreachable!("the second was next");
        };
        drop(place);
        assert!(matches!(poll(third.as_mut()), Poll::Ready(Ok(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_leaves_costs_nobody_a_place() {
        let bulkhead = bulkhead(1, 2);
        let first = bulkhead.enter(far()).await.unwrap();
        {
            let mut gone = pin!(bulkhead.enter(far()));
            assert!(poll(gone.as_mut()).is_pending());
        }
        let mut patient = pin!(bulkhead.enter(far()));
        assert!(poll(patient.as_mut()).is_pending());
        assert_eq!(bulkhead.waiting(), 1);
        drop(first);
        assert!(matches!(poll(patient.as_mut()), Poll::Ready(Ok(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_handed_to_somebody_who_has_just_left_goes_on() {
        let bulkhead = bulkhead(1, 2);
        let first = bulkhead.enter(far()).await.unwrap();
        {
            let mut gone = pin!(bulkhead.enter(far()));
            assert!(poll(gone.as_mut()).is_pending());
            drop(first);
        }
        assert!(bulkhead.enter(far()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_in_time_and_an_opening_circuit_ends_it_at_once() {
        let bulkhead = bulkhead(1, 2);
        let _first = bulkhead.enter(far()).await.unwrap();
        assert_eq!(bulkhead.enter(far()).await.err(), Some(NoPlace::TimedOut));
        let mut waiting = pin!(bulkhead.enter(far()));
        assert!(poll(waiting.as_mut()).is_pending());
        bulkhead.empty();
        assert!(matches!(
            poll(waiting.as_mut()),
            Poll::Ready(Err(NoPlace::Emptied))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_a_wait_before_its_time() {
        let bulkhead = bulkhead(1, 2);
        let first = bulkhead.enter(clock::now()).await;
        assert!(first.is_ok(), "a free place needs no time");
        let soon = clock::now() + Duration::from_millis(10);
        assert_eq!(bulkhead.enter(soon).await.err(), Some(NoPlace::Late));
        assert_eq!(bulkhead.enter(far()).await.err(), Some(NoPlace::TimedOut));
    }

    #[tokio::test(start_paused = true)]
    async fn a_larger_limit_lets_those_in_who_wait() {
        let bulkhead = bulkhead(1, 2);
        let _first = bulkhead.enter(far()).await.unwrap();
        let mut waiting = pin!(bulkhead.enter(far()));
        assert!(poll(waiting.as_mut()).is_pending());
        bulkhead.reconfigure(Concurrency {
            limit: 2,
            queue: 2,
            wait: Duration::from_secs(1),
        });
        assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Ok(_))));
    }
}
