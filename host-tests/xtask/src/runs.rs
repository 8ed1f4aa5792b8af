//! The folders that runs leave behind, with their configurations and logs. They are kept a while
//! for whoever looks into a failure; a benchmark's take a hundred megabytes, so not for ever.

use farthing_host_tests::paths;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Long enough to read a log, or to run a whole CI.
const KEPT_FOR: Duration = Duration::from_secs(2 * 3_600);

/// Removes what is old. That something cannot be removed is no reason to fail.
pub fn remove_old() {
    let Ok(folders) = fs::read_dir(paths::run_dir()) else {
        return;
    };
    for folder in folders.flatten() {
        let path = folder.path();
        if belongs_to_the_dead(&path) && is_old(&path) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Folders are called `LABEL-PROCESS-COUNT`.
fn belongs_to_the_dead(folder: &Path) -> bool {
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let process = name
        .rsplit('-')
        .nth(1)
        .and_then(|process| process.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

fn is_old(folder: &Path) -> bool {
    let modified = fs::metadata(folder).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > KEPT_FOR))
}
