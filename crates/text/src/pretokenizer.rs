//! How a byte-level vocabulary splits text before it merges bytes: one row per name that
//! `tokenizer.ggml.pre` can have.
//!
//! A GGUF file names the rule and leaves its text to the reader. The patterns below are those of the published
//! `tokenizer.json` files (and of transformers 5, which reads GGUF by the same table), except where a row says
//! otherwise. A name that is not here is refused: a wrong split gives plausible, wrong ids.

use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, SplitDelimiterBehavior};

use crate::error::{Result, TextError};

/// Llama-3: runs of letters with one leading non-letter, numbers of up to three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen-2, 2.5 and 3: as Llama-3, with digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Mistral's Tekken: also splits before a capital inside a word.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// How text is cut before merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// GPT-2's own pattern, which the byte-level step of `tokenizers` carries.
    Gpt2,
    /// Every digit alone, then GPT-2's pattern.
    DigitsThenGpt2,
    /// A pattern of its own.
    Pattern(&'static str),
}

/// The splitting rule of a byte-level tokenizer, and what belongs to it but isn't written in a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreTokenizer {
    cut: Cut,
    /// Text is brought to Unicode's composed form first.
    composes: bool,
    /// A piece that is itself in the vocabulary is taken whole, whatever the merges say.
    whole_pieces: bool,
    /// A BOS is added to plain text where the file doesn't say.
    adds_bos: bool,
}

/// A rule without normalisation, whole pieces or BOS.
const fn plain(cut: Cut) -> PreTokenizer {
    PreTokenizer { cut, composes: false, whole_pieces: false, adds_bos: false }
}

/// A rule of a tokenizer that starts every text with BOS and takes whole pieces as they are (the three that do
/// are exported from tiktoken files, whose ranks serve as merges).
const fn tiktoken(pattern: &'static str) -> PreTokenizer {
    PreTokenizer { cut: Cut::Pattern(pattern), composes: false, whole_pieces: true, adds_bos: true }
}

const QWEN2_RULE: PreTokenizer = PreTokenizer { composes: true, ..plain(Cut::Pattern(QWEN2)) };

/// Every known value of `tokenizer.ggml.pre`.
///
/// `smollm`: the published tokenizer also puts every digit alone before GPT-2's pattern. transformers reads the
/// GGUF file without that step, and the reference values for this model were made with its reading, so it is the
/// default here; [`PreTokenizer::SMOLLM_PUBLISHED`] is the other one. The two differ only where two or more
/// characters of white space stand before a digit, and at numbers outside ASCII (`½`).
const RULES: &[(&str, PreTokenizer)] = &[
    ("default", plain(Cut::Gpt2)),
    ("gpt-2", plain(Cut::Gpt2)),
    ("smollm", plain(Cut::Gpt2)),
    ("llama3", tiktoken(LLAMA3)),
    ("llama-v3", tiktoken(LLAMA3)),
    ("llama-bpe", tiktoken(LLAMA3)),
    ("qwen2", QWEN2_RULE),
    ("deepseek-r1-qwen", QWEN2_RULE),
    ("tekken", tiktoken(TEKKEN)),
];

impl PreTokenizer {
    /// SmolLM's splitting as its published `tokenizer.json` has it: every digit alone, then GPT-2's pattern.
    pub const SMOLLM_PUBLISHED: PreTokenizer = plain(Cut::DigitsThenGpt2);

    /// The rule that a GGUF file names; GPT-2's where it names none.
    ///
    /// # Errors
    /// [`TextError::UnknownPreTokenizer`] for a name that is not in the table.
    pub fn of_gguf(pre: Option<&str>) -> Result<Self> {
        let name = pre.unwrap_or("default");
        RULES.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule).ok_or_else(|| {
            let known = RULES.iter().map(|(known, _)| format!("`{known}`")).collect::<Vec<_>>().join(", ");
            TextError::UnknownPreTokenizer { pre: name.to_owned(), known }
        })
    }

    /// Whether plain text gets a BOS where the file doesn't say.
    pub(crate) fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Whether a piece found in the vocabulary is not merged again.
    pub(crate) fn takes_whole_pieces(&self) -> bool {
        self.whole_pieces
    }

    /// The step before splitting, if any.
    pub(crate) fn normalizer(&self) -> Option<NormalizerWrapper> {
        self.composes.then(|| NormalizerWrapper::NFC(NFC))
    }

    /// The splitting step, ending with bytes spelled as characters.
    pub(crate) fn build(&self) -> tokenizers::Result<PreTokenizerWrapper> {
        let gpt2 = PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, true));
        Ok(match self.cut {
            Cut::Gpt2 => gpt2,
            Cut::DigitsThenGpt2 => Sequence::new(vec![Digits::new(true).into(), gpt2]).into(),
            Cut::Pattern(pattern) => {
                let pattern = SplitPattern::Regex(pattern.to_owned());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
                Sequence::new(vec![split.into(), ByteLevel::new(false, false, false).into()]).into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    const TEXT: &str = "It'S  12345 don't\r\n\n  CamelCaseWord x½² e\u{301}té !?/\n\t3";

    fn pieces(rule: PreTokenizer) -> Vec<&'static str> {
        let mut text = PreTokenizedString::from(TEXT);
        rule.build().unwrap().pre_tokenize(&mut text).unwrap();
        let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (start, end), _)| &TEXT[start..end]).collect()
    }

    /// The pieces are what the Python package `tokenizers` gives for transformers' patterns.
    #[test]
    fn rules_split_as_the_published_tokenizers_do() {
        let rule = |name| PreTokenizer::of_gguf(Some(name)).unwrap();
        let word = " CamelCaseWord";
        let llama3 = [
            "It",
            "'S",
            " ",
            " ",
            "123",
            "45",
            " don",
            "'t",
            "\r\n\n",
            " ",
            word,
            " x",
            "½²",
            " e",
            "\u{301}té",
            " !?/\n",
            "\t",
            "3",
        ];
        assert_eq!(pieces(rule("llama-bpe")), llama3);
        let qwen2 = [
            "It",
            "'S",
            " ",
            " ",
            "1",
            "2",
            "3",
            "4",
            "5",
            " don",
            "'t",
            "\r\n\n",
            " ",
            word,
            " x",
            "½",
            "²",
            " e",
            "\u{301}té",
            " !?/\n",
            "\t",
            "3",
        ];
        assert_eq!(pieces(rule("qwen2")), qwen2);
        let tekken = [
            "It",
            "'S",
            " ",
            " ",
            "1",
            "2",
            "3",
            "4",
            "5",
            " don",
            "'t",
            "\r\n\n",
            " ",
            " Camel",
            "Case",
            "Word",
            " x",
            "½",
            "²",
            " e\u{301}té",
            " !?/\n",
            "\t",
            "3",
        ];
        assert_eq!(pieces(rule("tekken")), tekken);
        let gpt2 = [
            "It", "'", "S", " ", " 12345", " don", "'t", "\r\n\n ", word, " x", "½²", " e", "\u{301}", "té",
            " !?/", "\n", "\t", "3",
        ];
        assert_eq!(pieces(PreTokenizer::of_gguf(None).unwrap()), gpt2);
        let smollm = [
            "It", "'", "S", "  ", "1", "2", "3", "4", "5", " don", "'t", "\r\n\n ", word, " x", "½", "²",
            " e", "\u{301}", "té", " !?/", "\n\t", "3",
        ];
        assert_eq!(pieces(PreTokenizer::SMOLLM_PUBLISHED), smollm);
    }
}
