//! The outcome of a hit. Every hit has exactly one.

use std::fmt;

/// The final result of a hit. Every hit has exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The event was stored in the destination.
    Indexed,
    /// A queue or a stream accepted the event and passes it on to the destination.
    Queued,
    /// An event with the same id was already stored: a success.
    Duplicate,
    /// The request is not a hit to store.
    Ignored(Ignored),
    /// The destination did not accept the event, but the fallback did.
    Fallback(Failure),
    /// The event was left in its source queue, which delivers it again.
    Returned(Failure),
    /// The event was stored nowhere but in the log, in full, from where it can be replayed.
    Failed(Failure),
}

impl Outcome {
    /// Returns the name used in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Indexed => "indexed",
            Self::Queued => "queued",
            Self::Duplicate => "duplicate",
            Self::Ignored(_) => "ignored",
            Self::Fallback(_) => "fallback",
            Self::Returned(_) => "returned",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Indexed | Self::Queued | Self::Duplicate => formatter.write_str(self.name()),
            Self::Ignored(why) => write!(formatter, "ignored ({})", why.name()),
            Self::Fallback(failure) => write!(formatter, "fallback ({})", failure.reason),
            Self::Returned(failure) => write!(formatter, "returned ({})", failure.reason),
            Self::Failed(failure) => write!(formatter, "failed ({})", failure.reason),
        }
    }
}

/// The reason for not storing a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The path is not a path of the pixel.
    UnknownPath,
    /// The method is neither `GET` nor `HEAD`, nor a beacon's `POST`.
    WrongMethod,
    /// A page fetches the script; the script's own report is the hit.
    Script,
    /// A browser asks which methods are allowed.
    Preflight,
    /// A load balancer checks the function's health.
    HealthCheck,
    /// The payload could not be read as a request.
    Unreadable(&'static str),
    /// A bug of ours made reading the request fail.
    Panic,
    /// The owner has switched recording off.
    RecordingOff,
    /// The visitor, or the code's recipient, has opted out.
    OptedOut,
    /// The browser asks not to be tracked, and the owner's policy is to store nothing then.
    PrivacySignal,
}

impl Ignored {
    /// Returns the name used in logs, metrics and the `X-Pixel` header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownPath => "unknown_path",
            Self::WrongMethod => "wrong_method",
            Self::Script => "script",
            Self::Preflight => "preflight",
            Self::HealthCheck => "health_check",
            Self::Unreadable(reason) => reason,
            Self::Panic => "panic",
            Self::RecordingOff => "recording_off",
            Self::OptedOut => "opted_out",
            Self::PrivacySignal => "privacy_signal",
        }
    }
}

/// The reason for a failed delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A description, with the server's own message if it gave one.
    pub reason: String,
    /// True if the same event may be accepted later.
    pub temporary: bool,
}

/// The outcome of one event, and the effort it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The outcome.
    pub outcome: Outcome,
    /// The number of attempts.
    pub attempts: u32,
    /// The state of the circuit breaker afterwards.
    pub breaker: &'static str,
}

impl Delivered {
    /// Returns a temporary failure of an event that was never sent.
    pub fn not_tried(reason: impl Into<String>) -> Self {
        let failure = Failure {
            reason: reason.into(),
            temporary: true,
        };
        Self {
            outcome: Outcome::Failed(failure),
            attempts: 0,
            breaker: "closed",
        }
    }
}
