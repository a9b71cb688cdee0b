//! Guesses at mistyped names, for "did you mean".

/// The size limit of a name that is guessed.
const MAX_BYTES: usize = 100;

/// Returns the most similar candidate to `given`, if fewer than half of its letters differ.
///
/// ```
/// use pixel::config::nearest::nearest;
/// assert_eq!(nearest("url.domian", ["url.path", "url.domain"]), Some("url.domain"));
/// assert_eq!(nearest("colour", ["url.path", "url.domain"]), None);
/// ```
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer text is not a typing error, and comparing it would take time.
    if given.len() > MAX_BYTES {
        return None;
    }
    let measured = candidates.into_iter().map(|name| (distance(name, given), name));
    let (changes, name) = measured.min()?;
    (changes * 2 < given.len()).then_some(name)
}

/// Returns the number of bytes to insert, remove or replace to get from one text to the other.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.bytes().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
