//! Whether a text table ended inside a quoted field, which the `csv` crate does not tell.

/// Follows the quotes of a table as RFC 4180 has them, a quote inside a quoted field doubled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quotes {
    /// The byte between fields.
    pub delimiter: u8,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote inside a quoted field: its end, or the first of two.
    AfterQuote,
}

impl Quotes {
    pub(super) fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            place: Place::FieldStart,
        }
    }

    /// Goes on over the bytes that follow.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        // Without a quote only the last byte matters; most tables have none.
        let plain = self.place != Place::Quoted && !bytes.contains(&b'"');
        let from = if plain {
            bytes.len().saturating_sub(1)
        } else {
            0
        };
        for &byte in &bytes[from..] {
            self.place = match (self.place, byte) {
                (Place::Quoted, b'"') => Place::AfterQuote,
                (Place::FieldStart | Place::AfterQuote, b'"') | (Place::Quoted, _) => Place::Quoted,
                (_, byte) if byte == b'\n' || byte == self.delimiter => Place::FieldStart,
                _ => Place::Plain,
            };
        }
    }

    /// Whether the bytes so far end inside a quoted field.
    pub(super) fn open(self) -> bool {
        self.place == Place::Quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_quotes_are_told_from_closed_ones_wherever_the_bytes_are_cut() {
        for (text, open) in [
            ("a,b\n", false),
            ("a,\"b\n", true),
            ("a,\"\n", true),
            ("a,\"b\"\n", false),
            ("a,\"b\n\"\n", false),
            ("a,\"b\"\"\n", true),
            ("a,\"b\"\"\"\n", false),
            ("a,\"b\"c\"\n", false),
            ("a,b\"\n", false),
            ("\"", true),
            ("\"\"", false),
            ("\"\n\n", true),
            ("a;\"b\n", false),
        ] {
            for cut in 0..=text.len() {
                let mut quotes = Quotes::new(b',');
                quotes.pass(&text.as_bytes()[..cut]);
                quotes.pass(&text.as_bytes()[cut..]);
                assert_eq!(quotes.open(), open, "{text:?} cut at {cut}");
            }
        }
    }
}
