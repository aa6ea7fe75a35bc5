//! Torch's own threads, for kernels that run between torch's.
//!
//! After each of its kernels torch's threads stay awake for some milliseconds and wait for the next one. Threads of ours
//! would have to share the cores with them, and gain nothing: measured, two took as long as one. So tasks go to
//! the OpenMP library that torch has loaded, through `GOMP_parallel`, which GNU's and LLVM's libraries both have. Where
//! there is none, the calling thread does the work.
#![allow(unsafe_code)]

use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use llm_esr_core::workers::{Alone, Workers};

type Body = extern "C" fn(*mut c_void);
type GompParallel = unsafe extern "C" fn(Body, *mut c_void, c_uint, c_uint);

/// So many of torch's threads, this one among them.
#[derive(Debug, Clone, Copy)]
pub struct TorchThreads(pub usize);

/// What the threads of one call share.
struct Job<'a> {
    next: AtomicUsize,
    tasks: usize,
    task: &'a (dyn Fn(usize) + Sync),
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

impl Workers for TorchThreads {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let threads = self.0.min(tasks);
        let Some(parallel) = (threads > 1).then(gomp_parallel).flatten() else {
            return Alone.run(tasks, task);
        };
        let job = Job {
            next: AtomicUsize::new(0),
            tasks,
            task,
            panic: Mutex::new(None),
        };
        // SAFETY: `GOMP_parallel(body, data, threads, flags)` calls `body(data)` on so many threads and returns when all
        // of them have returned, so `job` outlives every use; `body` reads it as the `Job` that it is.
        unsafe {
            parallel(
                work,
                std::ptr::from_ref(&job).cast_mut().cast(),
                threads as c_uint,
                0,
            );
        }
        let panic = job.panic.lock().ok().and_then(|mut panic| panic.take());
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// A thread's part of a job: the next task, until there is none.
extern "C" fn work(data: *mut c_void) {
    // SAFETY: `run` passes a `Job` that lives until all threads have returned; it is only shared.
    let job = unsafe { &*data.cast::<Job<'_>>() };
    let done = catch_unwind(AssertUnwindSafe(|| {
        loop {
            let number = job.next.fetch_add(1, Ordering::Relaxed);
            if number >= job.tasks {
                break;
            }
            (job.task)(number);
        }
    }));
    if let (Err(panic), Ok(mut first)) = (done, job.panic.lock()) {
        first.get_or_insert(panic);
    }
}

/// The entry of the OpenMP library in this process, if there is one.
fn gomp_parallel() -> Option<GompParallel> {
    static FOUND: OnceLock<Option<GompParallel>> = OnceLock::new();
    *FOUND.get_or_init(find)
}

#[cfg(unix)]
fn find() -> Option<GompParallel> {
    let process = libloading::os::unix::Library::this();
    // SAFETY: the name stands for this signature since version 4.9 of GCC, and in LLVM's library too. Both stay loaded
    // as long as torch does, which is never unloaded.
    unsafe { process.get::<GompParallel>(b"GOMP_parallel\0") }
        .ok()
        .map(|symbol| *symbol)
}

#[cfg(not(unix))]
fn find() -> Option<GompParallel> {
    None
}
