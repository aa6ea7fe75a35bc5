//! Who does the work of a kernel: this thread, or several that the caller has.

use std::sync::{Arc, Mutex};
use std::{mem, process};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::pool::lock;
use crate::{Error, Result};

/// Threads that share out numbered tasks.
pub trait Workers {
    /// Does every task of `0..tasks` once, in any order and on any thread, and returns when all are done.
    ///
    /// # Panics
    /// Where a task panics.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// The calling thread.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Workers for Alone {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// The most threads that anything is given.
pub const MOST_THREADS: usize = 1024;

/// Refuses a number of threads that would take the machine down before they do anything.
///
/// # Errors
/// More than `MOST_THREADS`.
pub fn check_threads(threads: usize) -> Result<()> {
    if threads > MOST_THREADS {
        let message = format!("{threads}; at most {MOST_THREADS} are started");
        return Err(Error::argument("threads", message));
    }
    Ok(())
}

/// Threads of our own. A fork takes none along, so another process makes new ones at its first use.
#[derive(Debug)]
pub(crate) struct Threads {
    count: usize,
    made: Mutex<(u32, Arc<ThreadPool>)>,
}

impl Threads {
    /// So many threads; 0: as many as the machine has cores.
    ///
    /// # Errors
    /// More than `MOST_THREADS`, or threads that cannot start.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let pool = start(count)?;
        Ok(Self {
            count,
            made: Mutex::new((process::id(), pool)),
        })
    }

    /// This process's threads.
    ///
    /// # Errors
    /// Threads that cannot start.
    pub(crate) fn pool(&self) -> Result<Arc<ThreadPool>> {
        let mut made = lock(&self.made);
        if made.0 != process::id() {
            let old = mem::replace(&mut *made, (process::id(), start(self.count)?));
            // Its threads are not there, and nobody may wait for them.
            mem::forget(old);
        }
        Ok(Arc::clone(&made.1))
    }
}

fn start(threads: usize) -> Result<Arc<ThreadPool>> {
    check_threads(threads)?;
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map(Arc::new)
        .map_err(|error| Error::argument("threads", format!("{threads}: {error}")))
}
