//! What is measured at a run: delta of the primary pair.
//!
//! Where the two answers of the pair differ in one token, delta is the difference of two logits at the decision point; the
//! softmax's normaliser cancels. Where they differ in more, the log-probabilities of the further tokens of B, each after
//! those before it, are added, and those of A taken away. Nothing is patched at these tokens themselves: they feel a patch
//! through the keys and values of the prompt.

use crate::error::Result;
use crate::subject::Prompt;
use lorascope_engine::{Batch, Mat, Model, ModelId, NextToken, States};
use std::collections::BTreeMap;

/// The decision between the two answers of one pair, as tokens to be run and read.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// Tokens up to the decision point.
    stem: Vec<u32>,
    /// What differs of answer A, from the first differing token on.
    a: Vec<u32>,
    /// What differs of answer B.
    b: Vec<u32>,
}

/// A token whose log-probability is a part of delta: at which sequence and position of the question it is predicted.
struct Step {
    sequence: usize,
    position: usize,
    token: u32,
    sign: f64,
}

impl Question {
    pub fn new(prompt: &Prompt, pair: usize) -> Self {
        let (answers, stem) = (&prompt.answers, prompt.stem(pair));
        let pair = &answers.pairs[pair];
        let n = pair.shared.len();
        Self { stem, a: answers.a[pair.a][n..].to_vec(), b: answers.b[pair.b][n..].to_vec() }
    }

    /// The sequences that have to be run: one where a single token decides. The last token of an answer is predicted, never
    /// read.
    pub fn sequences(&self) -> Vec<Vec<u32>> {
        let read = |answer: &[u32]| [&self.stem[..], &answer[..answer.len() - 1]].concat();
        let (a, b) = (read(&self.a), read(&self.b));
        if a == b { vec![a] } else { vec![a, b] }
    }

    /// Tokens up to the decision point.
    pub fn stem(&self) -> &[u32] {
        &self.stem
    }

    /// Whether the answers differ in more than one token.
    pub fn has_further_tokens(&self) -> bool {
        self.a.len() + self.b.len() > 2
    }

    /// Position of the decision point.
    pub fn position(&self) -> usize {
        self.stem.len() - 1
    }

    /// The two tokens between which the decision point decides.
    fn pair(&self) -> [u32; 2] {
        [self.a[0], self.b[0]]
    }

    /// The tokens after the first differing one.
    fn steps(&self) -> Vec<Step> {
        let last = self.sequences().len() - 1;
        let of = |answer: &[u32], sequence: usize, sign: f64| -> Vec<Step> {
            let step =
                |(i, &token): (usize, &u32)| Step { sequence, position: self.position() + i, token, sign };
            answer.iter().enumerate().skip(1).map(step).collect()
        };
        [of(&self.a, 0, -1.0), of(&self.b, last, 1.0)].into_iter().flatten().collect()
    }
}

/// One run of a question: how its positions are found in the batch.
pub(super) struct Asked<'a> {
    pub model: ModelId,
    pub question: &'a Question,
    /// Index of the question's first sequence in the batch.
    pub first_sequence: usize,
    /// The branch that is measured; `None` for the unpatched run.
    pub branch: Option<usize>,
}

impl Asked<'_> {
    fn row(&self, batch: &Batch, sequence: usize, position: usize) -> usize {
        let sequence = self.first_sequence + sequence;
        let row = match self.branch {
            None => batch.row_of(sequence, position),
            // What comes before a branch is its sequence's own.
            Some(b) => batch.branch_row(b, sequence, position).or_else(|| batch.row_of(sequence, position)),
        };
        row.unwrap_or_else(|| unreachable!("every token of a question has a row"))
    }

    /// delta as a sum of log-probabilities: the row that predicts a token, the token, and its weight.
    pub fn terms(&self, batch: &Batch) -> Vec<(usize, u32, f64)> {
        let decision = self.row(batch, 0, self.question.position());
        let [a, b] = self.question.pair();
        let further = self.question.steps();
        let further = further.iter().map(|s| (self.row(batch, s.sequence, s.position), s.token, s.sign));
        [(decision, a, -1.0), (decision, b, 1.0)].into_iter().chain(further).collect()
    }

    /// Rows whose final states are needed.
    pub fn rows(&self, batch: &Batch) -> Vec<usize> {
        let steps = self.question.steps();
        let further = steps.iter().map(|s| self.row(batch, s.sequence, s.position));
        std::iter::once(self.row(batch, 0, self.question.position())).chain(further).collect()
    }
}

/// delta of every run; `states[place[row]]` is the final normalised state of a row.
pub(super) fn deltas(
    model: &Model<f32>,
    batch: &Batch,
    asked: &[Asked],
    states: &Mat<f32>,
    place: &BTreeMap<usize, usize>,
) -> Result<Vec<f64>> {
    let mut deltas = vec![0.0; asked.len()];
    // The first differing token: two rows of the output matrix.
    let mut groups: BTreeMap<(ModelId, [u32; 2]), Vec<usize>> = BTreeMap::new();
    for (i, run) in asked.iter().enumerate() {
        groups.entry((run.model, run.question.pair())).or_default().push(i);
    }
    for ((which, pair), runs) in groups {
        let rows: Vec<usize> =
            runs.iter().map(|&i| place[&asked[i].row(batch, 0, asked[i].question.position())]).collect();
        let logits = model.logits_of(which, &states.gather(&rows), &pair)?;
        for (n, i) in runs.into_iter().enumerate() {
            deltas[i] = f64::from(logits.row(n)[1]) - f64::from(logits.row(n)[0]);
        }
    }
    // Further tokens: log-probabilities over the whole vocabulary.
    let mut further: BTreeMap<ModelId, Vec<(usize, Step, usize)>> = BTreeMap::new();
    for (i, run) in asked.iter().enumerate() {
        for step in run.question.steps() {
            let row = place[&run.row(batch, step.sequence, step.position)];
            further.entry(run.model).or_default().push((i, step, row));
        }
    }
    for (which, steps) in further {
        let rows: Vec<usize> = steps.iter().map(|(_, _, row)| *row).collect();
        let read = States {
            model: which,
            normalized: states.gather(&rows),
            tokens: steps.iter().map(|(_, step, _)| vec![step.token]).collect(),
            reference: Vec::new(),
            top: 0,
        };
        for ((i, step, _), next) in steps.iter().zip(model.next_tokens(&read)?) {
            deltas[*i] += step.sign * next.log_prob(0);
        }
    }
    Ok(deltas)
}

/// The probability of both answers of every run, given the tokens that they begin with alike; arguments as for [`deltas`].
pub(super) fn masses(
    model: &Model<f32>,
    batch: &Batch,
    asked: &[Asked],
    states: &Mat<f32>,
    place: &BTreeMap<usize, usize>,
) -> Result<Vec<f64>> {
    // For each run and answer, the log-probabilities that add up to the answer's.
    let mut steps: BTreeMap<ModelId, Vec<(usize, usize, usize, u32)>> = BTreeMap::new();
    for (i, run) in asked.iter().enumerate() {
        let of_model = steps.entry(run.model).or_default();
        let decision = place[&run.row(batch, 0, run.question.position())];
        of_model.extend(run.question.pair().into_iter().enumerate().map(|(side, t)| (i, side, decision, t)));
        of_model.extend(run.question.steps().into_iter().map(|step| {
            let row = place[&run.row(batch, step.sequence, step.position)];
            (i, usize::from(step.sign > 0.0), row, step.token)
        }));
    }
    let mut logp = vec![[0.0; 2]; asked.len()];
    for (which, steps) in steps {
        // Each state meets the output matrix once.
        let mut tokens: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        steps.iter().for_each(|&(_, _, row, token)| tokens.entry(row).or_default().push(token));
        let rows: Vec<usize> = tokens.keys().copied().collect();
        let read = States {
            model: which,
            normalized: states.gather(&rows),
            tokens: tokens.values().cloned().collect(),
            reference: Vec::new(),
            top: 0,
        };
        let next: BTreeMap<usize, NextToken> = rows.iter().copied().zip(model.next_tokens(&read)?).collect();
        for (i, side, row, token) in steps {
            let n = tokens[&row].iter().position(|&t| t == token);
            let n = n.unwrap_or_else(|| unreachable!("it was put in above"));
            logp[i][side] += next[&row].log_prob(n);
        }
    }
    Ok(logp.into_iter().map(|[a, b]| a.exp() + b.exp()).collect())
}
