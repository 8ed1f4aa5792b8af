//! Runs a tool to its end, without an orphan when we are interrupted.

use crate::error::XtaskError;
use crate::signals::Interrupt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How often a running tool and the interrupt are looked at.
const POLL: Duration = Duration::from_millis(100);
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
            end_group(&mut child);
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

/// Ends a tool and what it started. The shell's own `kill` reaches a whole group without `unsafe`.
fn end_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("/bin/sh")
        .args(["-c", "kill -TERM \"$1\"", "end", &group])
        .status();
    let _ = child.wait();
}
