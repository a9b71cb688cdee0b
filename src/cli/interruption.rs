//! The end before the end: a signal stops a command that has still something to do.
//!
//! What is under way is finished first; a second signal does not wait for that. Commands that end by being interrupted
//! (`pixel serve`, `pixel hits --follow`) have done what they were asked for, and know no interruption.

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

    /// What a shell shows of a program that a signal has ended: 128 and its number.
    const fn code(self) -> u8 {
        128 + self.number()
    }

    pub(super) fn exit_code(self) -> ExitCode {
        self.code().into()
    }
}

/// Whether a signal has come.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<Option<Signal>>);

impl Stop {
    /// Listens for signals from now on.
    pub(super) fn on_signal() -> Self {
        let (stop, stopped) = watch::channel(None);
        for kind in Signal::ALL {
            // Where nobody can listen, the signal ends the program as it ever did.
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

    /// The last signal.
    pub(super) fn signal(&self) -> Option<Signal> {
        *self.0.borrow()
    }

    /// Waits for a signal; for ever where nobody listens for any.
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
    reason = "whoever asks twice does not want to wait; what was stored stays stored"
)]
fn leave(signal: Signal) -> ! {
    std::process::exit(signal.code().into())
}

/// The end of a command that had still something to do.
#[derive(Debug)]
pub(super) struct Interrupted {
    pub(super) signal: Signal,
    /// How to go on.
    pub(super) resume: String,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "interrupted; {}", self.resume)
    }
}

impl std::error::Error for Interrupted {}
