//! Batches that wait to be filled again.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batches::Batch;

/// A lock that a panic elsewhere does not spoil: what it guards is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Batches that wait to be filled again.
#[derive(Debug)]
pub(crate) struct Pool {
    // Boxed, so that a batch moves by its address from thread to thread.
    #[allow(clippy::vec_box)]
    free: Mutex<Vec<Box<Batch>>>,
    limit: usize,
    process: u32,
}

impl Pool {
    /// A pool that keeps at most `limit` batches.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            free: Mutex::new(Vec::new()),
            limit,
            process: process::id(),
        }
    }

    /// An empty pool as large.
    pub(crate) fn another(&self) -> Arc<Self> {
        Arc::new(Self::new(self.limit))
    }

    /// After a fork the lock may be held by a thread that is not there.
    pub(crate) fn is_of_another_process(&self) -> bool {
        self.process != process::id()
    }

    pub(crate) fn take(pool: &Arc<Self>) -> Pooled {
        let batch = lock(&pool.free).pop().unwrap_or_default();
        Pooled {
            batch,
            pool: Arc::clone(pool),
        }
    }
}

/// A batch that goes back to its pool when it is dropped.
#[derive(Debug)]
pub struct Pooled {
    batch: Box<Batch>,
    pool: Arc<Pool>,
}

impl Deref for Pooled {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        &self.batch
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Batch {
        &mut self.batch
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if self.pool.is_of_another_process() {
            return;
        }
        let mut free = lock(&self.pool.free);
        if free.len() < self.pool.limit {
            free.push(mem::take(&mut self.batch));
        }
    }
}
