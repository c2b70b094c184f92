//! How far long work has come: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::report;

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar, or lines.
pub struct Progress {
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// Begins. `template` is indicatif's; the length is in any unit.
    pub fn new(length: u64, template: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(length);
            // A template that indicatif rejects gives its own, plain one.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, last_line: Instant::now() }
    }

    /// A bar for audio being coded, in samples.
    pub fn of_audio(frames: Option<u64>) -> Self {
        match frames {
            Some(frames) => Self::new(frames, "[{bar:40}] {percent:>3}%  {msg}  {eta} left"),
            None => Self::new(0, "{spinner} {msg}"),
        }
    }

    /// Where the work stands: the bar moves on; without one, `message` is a line if the last is long
    /// enough ago.
    pub fn update(&mut self, position: u64, message: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(position);
                bar.set_message(message());
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                report::note(&message());
            }
            None => {}
        }
    }

    /// A line that stays, above the bar if there is one.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| report::note(text)),
            None => report::note(text),
        }
    }

    /// A warning that stays.
    pub fn warn(&self, text: &str) {
        self.note(&format!("warning: {text}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line that is written again and again on a terminal, and now and then elsewhere.
#[cfg(feature = "live")]
pub struct StatusLine {
    terminal: bool,
    last: Option<Instant>,
}

#[cfg(feature = "live")]
impl StatusLine {
    /// Time between two on a terminal.
    const OFTEN: Duration = Duration::from_millis(250);

    /// Nothing is written yet.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), last: None }
    }

    /// Shows what there is to say, if the last time is long enough ago.
    pub fn update(&mut self, text: impl FnOnce() -> String) {
        let every = if self.terminal { Self::OFTEN } else { LINE_EVERY };
        if self.last.get_or_insert_with(Instant::now).elapsed() < every {
            return;
        }
        self.last = Some(Instant::now());
        match self.terminal {
            // Back to the start of the line, and clear it.
            true => report::rewrite(&text()),
            false => report::note(&text()),
        }
    }
}

#[cfg(feature = "live")]
impl Drop for StatusLine {
    fn drop(&mut self) {
        if self.terminal {
            report::rewrite("");
        }
    }
}
