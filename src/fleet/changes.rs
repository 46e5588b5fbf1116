//! A numbered log of what has changed, which every replica reads with its beat.
//!
//! A change is told in two steps, in this order: the marks of what it touched become others, so that no
//! value that was made before is taken for what is there; then its words enter the log, so that each
//! replica forgets what it holds itself. What cannot be told now waits here, and whoever looks at what
//! it touched is told so meanwhile. A replica that may have missed a word hears of the gap instead.
//! Called by the beat, and by the cache through its shelf.

use super::script::{Call, Script, number};
use super::store::{Lost, Op, Store};
use crate::clock::Duration;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;

/// A mark outlives every value that was made under an earlier one.
pub const MARK_LASTS: Duration = Duration::from_secs(2 * 24 * 60 * 60);
/// The field that stands for everything.
const ALL: &str = "*";
/// Changes that wait to be told; above it, everything is taken for changed.
const MOST_DUE: usize = 1024;

/// KEYS: the number of the last change; the log; the marks that all replicas hold. ARGV: who tells; the new mark; how
/// many words follow, then those, then the fields whose marks become others. The latest 1,024 changes are kept.
const TELL: &str = "
local words = tonumber(ARGV[3])
local number = 0
for i = 4, 3 + words do
  number = redis.call('INCR', KEYS[1])
  redis.call('ZADD', KEYS[2], number, string.format('%.0f ', number) .. ARGV[1] .. ' ' .. ARGV[i])
end
for i = 4 + words, #ARGV do redis.call('HSET', KEYS[3], ARGV[i], ARGV[2]) end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1025)
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], 2592000000) end
return number
";

/// Something that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What the other replicas are told.
    pub words: String,
    /// Keys in the store whose marks become others.
    pub marks: Vec<String>,
    /// The same for a mark that all replicas hold.
    pub field: Option<String>,
}

/// What is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// What another replica has told.
    Change(String),
    /// Something may have been missed: all that is held may have changed.
    Gap,
}

/// Who hears. Called on the fleet's thread; must not wait.
pub(super) type Listener = Box<dyn Fn(Heard) + Send + Sync>;

/// The log, as this replica knows it.
pub struct Changes {
    instance: String,
    tell: Script,
    listener: OnceLock<Listener>,
    state: Mutex<State>,
    waiting: Notify,
    told: Notify,
}

#[derive(Default)]
struct State {
    due: Vec<Change>,
    /// On their way to the store.
    telling: Vec<Change>,
    /// The life of the store, and the number of the last change heard in it.
    since: Option<(Arc<str>, u64)>,
    /// The number of the last change that was told from here.
    own: u64,
    marks: HashMap<String, String>,
}

impl Changes {
    pub(super) fn new(instance: &str) -> Changes {
        Changes {
            instance: instance.to_owned(),
            tell: Script::new(TELL),
            listener: OnceLock::new(),
            state: Mutex::default(),
            waiting: Notify::new(),
            told: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what others tell heard by that one. Called once.
    pub fn listen(&self, listener: Listener) {
        self.listener.get_or_init(|| listener);
    }

    /// Tells the others, soon.
    pub fn tell(&self, change: Change) {
        let mut state = self.state();
        if state.due.len() >= MOST_DUE {
            state.due = vec![Change {
                words: ALL.to_owned(),
                marks: Vec::new(),
                field: Some(ALL.to_owned()),
            }];
        }
        state.due.push(change);
        drop(state);
        self.waiting.notify_one();
    }

    /// Whether a change of what bears that mark, or that field's, is still to be told.
    pub fn is_due(&self, wanted: &str, field: &str) -> bool {
        let state = self.state();
        let mut untold = state.telling.iter().chain(&state.due);
        untold.any(|change| {
            let all = |named: &String| named == field || named == ALL;
            change.marks.iter().any(|other| other == wanted)
                || change.field.as_ref().is_some_and(all)
        })
    }

    /// Waits, for at most one time-out of the store, while that is so; whether it still is.
    pub async fn is_due_after(&self, patience: Duration, mark: &str, field: &str) -> bool {
        let told = async {
            loop {
                let told = self.told.notified();
                if !self.is_due(mark, field) {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(patience, told).await.is_err()
    }

    /// The mark that all replicas hold of a field, together with that of everything.
    pub fn mark(&self, field: &str) -> String {
        let state = self.state();
        let held = |name| state.marks.get(name).map_or("", String::as_str);
        format!("{} {}", held(ALL), held(field))
    }

    /// Tells what is due whenever there is something, for as long as the fleet lives.
    pub(super) async fn keep_telling(&self, store: &Store) {
        loop {
            self.waiting.notified().await;
            self.speak(store).await;
        }
    }

    /// What could not be told is due again.
    async fn speak(&self, store: &Store) {
        let telling = {
            let mut state = self.state();
            state.telling = std::mem::take(&mut state.due);
            state.telling.clone()
        };
        if telling.is_empty() {
            return;
        }
        let told = self.tell_all(store, &telling).await;
        let mut state = self.state();
        let mut untold = std::mem::take(&mut state.telling);
        match told {
            Ok((mark, own)) => {
                state.own = own;
                let fields = untold.into_iter().filter_map(|change| change.field);
                state
                    .marks
                    .extend(fields.map(|field| (field, mark.clone())));
            }
            Err(_) => {
                untold.append(&mut state.due);
                state.due = untold;
            }
        }
        drop(state);
        self.told.notify_waiters();
    }

    /// The new mark and the number of the last change, once all is told.
    async fn tell_all(&self, store: &Store, changes: &[Change]) -> Result<(String, u64), Lost> {
        let mark = format!("{:016x}", fastrand::u64(..));
        let marks = changes.iter().flat_map(|change| &change.marks);
        let set = marks.map(|key| store.set(key, mark.as_bytes(), MARK_LASTS));
        for done in join_all(set).await {
            done?;
        }
        let keys = ["changed", "changes", "marks"];
        let mut call = Call::on(keys.map(|key| store.joined_key(key)))
            .word(self.instance.as_str())
            .word(mark.as_str())
            .word(changes.len().to_string());
        for change in changes {
            call = call.word(change.words.as_str());
        }
        for field in changes.iter().filter_map(|change| change.field.as_ref()) {
            call = call.word(field.as_str());
        }
        let last = store.run(Op::Value, &self.tell, &call).await?;
        Ok((mark, number(Some(&last)).unwrap_or(0)))
    }

    /// The number of the last change that was heard, as the beat sends it; empty where none was.
    pub(super) fn since(&self) -> String {
        let mut since = String::new();
        if let Some((_, number)) = &self.state().since {
            // Writing to a String cannot fail.
            let _ = write!(since, "{number}");
        }
        since
    }

    /// Hears what a beat has brought: the store's life, the number of its last change, those that
    /// were asked for, and all marks.
    pub(super) fn hear(
        &self,
        life: &Arc<str>,
        last: u64,
        (log, marks): (Vec<String>, HashMap<String, String>),
    ) {
        let heard = {
            let mut state = self.state();
            let (heard, since) = match &state.since {
                Some((known, since)) if known == life => self.read(*since, last, &log),
                _ => {
                    state.own = 0;
                    (vec![Heard::Gap], last)
                }
            };
            // A beat that was on its way while a change was told from here knows less than this replica.
            if last >= state.own {
                state.marks = marks;
            }
            state.since = Some((Arc::clone(life), since));
            if !state.due.is_empty() {
                self.waiting.notify_one();
            }
            heard
        };
        if let Some(listener) = self.listener.get() {
            heard.into_iter().for_each(listener);
        }
    }

    /// What is new since a number, and the number that is heard now.
    fn read(&self, since: u64, last: u64, log: &[String]) -> (Vec<Heard>, u64) {
        let (mut heard, mut next) = (Vec::new(), since);
        for line in log {
            let mut parts = line.splitn(3, ' ');
            let number = parts.next().and_then(|number| number.parse::<u64>().ok());
            let (Some(number), Some(by), Some(words)) = (number, parts.next(), parts.next()) else {
                continue;
            };
            if number != next + 1 {
                heard.push(Heard::Gap);
            }
            next = number;
            if by != self.instance {
                heard.push(match words {
                    ALL => Heard::Gap,
                    words => Heard::Change(words.to_owned()),
                });
            }
        }
        if last < since || (log.is_empty() && last > since) {
            return (vec![Heard::Gap], last);
        }
        (heard, next)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn listening() -> (Changes, Arc<Mutex<Vec<Heard>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let changes = Changes::new("me");
        changes.listen(Box::new(move |one| kept.lock().unwrap().push(one)));
        (changes, heard)
    }

    fn log(lines: &[&str]) -> (Vec<String>, HashMap<String, String>) {
        let lines = lines.iter().map(|line| (*line).to_owned());
        (lines.collect(), HashMap::new())
    }

    fn told(words: &str) -> Heard {
        Heard::Change(words.to_owned())
    }

    #[test]
    fn each_change_of_another_is_heard_once_and_in_order() {
        let (changes, heard) = listening();
        let life: Arc<str> = Arc::from("a");
        assert_eq!(changes.since(), "");
        changes.hear(&life, 7, log(&[]));
        assert_eq!(*heard.lock().unwrap(), [Heard::Gap], "who comes late");
        assert_eq!(changes.since(), "7");
        heard.lock().unwrap().clear();
        changes.hear(&life, 9, log(&["8 you one", "9 me two words"]));
        changes.hear(&life, 9, log(&[]));
        changes.hear(&life, 11, log(&["10 you three words here", "11 you *"]));
        let expected = [told("one"), told("three words here"), Heard::Gap];
        assert_eq!(*heard.lock().unwrap(), expected);
    }

    #[test]
    fn what_may_have_been_missed_is_a_gap() {
        let life: Arc<str> = Arc::from("a");
        for (last, lines) in [
            (90, vec!["90 you x"]),
            (9, vec![]),
            (1, vec![]),
            (12, vec!["nonsense", "11 you x", "12 you x"]),
        ] {
            let (changes, heard) = listening();
            changes.hear(&life, 7, log(&[]));
            heard.lock().unwrap().clear();
            changes.hear(&life, last, log(&lines));
            let heard = heard.lock().unwrap();
            assert_eq!(heard.first(), Some(&Heard::Gap), "{lines:?}");
            assert_eq!(changes.since(), last.to_string());
        }
        let (changes, heard) = listening();
        changes.hear(&life, 7, log(&[]));
        changes.hear(&Arc::from("b"), 7, log(&[]));
        assert_eq!(heard.lock().unwrap().len(), 2, "another life of the store");
    }

    #[test]
    fn what_is_to_be_told_is_known_until_it_is_and_takes_bounded_room() {
        let (changes, _) = listening();
        let change = |n: usize| Change {
            words: format!("r {n}"),
            marks: vec![format!("mark {n}")],
            field: None,
        };
        changes.tell(change(1));
        assert!(changes.is_due("mark 1", "route") && !changes.is_due("mark 2", "route"));
        (0..3 * MOST_DUE).for_each(|n| changes.tell(change(n)));
        assert!(changes.state().due.len() <= MOST_DUE);
        assert!(changes.is_due("mark 0", "route"), "everything has changed");
    }
}
