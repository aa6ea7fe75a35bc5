//! An epoch's batches in order, prepared ahead by background threads.
//!
//! A batch is a function of (epoch, step, rank), so which thread makes it does not matter: threads take steps in
//! turn, and the consumer gets them in order. Batches come from a pool and go back to it when they are dropped.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::process;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::batch_builder::BatchBuilder;
use crate::batches::Scratch;
use crate::pool::{Pool, Pooled, lock};
use crate::workers::check_threads;
use crate::{Error, Result};

/// Who takes which share of an epoch's order.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Entries of an epoch's order in a step, over all ranks.
    pub batch_size: usize,
    /// This process.
    pub rank: usize,
    /// All processes.
    pub world_size: usize,
    /// A new order each epoch; else by rising user number.
    pub shuffle: bool,
}

impl Shares {
    /// The part of an epoch's order that this rank takes in a step: the ranks' parts follow each other and differ by
    /// at most one.
    fn range(&self, step: u64, entries: usize) -> Range<usize> {
        let start = (step as usize).saturating_mul(self.batch_size).min(entries);
        let count = self.batch_size.min(entries - start);
        let (each, more) = (count / self.world_size, count % self.world_size);
        let from = start + self.rank * each + self.rank.min(more);
        from..from + each + usize::from(self.rank < more)
    }
}

/// Makes epochs of batches.
#[derive(Debug)]
pub struct Loader {
    builder: Arc<BatchBuilder>,
    shares: Shares,
    threads: usize,
    pool: Mutex<Arc<Pool>>,
}

impl Loader {
    /// A loader with `threads` background threads; 0 prepares batches where they are asked for.
    ///
    /// # Errors
    /// A batch size of 0, or a rank that is none of the world's.
    pub fn new(builder: BatchBuilder, shares: Shares, threads: usize) -> Result<Self> {
        check_threads(threads)?;
        if shares.batch_size == 0 {
            return Err(Error::argument(
                "batch_size",
                "0; a step takes at least 1 student",
            ));
        }
        if shares.rank >= shares.world_size {
            let message = format!(
                "{}; expected 0 to {} - 1 (world_size)",
                shares.rank, shares.world_size
            );
            return Err(Error::argument("rank", message));
        }
        Ok(Self {
            builder: Arc::new(builder),
            shares,
            threads,
            pool: Mutex::new(Arc::new(Pool::new(ahead(threads) + 4))),
        })
    }

    /// What batches are made from.
    #[must_use]
    pub fn builder(&self) -> &BatchBuilder {
        &self.builder
    }

    /// Steps an epoch; the same on all ranks.
    #[must_use]
    pub fn steps(&self) -> u64 {
        (self.builder.entries() as usize).div_ceil(self.shares.batch_size) as u64
    }

    /// An epoch's batches from `first_step` on.
    #[must_use]
    pub fn batches(&self, epoch: u64, first_step: u64) -> Batches {
        let order = if self.shares.shuffle {
            self.builder.order(epoch)
        } else {
            (0..self.builder.entries()).collect()
        };
        let mut pool = lock(&self.pool);
        if pool.is_of_another_process() {
            *pool = pool.another();
        }
        let job = Job {
            builder: Arc::clone(&self.builder),
            shares: self.shares,
            order,
            epoch,
            steps: self.steps(),
            stride: self.threads.max(1) as u64,
            pool: Arc::clone(&pool),
        };
        Batches::new(job, first_step, self.threads)
    }
}

/// Batches that may be ready or in work, beyond the one that is asked for.
fn ahead(threads: usize) -> usize {
    2 * threads + 2
}

/// One epoch's work.
#[derive(Debug, Clone)]
struct Job {
    builder: Arc<BatchBuilder>,
    shares: Shares,
    order: Vec<u32>,
    epoch: u64,
    steps: u64,
    /// From a thread's step to its next one.
    stride: u64,
    pool: Arc<Pool>,
}

impl Job {
    fn make(&self, step: u64, scratch: &mut Scratch) -> Pooled {
        let mut made = Pool::take(&self.pool);
        // The thread's next two steps, as far as can be told before another one takes them.
        self.builder
            .prefetch_students(self.places(step.saturating_add(2 * self.stride)));
        self.builder
            .prefetch(self.places(step.saturating_add(self.stride)));
        self.builder
            .fill(self.epoch, step, self.places(step), scratch, &mut made);
        made
    }

    fn places(&self, step: u64) -> &[u32] {
        &self.order[self.shares.range(step, self.order.len())]
    }

    fn scratch(&self) -> Scratch {
        Scratch::new(self.builder.store.n_items())
    }
}

/// What waiting for a batch gave.
#[derive(Debug)]
pub enum Waited {
    /// The next batch.
    Ready(Pooled),
    /// The epoch is over.
    End,
    /// Not ready yet: see to signals, then wait on.
    Pending,
}

/// An epoch's batches, in order.
#[derive(Debug)]
pub struct Batches {
    job: Arc<Job>,
    next: u64,
    threads: usize,
    maker: Maker,
    process: u32,
}

#[derive(Debug)]
enum Maker {
    Here(Box<Scratch>),
    Behind(Crew),
}

impl Maker {
    fn new(job: &Arc<Job>, next: u64, threads: usize) -> Self {
        if threads == 0 {
            Self::Here(Box::new(job.scratch()))
        } else {
            Self::Behind(Crew::start(job, next, threads))
        }
    }
}

impl Batches {
    fn new(job: Job, next: u64, threads: usize) -> Self {
        let job = Arc::new(job);
        let maker = Maker::new(&job, next, threads);
        Self {
            job,
            next,
            threads,
            maker,
            process: process::id(),
        }
    }

    /// Waits for the next batch, at most `patience`.
    ///
    /// # Panics
    /// A background thread panicked.
    pub fn wait(&mut self, patience: Duration) -> Waited {
        if self.process != process::id() {
            self.start_anew();
        }
        if self.next >= self.job.steps {
            return Waited::End;
        }
        let made = match &mut self.maker {
            Maker::Here(scratch) => Some(self.job.make(self.next, scratch)),
            Maker::Behind(crew) => crew.wait(patience),
        };
        match made {
            None => Waited::Pending,
            Some(batch) => {
                self.next += 1;
                Waited::Ready(batch)
            }
        }
    }

    /// After a fork: threads do not come along, and their locks stay as they were, perhaps held. So everything they
    /// shared is left behind, and the child starts its own.
    fn start_anew(&mut self) {
        let mut job = Job::clone(&self.job);
        job.pool = job.pool.another();
        let job = Arc::new(job);
        let maker = Maker::new(&job, self.next, self.threads);
        mem::forget(mem::replace(&mut self.maker, maker));
        mem::forget(mem::replace(&mut self.job, job));
        self.process = process::id();
    }
}

/// Background threads and what they share with the consumer.
#[derive(Debug)]
struct Crew {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
    process: u32,
}

#[derive(Debug)]
struct Board {
    state: Mutex<State>,
    /// The batch asked for is there, or a thread failed.
    ready: Condvar,
    /// Another step may be begun.
    room: Condvar,
    ahead: u64,
}

#[derive(Debug)]
struct State {
    /// The first step that nobody works on.
    unclaimed: u64,
    /// The step that the consumer gets next, the first of `made`.
    wanted: u64,
    made: VecDeque<Option<Pooled>>,
    stop: bool,
    failed: bool,
}

impl Crew {
    fn start(job: &Arc<Job>, next: u64, threads: usize) -> Self {
        let ahead = ahead(threads);
        let state = State {
            unclaimed: next,
            wanted: next,
            made: (0..ahead).map(|_| None).collect(),
            stop: false,
            failed: false,
        };
        let board = Arc::new(Board {
            state: Mutex::new(state),
            ready: Condvar::new(),
            room: Condvar::new(),
            ahead: ahead as u64,
        });
        let threads = (0..threads)
            .map(|_| {
                let (job, board) = (Arc::clone(job), Arc::clone(&board));
                thread::spawn(move || work(&job, &board))
            })
            .collect();
        Self {
            board,
            threads,
            process: process::id(),
        }
    }

    fn wait(&mut self, patience: Duration) -> Option<Pooled> {
        let board = &self.board;
        let waiting = |state: &mut State| !state.failed && state.made[0].is_none();
        let (mut state, _) = board
            .ready
            .wait_timeout_while(lock(&board.state), patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(
            !state.failed,
            "a loader thread panicked; its message stands above"
        );
        let made = state.made[0].take()?;
        state.made.pop_front();
        state.made.push_back(None);
        state.wanted += 1;
        drop(state);
        board.room.notify_one();
        Some(made)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if self.process != process::id() {
            mem::forget(mem::take(&mut self.threads));
            mem::forget(Arc::clone(&self.board));
            return;
        }
        lock(&self.board.state).stop = true;
        self.board.room.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was reported by `wait`, or nobody waits any more.
            let _ = thread.join();
        }
    }
}

/// A thread's life: take the next step, make its batch, hand it over.
fn work(job: &Job, board: &Board) {
    let alarm = Alarm(board);
    let mut scratch = job.scratch();
    while let Some(step) = claim(job, board) {
        let made = job.make(step, &mut scratch);
        let mut state = lock(&board.state);
        let place = (step - state.wanted) as usize;
        state.made[place] = Some(made);
        drop(state);
        if place == 0 {
            board.ready.notify_one();
        }
    }
    mem::forget(alarm);
}

fn claim(job: &Job, board: &Board) -> Option<u64> {
    let mut state = lock(&board.state);
    loop {
        if state.stop || state.unclaimed >= job.steps {
            return None;
        }
        if state.unclaimed < state.wanted + board.ahead {
            state.unclaimed += 1;
            return Some(state.unclaimed - 1);
        }
        state = board
            .room
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// Tells the consumer when a thread panics, so that nobody waits for ever.
struct Alarm<'a>(&'a Board);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).failed = true;
        self.0.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_all_ranks_follow_each_other_and_differ_by_at_most_one() {
        for (batch_size, students, world_size) in [(8, 37, 4), (1, 3, 4), (5, 5, 2), (7, 0, 3)] {
            let mut next = 0;
            for step in 0..(students as u64).div_ceil(batch_size as u64) {
                let mut counts = Vec::new();
                for rank in 0..world_size {
                    let shares = Shares {
                        batch_size,
                        rank,
                        world_size,
                        shuffle: true,
                    };
                    let range = shares.range(step, students);
                    assert_eq!(range.start, next);
                    next = range.end;
                    counts.push(range.len());
                }
                assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
            assert_eq!(next, students);
        }
    }
}
