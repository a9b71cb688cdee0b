//! The outcome of a hit. Every hit has exactly one.

use std::fmt;

/// What became of a hit. Every hit has exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored in the destination.
    Indexed,
    /// Taken by a queue or a stream, from where it goes on to the destination.
    Queued,
    /// It was there already, under the same id: success.
    Duplicate,
    /// Not a hit to store.
    Ignored(Ignored),
    /// Not delivered to the destination, but to the fallback.
    Fallback(Failure),
    /// Left in the queue that it came from, which delivers it again.
    Returned(Failure),
    /// Stored nowhere but in the log, whole, from where it can be replayed.
    Failed(Failure),
}

impl Outcome {
    /// The name used in logs and metrics.
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

/// Why a request is not a hit to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// No path of the pixel.
    UnknownPath,
    /// Neither `GET` nor `HEAD`, nor a beacon's `POST`.
    WrongMethod,
    /// A page fetching the script; what it tells is the hit.
    Script,
    /// A browser asking which methods are allowed.
    Preflight,
    /// A load balancer asking how the function does.
    HealthCheck,
    /// The payload could not be read as a request.
    Unreadable(&'static str),
    /// Reading it failed by a fault of ours.
    Panic,
    /// The owner has switched recording off.
    RecordingOff,
    /// The visitor, or the code's recipient, has opted out.
    OptedOut,
    /// The browser asks not to be tracked, and the owner's policy is to follow by storing nothing.
    PrivacySignal,
}

impl Ignored {
    /// The name used in logs, metrics and the `X-Pixel` header.
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

/// Why an event was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In words, with the server's own where it gave some.
    pub reason: String,
    /// Whether the same event may be accepted later.
    pub temporary: bool,
}

/// What became of one event, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What became of it.
    pub outcome: Outcome,
    /// How often it was tried.
    pub attempts: u32,
    /// The circuit breaker's state afterwards.
    pub breaker: &'static str,
}

impl Delivered {
    /// What was not tried at all, and may be later.
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
