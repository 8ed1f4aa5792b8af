//! How far a download is: a bar on a terminal, elsewhere a line every tenth, if tenths take long.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

const BAR_COLUMNS: u64 = 28;
const REDRAW_AFTER: Duration = Duration::from_millis(100);
/// Lines cannot be overwritten, so a fast download prints few.
const LINE_AFTER: Duration = Duration::from_secs(2);
const MIB: f64 = 1024.0 * 1024.0;

/// The state of one download's display.
pub struct Progress {
    label: String,
    total_bytes: Option<u64>,
    done_bytes: u64,
    /// What a resumed download already had, which says nothing about its speed.
    resumed_bytes: u64,
    started: Instant,
    drawn: Instant,
    tenths: u64,
    display: Display,
}

enum Display {
    Bar,
    Lines,
}

impl Progress {
    /// Starts the display at what an earlier run has left.
    pub fn new(label: &str, total_bytes: Option<u64>, resumed_bytes: u64) -> Progress {
        let display = if stderr().is_terminal() {
            Display::Bar
        } else {
            Display::Lines
        };
        let started = Instant::now();
        let mut progress = Progress {
            label: label.to_string(),
            total_bytes,
            done_bytes: resumed_bytes,
            resumed_bytes,
            started,
            drawn: started,
            tenths: 0,
            display,
        };
        progress.tenths = progress.share(10);
        if resumed_bytes > 0 {
            eprintln!(
                "fetch: {label}: resuming after {:.1} MiB",
                resumed_bytes as f64 / MIB
            );
        }
        progress
    }

    /// Counts bytes that have arrived.
    pub fn add(&mut self, bytes: u64) {
        self.done_bytes += bytes;
        match self.display {
            Display::Bar if self.drawn.elapsed() >= REDRAW_AFTER => self.draw(),
            Display::Lines if self.drawn.elapsed() >= LINE_AFTER => {
                let tenths = self.share(10);
                if tenths > self.tenths {
                    self.tenths = tenths;
                    self.drawn = Instant::now();
                    eprintln!(
                        "fetch: {} {:>3} % {}",
                        self.label,
                        tenths * 10,
                        self.amount()
                    );
                }
            }
            Display::Bar | Display::Lines => {}
        }
    }

    /// Ends the display.
    pub fn finish(&mut self) {
        match self.display {
            Display::Bar => {
                self.draw();
                eprintln!();
            }
            Display::Lines => eprintln!("fetch: {}: {}", self.label, self.amount()),
        }
    }

    fn draw(&mut self) {
        let filled = usize::try_from(self.share(BAR_COLUMNS)).unwrap_or(0);
        let empty = usize::try_from(BAR_COLUMNS)
            .unwrap_or(0)
            .saturating_sub(filled);
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(empty));
        eprint!("\rfetch: {:<36} [{bar}] {}   ", self.label, self.amount());
        let _ = stderr().flush();
        self.drawn = Instant::now();
    }

    fn share(&self, of: u64) -> u64 {
        let total = self.total_bytes.unwrap_or(u64::MAX).max(1);
        (self.done_bytes.saturating_mul(of) / total).min(of)
    }

    fn amount(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let new_bytes = self.done_bytes.saturating_sub(self.resumed_bytes);
        let done = self.done_bytes as f64 / MIB;
        let speed = new_bytes as f64 / MIB / seconds;
        match self.total_bytes {
            Some(total) => format!(
                "{done:.1} of {:.1} MiB, {speed:.1} MiB/s",
                total as f64 / MIB
            ),
            None => format!("{done:.1} MiB, {speed:.1} MiB/s"),
        }
    }
}
