//! What several tests need: the reference data, and lines of mixed Unicode, the same every time.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folder of reference data beside the repository; `None`, said aloud, where it is absent and not demanded.
pub fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if path.is_dir() {
        return Some(path);
    }
    let demanded = std::env::var("LORASCOPE_REQUIRE_SHARED").is_ok_and(|value| value == "1");
    assert!(!demanded, "`{}` is absent, and LORASCOPE_REQUIRE_SHARED=1 demands it", path.display());
    println!("skipped: `{}` is absent", path.display());
    None
}

/// A JSON file among the reference values of SmolLM2, in the folder that [`shared`] found.
pub fn golden_json(shared: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(shared.join("golden").join(name)).unwrap()).unwrap()
}

/// SplitMix64 (Steele, Lea and Flood 2014): a seeded stream of 64-bit numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; the bias of the remainder does not matter here.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }

    fn character(&mut self, ranges: &[(u32, u32)]) -> char {
        loop {
            let (first, last) = ranges[self.below(ranges.len())];
            let code = first + self.below((last - first + 1) as usize) as u32;
            if let Some(character) = char::from_u32(code) {
                return character;
            }
        }
    }
}

/// Blocks of letters: Latin to Extended-B, Greek, Cyrillic, Armenian, Hebrew, Arabic, Devanagari, Bengali, Tamil, Thai,
/// Tibetan, Georgian, Hangul, Ethiopic, Cherokee, Khmer, Mongolian, kana, CJK (also beyond the basic plane), Yi,
/// Gothic, Deseret, mathematical letters.
const LETTERS: &[(u32, u32)] = &[
    (0x41, 0x7A),
    (0xC0, 0x24F),
    (0x370, 0x3FF),
    (0x400, 0x4FF),
    (0x531, 0x58F),
    (0x5D0, 0x5EA),
    (0x620, 0x6D3),
    (0x904, 0x939),
    (0x985, 0x9B9),
    (0xB85, 0xBB9),
    (0xE01, 0xE3A),
    (0xF40, 0xF6C),
    (0x10A0, 0x10FF),
    (0x1100, 0x11FF),
    (0x1200, 0x137F),
    (0x13A0, 0x13F5),
    (0x1780, 0x17DD),
    (0x1820, 0x1878),
    (0x3041, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xA000, 0xA48C),
    (0xAC00, 0xD7A3),
    (0x10330, 0x1034A),
    (0x10400, 0x1044F),
    (0x1D400, 0x1D7FF),
    (0x20000, 0x2A6DF),
];
/// Combining marks, joiners, variation selectors.
const MARKS: &[(u32, u32)] = &[
    (0x300, 0x36F),
    (0x483, 0x489),
    (0x591, 0x5BD),
    (0x64B, 0x65F),
    (0x93E, 0x94D),
    (0x20D0, 0x20F0),
    (0x200B, 0x200F),
    (0xFE00, 0xFE0F),
];
/// Digits of many scripts, fractions, superscripts, Roman and circled numbers.
const NUMBERS: &[(u32, u32)] = &[
    (0x30, 0x39),
    (0xB2, 0xB3),
    (0xBC, 0xBE),
    (0x660, 0x669),
    (0x966, 0x96F),
    (0x9E6, 0x9EF),
    (0x2070, 0x2089),
    (0x2150, 0x218B),
    (0x2460, 0x249B),
    (0x3007, 0x3007),
    (0xFF10, 0xFF19),
    (0x1D7CE, 0x1D7FF),
];
/// Punctuation and symbols.
const SYMBOLS: &[(u32, u32)] = &[
    (0x21, 0x2F),
    (0x3A, 0x40),
    (0x5B, 0x60),
    (0x7B, 0x7E),
    (0xA1, 0xBF),
    (0x2010, 0x2027),
    (0x2030, 0x205E),
    (0x20A0, 0x20BF),
    (0x2190, 0x23FF),
    (0x2500, 0x27BF),
    (0x3001, 0x303F),
    (0xFF01, 0xFF0F),
];
const EMOJI: &[(u32, u32)] =
    &[(0x1F1E6, 0x1F1FF), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1FAFF)];
/// Control characters, private use, noncharacters, the replacement character.
const ODD: &[(u32, u32)] = &[
    (0x0, 0x1F),
    (0x7F, 0x9F),
    (0xAD, 0xAD),
    (0xE000, 0xE0FF),
    (0xFDD0, 0xFDEF),
    (0xFFF9, 0xFFFF),
    (0x10FF00, 0x10FFFF),
];
const SPACES: &[&str] = &[
    " ", " ", " ", "  ", "   ", "    ", "        ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ",
    " \t ", "\u{a0}", "\u{2003}", "\u{3000}", "\u{2028}", "\u{85}", "\u{b}", "\u{c}", "\u{1680}", "\u{feff}",
    "▁", "▁▁",
];
const SNIPPETS: &[&str] = &[
    "the",
    " The",
    "don't",
    "WE'LL",
    "it's",
    "I'M",
    "'s",
    "'RE",
    "you'd",
    "’s",
    "naïve",
    "Straße",
    "İstanbul",
    "ﬁn",
    "e\u{301}",
    "\u{e9}",
    "ǅ",
    "한국어",
    "日本語",
    "𝒳",
    "👩‍👩‍👧‍👦",
    "👍🏽",
    "🇩🇪",
    "1️⃣",
    "½",
    "x²",
    "3.14",
    "1,000,000",
    "2024-07-26",
    "0x1F",
    "12345678901",
    " 7",
    "  7",
    "\n42",
    "fn main() {\n    let x = 1;\n}",
    "def f(x):\n\treturn x**2",
    "<div class=\"a\">",
    "| C | D |\n|---|---|\n| 3, 3 | 0, 4 |",
    "a_b",
    "CamelCase",
    "snake_case_",
    "http://a.b/c?d=e&f=%20",
    "C:\\dir\\n",
    "...",
    "!!!",
    "———",
    "===",
    "//",
    "/*",
    "*/",
    "{{",
    "}}",
    "{%",
    "$$",
    "action1",
    " action2",
    "cooperate",
    " defect",
];
/// Special tokens, whole and broken.
const SPECIALS: &[&str] = &[
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|im_start|>user\n",
    "<|im_end|>\n",
    "<|im_start",
    "im_end|>",
    "<| im_end |>",
    "<|IM_END|>",
    "<file_sep>",
    "<repo_name>",
    "<jupyter_code>",
    "<s>",
    "</s>",
    "<unk>",
    "<bos>",
    "<start_of_turn>",
    "<|eot_id|>",
    "<0x0A>",
    "[INST]",
    "Ġ",
    "Ċ",
    "Ġthe",
];

fn fragment(random: &mut Random) -> String {
    let run = |random: &mut Random, ranges: &[(u32, u32)], longest: usize| {
        let length = 1 + random.below(longest);
        (0..length).map(|_| random.character(ranges)).collect::<String>()
    };
    match random.below(20) {
        0..=3 => random.pick(SNIPPETS).to_owned(),
        4..=6 => random.pick(SPACES).to_owned(),
        7..=8 => run(random, &[(0x61, 0x7A)], 9),
        9 => run(random, &[(0x41, 0x5A)], 4),
        10..=11 => {
            let block = LETTERS[random.below(LETTERS.len())];
            run(random, &[block], 8)
        }
        12 => run(random, LETTERS, 4),
        13 => format!("{}{}", run(random, LETTERS, 1), run(random, MARKS, 3)),
        14 => run(random, NUMBERS, 5),
        15 => run(random, &[(0x30, 0x39)], 12),
        16 => run(random, SYMBOLS, 4),
        17 => run(random, EMOJI, 3),
        18 => run(random, ODD, 2),
        _ => random.pick(SPECIALS).to_owned(),
    }
}

/// Lines of many scripts, emoji, combining marks, runs of white space, control characters, digits, code and texts that
/// look like special tokens.
pub fn mixed_lines(seed: u64, count: usize) -> Vec<String> {
    let mut random = Random::new(seed);
    let line = |_| {
        let fragments = 1 + random.below(14);
        let mut text = String::new();
        for _ in 0..fragments {
            text.push_str(&fragment(&mut random));
            if random.below(3) == 0 {
                text.push(' ');
            }
        }
        text
    };
    (0..count).map(line).collect()
}
