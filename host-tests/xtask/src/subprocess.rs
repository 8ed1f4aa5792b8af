//! Runs a tool to its end, without an orphan when we are interrupted.

use crate::error::XtaskError;
use crate::signals::Interrupt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a running tool and the interrupt are looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long a tool that was asked to end may take. Less than [`crate::signals`]
/// grants us: it must be gone before we are.
const END_GRACE: Duration = Duration::from_secs(5);
/// The most that is kept of what a tool says.
const OUTPUT_LINES_MAX: usize = 100_000;

/// What a tool did.
pub struct Finished {
    pub status: ExitStatus,
    /// Standard output and standard error, line by line as they came.
    pub output: Vec<String>,
}

impl Finished {
    /// An error with everything the tool said, unless it succeeded.
    pub fn require_success(self, step: &str) -> Result<Vec<String>, XtaskError> {
        if self.status.success() {
            return Ok(self.output);
        }
        Err(XtaskError::Step {
            step: step.to_string(),
            status: self.status.to_string(),
            output: self.output.join("\n"),
        })
    }
}

/// Runs `command` in its own process group. `look` sees each line as it comes, and `None` several
/// times a second while nothing comes.
pub fn run(
    command: &mut Command,
    interrupt: &Interrupt,
    mut look: impl FnMut(Option<&str>),
) -> Result<Finished, XtaskError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(XtaskError::io(format!("cannot start {program}")))?;
    let lines = lines(&mut child);
    let mut output = Vec::new();
    loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => {
                look(Some(&line));
                if output.len() < OUTPUT_LINES_MAX {
                    output.push(line);
                }
            }
            Err(RecvTimeoutError::Timeout) => look(None),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let Err(interrupted) = interrupt.check() {
            end_group(&mut child, END_GRACE);
            return Err(interrupted);
        }
    }
    let status = child
        .wait()
        .map_err(XtaskError::io(format!("cannot wait for {program}")))?;
    Ok(Finished { status, output })
}

/// Both outputs of `child`, merged in the order in which they arrive.
fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let stdout = child
        .stdout
        .take()
        .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    let stderr = child
        .stderr
        .take()
        .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    for pipe in [stdout, stderr].into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_string();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// Ends a tool and what it started: it is asked first, and killed once `grace` has passed.
fn end_group(child: &mut Child, grace: Duration) {
    signal_group(child, "TERM");
    let end = Instant::now() + grace;
    while Instant::now() < end {
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        thread::sleep(POLL);
    }
    signal_group(child, "KILL");
    let _ = child.wait();
}

/// The shell's own `kill` reaches a whole group without `unsafe`.
fn signal_group(child: &Child, signal: &str) {
    let group = format!("-{}", child.id());
    let _ = Command::new("/bin/sh")
        .args(["-c", "kill -s \"$1\" -- \"$2\"", "end", signal, &group])
        .status();
}

#[cfg(test)]
mod tests {
    use super::{end_group, lines};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// Signals as POSIX numbers them.
    const SIGTERM: i32 = 15;
    const SIGKILL: i32 = 9;

    #[test]
    fn a_tool_is_asked_to_end_and_killed_if_it_does_not() {
        check(
            "echo ready; exec sleep 1000",
            Duration::from_secs(600),
            SIGTERM,
        );
        check(
            "trap '' TERM; echo ready; sleep 1000; sleep 1000",
            Duration::ZERO,
            SIGKILL,
        );
    }

    fn check(script: &str, grace: Duration, expected_signal: i32) {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("every system has /bin/sh");
        let lines = lines(&mut child);
        assert_eq!(lines.recv().as_deref(), Ok("ready"), "{script}");
        end_group(&mut child, grace);
        let status = child.wait().expect("the child is ours");
        assert_eq!(status.signal(), Some(expected_signal), "{script}");
        // The outputs end only when nothing of the group is left.
        assert!(lines.recv().is_err(), "{script}");
    }
}
