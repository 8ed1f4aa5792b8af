//! Child processes on a leash: they end when we do, however we end.
//!
//! A shell stands between us and the child and holds the reading end of a pipe. When we close the
//! pipe, by asking or by dying, it ends the child. That needs no signal handler and no `unsafe`,
//! and holds after a panic, an abort and a SIGKILL.

use crate::HarnessError;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How much of a log an error shows.
const LOG_TAIL_BYTES: usize = 4_000;
/// How often a state that another process reaches is looked at.
pub const POLL: Duration = Duration::from_millis(10);

/// `$1` is the time between asking and killing, the rest the command. On end of file it asks with
/// SIGTERM first; the line `kill` skips that.
const LEASH: &str = r#"
exec 3<&0
grace_s=$1; shift
"$@" </dev/null 3<&- & child=$!
{
    read -r how <&3
    [ "$how" = kill ] || {
        kill -TERM "$child" 2>/dev/null
        tenths=$((grace_s * 10))
        while [ "$tenths" -gt 0 ] && kill -0 "$child" 2>/dev/null; do
            sleep 0.1; tenths=$((tenths - 1))
        done
    }
    kill -KILL "$child" 2>/dev/null
} & watcher=$!
exec 3<&-
wait "$child"; status=$?
kill -KILL "$watcher" 2>/dev/null
exit "$status"
"#;

/// A running child whose output goes to a file.
pub struct Leashed {
    shell: Child,
    what: String,
    log_path: PathBuf,
}

impl Leashed {
    /// Starts `program` in the workspace root with both outputs appended to `log_path`. When it is
    /// let go it has `grace_s` seconds to end by itself.
    pub fn start(
        what: impl Into<String>,
        program: &Path,
        arguments: &[String],
        log_path: PathBuf,
        grace_s: u32,
    ) -> Result<Leashed, HarnessError> {
        let what = what.into();
        let log = File::create(&log_path).map_err(HarnessError::io(format!(
            "cannot write {}",
            log_path.display()
        )))?;
        let errors = log
            .try_clone()
            .map_err(HarnessError::io("cannot share a log file"))?;
        let shell = Command::new("/bin/sh")
            .args(["-c", LEASH, "leash"])
            .arg(grace_s.to_string())
            .arg(program)
            .args(arguments)
            .current_dir(crate::paths::workspace_root())
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(HarnessError::io(format!("cannot start {what}")))?;
        Ok(Leashed {
            shell,
            what,
            log_path,
        })
    }

    /// Everything the child has said so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log_path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where the child's output goes.
    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// The child's process id, while it runs: the shell's first child, the other being its watcher.
    pub fn pid(&self) -> Option<u32> {
        let shell = self.shell.id();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// The exit status, once the child has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.shell.try_wait().ok().flatten()
    }

    /// Looks with `found` until it answers, the child ends or `limit` has passed.
    pub fn wait_for<T>(
        &mut self,
        goal: &str,
        limit: Duration,
        mut found: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, HarnessError> {
        let end = Instant::now() + limit;
        loop {
            let status = self.exit_status();
            if let Some(value) = found(&self.log()) {
                return Ok(value);
            }
            let reason = match status {
                Some(status) => format!("ended before {goal} ({status})"),
                None if Instant::now() > end => format!("no {goal} within {limit:?}"),
                None => {
                    thread::sleep(POLL);
                    continue;
                }
            };
            return Err(HarnessError::NotReady {
                what: self.what.clone(),
                reason,
                log_tail: tail(&self.log()),
            });
        }
    }

    /// Waits for the child to end by itself.
    pub fn wait_for_exit(&mut self, limit: Duration) -> Result<ExitStatus, HarnessError> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        Err(HarnessError::NotReady {
            what: self.what.clone(),
            reason: format!("still running after {limit:?}"),
            log_tail: tail(&self.log()),
        })
    }

    /// Asks the child to end, and waits until it has.
    pub fn stop(mut self) -> Result<ExitStatus, HarnessError> {
        drop(self.shell.stdin.take());
        self.shell
            .wait()
            .map_err(HarnessError::io(format!("cannot wait for {}", self.what)))
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        if let Some(mut leash) = self.shell.stdin.take() {
            let _ = leash.write_all(b"kill\n");
        }
        let _ = self.shell.wait();
    }
}

/// A new folder under the run folder, unique to this process and call.
pub fn run_folder(label: &str) -> Result<PathBuf, HarnessError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = crate::paths::run_dir().join(format!("{label}-{}-{count}", std::process::id()));
    fs::create_dir_all(&folder).map_err(HarnessError::io(format!(
        "cannot make {}",
        folder.display()
    )))?;
    Ok(folder)
}

fn tail(log: &str) -> String {
    let mut start = log.len().saturating_sub(LOG_TAIL_BYTES);
    while !log.is_char_boundary(start) {
        start += 1;
    }
    log[start..].to_string()
}
