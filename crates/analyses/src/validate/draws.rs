//! What was drawn, prompt by prompt.

use super::tables::SAMPLES;
use super::{NAME, Settings};
use crate::answer_tree::log_sum_exp;
use crate::answers::Answers;
use crate::context::Context;
use crate::decide::by_prompt;
use crate::error::{Error, Result};
use crate::sampler::{Asked, Sampled, sample};
use crate::subject::{Prompt, Subject};
use lorascope_record::{Table, sha256_hex};
use lorascope_text::Tokenizer;
use std::collections::BTreeMap;

/// What a drawn answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    A,
    B,
    /// Answer A as text, in tokens that are not scored.
    OtherA,
    OtherB,
    Neither,
}

/// What some tokens after a prompt are; `None` while they may still become something else.
pub(super) fn outcome(
    answers: &Answers,
    decode: &dyn Fn(&[u32]) -> Option<String>,
    said: &[u32],
) -> Option<Outcome> {
    let begins = |spellings: &[Vec<u32>]| spellings.iter().any(|s| said.starts_with(s));
    if begins(&answers.a) {
        return Some(Outcome::A);
    }
    if begins(&answers.b) {
        return Some(Outcome::B);
    }
    if answers.a.iter().chain(&answers.b).any(|s| s.starts_with(said)) {
        return None;
    }
    // A token without text is no part of an answer.
    let Some(text) = decode(said) else { return Some(Outcome::Neither) };
    let text = text.trim_start();
    let (a, b) = (answers.text_a.trim_start(), answers.text_b.trim_start());
    // A character may be spread over tokens; where it could only be a plain one, it is another already.
    let whole = text.trim_end_matches('\u{FFFD}');
    let may_become = |answer: &str| {
        let next = answer.strip_prefix(whole).and_then(|rest| rest.chars().next());
        next.is_some_and(|next| whole.len() == text.len() || !next.is_ascii())
    };
    if may_become(a) || may_become(b) {
        return None;
    }
    match (text.starts_with(a), text.starts_with(b)) {
        (true, true) => Some(if a.len() > b.len() { Outcome::OtherA } else { Outcome::OtherB }),
        (true, false) => Some(Outcome::OtherA),
        (false, true) => Some(Outcome::OtherB),
        (false, false) => Some(Outcome::Neither),
    }
}

fn decoder(tokenizer: &Tokenizer) -> impl Fn(&[u32]) -> Option<String> {
    // Ids outside the vocabulary: rows that pad an output matrix.
    |ids| tokenizer.decode(ids).ok()
}

/// All draws, and the decisions that they are held against.
pub(super) fn samples(context: &Context, settings: &Settings, decisions: &Table) -> Result<Table> {
    let subject = context.subject;
    let blocks = subject.blocks();
    context.progress.begin("drawing answers", subject.prompts.len() as u64);
    let names: Vec<String> = (0..blocks.len()).map(|b| format!("validate-{b:05}")).collect();
    let mut table = context.parts(&names, &SAMPLES, |b| {
        let before: usize = blocks[..b].iter().map(Vec::len).sum();
        let mut part = Table::new(&SAMPLES);
        for some in blocks[b].chunks(at_a_time(context, &blocks[b])) {
            draw(context, settings, decisions, some, &mut part)?;
            context.progress.at((before + part.n_rows() / subject.model.n_models()) as u64);
        }
        Ok(part)
    })?;
    context.progress.end();
    table.sort_by_keys();
    Ok(table)
}

/// Prompts whose keys and values fit the memory, all models together. What is drawn does not depend on it.
fn at_a_time(context: &Context, block: &[usize]) -> usize {
    let (spec, subject) = (context.subject.model.spec(), context.subject);
    let longest = block.iter().map(|&i| subject.prompts[i].tokens.ids.len()).max().unwrap_or(1);
    let bytes = 8 * spec.n_layers * spec.n_kv_heads * spec.d_head * longest * subject.model.n_models();
    (context.memory / bytes.max(1)).max(1)
}

/// A seed of its own for each model and prompt, whatever else is asked.
fn seed(seed: u64, model: &str, prompt: &str) -> u64 {
    let hash = sha256_hex(format!("{NAME} {seed} {model} {prompt}").as_bytes());
    hash.get(..16).and_then(|h| u64::from_str_radix(h, 16).ok()).unwrap_or(seed)
}

fn draw(
    context: &Context,
    settings: &Settings,
    decisions: &Table,
    which: &[usize],
    table: &mut Table,
) -> Result<()> {
    let (subject, model) = (context.subject, &context.subject.model);
    let pairs: Vec<(usize, usize)> =
        (0..model.n_models()).flat_map(|m| which.iter().map(move |&i| (m, i))).collect();
    let asked: Vec<Asked> = pairs
        .iter()
        .map(|&(m, i)| {
            let prompt = &subject.prompts[i];
            Asked {
                model: m,
                prompt: &prompt.tokens.ids,
                seed: seed(context.seed, model.name(m), prompt.id()),
                scored: prompt.answers.a.iter().chain(&prompt.answers.b).map(Vec::as_slice).collect(),
            }
        })
        .collect();
    let decode = decoder(&subject.tokenizer);
    let goes_on =
        |q: usize, said: &[u32]| outcome(&subject.prompts[pairs[q].1].answers, &decode, said).is_none();
    let found = sample(model, &asked, settings.draws, settings.tokens, &goes_on)?;
    let values = Values::new(decisions)?;
    for (&(m, i), sampled) in pairs.iter().zip(&found) {
        push(subject, table, m, &subject.prompts[i], &values, sampled, settings.draws)?;
    }
    Ok(())
}

/// Columns of the decisions that are held against draws.
struct Values<'t> {
    columns: [BTreeMap<(&'t str, &'t str), f64>; 4],
}

impl<'t> Values<'t> {
    fn new(decisions: &'t Table) -> Result<Self> {
        let of = |column| by_prompt(decisions, column);
        Ok(Self { columns: [of("p_b")?, of("legal_mass")?, of("delta")?, of("pair_share")?] })
    }
}

fn push(
    subject: &Subject,
    table: &mut Table,
    model: usize,
    prompt: &Prompt,
    values: &Values,
    sampled: &Sampled,
    draws: usize,
) -> Result<()> {
    let name = subject.model.name(model);
    let decode = decoder(&subject.tokenizer);
    let mut counts = [0usize; 4];
    for (said, n) in &sampled.answers {
        // Draws that came to no end are neither.
        match outcome(&prompt.answers, &decode, said) {
            Some(Outcome::A) => counts[0] += n,
            Some(Outcome::B) => counts[1] += n,
            Some(Outcome::OtherA) => counts[2] += n,
            Some(Outcome::OtherB) => counts[3] += n,
            Some(Outcome::Neither) | None => {}
        }
    }
    let (a, b) = (counts[0], counts[1]);
    let (of_a, of_b) = sampled.log_probs.split_at(prompt.answers.a.len());
    let known = |i: usize| {
        values.columns[i].get(&(name, prompt.id())).copied().ok_or_else(|| Error::Settings {
            analysis: NAME,
            why: format!(
                "there is no decision of `{name}` on prompt `{}` in the run folder; remove it",
                prompt.id()
            ),
        })
    };
    table.push(&[
        name.into(),
        prompt.id().into(),
        prompt.item.scenario.clone().into(),
        draws.into(),
        a.into(),
        b.into(),
        counts[2].into(),
        counts[3].into(),
        (draws - counts.iter().sum::<usize>()).into(),
        known(0)?.into(),
        (a + b > 0).then(|| b as f64 / (a + b) as f64).into(),
        known(1)?.into(),
        known(2)?.into(),
        (log_sum_exp(of_b) - log_sum_exp(of_a)).into(),
        known(3)?.into(),
    ])?;
    Ok(())
}
