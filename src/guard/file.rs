//! The state file: every record of a create is on disk before the create goes out.
//!
//! An embedded store behind one writer thread: whatever asked while a commit ran shares the next,
//! and with it one flush of the disk. A file that cannot be read is an error at start, never an
//! empty one. While the disk fails, changes wait here and go in with the first commit that works;
//! how many is bounded by the records there are. Called by the guard.

use super::key::CreateKey;
use super::memory::Change;
use super::record::Row;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableHandle,
};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Records by serial. Another layout gets another name.
const CREATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("creates-1");
/// Bytes of the file kept in memory.
const CACHE: usize = 4 << 20;
/// Requests that one commit serves at most.
const BATCH: usize = 4096;

/// Why a state file does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// The system refuses it.
    #[error("state_file {path}: {source} (is the path right, and writable by this user?)", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Two processes would each miss what the other sends.
    #[error("state_file {path}: another process has it open (each process needs a file of its own)", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by something else, or by a later version.
    #[error("state_file {path} holds {what}: it is not a state file of this version", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// It cannot be trusted to hold every record.
    #[error("state_file {path} is damaged: {what} (move it away to start without its records; creates that were under way are then not guarded)", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
}

/// Gets at the store, again where it failed.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, StateFileError> + Send>;

/// What a state file held, and who writes to it from now on.
pub(super) struct Opened {
    pub(super) rows: Vec<(u64, CreateKey, Row)>,
    pub(super) writer: Writer,
}

/// The file at `path`, made if there is none.
pub(super) fn open(path: &Path) -> Result<Opened, StateFileError> {
    let failed = |source| StateFileError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(failed(io::Error::other("it is not a file")));
        }
        Ok(found) if found.len() == 0 => {
            tracing::warn!(path = %path.display(), "the state file is empty: no create is remembered");
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        Err(error) => return Err(failed(error)),
    }
    let owned = path.to_owned();
    open_with(path, Box::new(move || open_database(&owned)))
}

/// The store that `opener` reaches, called `path` in errors.
pub(super) fn open_with(path: &Path, opener: Opener) -> Result<Opened, StateFileError> {
    let damaged = |what: String| StateFileError::Damaged {
        path: path.to_owned(),
        what,
    };
    let read = || -> Result<_, StateFileError> {
        let database = opener()?;
        let rows = rows(path, &database)?;
        Ok((database, rows))
    };
    // The store may panic where a file lies to it.
    let (database, rows) = catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(damaged("it makes no sense to the store".to_owned())))?;
    let watermark = rows.iter().map(|(serial, ..)| *serial).max();
    let writer = Writer {
        path: path.to_owned(),
        opener,
        database: Some(database),
        watermark,
        backlog: BTreeMap::new(),
    };
    Ok(Opened { rows, writer })
}

/// Makes an empty store elsewhere and moves it into place, so that a crash leaves none or a whole one.
fn make(path: &Path) -> Result<(), StateFileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = path.with_file_name(name);
    let failed = |source| StateFileError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&draft).map_err(failed)?;
    drop(open_database(&draft)?);
    File::open(&draft)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true);
    builder
}

fn open_database(path: &Path) -> Result<Database, StateFileError> {
    builder()
        .create(path)
        .map_err(|error| unopened(path, error))
}

fn unopened(path: &Path, error: DatabaseError) -> StateFileError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StateFileError::InUse { path }
        }
        DatabaseError::UpgradeRequired(version) => StateFileError::Foreign {
            path,
            what: format!("a store of format {version}"),
        },
        DatabaseError::Storage(StorageError::Io(source))
            if !matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            StateFileError::Io { path, source }
        }
        other => StateFileError::Damaged {
            path,
            what: other.to_string(),
        },
    }
}

/// Everything in the store, which holds our table alone or nothing yet.
fn rows(path: &Path, database: &Database) -> Result<Vec<(u64, CreateKey, Row)>, StateFileError> {
    let damaged = |what: String| StateFileError::Damaged {
        path: path.to_owned(),
        what,
    };
    let stored = |error: redb::Error| damaged(error.to_string());
    let reading = database.begin_read().map_err(|e| stored(e.into()))?;
    let tables = reading.list_tables().map_err(|e| stored(e.into()))?;
    let names: Vec<_> = tables.map(|table| table.name().to_owned()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    if names != [CREATES.name()] {
        return Err(StateFileError::Foreign {
            path: path.to_owned(),
            what: format!("the tables {}", names.join(", ")),
        });
    }
    let table = reading.open_table(CREATES).map_err(|e| stored(e.into()))?;
    let mut rows = Vec::new();
    for entry in table.iter().map_err(|e| stored(e.into()))? {
        let (serial, bytes) = entry.map_err(|e| stored(e.into()))?;
        let serial = serial.value();
        let row: Row = serde_json::from_slice(bytes.value())
            .map_err(|error| damaged(format!("record {serial}: {error}")))?;
        let key = CreateKey::from_hex(&row.key)
            .ok_or_else(|| damaged(format!("record {serial}: its key is none")))?;
        rows.push((serial, key, row));
    }
    Ok(rows)
}

/// Writes changes, many with one commit.
pub(super) struct Writer {
    path: PathBuf,
    opener: Opener,
    /// None after a failure, until it opens again.
    database: Option<Database>,
    /// The highest serial that may be on disk.
    watermark: Option<u64>,
    /// What is not on disk yet: the record's bytes, or none where it is to go.
    backlog: BTreeMap<u64, Option<Vec<u8>>>,
}

impl Writer {
    fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(serial, row) => {
                    // Text and numbers alone: it has a form in JSON.
                    let bytes = serde_json::to_vec(&row).unwrap_or_default();
                    self.backlog.insert(serial, Some(bytes));
                }
                Change::Followed(..) => {}
                Change::Remove(serial, _) if Some(serial) <= self.watermark => {
                    self.backlog.insert(serial, None);
                }
                Change::Remove(serial, _) => {
                    self.backlog.remove(&serial);
                }
            }
        }
    }

    /// Puts the backlog on disk, whole or not at all.
    fn commit(&mut self) -> Result<(), Arc<str>> {
        if self.backlog.is_empty() && self.database.is_some() {
            return Ok(());
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen().map_err(|e| Arc::from(e.to_string()))?,
        };
        // Even a commit that reports a failure may have reached the disk.
        self.watermark = self.watermark.max(self.backlog.keys().max().copied());
        write(&database, &self.backlog).map_err(|error| Arc::from(error.to_string()))?;
        self.database = Some(database);
        self.backlog.clear();
        Ok(())
    }

    fn reopen(&self) -> Result<Database, StateFileError> {
        let database = (self.opener)()?;
        tracing::info!(path = %self.path.display(), "the state file is open again");
        Ok(database)
    }

    fn run(&mut self, requests: &mpsc::Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut heard = Vec::new();
            for request in std::iter::once(first).chain(requests.try_iter().take(BATCH)) {
                self.take(request.changes);
                heard.extend(request.done);
            }
            let result = self.commit();
            if let Err(error) = &result {
                tracing::warn!(path = %self.path.display(), %error, "writing the state file failed");
            }
            for done in heard {
                done.send(result.clone()).ok();
            }
        }
    }
}

fn write(database: &Database, backlog: &BTreeMap<u64, Option<Vec<u8>>>) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    {
        let mut table = writing.open_table(CREATES)?;
        for (serial, row) in backlog {
            match row {
                Some(bytes) => drop(table.insert(serial, bytes.as_slice())?),
                None => drop(table.remove(serial)?),
            }
        }
    }
    Ok(writing.commit()?)
}

struct Request {
    changes: Vec<Change>,
    done: Option<oneshot::Sender<Result<(), Arc<str>>>>,
}

/// The way to the writer, which ends with it, after everything is written.
pub(super) struct Journal {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Writes `first`, then whatever is sent, on a thread of its own.
    pub(super) fn start(mut writer: Writer, first: Vec<Change>) -> Result<Journal, StateFileError> {
        let path = writer.path.clone();
        let failed = |source| StateFileError::Io { path, source };
        writer.take(first);
        if let Err(error) = writer.commit() {
            return Err(failed(io::Error::other(error.to_string())));
        }
        let (sender, requests) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("state-file".to_owned())
            .spawn(move || writer.run(&requests))
            .map_err(failed)?;
        Ok(Journal {
            requests: Some(sender),
            thread: Some(thread),
        })
    }

    /// Has `changes` written, after all that were sent before; `done` hears when they are safe.
    pub(super) fn send(
        &self,
        changes: Vec<Change>,
        done: Option<oneshot::Sender<Result<(), Arc<str>>>>,
    ) {
        if let Some(requests) = &self.requests {
            requests.send(Request { changes, done }).ok();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
