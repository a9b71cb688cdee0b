//! The circuit breaker: a destination that is down must not cost every hit its whole budget.
//!
//! After [`MAX_FAILURES`] transient failures in a row, the breaker opens and hits are not tried at all. When its pause
//! is over, one hit is tried once as a probe: success closes the breaker, failure opens it for twice as long. An event
//! that the destination refuses because of its own content does not count.

use std::time::Duration;

/// The number of failures in a row that open the breaker.
pub const MAX_FAILURES: u32 = 3;

/// The duration of the first pause.
pub const MIN_PAUSE: Duration = Duration::from_secs(5);

/// The upper limit of a pause.
pub const MAX_PAUSE: Duration = Duration::from_mins(1);

/// The circuit breaker of one destination. Times are durations since any fixed moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Duration, pause: Duration },
    Probing { since: Duration, pause: Duration },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// The number of attempts that a hit gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The hit is delivered with all attempts.
    Deliver,
    /// The hit is tried once.
    Probe,
    /// The hit is not tried.
    Refuse,
}

impl Breaker {
    /// Returns the attempts that a hit gets at `now`.
    pub fn admit(&mut self, now: Duration) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Deliver,
            State::Open { until, pause } if now >= until => self.probe(now, pause),
            // A probe whose outcome was never reported, because its sandbox was frozen, must not block for ever.
            State::Probing { since, pause } if now >= since + MAX_PAUSE => self.probe(now, pause),
            State::Open { .. } | State::Probing { .. } => Admission::Refuse,
        }
    }

    fn probe(&mut self, now: Duration, pause: Duration) -> Admission {
        self.state = State::Probing { since: now, pause };
        Admission::Probe
    }

    /// Records the end of a delivery; `reached` is true if the destination answered.
    pub fn record(&mut self, reached: bool, now: Duration) {
        let open = |pause: Duration| State::Open {
            until: now + pause,
            pause,
        };
        self.state = match self.state {
            _ if reached => State::default(),
            State::Closed { failures } if failures + 1 < MAX_FAILURES => State::Closed { failures: failures + 1 },
            State::Closed { .. } => open(MIN_PAUSE),
            State::Probing { pause, .. } => open((pause * 2).min(MAX_PAUSE)),
            // This delivery began before the breaker opened.
            State::Open { until, pause } => State::Open { until, pause },
        };
    }

    /// Returns the state's name, for logs.
    pub const fn name(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::Probing { .. } => "half_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..MAX_FAILURES {
            assert_eq!(breaker.admit(seconds(0)), Admission::Deliver);
            breaker.record(false, seconds(0));
        }
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::default();
        for _ in 0..MAX_FAILURES * 2 {
            breaker.record(false, seconds(0));
            breaker.record(true, seconds(0));
        }
        assert_eq!(breaker.name(), "closed");
        assert_eq!(opened().admit(seconds(0)), Admission::Refuse);
    }

    #[test]
    fn probes_once_after_the_pause_and_closes_on_success() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(seconds(4)), Admission::Refuse);
        assert_eq!(breaker.admit(seconds(5)), Admission::Probe);
        assert_eq!(
            (breaker.admit(seconds(5)), breaker.name()),
            (Admission::Refuse, "half_open")
        );
        breaker.record(true, seconds(5));
        assert_eq!(breaker.admit(seconds(5)), Admission::Deliver);
    }

    #[test]
    fn a_failed_probe_doubles_the_pause_up_to_the_longest() {
        let mut breaker = opened();
        let mut now = seconds(5);
        for pause in [10, 20, 40, 60, 60] {
            assert_eq!(breaker.admit(now), Admission::Probe);
            breaker.record(false, now);
            assert_eq!(breaker.admit(now + seconds(pause - 1)), Admission::Refuse);
            now += seconds(pause);
        }
    }

    #[test]
    fn a_probe_that_never_ended_is_followed_by_another() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(seconds(5)), Admission::Probe);
        assert_eq!(breaker.admit(seconds(5) + MAX_PAUSE), Admission::Probe);
    }
}
