//! The folders that runs leave behind, with their configurations and logs. Those of the last few
//! processes are kept for whoever looks into a failure.

use farthing_host_tests::paths;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::SystemTime;

/// One `cargo xtask test` is a handful of processes: the one before it is still there to compare.
const PROCESSES_KEPT: usize = 8;

/// A folder of a run, and the process that it belongs to.
struct Run {
    process: u32,
    modified: SystemTime,
    folder: PathBuf,
}

/// Removes what ended processes have left, except for the newest few. That something cannot be
/// removed is no reason to fail.
pub fn remove_old() {
    let ended = runs()
        .into_iter()
        .filter(|run| !Path::new("/proc").join(run.process.to_string()).exists());
    remove(&beyond_kept(ended.collect()));
}

/// Removes what this process has left: a benchmark that ended well has nothing to look into, and
/// its access logs take hundreds of megabytes.
pub fn remove_own() {
    let own = runs()
        .into_iter()
        .filter(|run| run.process == process::id());
    remove(&own.map(|run| run.folder).collect::<Vec<_>>());
}

/// The folders of every process but the newest ones.
fn beyond_kept(runs: Vec<Run>) -> Vec<PathBuf> {
    let mut last_used: HashMap<u32, SystemTime> = HashMap::new();
    for run in &runs {
        let at = last_used.entry(run.process).or_insert(run.modified);
        *at = run.modified.max(*at);
    }
    let mut processes: Vec<(SystemTime, u32)> = last_used
        .into_iter()
        .map(|(process, at)| (at, process))
        .collect();
    processes.sort_unstable();
    let old = &processes[..processes.len().saturating_sub(PROCESSES_KEPT)];
    let is_old = |run: &Run| old.iter().any(|(_, process)| *process == run.process);
    runs.into_iter()
        .filter(is_old)
        .map(|run| run.folder)
        .collect()
}

fn runs() -> Vec<Run> {
    let Ok(entries) = fs::read_dir(paths::run_dir()) else {
        return Vec::new();
    };
    let run = |entry: fs::DirEntry| {
        Some(Run {
            process: process_of(&entry.file_name().to_string_lossy())?,
            modified: entry.metadata().ok()?.modified().ok()?,
            folder: entry.path(),
        })
    };
    entries.flatten().filter_map(run).collect()
}

/// Folders are called `LABEL-PROCESS-COUNT`.
fn process_of(name: &str) -> Option<u32> {
    name.rsplit('-').nth(1)?.parse().ok()
}

fn remove(folders: &[PathBuf]) {
    for folder in folders {
        let _ = fs::remove_dir_all(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::{PROCESSES_KEPT, Run, beyond_kept, process_of};
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    #[test]
    fn only_the_folders_of_the_newest_processes_are_kept() {
        let run = |process: u32, modified_s: u64| Run {
            process,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(modified_s),
            folder: PathBuf::from(format!("envoy-{process}-{modified_s}")),
        };
        let newest = (0..PROCESSES_KEPT as u32 - 1).map(|process| run(100 + process, 50));
        // Process 2 has an old folder and a new one, process 1 two old ones.
        let runs = [run(1, 10), run(2, 11), run(1, 12), run(2, 60)];
        let removed = beyond_kept(runs.into_iter().chain(newest).collect());
        let expected = ["envoy-1-10", "envoy-1-12"].map(PathBuf::from);
        assert_eq!(removed, expected);
    }

    #[test]
    fn the_process_is_read_from_the_name() {
        assert_eq!(process_of("backend-config-4711-0"), Some(4711));
        assert_eq!(process_of("envoy-12-3"), Some(12));
        assert_eq!(process_of("mine"), None);
        assert_eq!(process_of("some-other-folder"), None);
    }
}
