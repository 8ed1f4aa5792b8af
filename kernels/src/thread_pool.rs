//! A fork-join pool that shares its cores politely.
//!
//! Tasks are claimed from one atomic counter, the caller works too, and a worker that finds no work
//! spins briefly, then yields its core for a while, and then parks. The caller waits only for tasks
//! that a worker has claimed: a worker that another program keeps off its core delays nobody.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{JoinHandle, Thread};

use crate::{SPIN_PAUSES_MAX, THREADS_MAX, YIELDS_MAX};

/// Threads that run the tasks of one operation together.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a run. Whoever finds it taken (a second caller, a task that forks again) does
    /// its tasks alone, so that neither can deadlock.
    turn: Mutex<()>,
}

/// What caller and workers share.
struct Shared {
    /// Tasks of the open run that nobody has claimed. A claim is one compare-and-swap that takes
    /// the last of them, so it succeeds only while a run is open.
    unclaimed: AtomicUsize,
    /// Tasks of this run that have not ended yet.
    unfinished: AtomicUsize,
    /// The run's work. Written while no run is open, read only by who holds a claimed task.
    work: UnsafeCell<Option<Work>>,
    /// The first panic of this run.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// For each worker, whether it is parked or about to be.
    parked: Vec<AtomicBool>,
    closing: AtomicBool,
}

/// The closure of a run, its lifetime erased, and the thread that waits for it.
struct Work {
    task: *const (dyn Fn(usize) + Sync),
    caller: Thread,
}

// SAFETY: `work` is written only between runs (under `turn`, with nothing unclaimed or unfinished)
// and read only between a claim and the end of the claimed task, which the writer waits for. The
// closure behind the pointer is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is never used outside a run.
unsafe impl Send for Shared {}

/// How long a thread has waited. First it spins, which answers soonest; then it offers its core to
/// whoever wants it at each look; a thread that has lost patience parks, and being woken takes the
/// time of several small operations.
#[derive(Default)]
struct Patience(u32);

// === impl Patience ===

impl Patience {
    /// Waits a moment, or answers false when it has been long enough.
    fn wait(&mut self) -> bool {
        match self.0 {
            0..SPIN_PAUSES_MAX => std::hint::spin_loop(),
            SPIN_PAUSES_MAX..SPIN_AND_YIELD_MAX => std::thread::yield_now(),
            _ => return false,
        }
        self.0 += 1;
        true
    }
}

const SPIN_AND_YIELD_MAX: u32 = SPIN_PAUSES_MAX + YIELDS_MAX;

// === impl ThreadPool ===

impl ThreadPool {
    /// A pool of `threads` threads (1 to [`THREADS_MAX`], clamped), the caller being one of them.
    /// If the system refuses a thread the pool is smaller.
    pub fn new(threads: usize) -> ThreadPool {
        let count = threads.clamp(1, THREADS_MAX) - 1;
        let shared = Arc::new(Shared {
            unclaimed: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
            panic: Mutex::new(None),
            parked: (0..count).map(|_| AtomicBool::new(false)).collect(),
            closing: AtomicBool::new(false),
        });
        let workers = (0..count)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("kernels-{index}"))
                    .spawn(move || shared.work_until_closed(index))
                    .ok()
            })
            .collect();
        ThreadPool {
            shared,
            workers,
            turn: Mutex::new(()),
        }
    }

    /// Threads that work on a run, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` once with every number below `tasks`, in no order, and returns when all calls
    /// have. A panic of a task is raised again here, after the others have ended.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let turn = match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let alone = self.workers.is_empty() || tasks <= 1;
        if alone || turn.is_none() {
            return (0..tasks).for_each(task);
        }
        self.fork(tasks, task);
        while let Some(index) = self.shared.claim() {
            self.shared.call(task, index);
            self.shared.unfinished.fetch_sub(1, Ordering::AcqRel);
        }
        self.join();
    }

    /// Opens a run and wakes as many parked workers as it can use.
    fn fork(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let shared = &self.shared;
        // SAFETY: only the lifetime changes. No thread uses the pointer after `join`, which ends
        // before `run` returns and the closure's borrow with it.
        let task: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(task) };
        // SAFETY: `turn` is held and the run before has ended, so nobody else reads `work`.
        unsafe {
            *shared.work.get() = Some(Work {
                task,
                caller: std::thread::current(),
            })
        };
        shared.unfinished.store(tasks, Ordering::Relaxed);
        shared.unclaimed.store(tasks, Ordering::SeqCst);
        for (worker, parked) in self.workers.iter().zip(&shared.parked).take(tasks - 1) {
            if parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    /// Waits for claimed tasks, then raises the run's panic if there was one.
    fn join(&self) {
        let mut patience = Patience::default();
        while self.shared.unfinished.load(Ordering::Acquire) > 0 {
            if !patience.wait() {
                std::thread::park();
            }
        }
        let panic = self
            .shared
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker cannot panic: its tasks are caught. Nothing is left to do if it did.
            let _ = worker.join();
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Takes the last unclaimed task of the open run. The run cannot end before that task has.
    fn claim(&self) -> Option<usize> {
        let mut seen = self.unclaimed.load(Ordering::SeqCst);
        while seen > 0 {
            let taken = self.unclaimed.compare_exchange_weak(
                seen,
                seen - 1,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            match taken {
                Ok(_) => return Some(seen - 1),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Calls the task and keeps its panic for the caller of the run.
    fn call(&self, task: &(dyn Fn(usize) + Sync), index: usize) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(index))) {
            self.panic
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(panic);
        }
    }

    /// A worker's life: work, wait, park.
    fn work_until_closed(&self, worker: usize) {
        let mut patience = Patience::default();
        while !self.closing.load(Ordering::SeqCst) {
            if let Some(index) = self.claim() {
                self.work_on(index);
                patience = Patience::default();
            } else if !patience.wait() {
                self.park(worker);
                patience = Patience::default();
            }
        }
    }

    /// Runs a claimed task and, if it was the run's last to end, wakes the caller.
    fn work_on(&self, index: usize) {
        // SAFETY: a claimed task keeps the run open, so `work` is set, is not written, and the
        // closure it points to is alive until `unfinished` falls below.
        let (task, caller) = unsafe {
            let work = (*self.work.get()).as_ref().expect("an open run has work");
            (&*work.task, work.caller.clone())
        };
        self.call(task, index);
        if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            caller.unpark();
        }
    }

    /// Parks unless work or the end has come since the worker last looked. The flag is set before
    /// that look and the caller reads it after opening a run, so one of the two sees the other.
    fn park(&self, worker: usize) {
        self.parked[worker].store(true, Ordering::SeqCst);
        let idle = self.unclaimed.load(Ordering::SeqCst) == 0;
        if idle && !self.closing.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.parked[worker].store(false, Ordering::SeqCst);
    }
}
