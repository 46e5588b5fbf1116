//! Another route table while requests run: load, compile, swap one pointer, or keep the old one.
//!
//! A file with a problem changes nothing at all. What is bound at start (addresses, threads) cannot
//! be changed by a reload, and the report says so.

pub mod watch;

use crate::clock;
use crate::config::Problems;
use crate::live::Live;
use crate::routes::compile;
use crate::routes::plan::{Listener, Plan, Process};
use crate::routes::table::Table;
use arc_swap::ArcSwap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use watch::{Content, Watch};

/// The means to replace the running table.
pub struct Reloader {
    path: PathBuf,
    tables: Arc<ArcSwap<Table>>,
    live: Arc<Live>,
    workers: usize,
    bound: Process,
    last_error: Mutex<Option<String>>,
    needs_restart: Mutex<Vec<String>>,
    /// What the file held when it was last loaded, well or not.
    loaded: Mutex<Content>,
    watch: Mutex<Watch>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The hash of the configuration that now runs.
    pub hash: String,
    /// What takes a restart to change, in words.
    pub needs_restart: Vec<String>,
}

impl Reloader {
    /// Reloads `path` into `tables`.
    pub fn new(
        path: PathBuf,
        tables: Arc<ArcSwap<Table>>,
        live: Arc<Live>,
        workers: usize,
    ) -> Self {
        let bound = tables.load().plan.process.clone();
        count(&live, "success", 0);
        count(&live, "failure", 0);
        loaded_now(&live);
        let loaded = Mutex::new(watch::content(&path));
        Reloader {
            path,
            tables,
            live,
            workers,
            bound,
            last_error: Mutex::default(),
            needs_restart: Mutex::default(),
            loaded,
            watch: Mutex::default(),
        }
    }

    /// Why the last reload failed, if it did.
    pub fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// What of the running file takes a restart to change, in words.
    pub fn needs_restart(&self) -> Vec<String> {
        lock(&self.needs_restart).clone()
    }

    /// Whether the file has changed by itself; to be asked twice a second or so, and not while it is
    /// being loaded.
    pub fn has_changed(&self) -> bool {
        let loaded = lock(&self.loaded).clone();
        lock(&self.watch).look(&self.path, &loaded)
    }

    /// Replaces the table by what the file says now.
    ///
    /// # Errors
    /// Every problem of the file; the old table goes on.
    pub fn reload(&self) -> Result<Report, String> {
        *lock(&self.loaded) = watch::content(&self.path);
        let result = self.try_reload();
        let (word, what) = match &result {
            Ok(report) => ("success", format!("configuration {} loaded", report.hash)),
            Err(problems) => ("failure", format!("configuration kept: {problems}")),
        };
        match &result {
            Ok(report) => {
                loaded_now(&self.live);
                *lock(&self.needs_restart) = report.needs_restart.clone();
                tracing::info!(hash = report.hash, "configuration reloaded");
                for what in &report.needs_restart {
                    tracing::warn!("{what} needs a restart");
                }
            }
            Err(problems) => {
                tracing::error!(%problems, "configuration not reloaded; the old one goes on")
            }
        }
        *lock(&self.last_error) = result.as_ref().err().cloned();
        // Whoever sees it counted finds why.
        count(&self.live, word, 1);
        let file = self.path.display().to_string();
        self.live
            .events
            .announce("reload", &file, what, serde_json::Value::Null);
        result
    }

    fn try_reload(&self) -> Result<Report, String> {
        let plan = compile::load_again(&self.path, &|name| std::env::var_os(name))
            .map_err(|problems: Problems| problems.to_string())?;
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }
        let needs_restart = self.differences(&plan);
        plan.make_tls_ready();
        let hash = plan.hash.clone();
        let table = Table::install(plan, &self.live, self.workers).map_err(|e| e.to_string())?;
        self.tables.store(Arc::new(table));
        Ok(Report {
            hash,
            needs_restart,
        })
    }

    fn differences(&self, plan: &Plan) -> Vec<String> {
        let (old, new) = (&self.bound, &plan.process);
        let mut changed = Vec::new();
        if sockets(&old.listeners) != sockets(&new.listeners) {
            changed.push("a changed listener".to_owned());
        }
        if old.admin.address != new.admin.address || old.metrics != new.metrics {
            changed.push("a changed admin or metrics address".to_owned());
        }
        if old.traces != new.traces {
            changed.push("a changed collector of traces".to_owned());
        }
        if old.threads != new.threads {
            changed.push("a changed thread count".to_owned());
        }
        if old.store != new.store {
            changed.push("a changed redis".to_owned());
        }
        changed
    }
}

/// Listeners without what each request asks its table for.
fn sockets(listeners: &[Listener]) -> Vec<Listener> {
    let bound = |listener: &Listener| Listener {
        public_url: None,
        ..listener.clone()
    };
    listeners.iter().map(bound).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(live: &Live, result: &str, n: u64) {
    live.metrics
        .counter("trunkline_config_reloads_total", &[("result", result)])
        .increment(n);
}

fn loaded_now(live: &Live) {
    let at = clock::wall()
        .duration_since(clock::SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    live.metrics
        .gauge(
            "trunkline_config_last_reload_success_timestamp_seconds",
            &[],
        )
        .set(at.as_secs_f64());
}
