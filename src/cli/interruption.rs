//! Interruption: a signal stops a command that has not finished.
//!
//! Requests under way are finished first; a second signal ends the command at once. Commands that normally end by a signal
//! (`pixel serve`, `pixel hits --follow`) are not interrupted in this sense.

use std::fmt;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::terminal::print_message;

/// A signal that asks a program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Ctrl-C.
    Interrupt,
    Terminate,
}

impl Signal {
    const ALL: [Self; 2] = [Self::Interrupt, Self::Terminate];

    const fn number(self) -> u8 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }

    /// Returns the exit code that a shell shows for a program ended by a signal: 128 and its number.
    const fn code(self) -> u8 {
        128 + self.number()
    }

    pub(super) fn exit_code(self) -> ExitCode {
        self.code().into()
    }
}

/// A receiver that knows when a signal has come.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<Option<Signal>>);

impl Stop {
    /// Listens for signals from now on.
    pub(super) fn on_signal() -> Self {
        let (stop, stopped) = watch::channel(None);
        for kind in Signal::ALL {
            // If the program cannot listen, the signal ends it as usual.
            let Ok(mut signals) = signal(SignalKind::from_raw(kind.number().into())) else {
                continue;
            };
            let stop = stop.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    if stop.send_replace(Some(kind)).is_some() {
                        leave(kind);
                    }
                    print_message("stopping when what is under way is stored; a second signal does not wait for that");
                }
            });
        }
        Self(stopped)
    }

    /// Returns the last signal.
    pub(super) fn signal(&self) -> Option<Signal> {
        *self.0.borrow()
    }

    /// Waits for a signal; for ever if nobody listens for any.
    pub(super) async fn come(&self) {
        let mut stopped = self.0.clone();
        if stopped.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.signal().is_some()
    }
}

#[expect(
    clippy::exit,
    reason = "a second signal ends the program at once; stored events stay stored"
)]
fn leave(signal: Signal) -> ! {
    std::process::exit(signal.code().into())
}

/// The error of a command that was stopped before its end.
#[derive(Debug)]
pub(super) struct Interrupted {
    pub(super) signal: Signal,
    /// An instruction for continuing.
    pub(super) resume: String,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "interrupted; {}", self.resume)
    }
}

impl std::error::Error for Interrupted {}
