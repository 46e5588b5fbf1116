//! What replicas tell each other of their circuits: that one has opened, and what an operator ordered.
//!
//! An opening is a hint: whoever hears it takes one failure of his own for enough, and nothing less,
//! so that a replica whose own network is broken opens nobody else's circuit. Each tale stands in the
//! store until it is over, so that replicas that start later, or had lost the store, hear it too. No
//! request waits here: tales go out, and are heard, with the beat.

use super::script::{Call, Script};
use super::store::{Op, Store};
use crate::clock::{self, Duration, Instant};
use crate::policy::breaker::Forced;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// KEYS: what is told of circuits. ARGV: of which and what kind, for how many milliseconds, and the words.
const TELL: &str = "
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', till) .. ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
";

/// An order to end an override is told for as long as any override may last.
const LONGEST_ORDER: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of an operator's reason that are told.
const LONGEST_REASON: usize = 256;

/// What another replica has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The circuit's name.
    pub circuit: String,
    /// How much longer it holds.
    pub left: Duration,
    /// What it is.
    pub tidings: Tidings,
}

/// What can be told of a circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tidings {
    /// It has opened there.
    Opened,
    /// An operator has ordered this.
    Ordered(Forced, String),
}

/// Who is told the news. Called on the fleet's thread; must not wait.
pub type Ear = Box<dyn Fn(News) + Send + Sync>;

/// Something to tell.
#[derive(Debug, Clone)]
struct Tale {
    until: Instant,
    words: String,
}

/// The tales of this replica and of the others.
pub(super) struct Circuits {
    instance: String,
    next: AtomicU64,
    tell: Script,
    ear: Ear,
    /// Asks for a beat at once.
    pub(super) hurry: Notify,
    tales: Mutex<Tales>,
}

#[derive(Default)]
struct Tales {
    /// Not told yet.
    due: BTreeMap<String, Tale>,
    /// Told, and still true: after a flush it is told again.
    told: BTreeMap<String, Tale>,
    /// What the store held at the last beat.
    heard: HashMap<String, String>,
}

impl Circuits {
    pub(super) fn new(instance: &str, ear: Ear) -> Circuits {
        Circuits {
            instance: instance.to_owned(),
            next: AtomicU64::new(0),
            tell: Script::new(TELL),
            ear,
            hurry: Notify::new(),
            tales: Mutex::default(),
        }
    }

    fn tales(&self) -> MutexGuard<'_, Tales> {
        self.tales.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That a circuit has opened here, for so long.
    pub(super) fn opened(&self, circuit: &str, lasts: Duration) {
        self.put(format!("hint {circuit}"), lasts, "opened");
    }

    /// What an operator ordered here, for so long.
    pub(super) fn ordered(&self, circuit: &str, forced: Forced, lasts: Duration, reason: &str) {
        let (word, lasts) = match forced {
            Forced::Open => ("open", lasts),
            Forced::Closed => ("closed", lasts),
            Forced::Auto => ("auto", LONGEST_ORDER),
        };
        let end = (0..=LONGEST_REASON.min(reason.len()))
            .rev()
            .find(|&at| reason.is_char_boundary(at));
        let reason = reason.get(..end.unwrap_or(0)).unwrap_or_default();
        self.put(
            format!("order {circuit}"),
            lasts,
            &format!("{word} {reason}"),
        );
    }

    fn put(&self, field: String, lasts: Duration, words: &str) {
        let number = self.next.fetch_add(1, Relaxed);
        let tale = Tale {
            until: clock::now() + lasts,
            words: format!("{}-{number} {words}", self.instance),
        };
        self.tales().due.insert(field, tale);
        self.hurry.notify_one();
    }

    /// A circuit of that name exists from now on: what is told of it is news again.
    pub(super) fn forget(&self, circuit: &str) {
        let mut tales = self.tales();
        tales.heard.remove(&format!("hint {circuit}"));
        tales.heard.remove(&format!("order {circuit}"));
    }

    /// Tells what is due; what cannot be told now stays due.
    pub(super) async fn speak(&self, store: &Store) {
        let now = clock::now();
        let due = std::mem::take(&mut self.tales().due);
        for (field, tale) in due {
            let left = tale.until.saturating_duration_since(now);
            let millis = left.as_millis();
            if millis == 0 {
                continue;
            }
            let call = Call::on([store.joined_key("circuits")])
                .word(field.as_str())
                .word(millis.to_string())
                .word(tale.words.as_str());
            let told = store.run(Op::Breaker, &self.tell, &call).await.is_ok();
            let mut tales = self.tales();
            match told {
                true => drop(tales.told.insert(field, tale)),
                false => drop(tales.due.entry(field).or_insert(tale)),
            }
        }
    }

    /// Hears what stands in the store at its time `now`, in milliseconds.
    pub(super) fn hear(&self, now: u64, standing: Vec<(String, String)>) {
        let news: Vec<News> = {
            let mut tales = self.tales();
            // What is about to be told from here is younger than what stands there.
            let new = |(field, words): &&(String, String)| {
                tales.heard.get(field) != Some(words) && !tales.due.contains_key(field)
            };
            let fresh = standing.iter().filter(new);
            let news = fresh.filter_map(|(field, words)| self.read(now, field, words));
            let news = news.collect();
            tales.heard = standing.into_iter().collect();
            tales.tell_again();
            news
        };
        news.into_iter().for_each(&self.ear);
    }

    /// What a tale of another replica says.
    fn read(&self, now: u64, field: &str, words: &str) -> Option<News> {
        let (kind, circuit) = field.split_once(' ')?;
        let mut parts = words.splitn(4, ' ');
        let till: u64 = parts.next()?.parse().ok()?;
        let (by, word) = (parts.next()?, parts.next()?);
        let reason = parts.next().unwrap_or_default().to_owned();
        if by.split('-').next() == Some(&self.instance) {
            return None;
        }
        let tidings = match (kind, word) {
            ("hint", "opened") => Tidings::Opened,
            ("order", "open") => Tidings::Ordered(Forced::Open, reason),
            ("order", "closed") => Tidings::Ordered(Forced::Closed, reason),
            ("order", "auto") => Tidings::Ordered(Forced::Auto, reason),
            _ => return None,
        };
        let left = Duration::from_millis(till.checked_sub(now)?).min(LONGEST_ORDER);
        Some(News {
            circuit: circuit.to_owned(),
            left,
            tidings,
        })
    }
}

impl Tales {
    /// Has everything told once more that the store has lost. What somebody else has overruled is over.
    fn tell_again(&mut self) {
        let now = clock::now();
        for (field, tale) in std::mem::take(&mut self.told) {
            if tale.until <= now {
                continue;
            }
            match self.heard.get(&field) {
                None => drop(self.due.entry(field).or_insert(tale)),
                Some(words) if words.ends_with(&tale.words) => {
                    self.told.insert(field, tale);
                }
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn listening() -> (Circuits, Arc<Mutex<Vec<News>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let ear: Ear = Box::new(move |news| kept.lock().unwrap().push(news));
        (Circuits::new("me", ear), heard)
    }

    fn pair(field: &str, words: &str) -> (String, String) {
        (field.to_owned(), words.to_owned())
    }

    #[test]
    fn each_tale_of_another_is_heard_once() {
        let (circuits, heard) = listening();
        let standing = vec![
            pair("hint up", "5000 you-1 opened"),
            pair("order up", "9000 you-2 open down for repair"),
            pair("hint own", "5000 me-1 opened"),
            pair("hint late", "900 you-3 opened"),
            pair("nonsense", "x"),
        ];
        circuits.hear(1000, standing.clone());
        circuits.hear(1200, standing.clone());
        let expected = [
            News {
                circuit: "up".to_owned(),
                left: Duration::from_secs(4),
                tidings: Tidings::Opened,
            },
            News {
                circuit: "up".to_owned(),
                left: Duration::from_secs(8),
                tidings: Tidings::Ordered(Forced::Open, "down for repair".to_owned()),
            },
        ];
        assert_eq!(*heard.lock().unwrap(), expected);
        circuits.forget("up");
        circuits.hear(2000, standing);
        assert_eq!(heard.lock().unwrap().len(), 4);
    }

    #[test]
    fn what_stands_there_does_not_undo_what_is_about_to_be_told() {
        let (circuits, heard) = listening();
        circuits.ordered("up", Forced::Auto, Duration::ZERO, "over");
        circuits.hear(1000, vec![pair("order up", "61000 you-7 open drill")]);
        assert!(heard.lock().unwrap().is_empty());
    }

    #[test]
    fn what_the_store_lost_is_told_again_and_what_was_overruled_is_not() {
        let (circuits, _) = listening();
        circuits.ordered("up", Forced::Closed, Duration::from_secs(60), "drill");
        circuits.opened("up", Duration::from_secs(60));
        let told = std::mem::take(&mut circuits.tales().due);
        assert_eq!(told["order up"].words, "me-0 closed drill");
        circuits.tales().told = told;
        circuits.hear(
            1000,
            vec![
                pair("order up", "61000 me-0 closed drill"),
                pair("hint up", "61000 you-7 opened"),
            ],
        );
        assert!(circuits.tales().due.is_empty());
        circuits.hear(2000, Vec::new());
        let due: Vec<String> = circuits.tales().due.keys().cloned().collect();
        assert_eq!(due, ["order up"]);
    }
}
