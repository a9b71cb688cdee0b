//! Decodes a text repeatedly until nothing is left to decode.

use std::borrow::Cow;
use std::ops::Range;

/// A text decoded to a fixed point, with the original position of each byte.
///
/// Percent-encoding (however often), `\uXXXX` of JSON, numeric HTML entities and fullwidth forms are decoded, in one pass.
pub(super) struct View<'t> {
    bytes: Cow<'t, [u8]>,
    /// The original position of each byte, and how often it was encoded; none if nothing is encoded.
    origins: Option<Vec<(u32, u8)>>,
    length: usize,
}

impl<'t> View<'t> {
    /// Decodes a text.
    pub(super) fn new(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let plain = Self {
            bytes: Cow::Borrowed(bytes),
            origins: None,
            length: bytes.len(),
        };
        let encoded = |(place, byte): (usize, &u8)| match byte {
            b'%' => bytes
                .get(place + 1)
                .is_some_and(|next| next.is_ascii_hexdigit() || *next == b'%'),
            b'\\' => bytes.get(place + 1) == Some(&b'u'),
            b'&' => bytes.get(place + 1) == Some(&b'#'),
            0xE3 | 0xEF => true,
            _ => false,
        };
        if u32::try_from(bytes.len()).is_err() || !bytes.iter().enumerate().any(encoded) {
            return plain;
        }
        let mut stack = Stack {
            bytes: Vec::with_capacity(bytes.len()),
            origins: Vec::with_capacity(bytes.len()),
        };
        for (place, byte) in bytes.iter().enumerate() {
            // The length was compared above.
            stack.push(*byte, u32::try_from(place).unwrap_or(u32::MAX), 0);
        }
        Self {
            bytes: Cow::Owned(stack.bytes),
            origins: Some(stack.origins),
            length: bytes.len(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how often a byte was encoded.
    pub(super) fn depth(&self, place: usize) -> u8 {
        self.origins.as_ref().map_or(0, |origins| origins[place].1)
    }

    /// Returns the original range of decoded bytes.
    pub(super) fn origin(&self, range: &Range<usize>) -> Range<usize> {
        let place = |place: usize| match &self.origins {
            None => place,
            Some(origins) => origins.get(place).map_or(self.length, |(origin, _)| *origin as usize),
        };
        place(range.start)..place(range.end)
    }

    /// Returns decoded bytes as text.
    pub(super) fn text(&self, range: &Range<usize>) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes[range.clone()])
    }
}

/// The bytes decoded so far. Each new byte may complete an escape with those before it; the decoded byte may complete
/// another.
struct Stack {
    bytes: Vec<u8>,
    origins: Vec<(u32, u8)>,
}

impl Stack {
    fn push(&mut self, byte: u8, origin: u32, depth: u8) {
        let (mut byte, mut origin, mut depth) = (byte, origin, depth);
        loop {
            self.bytes.push(byte);
            self.origins.push((origin, depth));
            let Some((length, decoded)) = decode_end(&self.bytes) else {
                return;
            };
            let begin = self.bytes.len() - length;
            origin = self.origins[begin].0;
            // A fullwidth form is another way to write a character, and not an encoding of it.
            let step = u8::from(!matches!(self.bytes[begin], 0xE3 | 0xEF));
            let deepest = self.origins[begin..].iter().map(|(_, depth)| *depth).max();
            depth = deepest.unwrap_or(0).saturating_add(step);
            self.bytes.truncate(begin);
            self.origins.truncate(begin);
            match decoded {
                Decoded::Byte(decoded) => byte = decoded,
                // A character of more than one byte completes no escape.
                Decoded::Character(character) => {
                    let mut buffer = [0; 4];
                    for part in character.encode_utf8(&mut buffer).bytes() {
                        self.bytes.push(part);
                        self.origins.push((origin, depth));
                    }
                    return;
                }
            }
        }
    }
}

enum Decoded {
    Byte(u8),
    Character(char),
}

impl From<char> for Decoded {
    fn from(character: char) -> Self {
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() => Self::Byte(byte),
            _ => Self::Character(character),
        }
    }
}

/// Returns the decoded form of the last bytes, and how many bytes it replaces.
fn decode_end(bytes: &[u8]) -> Option<(usize, Decoded)> {
    match bytes {
        [.., b'%', high, low] => Some((3, Decoded::Byte(parse_hex_digit(*high)? * 16 + parse_hex_digit(*low)?))),
        [.., b'\\', b'u', a, b, c, d] if parse_hex_digit(*d).is_some() => {
            let mut number = 0;
            for digit in [a, b, c, d] {
                number = number * 16 + u32::from(parse_hex_digit(*digit)?);
            }
            Some((6, char::from_u32(number)?.into()))
        }
        [.., b';'] => decode_entity(bytes),
        // Fullwidth forms of ASCII, and the small commercial at.
        [.., 0xEF, 0xBC, last @ 0x81..=0xBF] => Some((3, Decoded::Byte(last - 0x81 + b'!'))),
        [.., 0xEF, 0xBD, last @ 0x80..=0x9E] => Some((3, Decoded::Byte(last - 0x80 + b'`'))),
        [.., 0xEF, 0xBD, 0xA1] | [.., 0xE3, 0x80, 0x82] => Some((3, Decoded::Byte(b'.'))),
        [.., 0xEF, 0xB9, 0xAB] => Some((3, Decoded::Byte(b'@'))),
        _ => None,
    }
}

/// Returns the character of a numeric entity (`&#64;`, `&#x40;`) at the end.
fn decode_entity(bytes: &[u8]) -> Option<(usize, Decoded)> {
    let begin = bytes.len().saturating_sub(10);
    let place = begin + bytes[begin..].iter().rposition(|byte| *byte == b'&')?;
    let number = std::str::from_utf8(&bytes[place..bytes.len() - 1])
        .ok()?
        .strip_prefix("&#")?;
    let number = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    Some((bytes.len() - place, char::from_u32(number.ok()?)?.into()))
}

const fn parse_hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_encoded_is_decoded_to_the_end() {
        for (text, decoded, depth) in [
            ("a@b", "a@b", 0),
            ("a%40b", "a@b", 1),
            ("a%2540b", "a@b", 2),
            ("a%25252540b", "a@b", 4),
            ("a%%34%30b", "a@b", 2),
            ("a\\u0040b", "a@b", 1),
            ("a&#64;b", "a@b", 1),
            ("a&#x40;b", "a@b", 1),
            ("a\u{ff20}b", "a@b", 0),
            ("a%EF%BC%A0b", "a@b", 1),
            ("100%", "100%", 0),
            ("a%zzb", "a%zzb", 0),
        ] {
            let view = View::new(text);
            assert_eq!(view.text(&(0..view.bytes().len())), decoded, "{text}");
            if let Some(place) = view.bytes().iter().position(|byte| *byte == b'@') {
                assert_eq!(view.depth(place), depth, "{text}");
                let origin = view.origin(&(place..place + 1));
                assert_eq!((&text[..origin.start], &text[origin.end..]), ("a", "b"), "{text}");
            }
        }
    }
}
