//! The two answers of a prompt as tokens: their surface variants, and where the decision between them falls.
//!
//! Each answer is scored as written and with a leading space; equal token sequences count once. A [`Pair`] holds the two
//! answers in the same spelling; the *decision point* of a pair is the position after the tokens that both share, where
//! their next tokens differ (methods: the decision metric).

use crate::error::{Error, Result};
use lorascope_text::{Special, Tokenizer};

/// The two answers of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// Answer A as written.
    pub text_a: String,
    /// Answer B as written.
    pub text_b: String,
    /// Token sequences of answer A, distinct.
    pub a: Vec<Vec<u32>>,
    /// Token sequences of answer B, distinct.
    pub b: Vec<Vec<u32>>,
    /// The answers spelling by spelling, distinct.
    pub pairs: Vec<Pair>,
}

/// Both answers in one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Index into [`Answers::a`].
    pub a: usize,
    /// Index into [`Answers::b`].
    pub b: usize,
    /// The tokens that both begin with.
    pub shared: Vec<u32>,
    /// First token of A after them.
    pub token_a: u32,
    /// First token of B after them.
    pub token_b: u32,
    /// The spelling puts a space before the answer.
    pub spaced: bool,
}

impl Answers {
    /// Tokenises two answers of the prompt `id`.
    pub fn new(tokenizer: &Tokenizer, id: &str, text_a: &str, text_b: &str) -> Result<Self> {
        let mut answers = Self {
            text_a: text_a.to_owned(),
            text_b: text_b.to_owned(),
            a: Vec::new(),
            b: Vec::new(),
            pairs: Vec::new(),
        };
        for spaced in [false, true] {
            let tokens = |text: &str| {
                let text = if spaced { format!(" {text}") } else { text.to_owned() };
                let ids = tokenizer.encode(&text, Special::AsIs).map(|e| e.ids);
                let ids = ids.map_err(|source| Error::Prompt { id: id.to_owned(), source })?;
                if ids.is_empty() {
                    return Err(Error::EmptyAnswer { id: id.to_owned(), answer: text });
                }
                Ok(ids)
            };
            let (a, b) = (tokens(text_a)?, tokens(text_b)?);
            let pair = answers.pair(id, &a, &b, spaced)?;
            let same = |p: &Pair| (p.a, p.b) == (pair.a, pair.b);
            if !answers.pairs.iter().any(same) {
                answers.pairs.push(pair);
            }
        }
        if let Some((a, b)) =
            answers.a.iter().find_map(|a| answers.b.iter().find(|b| *b == a).map(|b| (a, b)))
        {
            debug_assert_eq!(a, b);
            let (a, b) = (text_a.to_owned(), text_b.to_owned());
            return Err(Error::SameTokens { id: id.to_owned(), a, b });
        }
        Ok(answers)
    }

    fn pair(&mut self, id: &str, a: &[u32], b: &[u32], spaced: bool) -> Result<Pair> {
        let n = a.iter().zip(b).take_while(|(x, y)| x == y).count();
        let texts = || (self.text_a.clone(), self.text_b.clone());
        let id = id.to_owned();
        let (token_a, token_b) = match (a.get(n), b.get(n)) {
            (Some(&a), Some(&b)) => (a, b),
            (None, None) => {
                let (a, b) = texts();
                return Err(Error::SameTokens { id, a, b });
            }
            (None, Some(_)) => {
                let (shorter, longer) = texts();
                return Err(Error::NoDecisionPoint { id, shorter, longer });
            }
            (Some(_), None) => {
                let (longer, shorter) = texts();
                return Err(Error::NoDecisionPoint { id, shorter, longer });
            }
        };
        let shared = a[..n].to_vec();
        Ok(Pair { a: intern(&mut self.a, a), b: intern(&mut self.b, b), shared, token_a, token_b, spaced })
    }

    /// Tokens of the longest variant.
    pub fn longest(&self) -> usize {
        self.a.iter().chain(&self.b).map(Vec::len).max().unwrap_or(0)
    }
}

/// Index of a sequence in a list of distinct ones, to which it is added where it is new.
fn intern(list: &mut Vec<Vec<u32>>, tokens: &[u32]) -> usize {
    list.iter().position(|t| t == tokens).unwrap_or_else(|| {
        list.push(tokens.to_vec());
        list.len() - 1
    })
}
