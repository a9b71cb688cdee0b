//! The values of the unique field, numbered through all blocks, so that different ones are counted by bits.
//!
//! Looking each value of each segment up among all others is what a question with uniques would wait for most. So what one
//! has numbered is kept for the next: segments do not change, as long as no event of the file is changed or deleted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::segment::Column;
use super::super::tail::Block;
use super::tally::ByHash;
use crate::hit::event::fields::Field;

/// The largest number of values that are kept; the table then takes 36 MB.
const MOST: usize = 7 << 18;

/// The numbering that is kept between queries.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Option<Numbering>>);

impl Kept {
    /// Takes the numbers of a field at a number of changes of the file; a concurrent query makes its own numbering.
    pub(super) fn take(&self, field: &'static Field, changes: i64) -> Numbering {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |numbering: &mut Numbering| numbering.field.name == field.name && numbering.changes == changes;
        kept.take_if(same).unwrap_or_else(|| Numbering::new(field, changes))
    }

    pub(super) fn keep(&self, mut numbering: Numbering) {
        numbering.end_block();
        if numbering.numbers.len() > MOST {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let better = |known: &Numbering| {
            let same = known.field.name == numbering.field.name && known.changes == numbering.changes;
            known.changes > numbering.changes || same && known.numbers.len() > numbering.numbers.len()
        };
        if !kept.as_ref().is_some_and(better) {
            *kept = Some(numbering);
        }
    }
}

/// The numbers of values, from 1 on, in the order of their first occurrence.
#[derive(Debug)]
pub(super) struct Numbering {
    pub(super) field: &'static Field,
    /// The number of changes and deletions in the file at that time.
    changes: i64,
    numbers: ByHash<u32>,
    /// The number of each code of the current block; 0 is not numbered yet.
    of_codes: Vec<u32>,
    /// The segment at hand.
    segment: Option<i64>,
    /// The numbers of the codes of earlier segments.
    of_segments: HashMap<i64, Vec<u32>>,
}

impl Numbering {
    fn new(field: &'static Field, changes: i64) -> Self {
        Self {
            field,
            changes,
            numbers: ByHash::default(),
            of_codes: Vec::new(),
            segment: None,
            of_segments: HashMap::new(),
        }
    }

    pub(super) fn begin(&mut self, block: &Block, column: &Column) {
        self.end_block();
        self.segment = block.segment;
        let codes = 1 + column.hashes.len();
        let again = block.segment.and_then(|segment| self.of_segments.remove(&segment));
        self.of_codes = again
            .filter(|known| known.len() == codes)
            .unwrap_or_else(|| vec![0; codes]);
    }

    fn end_block(&mut self) {
        let of_codes = std::mem::take(&mut self.of_codes);
        if let Some(segment) = self.segment.take() {
            self.of_segments.insert(segment, of_codes);
        }
    }

    /// Returns the number of a code of the current block.
    pub(super) fn number(&mut self, column: &Column, code: u32) -> u32 {
        let known = self.of_codes[code as usize];
        if known != 0 {
            return known;
        }
        let next = u32::try_from(self.numbers.len() + 1).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(column.hashes[code as usize - 1]).or_insert(next);
        self.of_codes[code as usize] = number;
        number
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chrono::{DateTime, Utc};
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::super::super::pack::pack_the_rest;
    use super::super::super::{Archive, Readers, Store};
    use crate::hit::event::Event;
    use crate::query::Parameters;

    #[derive(Clone, Debug)]
    enum Step {
        /// Events of these visitors arrive.
        Arrive(Vec<u8>),
        Pack,
        /// The event with one of the numbers is deleted.
        Delete(prop::sample::Index),
        /// One of the questions is asked.
        Ask(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            proptest::collection::vec(0_u8..40, 1..30).prop_map(Step::Arrive),
            Just(Step::Pack),
            any::<prop::sample::Index>().prop_map(Step::Delete),
            any::<prop::sample::Index>().prop_map(Step::Ask),
            any::<prop::sample::Index>().prop_map(Step::Ask),
        ]
    }

    const QUESTIONS: [&[(&str, &str)]; 6] = [
        &[("since", "all"), ("unique", "visitor.id")],
        &[
            ("since", "all"),
            ("unique", "visitor.id"),
            ("interval", "hour"),
            ("by", "url.path"),
        ],
        &[("since", "all"), ("unique", "visitor.id"), ("filter", "url.path=/1")],
        &[("since", "2h"), ("compare", "true"), ("unique", "visitor.id")],
        &[("since", "all"), ("unique", "user.id"), ("by", "url.path")],
        &[("since", "all"), ("unique", "none"), ("by", "url.path")],
    ];

    fn time(number: usize) -> DateTime<Utc> {
        let minutes = i64::try_from(number).expect("there are few");
        DateTime::from_timestamp(1_780_000_000 + minutes * 60, 0).expect("a time")
    }

    fn event(number: usize, visitor: u8) -> Event {
        let class = ["human", "privacy_proxy"][usize::from(visitor % 2)];
        let document = serde_json::json!({
            "@timestamp": crate::hit::event::format_iso(time(number)),
            "event": {"id": number.to_string()},
            "visitor": {"id": format!("visitor-{visitor}")},
            "user": {"id": format!("user-{}", visitor / 3)},
            "url": {"path": format!("/{}", visitor % 4)},
            "visit": {"class": class},
        });
        Event {
            id: number.to_string(),
            time: time(number),
            document: document.to_string(),
        }
    }

    fn arrive(path: &Path, visitors: &[u8], before: usize) {
        let store = Store::open(path).expect("the store opens");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let events = visitors.iter().enumerate();
        runtime.block_on(store.store_all(events.map(|(place, visitor)| event(before + place, *visitor)).collect()));
        store.close();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_kept_changes_no_answer(steps in proptest::collection::vec(step(), 1..24)) {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("pixel.db");
            let mut count = 30;
            arrive(&path, &(0..30).collect::<Vec<u8>>(), 0);
            let readers = Readers::new(path.clone());
            let mut connection = Connection::open(&path).expect("the file opens");
            for step in steps {
                match step {
                    Step::Arrive(visitors) => {
                        arrive(&path, &visitors, count);
                        count += visitors.len();
                    }
                    Step::Pack => pack_the_rest(&mut connection),
                    Step::Delete(place) => {
                        let archive = Archive::open(&path).expect("the archive opens");
                        let number = i64::try_from(place.index(count)).expect("there are few") + 1;
                        archive.delete(&[number]).expect("it is deleted");
                    }
                    Step::Ask(place) => {
                        let given = place.get(&QUESTIONS).iter();
                        let given: Vec<_> = given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                        let question = Parameters::new(&given, time(count)).question().expect("it is a question");
                        let ask = |readers: &Readers| readers.open().expect("it opens").ask(&question).expect("an answer");
                        prop_assert_eq!(ask(&readers), ask(&Readers::new(path.clone())), "{:?}", given);
                    }
                }
            }
        }
    }
}
