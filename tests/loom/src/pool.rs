//! Models of `cpu/pool.rs`.

use loom::cell::UnsafeCell;
use std::sync::Arc;

macro_rules! pools {
    ($($tree:ident)*) => {
        $(#[allow(dead_code, unused)]
        mod $tree {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($tree), "/pool.rs"));
        })*

        /// A pool of a tree, behind one face.
        #[derive(Clone)]
        struct Any(Arc<dyn Fn(usize, &(dyn Fn(usize) + Sync))>);

        impl Any {
            fn new(tree: &str, threads: usize) -> Self {
                $(if tree == stringify!($tree) {
                    let pool = $tree::Pool::new(threads);
                    return Self(Arc::new(move |n, f| pool.run(n, f).expect("no task panics")));
                })*
                let pool = pool::Pool::new(threads);
                Self(Arc::new(move |n, f| pool.run(n, f).expect("no task panics")))
            }
        }
    };
}

pools!(pool pool_unlocked_end pool_relaxed_end pool_no_wait pool_unseen_quit);

/// One cell per task: loom sees two threads in one, and a caller that reads before it may.
struct Cells(Vec<UnsafeCell<u32>>);

// Safety: that it is used so is what the model finds out.
unsafe impl Sync for Cells {}
// Safety: as above.
unsafe impl Send for Cells {}

impl Cells {
    fn new(n: usize) -> Self {
        Self((0..n).map(|_| UnsafeCell::new(0)).collect())
    }

    fn add(&self, i: usize) {
        // Safety: as above.
        self.0[i].with_mut(|p| unsafe { *p += 1 });
    }

    fn is(&self, want: u32) {
        for cell in &self.0 {
            // Safety: as above.
            assert_eq!(cell.with(|p| unsafe { *p }), want, "each task runs once per run");
        }
    }
}

pub fn one_run(tree: &str) {
    runs(tree, 1);
}

pub fn two_runs(tree: &str) {
    runs(tree, 2);
}

fn runs(tree: &str, n: u32) {
    let tree = tree.to_owned();
    crate::explore(move || {
        let (pool, cells) = (Any::new(&tree, 2), Cells::new(2));
        for run in 1..=n {
            (pool.0)(2, &|i| cells.add(i));
            cells.is(run);
        }
    });
}

pub fn two_callers(tree: &str) {
    let tree = tree.to_owned();
    crate::explore(move || {
        let pool = Any::new(&tree, 2);
        let other = pool.clone();
        let caller = loom::thread::spawn(move || {
            let cells = Cells::new(2);
            (other.0)(2, &|i| cells.add(i));
            cells.is(1);
        });
        let cells = Cells::new(2);
        (pool.0)(2, &|i| cells.add(i));
        cells.is(1);
        caller.join().expect("a caller");
    });
}
