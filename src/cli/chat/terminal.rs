//! The keyboard and the screen: line editing with history at a terminal, plain lines on a pipe.

#![expect(clippy::print_stdout, reason = "the screen of an interactive client")]

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context as _;
use rustyline::ExternalPrinter;
use rustyline::history::DefaultHistory;
use tokio::sync::mpsc;

use super::clean;
use super::command::{Command, parse};

/// Lines typed or piped ahead of the command that is being carried out.
const LINES_AHEAD: usize = 64;
/// Lines of history kept between runs.
const HISTORY_LINES: usize = 1000;
/// Where in the home folder.
const HISTORY_FILE: &str = ".rookery_chat_history";

/// Lines from the user.
pub(super) struct Input(mpsc::Receiver<String>);

impl Input {
    /// The next line; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.0.recv().await
    }
}

/// Where lines are shown.
pub(super) enum Screen {
    /// Above the line that is being edited.
    AboveThePrompt(Box<dyn ExternalPrinter + Send>),
    /// One after the other.
    Plain,
}

impl Screen {
    /// Shows a line, or several. Whatever is in them, the terminal obeys none of it.
    pub(super) fn print(&mut self, text: &str) {
        let text = clean::lines(text);
        match self {
            Self::AboveThePrompt(printer) => {
                // The terminal is gone: there is nobody to tell.
                let _ = printer.print(format!("{text}\n"));
            }
            Self::Plain => {
                println!("{text}");
                // A script that reads us must not wait for a full buffer.
                let _ = io::stdout().flush();
            }
        }
    }
}

/// Opens the keyboard and the screen.
pub(super) fn open(prompt: &'static str) -> anyhow::Result<(Input, Screen)> {
    let (lines, receiver) = mpsc::channel(LINES_AHEAD);
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        thread::spawn(move || read_plain(&lines));
        return Ok((Input(receiver), Screen::Plain));
    }
    let config = rustyline::Config::builder()
        .max_history_size(HISTORY_LINES)
        .context("the history can't be set up")?
        .auto_add_history(false)
        .build();
    let mut editor = rustyline::Editor::<(), DefaultHistory>::with_config(config)
        .context("the terminal can't be opened; pipe lines in instead")?;
    let printer = editor.create_external_printer().context("the terminal can't be written to")?;
    thread::spawn(move || read_edited(editor, prompt, &lines));
    Ok((Input(receiver), Screen::AboveThePrompt(Box::new(printer))))
}

/// A thread of its own, since reading the standard input blocks.
fn read_plain(lines: &mpsc::Sender<String>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

fn read_edited(
    mut editor: rustyline::Editor<(), DefaultHistory>,
    prompt: &str,
    lines: &mpsc::Sender<String>,
) {
    let history = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(HISTORY_FILE));
    if let Some(file) = &history {
        // There is none on the first run.
        let _ = editor.load_history(file);
    }
    // An error is Ctrl-C, Ctrl-D, or a terminal that is gone.
    while let Ok(line) = editor.readline(prompt) {
        // A password has no place in a file.
        if !holds_password(&line) {
            let _ = editor.add_history_entry(line.as_str());
        }
        // The terminal must not be taken again by a program that is about to end.
        let last = matches!(parse(&line), Ok(Some(Command::Quit)));
        if last {
            save(&mut editor, history.as_deref());
        }
        if lines.blocking_send(line).is_err() || last {
            return;
        }
    }
    save(&mut editor, history.as_deref());
}

fn save(editor: &mut rustyline::Editor<(), DefaultHistory>, file: Option<&Path>) {
    if let Some(file) = file {
        // A full disk costs the history only.
        let _ = editor.save_history(file);
    }
}

fn holds_password(line: &str) -> bool {
    let line = line.trim_start().to_lowercase();
    line.starts_with("login") || line.starts_with("register")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_out_of_the_history() {
        assert!(holds_password(" Login:alice:123456"));
        assert!(holds_password("register alice 123456"));
        assert!(!holds_password("chat 5 my login"));
    }
}
