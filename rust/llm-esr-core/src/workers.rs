//! Who does the work of a kernel: this thread, or several that the caller has.

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
