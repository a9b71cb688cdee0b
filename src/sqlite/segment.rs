//! Segments: the values of some thousand events, field by field, so that a question reads only the fields it asks for.
//!
//! Reading a million documents takes seconds; reading one field of a million events takes milliseconds. Rows are packed into
//! a segment once there are enough of them, by a thread of its own; what is not packed yet is collected from its documents
//! in memory, with the same result. Of a column, each different value stands once, with a hash by which it is known in all segments.
//!
//! ```text
//! codes   values 4 | hash 8 each | lists 1 | width 1 | (ends 4 each row, of lists) | code each: 0 is none, n the n-th value
//! texts   ends 4 each value | the values
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

use crate::hit::event::fields::{FIELDS, Field};
use crate::query::{is_listed, normalize_value};

/// The number of events of a full segment.
pub(super) const ROWS: usize = 8192;

/// The values of one field.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    /// The hash of each different value.
    pub(super) hashes: Vec<u64>,
    /// The texts of these values; not read with the codes.
    pub(super) texts: Vec<Box<str>>,
    rows: Rows,
}

#[derive(Clone, Debug)]
enum Rows {
    /// At most one value each.
    Single(Vec<u32>),
    /// Several codes in a row: the end of each row in `codes`.
    Lists { ends: Vec<u32>, codes: Vec<u32> },
}

impl Default for Rows {
    fn default() -> Self {
        Self::Single(Vec::new())
    }
}

impl Column {
    /// Returns the codes of a row; none, or from 1 on.
    pub(super) fn codes(&self, row: usize) -> &[u32] {
        match &self.rows {
            Rows::Single(codes) => match codes.get(row..=row) {
                Some([0]) | None => &[],
                Some(code) => code,
            },
            Rows::Lists { ends, codes } => {
                // The last rows of a column that is still being made may have no values yet.
                let Some(end) = ends.get(row) else { return &[] };
                let begin = row.checked_sub(1).map_or(0, |before| ends[before]);
                &codes[begin as usize..*end as usize]
            }
        }
    }

    /// Adds a value to a row, which is the last one or a later one. What a row has already is not added again.
    fn push(&mut self, row: usize, code: u32) {
        if self.codes(row).contains(&code) {
            return;
        }
        if let Rows::Single(codes) = &mut self.rows {
            if codes.len() <= row {
                codes.resize(row, 0);
                codes.push(code);
                return;
            }
            let mut filled = 0;
            let end = |code: &u32| {
                filled += u32::from(*code != 0);
                filled
            };
            let ends = codes.iter().map(end).collect();
            codes.retain(|code| *code != 0);
            self.rows = Rows::Lists {
                ends,
                codes: std::mem::take(codes),
            };
        }
        if let Rows::Lists { ends, codes } = &mut self.rows {
            ends.resize(row.max(ends.len()), count(codes.len()));
            codes.push(code);
            ends.truncate(row);
            ends.push(count(codes.len()));
        }
    }

    /// Fills up to so many rows.
    fn pad(&mut self, rows: usize) {
        match &mut self.rows {
            Rows::Single(codes) => codes.resize(rows, 0),
            Rows::Lists { ends, codes } => ends.resize(rows, count(codes.len())),
        }
    }

    /// Returns the blob of hashes and codes, and that of texts.
    pub(super) fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let mut out = count(self.hashes.len()).to_le_bytes().to_vec();
        for hash in &self.hashes {
            out.extend_from_slice(&hash.to_le_bytes());
        }
        let width: u8 = match self.hashes.len() {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        };
        let codes = match &self.rows {
            Rows::Single(codes) => {
                out.extend_from_slice(&[0, width]);
                codes
            }
            Rows::Lists { ends, codes } => {
                out.extend_from_slice(&[1, width]);
                for end in ends {
                    out.extend_from_slice(&end.to_le_bytes());
                }
                codes
            }
        };
        for code in codes {
            out.extend_from_slice(&code.to_le_bytes()[..width.into()]);
        }
        let mut texts = Vec::new();
        let mut end = 0;
        for text in &self.texts {
            end += text.len();
            texts.extend_from_slice(&count(end).to_le_bytes());
        }
        for text in &self.texts {
            texts.extend_from_slice(text.as_bytes());
        }
        (out, texts)
    }

    /// Reads hashes and codes of a column of so many rows; none when the blob is damaged.
    pub(super) fn decode(blob: &[u8], rows: usize) -> Option<Self> {
        let (values, rest) = blob.split_first_chunk::<4>()?;
        let values = u32::from_le_bytes(*values) as usize;
        let (hashes, rest) = rest.split_at_checked(values.checked_mul(8)?)?;
        let hashes = hashes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|hash| u64::from_le_bytes(*hash))
            .collect();
        let (&[lists, width], rest) = rest.split_first_chunk::<2>()?;
        let (ends, codes) = rest.split_at_checked(if lists == 1 { rows.checked_mul(4)? } else { 0 })?;
        let codes: Vec<u32> = match width {
            1 => codes.iter().map(|code| u32::from(*code)).collect(),
            2 => codes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|code| u16::from_le_bytes(*code).into())
                .collect(),
            _ => codes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|code| u32::from_le_bytes(*code))
                .collect(),
        };
        let ends: Vec<u32> = ends
            .as_chunks::<4>()
            .0
            .iter()
            .map(|end| u32::from_le_bytes(*end))
            .collect();
        let known = codes.iter().all(|code| *code as usize <= values);
        let whole = match lists {
            1 => ends.is_sorted() && ends.last().map_or(0, |end| *end as usize) == codes.len(),
            _ => codes.len() == rows,
        };
        let rows = if lists == 1 {
            Rows::Lists { ends, codes }
        } else {
            Rows::Single(codes)
        };
        (known && whole).then(|| Self {
            hashes,
            texts: Vec::new(),
            rows,
        })
    }
}

/// Returns the value of a code in a blob of the texts of this number of values.
pub(super) fn text(blob: &[u8], values: usize, code: u32) -> Option<&str> {
    let place = (code as usize).checked_sub(1)?;
    let (ends, texts) = blob.split_at_checked(values.checked_mul(4)?)?;
    let end = |place: usize| Some(u32::from_le_bytes(*ends.as_chunks::<4>().0.get(place)?) as usize);
    let begin = place.checked_sub(1).map_or(Some(0), end)?;
    std::str::from_utf8(texts.get(begin..end(place)?)?).ok()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Tells values apart, also those that somebody chose to look alike.
pub(super) fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    let mut beginning = [0; 8];
    beginning.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(beginning)
}

/// Times and numbers as they are stored: after a first one, in 4 bytes each, or in 8 where that is not enough.
pub(super) fn pack_numbers(start: i64, times: &[i64]) -> Vec<u8> {
    let after: Option<Vec<u32>> = times.iter().map(|time| u32::try_from(time - start).ok()).collect();
    match after {
        Some(after) => [4]
            .into_iter()
            .chain(after.into_iter().flat_map(u32::to_le_bytes))
            .collect(),
        None => [8]
            .into_iter()
            .chain(times.iter().flat_map(|time| (time - start).to_le_bytes()))
            .collect(),
    }
}

pub(super) fn unpack_numbers(start: i64, blob: &[u8]) -> Vec<i64> {
    match blob.split_first() {
        Some((4, rest)) => {
            let after = rest.as_chunks::<4>().0.iter();
            after
                .map(|after| start + i64::from(u32::from_le_bytes(*after)))
                .collect()
        }
        Some((_, rest)) => rest
            .as_chunks::<8>()
            .0
            .iter()
            .map(|after| start + i64::from_le_bytes(*after))
            .collect(),
        None => Vec::new(),
    }
}

/// A collector of the values of documents. It can be read while more are added.
#[derive(Debug)]
pub(super) struct Builder {
    /// The columns by their place in [`FIELDS`]; none if values are not listed.
    columns: Vec<Option<Building>>,
    rows: usize,
}

#[derive(Debug, Default)]
struct Building {
    codes: HashMap<Box<str>, u32>,
    column: Arc<Column>,
}

impl Default for Builder {
    fn default() -> Self {
        let column = |field: &Field| is_listed(field.kind).then(Building::default);
        Self {
            columns: FIELDS.iter().map(column).collect(),
            rows: 0,
        }
    }
}

impl Builder {
    /// Adds the next row. A document that is no JSON has no values.
    pub(super) fn add(&mut self, document: &str) {
        let walk = Walk {
            node: tree(),
            builder: self,
        };
        // What was read before a fault counts.
        let _ = walk.deserialize(&mut serde_json::Deserializer::from_str(document));
        self.rows += 1;
    }

    fn value(&mut self, place: usize, text: &str) {
        let Some(Some(building)) = self.columns.get_mut(place) else {
            return;
        };
        let Some(value) = normalize_value(FIELDS[place].kind, text) else {
            return;
        };
        // Whoever looks at it keeps what there was.
        let column = Arc::make_mut(&mut building.column);
        let code = if let Some(code) = building.codes.get(value.as_str()) {
            *code
        } else {
            let value: Box<str> = value.into();
            column.hashes.push(hash(&value));
            column.texts.push(value.clone());
            let code = count(column.texts.len());
            building.codes.insert(value, code);
            code
        };
        column.push(self.rows, code);
    }

    /// Returns the present column of a field, if it has values.
    pub(super) fn column(&self, field: &Field) -> Option<Arc<Column>> {
        let place = FIELDS.iter().position(|known| known.name == field.name)?;
        let building = self.columns.get(place)?.as_ref()?;
        (!building.column.hashes.is_empty()).then(|| Arc::clone(&building.column))
    }

    /// Fills every column up to the last row. Nothing more is added.
    pub(super) fn close(&mut self) {
        for building in self.columns.iter_mut().flatten() {
            building.codes = HashMap::new();
            if !building.column.hashes.is_empty() {
                Arc::make_mut(&mut building.column).pad(self.rows);
            }
        }
    }

    /// Returns the columns that have values.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&'static Field, &Column)> {
        let columns = FIELDS.iter().zip(&self.columns);
        let columns = columns.filter_map(|(field, building)| Some((field, building.as_ref()?.column.as_ref())));
        columns.filter(|(_, column)| !column.hashes.is_empty())
    }
}

/// The declared names, taken apart at their dots.
#[derive(Debug, Default)]
struct Node {
    field: Option<usize>,
    members: Vec<(&'static str, Self)>,
}

fn tree() -> &'static Node {
    static TREE: OnceLock<Node> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut root = Node::default();
        for (place, field) in FIELDS.iter().enumerate().filter(|(_, field)| is_listed(field.kind)) {
            let mut node = &mut root;
            for name in field.name.split('.') {
                let known = node.members.iter().position(|(known, _)| *known == name);
                let at = known.unwrap_or_else(|| {
                    node.members.push((name, Node::default()));
                    node.members.len() - 1
                });
                node = &mut node.members[at].1;
            }
            node.field = Some(place);
        }
        root
    })
}

/// A visitor of a document that picks the values of declared fields, and skips the rest.
struct Walk<'b> {
    node: &'static Node,
    builder: &'b mut Builder,
}

impl Walk<'_> {
    fn value(self, text: &str) {
        if let Some(place) = self.node.field {
            self.builder.value(place, text);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name(self.node))? {
            match name {
                Some(node) => map.next_value_seed(Walk {
                    node,
                    builder: self.builder,
                })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let Self { node, builder } = self;
        while values
            .next_element_seed(Walk {
                node,
                builder: &mut *builder,
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.value(text);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.value(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.value(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.value(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A member's name; none when nothing below it is declared.
struct Name(&'static Node);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Node>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let found = self.0.members.iter().find(|(name, _)| *name == text);
        Ok(found.map(|(_, node)| node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(documents: &[String], name: &str) -> Option<Arc<Column>> {
        let mut builder = Builder::default();
        for document in documents {
            builder.add(document);
        }
        builder.close();
        builder.column(FIELDS.iter().find(|field| field.name == name).expect("it is declared"))
    }

    fn values(column: &Column, rows: usize) -> Vec<Vec<String>> {
        let (codes, texts) = column.encode();
        let decoded = Column::decode(&codes, rows).expect("what was encoded is read again");
        assert_eq!(decoded.hashes, column.hashes);
        let value = |code: &u32| text(&texts, decoded.hashes.len(), *code).expect("a text").to_owned();
        (0..rows)
            .map(|row| decoded.codes(row).iter().map(value).collect())
            .collect()
    }

    #[test]
    fn values_are_those_that_an_index_finds() {
        let long = "x".repeat(257);
        let documents = [
            r#"{"campaign": {"source": "mail", "id": "1"}}"#.to_owned(),
            r#"{"campaign": {"source": ["a", "b", "a", null]}}"#.to_owned(),
            format!(r#"{{"campaign": {{"source": "{long}"}}}}"#),
            r#"{"params": {"campaign": {"source": "mine"}}, "campaign.source": "mine"}"#.to_owned(),
            r#"{"campaign": {"source": 17, "medium": "x"}}"#.to_owned(),
            "no JSON".to_owned(),
            r#"{"campaign": {"source": ""}}"#.to_owned(),
        ];
        let source = column(&documents, "campaign.source").expect("there are values");
        let expected: [&[&str]; 7] = [&["mail"], &["a", "b"], &[], &[], &["17"], &[], &[""]];
        assert_eq!(values(&source, 7), expected);
        assert!(column(&documents, "client.ip").is_none());
    }

    proptest! {
        #[test]
        fn what_was_packed_is_read_again(rows in proptest::collection::vec(proptest::collection::vec("[a-d]{0,2}", 0..4), 1..400)) {
            let documents: Vec<_> = rows.iter().map(|labels| serde_json::json!({"labels": labels}).to_string()).collect();
            let once = |labels: &Vec<String>| {
                let mut seen: Vec<String> = Vec::new();
                for label in labels {
                    if !seen.contains(label) {
                        seen.push(label.clone());
                    }
                }
                seen
            };
            let expected: Vec<_> = rows.iter().map(once).collect();
            let found = column(&documents, "labels").map_or_else(|| vec![Vec::new(); rows.len()], |column| values(&column, rows.len()));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn what_is_looked_at_while_it_grows_is_what_there_is(rows in proptest::collection::vec(proptest::collection::vec("[a-d]{0,2}", 0..4), 1..40)) {
            let field = FIELDS.iter().find(|field| field.name == "labels").expect("it is declared");
            let documents: Vec<_> = rows.iter().map(|labels| serde_json::json!({"labels": labels}).to_string()).collect();
            let mut builder = Builder::default();
            for (place, document) in documents.iter().enumerate() {
                let before = builder.column(field);
                let copy = before.as_deref().cloned();
                builder.add(document);
                let now = builder.column(field);
                let whole = column(&documents[..=place], "labels");
                for row in 0..=place {
                    let codes = |column: &Option<Arc<Column>>| column.as_ref().map(|column| column.codes(row).to_vec()).unwrap_or_default();
                    prop_assert_eq!(codes(&now), codes(&whole), "row {} of {}", row, place);
                    let kept = copy.as_ref().map(|copy| copy.codes(row).to_vec()).unwrap_or_default();
                    prop_assert_eq!(codes(&before), kept);
                }
            }
        }

        #[test]
        fn a_damaged_blob_is_no_column(blob in proptest::collection::vec(any::<u8>(), 0..200), rows in 0_usize..20) {
            if let Some(column) = Column::decode(&blob, rows) {
                for row in 0..rows {
                    prop_assert!(column.codes(row).iter().all(|code| *code as usize <= column.hashes.len()));
                }
            }
        }
    }
}
