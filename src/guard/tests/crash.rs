//! What the state file promises when the power fails, the process is killed, the disk is full, or
//! the file is not what it was.

use super::*;
use crate::guard::file::{Opened, open_with};
use redb::{BackendError, Builder, StorageBackend};
use std::io::{BufRead, BufReader, Error};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A small generator, so that each failure can be seen again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

#[derive(Debug, Clone)]
enum Write {
    Len(usize),
    Bytes(usize, Vec<u8>),
}

fn apply(image: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Len(len) => image.resize(*len, 0),
        Write::Bytes(at, bytes) => image[*at..*at + bytes.len()].copy_from_slice(bytes),
    }
}

/// A disk that remembers what it has promised to keep, and what it has not.
#[derive(Debug, Default)]
struct Platter {
    seen: Mutex<(Vec<u8>, Vec<u8>, Vec<Write>)>,
    syncs: AtomicUsize,
    broken: AtomicBool,
}

impl Platter {
    /// What may be found after the power failed now: every promise kept, and any of the rest, in
    /// any order of sectors.
    fn after_power_loss(&self, dice: &mut Dice) -> Vec<u8> {
        let seen = self.seen.lock().unwrap();
        let (_, mut image, loose) = seen.clone();
        drop(seen);
        for write in &loose {
            match write {
                Write::Len(_) => apply(&mut image, write),
                Write::Bytes(at, bytes) => {
                    for (n, sector) in bytes.chunks(512).enumerate() {
                        if dice.below(2) == 0 {
                            apply(&mut image, &Write::Bytes(at + 512 * n, sector.to_vec()));
                        }
                    }
                }
            }
        }
        image
    }

    fn write(&self, write: Write) -> Result<(), BackendError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::other("no space left").into());
        }
        let mut seen = self.seen.lock().unwrap();
        apply(&mut seen.0, &write);
        seen.2.push(write);
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Disk(Arc<Platter>);

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.0.seen.lock().unwrap().0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let seen = self.0.seen.lock().unwrap();
        let at = offset as usize;
        let found = seen.0.get(at..at + out.len());
        out.copy_from_slice(found.ok_or_else(|| Error::other("beyond the end"))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.0.write(Write::Len(len as usize)).map_err(Error::other)
    }

    fn sync_data(&self) -> Result<(), Error> {
        if self.0.broken.load(Ordering::SeqCst) {
            return Err(Error::other("input/output error"));
        }
        let mut seen = self.0.seen.lock().unwrap();
        let (_, kept, loose) = &mut *seen;
        for write in loose.drain(..) {
            apply(kept, &write);
        }
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let write = Write::Bytes(offset as usize, data.to_vec());
        self.0.write(write).map_err(Error::other)
    }
}

fn opened(platter: &Arc<Platter>) -> Result<Opened, StateFileError> {
    let disk = Disk(Arc::clone(platter));
    let opener = move || {
        let opened = Builder::new()
            .set_check_integrity_on_open(true)
            .create_with_backend(disk.clone());
        opened.map_err(|error| StateFileError::Damaged {
            path: "disk".into(),
            what: error.to_string(),
        })
    };
    open_with(Path::new("disk"), Box::new(opener))
}

fn guard_on(platter: &Arc<Platter>, at: Time) -> Guard {
    Guard::restore(opened(platter).unwrap(), Bounds::default(), at.now, at.wall).unwrap()
}

fn after(image: Vec<u8>) -> Arc<Platter> {
    Arc::new(Platter {
        seen: Mutex::new((image.clone(), image, Vec::new())),
        ..Platter::default()
    })
}

fn correlation_ids(guard: &Guard, at: Time) -> Vec<String> {
    let held = guard.held(at.now, at.wall).into_iter();
    held.map(|view| view.held.correlation_id).collect()
}

#[test]
fn power_lost_at_any_moment_loses_no_create_that_has_begun() {
    let t0 = Time::start();
    let platter = Arc::new(Platter::default());
    let guard = guard_on(&platter, t0);
    // Begun and still under way; the writers add to it, the crashes look at it first.
    let begun: Arc<Mutex<Vec<String>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    for task in 0..8 {
        let (guard, begun, stop) = (guard.clone(), Arc::clone(&begun), Arc::clone(&stop));
        runtime.spawn(async move {
            for n in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let id = format!("{task}-{n}");
                let ticket = guard.begin(key(&id), begin(t0, &id)).await.unwrap();
                if n % 4 == 0 && n < 400 {
                    begun.lock().unwrap().push(id);
                    std::mem::forget(ticket);
                } else {
                    ticket.settle(Outcome::NeverProcessed, t0.now);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for crash in 0..80 {
        let wait = Duration::from_micros(dice.below(8000) as u64);
        runtime.block_on(async { tokio::time::sleep(wait).await });
        let wanted = begun.lock().unwrap().clone();
        let image = platter.after_power_loss(&mut dice);
        let found = correlation_ids(&guard_on(&after(image), t0), t0);
        for id in &wanted {
            assert!(found.contains(id), "crash {crash}: {id} is lost");
        }
    }
    assert!(begun.lock().unwrap().len() > 20);
    stop.store(true, Ordering::SeqCst);
}

#[test]
fn concurrent_creates_share_a_flush_of_the_disk() {
    let t0 = Time::start();
    let platter = Arc::new(Platter::default());
    let guard = guard_on(&platter, t0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let before = platter.syncs.load(Ordering::SeqCst);
    runtime.block_on(async {
        let tasks: Vec<_> = (0..500)
            .map(|n| {
                let guard = guard.clone();
                tokio::spawn(async move {
                    let id = n.to_string();
                    drop(guard.begin(key(&id), begin(t0, &id)).await.unwrap());
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let flushes = platter.syncs.load(Ordering::SeqCst) - before;
    assert!(flushes < 250, "{flushes} flushes for 500 creates");
}

#[test]
fn a_failing_disk_is_said_and_made_good() {
    let t0 = Time::start();
    let platter = Arc::new(Platter::default());
    let guard = guard_on(&platter, t0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let before = guard
            .begin(key("before"), begin(t0, "before"))
            .await
            .unwrap();
        platter.broken.store(true, Ordering::SeqCst);
        let during = guard
            .begin(key("during"), begin(t0, "during"))
            .await
            .unwrap();
        assert_eq!(during.cover(), Cover::UntilCrash);
        before.settle(Outcome::NeverProcessed, t0.now);
        for n in 0..1000 {
            let id = n.to_string();
            let ticket = guard.begin(key(&id), begin(t0, &id)).await.unwrap();
            ticket.settle(Outcome::NeverProcessed, t0.now);
        }
        assert!(!guard.flush().await);
        platter.broken.store(false, Ordering::SeqCst);
        let later = guard.begin(key("later"), begin(t0, "later")).await.unwrap();
        assert_eq!(later.cover(), Cover::Kept);
        let image = platter.after_power_loss(&mut Dice(7));
        let found = correlation_ids(&guard_on(&after(image), t0), t0);
        assert_eq!(found, ["during", "later"]);
        std::mem::forget((during, later));
    });
}

const CHILD: &str = "TRUNKLINE_TEST_STATE_FILE";

/// Runs in a process of its own, which the test below kills.
#[test]
fn child_that_begins_creates_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let t0 = Time::start();
    let guard = Guard::open(Path::new(&path), Bounds::default(), t0.now, t0.wall).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        for n in 0.. {
            let id = format!("{}-{n}", std::process::id());
            let ticket = guard.begin(key(&id), begin(t0, &id)).await.unwrap();
            println!("begun:{id}:");
            std::mem::forget(ticket);
        }
    });
}

#[test]
fn kill_9_at_any_moment_leaves_every_create_guarded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let t0 = Time::start();
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::child_that_begins_creates_until_it_is_killed");
    let mut dice = Dice(42);
    let mut wanted = Vec::new();
    for _ in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&name, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The last line may be cut: without its end it says nothing.
        let mut begun = lines.map_while(Result::ok).filter_map(|line| {
            let (_, id) = line.split_once("begun:")?;
            Some(id.strip_suffix(':')?.to_owned())
        });
        wanted.extend(begun.by_ref().take(1 + dice.below(20)));
        child.kill().unwrap();
        child.wait().unwrap();
        wanted.extend(begun);
    }
    assert!(wanted.len() > 30);
    let guard = Guard::open(&path, Bounds::default(), t0.now, t0.wall).unwrap();
    let found = correlation_ids(&guard, t0);
    for id in &wanted {
        assert!(found.contains(id), "{id} is lost");
    }
}

/// A file of twenty held creates.
fn written(path: &Path, t0: Time) {
    let guard = Guard::open(path, Bounds::default(), t0.now, t0.wall).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        for n in 0..20 {
            let id = n.to_string();
            let ticket = guard.begin(key(&id), begin(t0, &id)).await.unwrap();
            ticket.settle(unknown("reset"), t0.now);
        }
    });
}

#[test]
fn a_damaged_file_is_an_error_and_never_fewer_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let t0 = Time::start();
    written(&path, t0);
    let whole = std::fs::read(&path).unwrap();
    let mut dice = Dice(3);
    let mut refused = 0;
    for n in 0..150 {
        let mut bytes = whole.clone();
        match n % 3 {
            0 => bytes.truncate(1 + dice.below(whole.len() - 1)),
            1 => {
                for _ in 0..=dice.below(200) {
                    let at = dice.below(bytes.len());
                    bytes[at] ^= 1 << dice.below(8);
                }
            }
            _ => {
                let at = dice.below(bytes.len() / 512) * 512;
                bytes[at..at + 512].fill(0);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        match Guard::open(&path, Bounds::default(), t0.now, t0.wall) {
            Ok(guard) => assert_eq!(guard.size().0, 20, "{n}"),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("state_file"), "{error}");
            }
        }
    }
    assert!(refused > 50, "{refused}");
    std::fs::write(&path, b"environment: production\n").unwrap();
    let error = Guard::open(&path, Bounds::default(), t0.now, t0.wall).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[test]
fn what_cannot_be_a_state_file_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let t0 = Time::start();
    let open = |path: &Path| Guard::open(path, Bounds::default(), t0.now, t0.wall);
    let said = |path: &Path| open(path).unwrap_err().to_string();
    assert!(said(folder.path()).contains("it is not a file"));
    assert!(said(&folder.path().join("none/state")).contains("No such file"));
    let path = folder.path().join("other");
    let other = redb::Database::create(&path).unwrap();
    let writing = other.begin_write().unwrap();
    let table: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("other");
    writing.open_table(table).unwrap();
    writing.commit().unwrap();
    drop(other);
    assert!(said(&path).contains("the tables other"), "{}", said(&path));
    let path = folder.path().join("state");
    let first = open(&path).unwrap();
    assert!(said(&path).contains("another process"), "{}", said(&path));
    drop(first);
    open(&path).unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    open(&empty).unwrap();
}

#[test]
fn a_window_runs_on_by_the_wall_clock_while_the_process_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let t0 = Time::start();
    written(&path, t0);
    // The monotonic clock may begin anew with the machine.
    let reopened = |wall| Guard::open(&path, Bounds::default(), t0.now, wall).unwrap();
    let at = t0.plus(20).wall;
    assert_eq!(reopened(at).held(t0.now, at)[0].held.left, secs(40));
    // A clock that was put back: the window has just begun.
    let at = t0.wall - secs(3600);
    let held = reopened(at).held(t0.now, at);
    assert_eq!((held[0].held.left, held[0].held.since), (secs(60), at));
    let at = t0.plus(60).wall;
    assert_eq!(reopened(at).held(t0.now, at).len(), 0);
}

#[test]
fn a_create_in_flight_when_the_process_died_is_held_from_the_restart_on() {
    let t0 = Time::start();
    let platter = Arc::new(Platter::default());
    let guard = guard_on(&platter, t0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let ticket = runtime
        .block_on(guard.begin(key("x"), begin(t0, "first")))
        .unwrap();
    std::mem::forget(ticket);
    let first = after(platter.after_power_loss(&mut Dice(1)));
    let late = t0.plus(300);
    let restarted = guard_on(&first, late);
    let held = restarted.held(late.now, late.wall).remove(0).held;
    assert_eq!((held.begun, held.since), (t0.wall, late.wall));
    assert_eq!(held.left, secs(60));
    // Dying again and again does not begin it again.
    let second = after(first.after_power_loss(&mut Dice(1)));
    let later = t0.plus(350);
    let held = guard_on(&second, later).held(later.now, later.wall);
    assert_eq!(held[0].held.left, secs(10));
}
