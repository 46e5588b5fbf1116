//! The second tier: kept answers in the store that replicas share.
//!
//! Whoever leads asks here before the origin, and waits no longer than one time-out; what is kept is
//! written behind, from a bounded queue. Nothing fails by it. An answer stands under a name that only an
//! equal request can form, sealed by a key that is formed likewise, and counts as long as the marks of
//! its resource and its route are those of when it was asked for: a change at any replica makes them
//! others. What each replica holds in its own memory follows by the log of changes.

use super::kept::{Home, Kept};
use super::key::{Key, Resource};
use super::packed::{self, Mark, Now};
use super::store::Store;
use crate::clock::{self, Duration};
use crate::fleet::{Change, Heard, Lost, MARK_LASTS, Seal, Shelf};
use bytes::Bytes;
use http::HeaderMap;
use metrics::Counter;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// The largest answer that is shared, head included: all that replicas ask goes over one connection.
const LARGEST: usize = 256 << 10;
/// Answers that wait to be written, and the bytes of them.
const MOST_WAITING: usize = 1024;
const MOST_BYTES: usize = 8 << 20;
/// Nothing lasts longer there, so that no mark ends before what it is about.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const _: () = assert!(LONGEST.as_secs() < MARK_LASTS.as_secs());

/// What was found in the second tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// The answer.
    Found,
    /// None, or one that has been changed since.
    Missing,
    /// The store is away, or gave no answer.
    Unheard,
}

/// What was done with an answer that was kept here.
pub struct Writes {
    /// It is there.
    pub stored: Counter,
    /// It was too large, or too many waited.
    pub dropped: Counter,
    /// The store was away, or did not take it.
    pub failed: Counter,
}

/// The second tier.
pub(super) struct Second {
    shelf: Shelf,
    waiting: Mutex<Waiting>,
    wake: Notify,
    writes: Writes,
}

#[derive(Default)]
struct Waiting {
    answers: VecDeque<(Arc<Kept>, Mark)>,
    bytes: usize,
}

impl Second {
    /// Begins to write behind, and to hear what others have changed, for as long as the fleet lives.
    pub(super) fn start(shelf: Shelf, writes: Writes, store: &Arc<Mutex<Store>>) -> Arc<Second> {
        let heard = Arc::downgrade(store);
        let listener = move |news| {
            if let Some(store) = Weak::upgrade(&heard) {
                hear(
                    &mut store.lock().unwrap_or_else(PoisonError::into_inner),
                    news,
                );
            }
        };
        shelf.changes().listen(Box::new(listener));
        let second = Arc::new(Second {
            shelf,
            waiting: Mutex::default(),
            wake: Notify::new(),
            writes,
        });
        let writer = Arc::clone(&second);
        second.shelf.spawn(async move {
            loop {
                writer.write().await;
                writer.wake.notified().await;
            }
        });
        second
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request with these fields, and the mark of what its origin says from now on.
    pub(super) async fn seek(
        &self,
        home: &Home,
        fields: &HeaderMap,
    ) -> (Sought, Option<Kept>, Option<Mark>) {
        let (shelf, changes) = (&self.shelf, self.shelf.changes());
        let marks = mark_key(&home.resource);
        let life = shelf.generation().filter(|_| shelf.is_up());
        let (Some(life), Some(seal)) = (life, seal(&home.key)) else {
            return (Sought::Unheard, None, None);
        };
        // Whoever has just changed it is told what came of it, and so is the store.
        let patience = shelf.timeout();
        if changes.is_due_after(patience, &marks, &home.route).await {
            return (Sought::Missing, None, None);
        }
        let route = changes.mark(&home.route);
        let key = entry_key(&home.resource, &seal);
        let Ok(found) = shelf.values().get_all(&[&key, &marks]).await else {
            return (Sought::Unheard, None, None);
        };
        let mut found = found.into_iter();
        let (sealed, resource) = (found.next().flatten(), found.next().flatten());
        let mark = Mark {
            life,
            route,
            resource: resource.unwrap_or_default(),
        };
        let now = self.now();
        let entry = sealed
            .and_then(|sealed: Bytes| seal.open(&sealed))
            .and_then(|plain| packed::unpack(plain, &mark, now, (home, fields)));
        let sought = match &entry {
            Some(_) => Sought::Found,
            None => Sought::Missing,
        };
        (sought, entry, Some(mark))
    }

    fn now(&self) -> Now {
        Now {
            here: clock::now(),
            there: self.shelf.time(),
        }
    }

    /// Has an answer written, soon, that was asked for under that mark.
    pub(super) fn keep(&self, entry: &Arc<Kept>, mark: Mark) {
        let weight = entry.weight();
        let mut waiting = self.waiting();
        let full = waiting.answers.len() >= MOST_WAITING || waiting.bytes + weight > MOST_BYTES;
        if full || weight > LARGEST {
            drop(waiting);
            return self.writes.dropped.increment(1);
        }
        waiting.bytes += weight;
        waiting.answers.push_back((Arc::clone(entry), mark));
        drop(waiting);
        self.wake.notify_one();
    }

    async fn write(&self) {
        while let Some((entry, mark)) = self.next() {
            match self.write_one(&entry, &mark).await {
                Ok(true) => self.writes.stored.increment(1),
                Ok(false) => {}
                Err(_) => self.writes.failed.increment(1),
            }
        }
    }

    fn next(&self) -> Option<(Arc<Kept>, Mark)> {
        let mut waiting = self.waiting();
        let (entry, mark) = waiting.answers.pop_front()?;
        waiting.bytes -= entry.weight();
        Some((entry, mark))
    }

    /// Whether it is of any use there.
    async fn write_one(&self, entry: &Kept, mark: &Mark) -> Result<bool, Lost> {
        let lasts = entry.head.freshness.useful_for(clock::now()).min(LONGEST);
        let packed = packed::pack(entry, mark, self.now());
        let seal = seal(&entry.head.home.key);
        let sealed = seal.and_then(|seal| Some((seal.close(packed)?, seal)));
        let Some((sealed, seal)) = sealed.filter(|_| !lasts.is_zero()) else {
            return Ok(false);
        };
        let key = entry_key(&entry.head.home.resource, &seal);
        let values = self.shelf.values();
        values.set(&key, &sealed, lasts).await.map(|()| true)
    }

    /// These resources have changed, or may have: nobody takes what they showed for what is there.
    pub(super) fn changed(&self, resources: &[Resource], kind: Kind) {
        let mut words = kind.word().to_owned();
        for resource in resources {
            words.push(' ');
            words.push_str(&resource.hex());
        }
        self.shelf.changes().tell(Change {
            words,
            marks: resources.iter().map(mark_key).collect(),
            field: None,
        });
    }

    /// What a route holds below a path is dropped; here, all that it holds.
    pub(super) fn purged(&self, route: &str, prefix: &str) {
        self.shelf.changes().tell(Change {
            words: format!("purged {}:{route}{prefix}", route.len()),
            marks: Vec::new(),
            field: Some(route.to_owned()),
        });
    }
}

/// How sure it is that something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Surely,
    Perhaps,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Surely => "changed",
            Kind::Perhaps => "doubted",
        }
    }
}

/// Forgets what another replica has changed. What makes no sense may be anything.
fn hear(store: &mut Store, news: Heard) {
    let understood = match &news {
        Heard::Gap => None,
        Heard::Change(words) => words.split_once(' '),
    };
    let now = clock::now();
    match understood {
        Some(("changed", list)) => drop(store.drop_resources(&named(list))),
        Some(("doubted", list)) => store.doubt_resources(&named(list), now),
        Some(("purged", rest)) => match purged(rest) {
            Some((route, prefix)) => drop(store.purge(route, prefix)),
            None => store.doubt_all(now),
        },
        _ => store.doubt_all(now),
    }
}

fn named(list: &str) -> Vec<Resource> {
    list.split(' ').filter_map(Resource::from_hex).collect()
}

/// A route's name may hold anything, so that its length stands before it.
fn purged(words: &str) -> Option<(&str, &str)> {
    let (length, rest) = words.split_once(':')?;
    rest.split_at_checked(length.parse().ok()?)
}

fn seal(key: &Key) -> Option<Seal> {
    Seal::of("answer", key.bytes())
}

/// What belongs to a resource lies together in a cluster.
fn entry_key(resource: &Resource, seal: &Seal) -> String {
    format!("kept:{{{}}}:{}", resource.hex(), seal.name())
}

fn mark_key(resource: &Resource) -> String {
    format!("kept:{{{}}}:mark", resource.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_is_read_as_it_is_told() {
        assert_eq!(purged("1:r/a b"), Some(("r", "/a b")));
        assert_eq!(purged("5:a: é"), Some(("a: é", "")));
        assert_eq!(purged("5:a: é/x"), Some(("a: é", "/x")));
        for bad in ["", "x", "9:short", "-1:a", "x:a", "4:a: é"] {
            assert_eq!(purged(bad), None, "{bad}");
        }
    }
}
