//! Repeatable random numbers: `SplitMix64` (Steele, Lea and Flood, 2014). They are whole numbers, so that every machine
//! makes the same.

/// A source of pseudorandom numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

/// The number that is added to the state for each number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Scatters a number; different numbers stay different.
pub(super) const fn scatter(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Random {
    /// Creates the numbers of one subject under a seed, independent of those of every other subject.
    pub(super) const fn new(seed: u64, subject: u64) -> Self {
        Self(scatter(seed.wrapping_add(STEP)) ^ scatter(subject.wrapping_mul(STEP).wrapping_add(1)))
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        scatter(self.0)
    }

    /// Returns a number from 0 to below `end`; 0 if `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or_default()
    }

    /// Returns a number from `start` to below `end`; `start` if there is nothing between.
    pub(super) fn between(&mut self, start: i64, end: i64) -> i64 {
        let width = u64::try_from(end.saturating_sub(start)).unwrap_or_default();
        start + i64::try_from(self.below(width)).unwrap_or_default()
    }

    /// Returns a number like [`Self::below`], but small numbers twice as often.
    pub(super) fn rather_low(&mut self, end: u64) -> u64 {
        self.below(end).min(self.below(end))
    }

    /// Returns true in `percent` of a hundred cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    pub(super) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// Returns one of the choices, each as often as its weight says.
    pub(super) fn weighted<'a, T>(&mut self, choices: &'a [T], weight: impl Fn(&T) -> u64) -> &'a T {
        let mut left = self.below(choices.iter().map(&weight).sum());
        let mut last = &choices[0];
        for choice in choices {
            last = choice;
            match left.checked_sub(weight(choice)) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        last
    }

    /// Returns hexadecimal digits, as in ids.
    pub(super) fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            use std::fmt::Write;
            // Writing to a string cannot fail.
            let _ = write!(text, "{:016x}", self.next());
        }
        text.truncate(digits);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide_how_often() {
        let mut random = Random::new(1, 2);
        let choices = [("often", 9), ("never", 0), ("seldom", 1)];
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..10_000 {
            *counts
                .entry(random.weighted(&choices, |choice| choice.1).0)
                .or_insert(0) += 1;
        }
        assert!((8_800..9_200).contains(&counts["often"]), "{counts:?}");
        assert!(!counts.contains_key("never"), "{counts:?}");
    }

    #[test]
    fn seeds_and_subjects_are_independent() {
        let first = |seed, subject| Random::new(seed, subject).next();
        let mut seen: Vec<_> = (0..100)
            .flat_map(|seed| (0..100).map(move |subject| first(seed, subject)))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10_000);
    }

    #[test]
    fn an_empty_range_has_its_start() {
        let mut random = Random::new(0, 0);
        assert_eq!((random.below(0), random.between(7, 7), random.between(7, 3)), (0, 7, 7));
    }
}
