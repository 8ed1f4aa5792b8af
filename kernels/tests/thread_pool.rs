//! The pool: every task runs exactly once, always, and a panic gets out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_kernels::ThreadPool;

/// Runs `tasks` tasks and asserts that each ran once.
fn check(pool: &ThreadPool, tasks: usize) {
    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    pool.run(tasks, &|task| {
        counts[task].fetch_add(1, Ordering::Relaxed);
    });
    let wrong = counts
        .iter()
        .position(|count| count.load(Ordering::Relaxed) != 1);
    assert_eq!(wrong, None, "{tasks} tasks on {} threads", pool.threads());
}

#[test]
fn every_task_runs_exactly_once() {
    for threads in [0, 1, 2, 3, 8] {
        let pool = ThreadPool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        for tasks in [0, 1, 2, 3, 7, 64, 1000] {
            check(&pool, tasks);
        }
    }
}

/// Runs follow each other so closely that workers claim late, and some find the next run.
#[test]
fn runs_do_not_mix() {
    let pool = ThreadPool::new(3);
    for run in 0..100_000 {
        check(&pool, run % 5);
    }
}

/// Workers have parked by the time of each run, or are about to.
#[test]
fn parked_workers_wake() {
    let pool = ThreadPool::new(2);
    for _ in 0..200 {
        std::thread::yield_now();
        // Two tasks that wait for each other end only if a second thread takes one of them.
        let arrived = AtomicUsize::new(0);
        pool.run(2, &|_| {
            arrived.fetch_add(1, Ordering::SeqCst);
            while arrived.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    for threads in [1, 2, 4] {
        let pool = ThreadPool::new(threads);
        for guilty in [0, 5, 9] {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                pool.run(10, &|task| assert!(task != guilty, "task {task} fails"));
            }));
            let panic = ended.expect_err("the panic is raised again");
            let message = panic.downcast_ref::<String>().expect("a formatted message");
            assert_eq!(message, &format!("task {guilty} fails"));
            check(&pool, 10);
        }
    }
}

#[test]
fn a_task_may_fork_and_threads_may_share_a_pool() {
    let pool = ThreadPool::new(2);
    pool.run(4, &|_| check(&pool, 10));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| check(&pool, 6)));
        }
    });
}
