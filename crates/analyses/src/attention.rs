//! What do heads attend to where the decision is made, and what did fine-tuning change about it?
//!
//! Attention from the decision point by named span, as mass and weighted by how long what is read becomes in the residual stream,
//! `Σ_t pattern_t · ‖O_h v_t‖` (Kobayashi et al. 2020), per head and model. Spans are those that the prompts name, by tokens; a
//! difference between two models is paired by prompt, and "no difference" is claimed only where two one-sided tests show it
//! to be within a stated margin. What changed is split exactly: scores into products of queries and keys ([`changes`]), and what a
//! head writes into pattern, values and output projection, each with the part of the adapter's own factor.
//!
//! Of patterns only the rows at the decision point are kept. Keys and values are kept for a few prompts at a time, as many as
//! the memory allows: 16·N·kv bytes for each token of each model, kv being the width of all key heads. Numbers of all prompts stay in
//! memory: 16 bytes for each prompt, head, span and model, and 20 for each of a comparison. What lengths of values need of the
//! weights takes 4·N·heads·d_head² bytes for each model.

mod changes;
mod figures;
mod frozen;
mod kinds;
mod layout;
mod measure;
mod rows;
mod spans;
mod summary;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many};
use crate::statistics::Design;
use crate::subject::Subject;
use layout::Layout;
use lorascope_record::{Table, TableSpec};
use measure::Setup;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spans::Spans;
use summary::Values;
use tables::{CHECK, DIFFERENCES, EACH, HEADS, MEANS, SCORES, WRITES};

pub(crate) struct Attention;

const NAME: &str = "attention";

/// Settings of the attention analysis.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Only these spans; all that prompts name if empty.
    #[serde(deserialize_with = "one_or_many")]
    span: Vec<String>,
    /// Whether adapters are compared with each other too, not only with the base.
    pairs: bool,
    /// Within this share of attention two models count as equivalent.
    margin: f64,
    /// Whether the numbers of single prompts are written.
    each_prompt: bool,
    /// Distinct random tokens of a sequence for head kinds.
    repeat: usize,
    /// Random sequences.
    sequences: usize,
    /// How many heads and spans the report lists for each comparison.
    top: usize,
    /// Prompts of which the report shows the weights of every head on every token.
    shown: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            span: Vec::new(),
            pairs: false,
            margin: 0.02,
            each_prompt: false,
            repeat: 50,
            sequences: 8,
            top: 15,
            shown: 16,
        }
    }
}

const FLAGS: &[Flag] = &[Flag {
    name: "span",
    value: "SPAN",
    help: "Only this named span of the prompts; may be repeated (default: all)",
}];

static TABLES: &[&TableSpec] = &[&EACH, &MEANS, &DIFFERENCES, &SCORES, &WRITES, &HEADS, &CHECK];

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::Settings { analysis: NAME, why })
}

impl Analysis for Attention {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Attention"
    }
    fn question(&self) -> &'static str {
        "What do heads attend to where the decision is made, and what changed about it?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn flags(&self) -> &'static [Flag] {
        FLAGS
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(NAME, given)?;
        if !(settings.margin > 0.0 && settings.margin < 1.0) {
            return refuse(format!("margin is {}; it must be a share between 0 and 1", settings.margin));
        }
        if settings.repeat < 2 || settings.sequences == 0 {
            return refuse("head kinds need repeat from 2 and sequences from 1".to_owned());
        }
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        let settings: Settings = read_settings(NAME, settings)?;
        let known: std::collections::BTreeSet<&String> =
            subject.prompts.iter().flat_map(|p| p.spans.keys()).collect();
        if let Some(name) = settings.span.iter().find(|s| !known.contains(s)) {
            let known: Vec<&str> = known.iter().map(|s| s.as_str()).collect();
            return refuse(format!("no prompt has a span `{name}`; there are: {}", known.join(", ")));
        }
        if let Some(name) = known.iter().find(|s| [spans::OTHER, spans::FIRST].contains(&s.as_str())) {
            return refuse(format!(
                "prompts name a span `{name}`, which stands for the rest here; give it another name"
            ));
        }
        let (tokens, context) = (2 * settings.repeat + 1, subject.model.spec().n_ctx);
        if tokens > context {
            return refuse(format!(
                "repeat is {}, which makes sequences of {tokens} tokens, but the model's context is {context}",
                settings.repeat
            ));
        }
        let vocabulary = kinds::vocabulary(subject).len();
        if settings.repeat > vocabulary {
            let repeat = settings.repeat;
            return refuse(format!(
                "repeat is {repeat}, but there are only {vocabulary} tokens to draw from"
            ));
        }
        Ok(())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let subject = context.subject;
        let spans = Spans::new(subject, &settings.span);
        let layout = Layout::new(subject.model.spec(), subject.model.n_models(), spans.n(), settings.pairs);
        let scores = kind_scores(context, &settings, &layout)?;
        let numbers = measure_all(context, &layout, &spans)?;
        let values = Values { layout: &layout, spans: &spans, numbers };
        context.progress.begin("comparing attention", 3);
        let (means, differences) = summary::summarise(context, &values, settings.margin)?;
        context.progress.at(1);
        let (parts, writes) = summary::parts(context, &values)?;
        context.progress.at(2);
        let heads = head_kinds(context, &settings, &values, &scores)?;
        let check = summary::check(context, &values)?;
        let each = if settings.each_prompt { summary::each(context, &values)? } else { Table::new(&EACH) };
        context.progress.end();
        let found = figures::Found {
            means: &means,
            differences: &differences,
            scores: &parts,
            writes: &writes,
            heads: &heads,
            check: &check,
            score_parts: layout.score_parts,
        };
        let mut section = figures::section(context, &settings, &values, &found)?;
        section.figures.extend(rows::figure(context, &spans, settings.shown)?);
        Ok(Findings { tables: vec![each, means, differences, parts, writes, heads, check], section })
    }
}

/// The numbers of every prompt, in the order of the prompts.
fn measure_all(context: &Context, layout: &Layout, spans: &Spans) -> Result<Vec<Vec<f32>>> {
    let subject = context.subject;
    let primary = subject.primary_pairs()?;
    let blocks = subject.blocks();
    let per_prompt = layout.per_prompt();
    let n_layers = layout.n_layers as u64;
    let mut setup = None;
    context.progress.begin("measuring attention", n_layers * (1 + 2 * subject.prompts.len() as u64));
    let name = |(b, block): (usize, &Vec<usize>)| (format!("attention-{b:05}"), per_prompt * block.len());
    let parts: Vec<(String, usize)> = blocks.iter().enumerate().map(name).collect();
    let measured = context.many_numbers(&parts, |b| {
        // A run that goes on may need none of the weights.
        let setup = match &setup {
            Some(ready) => ready,
            None => {
                let at = |done: usize| context.progress.at(done as u64);
                setup.insert(Setup::new(subject, &primary, layout, spans, &at)?)
            }
        };
        let before: usize = blocks[..b].iter().map(Vec::len).sum();
        let mut done = n_layers * (1 + 2 * before as u64);
        let (mut numbers, mut left) = (Vec::with_capacity(parts[b].1), &blocks[b][..]);
        while !left.is_empty() {
            let room = left.iter().scan(0, |sum: &mut usize, &p| {
                *sum += setup.bytes(p);
                Some(*sum)
            });
            let n = room.take_while(|&bytes| bytes <= context.memory).count().max(1);
            let (now, rest) = left.split_at(n);
            let at = |layers: usize| context.progress.at(done + (layers * n) as u64);
            numbers.extend(measure::chunk(setup, now, &at)?);
            done += 2 * n_layers * n as u64;
            left = rest;
        }
        Ok(numbers)
    })?;
    let mut found = vec![Vec::new(); subject.prompts.len()];
    for (block, numbers) in blocks.iter().zip(measured) {
        for (&prompt, numbers) in block.iter().zip(numbers.chunks_exact(per_prompt)) {
            found[prompt] = numbers.to_vec();
        }
    }
    context.progress.end();
    Ok(found)
}

/// Previous-token and induction scores of each random sequence.
fn kind_scores(context: &Context, settings: &Settings, layout: &Layout) -> Result<Vec<Vec<f32>>> {
    let n = layout.n_models * layout.heads() * kinds::SCORES.len();
    context.progress.begin("scoring kinds of heads", settings.sequences as u64);
    let parts: Vec<(String, usize)> =
        (0..settings.sequences).map(|i| (format!("attention-kinds-{i:05}"), n)).collect();
    let found = context.many_numbers(&parts, |i| {
        let scores = kinds::scores(context.subject, layout, settings.repeat, i, context.seed)?;
        context.progress.at(i as u64 + 1);
        Ok(scores)
    })?;
    context.progress.end();
    Ok(found)
}

fn head_kinds(context: &Context, settings: &Settings, values: &Values, scores: &[Vec<f32>]) -> Result<Table> {
    let (layout, subject) = (values.layout, context.subject);
    let mut table = Table::new(&HEADS);
    let sequences: Vec<String> = (0..settings.sequences).map(|i| format!("{i:09}")).collect();
    let random = Design::new(&sequences.iter().map(String::as_str).collect::<Vec<_>>(), context.seed);
    let clusters: Vec<&str> = subject.prompts.iter().map(|p| p.item.cluster()).collect();
    let prompts = Design::new(&clusters, context.seed);
    let mut push =
        |design: &Design, model: usize, head: (usize, usize), kind: &str, of: &dyn Fn(usize) -> Vec<f64>| {
            let (own, base) = (of(model), of(0));
            let mean = design.mean(&own);
            let changes: Vec<f64> = own.iter().zip(&base).map(|(a, b)| a - b).collect();
            let change = (model > 0).then(|| design.mean(&changes));
            table.push(&[
                subject.model.name(model).into(),
                head.0.into(),
                head.1.into(),
                kind.into(),
                design.n().into(),
                mean.mean.into(),
                mean.lo.into(),
                mean.hi.into(),
                change.map(|c| c.mean).into(),
                change.map(|c| c.lo).into(),
                change.map(|c| c.hi).into(),
            ])
        };
    for model in 0..layout.n_models {
        for head in (0..layout.n_layers).flat_map(|l| (0..layout.n_heads).map(move |h| (l, h))) {
            for (k, kind) in kinds::SCORES.into_iter().enumerate() {
                let at = |m: usize| {
                    (m * layout.heads() + head.0 * layout.n_heads + head.1) * kinds::SCORES.len() + k
                };
                let of = |m: usize| scores.iter().map(|s| f64::from(s[at(m)])).collect();
                push(&random, model, head, kind, &of)?;
            }
            if values.spans.n_named() > 0 {
                let of = |m: usize| (0..values.numbers.len()).map(|p| values.copying(p, m, head)).collect();
                push(&prompts, model, head, "span_copying", &of)?;
            }
        }
    }
    table.sort_by_keys();
    Ok(table)
}
