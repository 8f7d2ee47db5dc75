//! GPT-2's byte alphabet: how byte-level vocabularies spell bytes as printable characters.
//!
//! Printable Latin-1 bytes stand for themselves, the others for U+0100 onwards, in order (`bytes_to_unicode` of
//! GPT-2's encoder).

use std::collections::HashMap;

/// Both directions of the byte alphabet.
#[derive(Debug, Clone)]
pub(crate) struct Alphabet {
    /// The character of each byte.
    spelling: [char; 256],
    /// The byte of each character.
    bytes: HashMap<char, u8>,
}

impl Alphabet {
    pub(crate) fn new() -> Self {
        let mut spelling = ['\0'; 256];
        let mut next_shifted = '\u{100}'..;
        for byte in 0..=u8::MAX {
            let stands_for_itself = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            let shifted = if stands_for_itself { None } else { next_shifted.next() };
            spelling[usize::from(byte)] = shifted.unwrap_or(char::from(byte));
        }
        let bytes = (0..=u8::MAX).map(|byte| (spelling[usize::from(byte)], byte)).collect();
        Self { spelling, bytes }
    }

    /// A text's bytes, spelled.
    pub(crate) fn spell(&self, text: &str) -> String {
        text.bytes().map(|byte| self.spelling[usize::from(byte)]).collect()
    }

    /// The bytes that a spelled token stands for; nothing if a character isn't in the alphabet.
    pub(crate) fn bytes_of(&self, token: &str) -> Option<Vec<u8>> {
        token.chars().map(|character| self.bytes.get(&character).copied()).collect()
    }
}

/// Bytes as text, with what isn't UTF-8 written as `<0xE2>`.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("<0x{byte:02X}>")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_known_bytes() {
        let alphabet = Alphabet::new();
        assert_eq!(alphabet.spell(" a\n\u{e9}"), "ĠaĊÃ©");
        assert_eq!(alphabet.spell("\0\u{7f}"), "Āġ");
        assert_eq!(alphabet.bytes_of("ĠaĊÃ©").as_deref(), Some(" a\n\u{e9}".as_bytes()));
        assert_eq!(alphabet.bytes_of("▁"), None);
    }

    #[test]
    fn shows_broken_utf8_as_bytes() {
        assert_eq!(readable(b"a\xE2\x80z"), "a<0xE2><0x80>z");
    }
}
