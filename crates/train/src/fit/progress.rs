//! How a run shows that it goes on: a bar on a terminal, plain lines elsewhere, never both. Everything goes to
//! standard error; standard output belongs to results.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How to show progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// A bar if standard error is a terminal, else lines.
    #[default]
    Auto,
    /// A bar.
    Bar,
    /// Plain lines: about ten in a run, and no more than one a second.
    Lines,
    /// Nothing.
    Silent,
}

/// A run that is shown.
pub struct Shown {
    label: String,
    n_steps: u64,
    how: How,
    begun: Instant,
}

enum How {
    Bar(ProgressBar),
    Lines { out: Box<dyn Write + Send>, next: u64, last: Option<Instant> },
    Silent,
}

impl Progress {
    /// Begins to show a run of `n_steps` steps.
    pub fn begin(self, label: &str, n_steps: u64) -> Shown {
        match self {
            Progress::Auto if std::io::stderr().is_terminal() => Progress::Bar.begin(label, n_steps),
            Progress::Auto => Progress::Lines.begin(label, n_steps),
            Progress::Bar => {
                let bar = ProgressBar::new(n_steps);
                // A template that does not parse would show the default bar; it is constant, and a test parses it.
                if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                    bar.set_style(style.progress_chars("━╸ "));
                }
                bar.set_prefix(label.to_owned());
                Shown::new(label, n_steps, How::Bar(bar))
            }
            Progress::Lines => Shown::lines(label, n_steps, Box::new(std::io::stderr())),
            Progress::Silent => Shown::new(label, n_steps, How::Silent),
        }
    }
}

const TEMPLATE: &str = "{prefix} {bar:30} {pos}/{len}  {msg}  {elapsed} (left {eta})";

impl Shown {
    fn new(label: &str, n_steps: u64, how: How) -> Self {
        Shown { label: label.to_owned(), n_steps, how, begun: Instant::now() }
    }

    fn lines(label: &str, n_steps: u64, out: Box<dyn Write + Send>) -> Self {
        Shown::new(label, n_steps, How::Lines { out, next: 0, last: None })
    }

    /// `done` steps are done.
    pub fn step(&mut self, done: u64) {
        if let How::Bar(bar) = &self.how {
            bar.set_position(done);
        }
    }

    /// `done` steps are done, and there is something to say about it, such as the loss.
    pub fn say(&mut self, done: u64, message: &str) {
        match &mut self.how {
            How::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(message.to_owned());
            }
            How::Lines { out, next, last } => {
                let soon = last.is_some_and(|t| t.elapsed() < Duration::from_secs(1));
                if done < *next || soon && done < self.n_steps {
                    return;
                }
                *next = done + self.n_steps.div_ceil(10);
                *last = Some(Instant::now());
                let seconds = self.begun.elapsed().as_secs_f64();
                // Progress that cannot be written is no reason to stop training.
                let _ = writeln!(out, "{}: step {done} of {}, {message}, {seconds:.1} s", self.label, self.n_steps);
            }
            How::Silent => {}
        }
    }

    /// The run is over.
    pub fn end(mut self, done: u64, message: &str) {
        match &mut self.how {
            How::Bar(bar) => bar.abandon_with_message(message.to_owned()),
            How::Lines { out, .. } => {
                let seconds = self.begun.elapsed().as_secs_f64();
                let _ = writeln!(out, "{}: {done} steps in {seconds:.1} s, {message}", self.label);
            }
            How::Silent => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_template_parses() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }

    #[test]
    fn lines_are_few_and_plain() {
        let kept = Kept::default();
        let mut shown = Shown::lines("train", 1000, Box::new(kept.clone()));
        for done in 1..=1000 {
            shown.step(done);
            shown.say(done, "loss 0.5");
        }
        shown.end(1000, "loss 0.4");
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("train: step 1 of 1000, loss 0.5, "), "{text}");
        assert!(text.lines().last().unwrap().starts_with("train: 1000 steps in "), "{text}");
        assert!((3..=12).contains(&text.lines().count()), "{text}");
        assert!(!text.contains(['\r', '\u{1b}']), "{text}");
    }
}
