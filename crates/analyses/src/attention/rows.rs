//! The weights themselves, for a reader to look through: of some prompts, what every head of every model reads at the decision
//! point, token by token.

use super::spans::Spans;
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::sample;
use crate::subject::Subject;
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Site};
use lorascope_report::{AttentionPrompt, AttentionRows, Figure, FigureKind, pack_weights};

/// Weights that a report carries at most, a byte each before they are packed.
const MOST_WEIGHTS: usize = 6 << 20;

/// The figure, with at most `n` prompts; `None` for none.
pub(super) fn figure(context: &Context, spans: &Spans, n: usize) -> Result<Option<Figure>> {
    let subject = context.subject;
    let primary = subject.primary_pairs()?;
    let tokens = |p: usize| subject.prompts[p].stem(primary[p]);
    let spec = subject.model.spec();
    let per_token = subject.model.n_models() * spec.n_layers * spec.n_heads;
    let mut sum = 0;
    let chosen: Vec<usize> = sample(&subject.prompts, n)
        .into_iter()
        .take_while(|&p| {
            sum += tokens(p).len() * per_token;
            sum <= MOST_WEIGHTS
        })
        .collect();
    if chosen.is_empty() {
        return Ok(None);
    }
    let inputs: Vec<Vec<u32>> = chosen.iter().map(|&p| tokens(p)).collect();
    let n_weights = inputs.iter().map(|ids| ids.len() * per_token).sum();
    let weights = context.numbers("attention-rows", n_weights, || rows(subject, &inputs))?;
    let prompt = |(&p, ids): (&usize, &Vec<u32>)| AttentionPrompt {
        id: subject.prompts[p].id().to_owned(),
        tokens: ids.iter().map(|&id| subject.tokenizer.token_text(id)).collect(),
        spans: spans.names.clone(),
        span_of: (0..ids.len()).map(|t| spans.at(p, t)).collect(),
    };
    let shown = if chosen.len() == subject.prompts.len() {
        format!("all {} prompts", chosen.len())
    } else {
        format!("{} of {} prompts, evenly from the scenarios", chosen.len(), subject.prompts.len())
    };
    Ok(Some(Figure {
        name: "attention_rows".to_owned(),
        title: "What each head reads at the decision point".to_owned(),
        caption: format!(
            "Attention weights of the row that decides, on each token before it, for {shown}; the still drawing shows the mean over \
             all heads of one prompt. Weights w are stored as one byte each, with an error of at most √w/255 + 0.000004."
        ),
        by_prompt: None,
        kind: FigureKind::Attention(AttentionRows {
            models: subject.model.names().into_iter().map(str::to_owned).collect(),
            n_layers: spec.n_layers,
            n_heads: spec.n_heads,
            prompts: chosen.iter().zip(&inputs).map(prompt).collect(),
            weights: pack_weights(weights.into_iter()),
        }),
    }))
}

/// Weights in the order prompt, model, layer, head, token.
fn rows(subject: &Subject, inputs: &[Vec<u32>]) -> Result<Vec<f32>> {
    let (model, spec) = (&subject.model, subject.model.spec());
    let sequences: Vec<(usize, &[u32])> =
        (0..model.n_models()).flat_map(|m| inputs.iter().map(move |ids| (m, ids.as_slice()))).collect();
    let batch = Batch::new(spec, &sequences)?;
    let decides = |s: usize| batch.row_of(s, sequences[s].1.len() - 1).unwrap_or_default();
    // Two prompts of the same tokens share their rows.
    let mut decisions: Vec<usize> = (0..sequences.len()).map(decides).collect();
    decisions.sort_unstable();
    decisions.dedup();
    let capture =
        |layer: usize| Capture { point: HookPoint::Layer(layer, Site::Pattern), rows: decisions.clone() };
    let hooks = Hooks { captures: (0..spec.n_layers).map(capture).collect(), edits: Vec::new() };
    let run = model.run_with_progress(&batch, &hooks, &[], &|_, _| {})?;
    let mut weights = Vec::new();
    for i in 0..inputs.len() {
        for which in 0..model.n_models() {
            let row = decides(which * inputs.len() + i);
            let place = decisions.binary_search(&row).unwrap_or_default();
            // A row's pattern is `[head][token]`.
            run.captures.iter().for_each(|of_layer| weights.extend_from_slice(&of_layer[place]));
        }
    }
    Ok(weights)
}
