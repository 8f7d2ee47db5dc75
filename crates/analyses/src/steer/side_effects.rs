//! What steering does to text that has nothing to do with the prompts.
//!
//! Texts are the beginnings of documents of the built-in text. The vector is added to the last token of each (or to all of them), as
//! to a prompt, and KL(unsteered ‖ steered) of the next token is taken over the whole vocabulary. Unlike on prompts this is the
//! vector from all prompts: the texts are none of them, and it is the one that others will load.

use super::directions::of_length;
use super::measure::Unit;
use super::settings::{Position, wrong};
use super::tables::SIDE_EFFECTS;
use crate::bootstrap::{Interval, mean_interval};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::scenarios::mean_over;
use crate::subject::Subject;
use crate::tuned_lens::unrelated_text;
use lorascope_engine::{Batch, Birth, Branch, Edit, EditOp, Hooks, Kept, ModelId, States};
use lorascope_record::{Cell, Table};
use lorascope_text::Wrapping;
use std::collections::BTreeMap;

/// Tokens of a text, at most.
const LONGEST: usize = 32;

/// Numbers of a row while the output matrix passes by, a block of the vocabulary at a time, and room to work.
const OUTPUT_NUMBERS: usize = 8192;

/// The beginnings of `n` documents, evenly spaced among all.
pub(super) fn texts(subject: &Subject, n: usize) -> Result<Vec<Vec<u32>>> {
    let documents = unrelated_text();
    if n > documents.len() {
        return wrong(format!("texts is {n}; there are {}", documents.len()));
    }
    let longest = LONGEST.min(subject.model.spec().n_ctx);
    let one = |i: usize| {
        let document = documents[i * documents.len() / n].as_str();
        let found = subject.tokenizer.tokens_prompt(document, Wrapping::Raw);
        let mut ids = found.or_else(|e| wrong(format!("document {} of the built-in text: {e}", i + 1)))?.ids;
        ids.truncate(longest);
        Ok(ids)
    };
    (0..n).map(one).collect()
}

/// Texts as one model reads them.
pub(super) struct Texts {
    pub tokens: Vec<Vec<u32>>,
    /// All but their last tokens, computed once, where only the last are steered and the memory holds them.
    kept: Option<Kept<f32>>,
}

impl Texts {
    pub fn new(
        context: &Context,
        target: ModelId,
        tokens: Vec<Vec<u32>>,
        position: Position,
    ) -> Result<Self> {
        let model = &context.subject.model;
        let spec = model.spec();
        let row = 2 * spec.n_layers * spec.n_kv_heads * spec.d_head * size_of::<f32>();
        let n_rows: usize = tokens.iter().map(Vec::len).sum();
        let has_more = !tokens.is_empty() && tokens.iter().all(|text| text.len() > 1);
        let keeps = position == Position::Decision && has_more && n_rows * row <= context.memory;
        let before: Vec<(ModelId, &[u32])> =
            tokens.iter().map(|text| (target, &text[..text.len() - 1])).collect();
        let kept = if keeps { Some(model.keep(&before, &|_, _| {})?) } else { None };
        Ok(Self { kept, tokens })
    }
}

/// A text with something added.
struct Steered<'v> {
    text: usize,
    vector: &'v [f32],
    strength: f64,
}

impl Unit<'_> {
    /// KL on every text at every strength, by the vector and by random directions, beside the legal mass of `runs`.
    pub fn side_effects(&self, what: &str, texts: &Texts, runs: &Table) -> Result<Table> {
        let strengths = &self.settings.strengths;
        let n_texts = texts.tokens.len();
        let random: Vec<Vec<f32>> = self.random[..self.settings.text_controls]
            .iter()
            .map(|direction| of_length(direction, self.made.norm))
            .collect();
        let mut asked: Vec<(&str, usize, f64, Vec<&[f32]>)> = Vec::new();
        for (dose, &strength) in strengths.iter().enumerate() {
            asked.push(("vector", dose, strength, vec![&self.made.whole[..]]));
            // Nothing is nothing in every direction.
            if strength != 0.0 && !random.is_empty() {
                asked.push(("random", dose, strength, random.iter().map(Vec::as_slice).collect()));
            }
        }
        let mut steered = Vec::new();
        for (_, _, strength, vectors) in &asked {
            for text in 0..n_texts {
                for &vector in vectors {
                    steered.push(Steered { text, vector, strength: *strength });
                }
            }
        }
        let kl = self.kl(what, texts, &steered)?;
        let mut kl = &kl[..];
        let masses = self.masses(runs)?;
        let names: Vec<String> = (0..n_texts).map(|i| format!("{i:05}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut table = Table::new(&SIDE_EFFECTS);
        for (direction, dose, strength, vectors) in asked {
            let (own, rest) = kl.split_at(n_texts * vectors.len());
            kl = rest;
            let of_text = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
            let of_texts: Vec<f64> = own.chunks(vectors.len()).map(of_text).collect();
            let mean = (!of_texts.is_empty()).then(|| mean_interval(&of_texts, &names, self.context.seed));
            let mass = (direction == "vector").then(|| masses[&dose]);
            let mut cells = self.identity();
            cells.extend([
                dose.into(),
                direction.into(),
                n_texts.into(),
                vectors.len().into(),
                mass.map(|_| self.recipe.prompts.len()).into(),
                strength.into(),
            ]);
            cells.extend(interval(mean).into_iter().chain(interval(mass)));
            table.push(&cells)?;
        }
        Ok(table)
    }

    /// Mean legal mass of the steered prompts at each strength.
    fn masses(&self, runs: &Table) -> Result<BTreeMap<usize, Interval>> {
        let prompts = &self.context.subject.prompts;
        let index: BTreeMap<&str, usize> = prompts.iter().enumerate().map(|(i, p)| (p.id(), i)).collect();
        let (ids, doses, mass) = (runs.texts("prompt_id")?, runs.ints("dose")?, runs.floats("mass_patched")?);
        let mut found = BTreeMap::new();
        for dose in 0..self.settings.strengths.len() {
            let rows = (0..runs.n_rows()).filter(|&row| doses[row] == dose as i64);
            let of: BTreeMap<usize, f64> = rows.map(|row| (index[ids[row]], mass[row])).collect();
            let which: Vec<usize> = of.keys().copied().collect();
            found.insert(dose, mean_over(prompts, &which, self.context.seed, |p| of[&p]));
        }
        Ok(found)
    }

    /// KL(unsteered ‖ steered) of the next token of each steered text, in the order given. Texts are branches of the unsteered
    /// ones, in chunks that fit the memory.
    fn kl(&self, what: &str, texts: &Texts, steered: &[Steered]) -> Result<Vec<f64>> {
        let progress = self.context.progress;
        let spec = self.context.subject.model.spec();
        let numbers = 5 * spec.d_model + 2 * spec.n_kv_heads * spec.d_head + OUTPUT_NUMBERS;
        let tokens = |s: &Steered| match self.settings.position {
            Position::Decision => 1,
            Position::All => texts.tokens[s.text].len(),
        };
        let rows = self.context.memory / (4 * numbers);
        progress.begin(what, steered.len() as u64);
        let mut found = Vec::with_capacity(steered.len());
        while found.len() < steered.len() {
            if progress.should_stop() {
                return Err(Error::Stopped);
            }
            let left = &steered[found.len()..];
            let (mut n, mut sum) = (1, tokens(&left[0]));
            while n < left.len() && sum + tokens(&left[n]) <= rows {
                sum += tokens(&left[n]);
                n += 1;
            }
            found.extend(self.kl_of(texts, &left[..n])?);
            progress.at(found.len() as u64);
        }
        progress.end();
        Ok(found)
    }

    fn kl_of(&self, texts: &Texts, steered: &[Steered]) -> Result<Vec<f64>> {
        let model = &self.context.subject.model;
        // Only texts that are asked about.
        let mut place = BTreeMap::new();
        let mut asked: Vec<usize> = Vec::new();
        for one in steered {
            place.entry(one.text).or_insert_with(|| {
                asked.push(one.text);
                asked.len() - 1
            });
        }
        let last = |text: usize| texts.tokens[text].len() - 1;
        let first = |text: usize| match self.settings.position {
            Position::Decision => last(text),
            Position::All => 0,
        };
        let point = self.point();
        let birth =
            Birth::before(point).unwrap_or_else(|| unreachable!("vectors are added at points of layers"));
        let branch =
            |one: &Steered| Branch { sequences: vec![place[&one.text]], from: first(one.text), birth };
        let branches: Vec<Branch> = steered.iter().map(branch).collect();
        let batch = match &texts.kept {
            None => {
                let whole: Vec<(ModelId, &[u32])> =
                    asked.iter().map(|&text| (self.target, &texts.tokens[text][..])).collect();
                Batch::with_branches(model.spec(), &whole, &branches)?
            }
            Some(kept) => {
                let ends: Vec<(usize, &[u32])> =
                    asked.iter().map(|&text| (text, &texts.tokens[text][last(text)..])).collect();
                kept.batch(model, &ends, &branches)?
            }
        };
        let missing = || -> usize { unreachable!("every token of a text has a row") };
        let row = |b: usize, text: usize, position: usize| {
            batch.branch_row(b, place[&text], position).unwrap_or_else(missing)
        };
        let mut edits = Vec::new();
        for (b, one) in steered.iter().enumerate() {
            for position in first(one.text)..=last(one.text) {
                let strength = one.strength as f32;
                let op = EditOp::Add(one.vector.iter().map(|v| strength * v).collect());
                edits.push(Edit { point, row: row(b, one.text, position), units: 0..one.vector.len(), op });
            }
        }
        // Texts can be the same or begin alike: rows are counted once.
        let plain = |text: usize| batch.row_of(place[&text], last(text)).unwrap_or_else(missing);
        let mut wanted: Vec<usize> = place.keys().map(|&text| plain(text)).collect();
        wanted.extend(steered.iter().enumerate().map(|(b, one)| row(b, one.text, last(one.text))));
        wanted.sort_unstable();
        wanted.dedup();
        let at = |row: usize| wanted.binary_search(&row).unwrap_or_else(|_| unreachable!("it was put in"));
        let hooks = Hooks { captures: Vec::new(), edits };
        let normalized = match &texts.kept {
            None => model.run_with_progress(&batch, &hooks, &wanted, &|_, _| {})?.readout,
            Some(kept) => model.run_after(kept, &batch, &hooks, &wanted, &|_, _| {})?.readout,
        };
        let mut reference: Vec<usize> = (0..wanted.len()).collect();
        for (b, one) in steered.iter().enumerate() {
            reference[at(row(b, one.text, last(one.text)))] = at(plain(one.text));
        }
        let tokens = vec![Vec::new(); wanted.len()];
        let next =
            model.next_tokens(&States { model: self.target, normalized, tokens, reference, top: 0 })?;
        let kl = |(b, one): (usize, &Steered)| next[at(row(b, one.text, last(one.text)))].kl;
        Ok(steered.iter().enumerate().map(kl).collect())
    }
}

fn interval(of: Option<Interval>) -> [Cell; 3] {
    [of.map(|i| i.mean).into(), of.map(|i| i.lo).into(), of.map(|i| i.hi).into()]
}
