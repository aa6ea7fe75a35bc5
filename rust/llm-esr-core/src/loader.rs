//! An epoch's batches in order, prepared ahead by background threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::batches::{Batch, Batcher};

/// Buffers of batches that nobody reads any more.
#[derive(Debug, Default)]
pub struct Pool {
    free: Mutex<Vec<Batch>>,
}

/// More buffers than this are not kept: someone held many batches at once, and no longer does.
const MOST_FREE: usize = 32;

impl Pool {
    fn take(&self) -> Batch {
        lock(&self.free).pop().unwrap_or_default()
    }

    /// Gives a batch's buffers back.
    pub fn give_back(&self, batch: Batch) {
        let mut free = lock(&self.free);
        if free.len() < MOST_FREE {
            free.push(batch);
        }
    }
}

/// What the threads of an epoch share.
#[derive(Debug)]
struct Shared {
    batcher: Arc<Batcher>,
    pool: Arc<Pool>,
    epoch: u64,
    order: Vec<u32>,
    end: u64,
    /// The next step that no thread has begun.
    unclaimed: AtomicU64,
    state: Mutex<State>,
    /// Wakes the reader (a step is ready) and the threads (there is room, or it is over).
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    ready: BTreeMap<u64, Batch>,
    wanted: u64,
    stopped: bool,
    failed: bool,
}

/// One epoch from a given step on. Whatever the number of threads, steps come in order and hold the same bits.
#[derive(Debug)]
pub struct Epoch {
    shared: Arc<Shared>,
    ahead: u64,
    threads: Vec<JoinHandle<()>>,
}

impl Epoch {
    /// Starts `threads` threads that keep up to `ahead` steps ready; 0 threads: steps are made when asked for.
    #[must_use]
    pub fn start(
        batcher: &Arc<Batcher>,
        pool: &Arc<Pool>,
        epoch: u64,
        step: u64,
        threads: usize,
        ahead: u64,
    ) -> Self {
        let shared = Arc::new(Shared {
            order: batcher.order(epoch),
            end: batcher.n_steps(),
            batcher: Arc::clone(batcher),
            pool: Arc::clone(pool),
            epoch,
            unclaimed: AtomicU64::new(step),
            state: Mutex::new(State {
                ready: BTreeMap::new(),
                wanted: step,
                stopped: false,
                failed: false,
            }),
            changed: Condvar::new(),
        });
        let ahead = ahead.max(threads as u64).max(1);
        let threads = (0..threads)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.work(ahead))
            })
            .collect();
        Self {
            shared,
            ahead,
            threads,
        }
    }

    /// How many steps are kept ready at most.
    #[must_use]
    pub fn ahead(&self) -> u64 {
        self.ahead
    }

    /// The next batch; None at the epoch's end.
    ///
    /// # Panics
    /// A background thread panicked, which only a defect of this crate can cause.
    #[must_use]
    pub fn next_batch(&self) -> Option<Batch> {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        let step = state.wanted;
        if step >= shared.end {
            return None;
        }
        state.wanted += 1;
        if self.threads.is_empty() {
            drop(state);
            return Some(shared.make(step));
        }
        loop {
            if let Some(batch) = state.ready.remove(&step) {
                shared.changed.notify_all();
                return Some(batch);
            }
            assert!(!state.failed, "a loader thread panicked");
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        lock(&self.shared.state).stopped = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was reported by `next_batch` already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn make(&self, step: u64) -> Batch {
        let mut batch = self.pool.take();
        self.batcher.fill(&self.order, self.epoch, step, &mut batch);
        batch
    }

    fn work(&self, ahead: u64) {
        let guard = FailureNotice(self);
        loop {
            let step = self.unclaimed.fetch_add(1, Ordering::Relaxed);
            if step >= self.end || !self.wait_for_room(step, ahead) {
                break;
            }
            let batch = self.make(step);
            lock(&self.state).ready.insert(step, batch);
            self.changed.notify_all();
        }
        std::mem::forget(guard);
    }

    /// False when nobody reads any more.
    fn wait_for_room(&self, step: u64, ahead: u64) -> bool {
        let mut state = lock(&self.state);
        while !state.stopped && step >= state.wanted + ahead {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !state.stopped
    }
}

/// Tells the reader of a panic, so that it does not wait for ever.
struct FailureNotice<'a>(&'a Shared);

impl Drop for FailureNotice<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).failed = true;
        self.0.changed.notify_all();
    }
}

/// A lock that a panic elsewhere does not poison: the state is valid between any two statements that hold it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
