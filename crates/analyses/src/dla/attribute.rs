//! Contributions of all components for one block of prompts on all models.

use super::Neurons;
use super::tables::{CHECK, CONTRIBUTIONS, Component, Kind};
use crate::error::Result;
use crate::subject::{Prompt, Subject};
use lorascope_engine::{
    Batch, Capture, EmbeddingShares, HookPoint, Hooks, Mat, Module, NormKind, Positions, PulledBack, Site,
    ThroughNorm,
};
use lorascope_record::Table;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A sum is complete within this times max(1, |logit difference|): what f32 activations allow.
const TOLERANCE: f64 = 1e-4;

/// What runs through the base's weights, and what an adapter adds.
#[derive(Clone, Copy, Debug, Default)]
struct Shares {
    base: f64,
    adapter: f64,
}

impl Shares {
    fn total(self) -> f64 {
        self.base + self.adapter
    }
}

/// One model on one prompt.
struct Asked<'p> {
    model: usize,
    name: &'p str,
    prompt: &'p Prompt,
    /// Last token of the input, whose row decides.
    token: u32,
    position: usize,
    token_a: u32,
    token_b: u32,
    /// Its row of the directions.
    direction: usize,
    /// Scale of the final norm.
    scale: f64,
}

/// Contributions and their check, of every model on every prompt of a block.
pub(super) fn block(
    subject: &Subject,
    block: &[usize],
    primary: &[usize],
    neurons: Neurons,
    at: &(dyn Fn(usize) + Sync),
) -> Result<(Table, Table)> {
    let (model, spec) = (&subject.model, subject.model.spec());
    let pair = |i: usize| &subject.prompts[i].answers.pairs[primary[i]];
    let inputs: Vec<Vec<u32>> = block.iter().map(|&i| subject.prompts[i].stem(primary[i])).collect();
    let sequences: Vec<(usize, &[u32])> =
        (0..model.n_models()).flat_map(|m| inputs.iter().map(move |i| (m, i.as_slice()))).collect();
    let batch = Batch::new(spec, &sequences)?;
    let decision_row = |s: usize| batch.row_of(s, sequences[s].1.len() - 1).unwrap_or_default();
    let rows: Vec<usize> = (0..sequences.len()).map(decision_row).collect();
    let points = points(spec.n_layers, spec.post_norms);
    let captures = points.iter().map(|&point| Capture { point, rows: rows.clone() }).collect();
    let hooks = Hooks { captures, edits: Vec::new() };
    let run = model.run_with_progress(&batch, &hooks, &rows, &|done, _| at(done))?;
    let captured: HashMap<HookPoint, &Vec<Vec<f32>>> = points.iter().copied().zip(&run.captures).collect();

    let mut questions: Vec<(usize, u32, u32)> = Vec::new();
    let mut asked: Vec<Asked> = Vec::with_capacity(sequences.len());
    for (s, &(which, tokens)) in sequences.iter().enumerate() {
        let i = block[s % block.len()];
        let (token_a, token_b) = (pair(i).token_a, pair(i).token_b);
        let question = (which, token_a, token_b);
        let direction = questions.iter().position(|q| *q == question).unwrap_or(questions.len());
        if direction == questions.len() {
            questions.push(question);
        }
        asked.push(Asked {
            model: which,
            name: model.name(which),
            prompt: &subject.prompts[i],
            token: tokens.last().copied().unwrap_or_default(),
            position: tokens.len() - 1,
            token_a,
            token_b,
            direction,
            scale: f64::from(captured[&HookPoint::FinalScale][s][0]),
        });
    }
    let read = model.readout_directions(&questions)?;
    let mut found = Found { rows: Table::new(&CONTRIBUTIONS), sums: vec![(0.0, 0); asked.len()] };
    found.outside_layers(subject, &asked, &read)?;
    found.steering(subject, &asked, &sequences, &read)?;
    let models: Vec<usize> = questions.iter().map(|q| q.0).collect();
    for layer in 0..spec.n_layers {
        for module in [Module::O, Module::Down] {
            let (input, post) = match module {
                Module::O => (Site::Z, HookPoint::Layer(layer, Site::Ln1PostScale)),
                _ => (Site::MlpPost, HookPoint::Layer(layer, Site::Ln2PostScale)),
            };
            let directions = if spec.post_norms {
                &model.pull_back_norm(post, &models, &read.directions)?.directions
            } else {
                &read.directions
            };
            let pulled = model.pull_back(layer, module, &models, directions)?;
            let scale = |s: usize| captured.get(&post).map_or(1.0, |c| f64::from(c[s][0])) * asked[s].scale;
            let scales: Vec<f64> = (0..asked.len()).map(scale).collect();
            let x = captured[&HookPoint::Layer(layer, input)];
            let writer = Writer { layer, pulled: &pulled, scales: &scales, x };
            if module == Module::O {
                let biased = model.has_bias(layer, module);
                found.heads(&asked, &writer, spec.d_head, biased)?;
            } else {
                found.mlp(&asked, &writer, neurons, block.len())?;
            }
        }
        at(spec.n_layers + layer + 1);
    }
    let check = found.check(subject, &asked, &run.readout)?;
    Ok((found.rows, check))
}

/// Everything that is captured.
fn points(n_layers: usize, post_norms: bool) -> Vec<HookPoint> {
    let scales = if post_norms { &[Site::Ln1PostScale, Site::Ln2PostScale][..] } else { &[] };
    let sites: Vec<Site> = [Site::Z, Site::MlpPost].into_iter().chain(scales.iter().copied()).collect();
    let layers = (0..n_layers).flat_map(|l| sites.iter().map(move |&s| HookPoint::Layer(l, s)));
    std::iter::once(HookPoint::FinalScale).chain(layers).collect()
}

/// A projection that writes into the residual stream.
struct Writer<'a> {
    layer: usize,
    /// Directions at its input.
    pulled: &'a PulledBack,
    /// For each model and prompt, all that the direction is to be divided by.
    scales: &'a [f64],
    /// For each model and prompt, its input.
    x: &'a [Vec<f32>],
}

impl Writer<'_> {
    /// What a part of the input contributes.
    fn share(&self, s: usize, asked: &Asked, part: std::ops::Range<usize>) -> Shares {
        let x = &self.x[s][part.clone()];
        let through = |pulled: &Mat<f64>| {
            let u = &pulled.row(asked.direction)[part.clone()];
            u.iter().zip(x).map(|(u, &x)| u * f64::from(x)).sum::<f64>() / self.scales[s]
        };
        Shares { base: through(&self.pulled.base), adapter: through(&self.pulled.adapter) }
    }

    /// The `n` inner units with the largest contributions, whatever their sign.
    fn largest(&self, s: usize, asked: &Asked, n: usize) -> Vec<usize> {
        let size: Vec<f64> =
            (0..self.x[s].len()).map(|i| self.share(s, asked, i..i + 1).total().abs()).collect();
        let mut order: Vec<usize> = (0..size.len()).collect();
        order.sort_by(|&i, &j| size[j].total_cmp(&size[i]).then(i.cmp(&j)));
        order.truncate(n);
        order
    }

    fn bias(&self, s: usize, asked: &Asked) -> Shares {
        let share = |of: &[f64]| of[asked.direction] / self.scales[s];
        Shares { base: share(&self.pulled.base_bias), adapter: share(&self.pulled.adapter_bias) }
    }
}

/// Model and tokens of every sequence.
type Inputs<'t> = [(usize, &'t [u32])];

/// What has been found so far.
struct Found {
    rows: Table,
    /// For each model and prompt, the sum and number of what adds up.
    sums: Vec<(f64, usize)>,
}

impl Found {
    fn push(
        &mut self,
        s: usize,
        asked: &Asked,
        component: Component,
        neuron: Option<usize>,
        shares: Shares,
    ) -> Result<()> {
        let share = |v: f64| (component.kind != Kind::Softcap).then_some(v);
        self.rows.push(&[
            asked.name.into(),
            asked.prompt.id().into(),
            asked.prompt.item.scenario.clone().into(),
            component.kind.name().into(),
            component.layer.into(),
            component.head.into(),
            neuron.into(),
            shares.total().into(),
            share(shares.base).into(),
            share(shares.adapter).into(),
        ])?;
        if component.kind.adds_up() {
            self.sums[s].0 += shares.total();
            self.sums[s].1 += 1;
        }
        Ok(())
    }

    /// Embeddings and the bias of the final norm.
    fn outside_layers(&mut self, subject: &Subject, asked: &[Asked], read: &ThroughNorm) -> Result<()> {
        let (model, spec) = (&subject.model, subject.model.spec());
        let mut known: HashMap<(usize, u32), EmbeddingShares> = HashMap::new();
        for (s, one) in asked.iter().enumerate() {
            let u = read.directions.row(one.direction);
            let dot = |x: &[f64]| u.iter().zip(x).map(|(u, x)| u * x).sum::<f64>() / one.scale;
            let through = |e: &EmbeddingShares| Shares { base: dot(&e.base), adapter: dot(&e.adapter) };
            let embedding = match known.entry((one.model, one.token)) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(place) => place.insert(model.embedding_shares(one.model, one.token)?),
            };
            self.push(s, one, Component::whole(Kind::Embed), None, through(embedding))?;
            if spec.positions == Positions::Learned {
                let shares = through(&model.position_shares(one.model, one.position)?);
                self.push(s, one, Component::whole(Kind::PosEmbed), None, shares)?;
            }
            if let NormKind::Layer { .. } = spec.norm {
                let (base, adapter) = (read.base_bias[one.direction], read.adapter_bias[one.direction]);
                self.push(s, one, Component::whole(Kind::FinalBias), None, Shares { base, adapter })?;
            }
        }
        Ok(())
    }

    /// Vectors that standing edits add to the residual stream, layer by layer; every model has a row where any has.
    fn steering(
        &mut self,
        subject: &Subject,
        asked: &[Asked],
        inputs: &Inputs,
        read: &ThroughNorm,
    ) -> Result<()> {
        let standing = subject.model.standing();
        let mut added: Vec<BTreeMap<usize, f64>> = Vec::with_capacity(asked.len());
        for (one, (_, tokens)) in asked.iter().zip(inputs) {
            let u = read.directions.row(one.direction);
            let mut by_layer = BTreeMap::new();
            for (layer, vector) in standing.added_to_stream(one.model, tokens) {
                let through: f64 = u.iter().zip(vector).map(|(u, &v)| u * f64::from(v)).sum();
                *by_layer.entry(layer).or_insert(0.0) += through / one.scale;
            }
            added.push(by_layer);
        }
        let layers: BTreeSet<usize> = added.iter().flat_map(|by_layer| by_layer.keys().copied()).collect();
        for (s, one) in asked.iter().enumerate() {
            for &layer in &layers {
                let base = added[s].get(&layer).copied().unwrap_or(0.0);
                let component = Component { kind: Kind::Steering, layer: Some(layer), head: None };
                self.push(s, one, component, None, Shares { base, adapter: 0.0 })?;
            }
        }
        Ok(())
    }

    fn heads(&mut self, asked: &[Asked], writer: &Writer, d_head: usize, biased: bool) -> Result<()> {
        let layer = Some(writer.layer);
        for (s, one) in asked.iter().enumerate() {
            for head in 0..writer.x[s].len() / d_head {
                let shares = writer.share(s, one, head * d_head..(head + 1) * d_head);
                self.push(s, one, Component { kind: Kind::Head, layer, head: Some(head) }, None, shares)?;
            }
            if biased {
                let component = Component { kind: Kind::AttnBias, layer, head: None };
                self.push(s, one, component, None, writer.bias(s, one))?;
            }
        }
        Ok(())
    }

    /// The MLP of a layer, its bias included, and its neurons. A prompt's largest neurons are those of any model, so that every
    /// model has the same.
    fn mlp(&mut self, asked: &[Asked], writer: &Writer, neurons: Neurons, n_prompts: usize) -> Result<()> {
        let layer = Some(writer.layer);
        for (s, one) in asked.iter().enumerate() {
            let (sum, bias) = (writer.share(s, one, 0..writer.x[s].len()), writer.bias(s, one));
            let shares = Shares { base: sum.base + bias.base, adapter: sum.adapter + bias.adapter };
            self.push(s, one, Component { kind: Kind::Mlp, layer, head: None }, None, shares)?;
        }
        if neurons == Neurons::Top(0) {
            return Ok(());
        }
        for prompt in 0..n_prompts {
            let of_prompt = || (prompt..asked.len()).step_by(n_prompts);
            let d_mlp = writer.x[prompt].len();
            let chosen: BTreeSet<usize> = match neurons {
                Neurons::All(_) => (0..d_mlp).collect(),
                Neurons::Top(n) => of_prompt().flat_map(|s| writer.largest(s, &asked[s], n)).collect(),
            };
            for s in of_prompt() {
                for &neuron in &chosen {
                    let shares = writer.share(s, &asked[s], neuron..neuron + 1);
                    let component = Component { kind: Kind::Neuron, layer, head: None };
                    self.push(s, &asked[s], component, Some(neuron), shares)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the rows of the soft cap and holds the sums against the readout.
    fn check(&mut self, subject: &Subject, asked: &[Asked], readout: &Mat<f32>) -> Result<Table> {
        let model = &subject.model;
        let mut table = Table::new(&CHECK);
        for (s, one) in asked.iter().enumerate() {
            let logit = |token: u32| -> Result<f64> {
                let row = model.output_row(one.model, token)?;
                let products = row.iter().zip(readout.row(s)).map(|(&w, &x)| f64::from(w) * f64::from(x));
                Ok(products.sum())
            };
            let (a, b) = (logit(one.token_a)?, logit(one.token_b)?);
            let pre_cap = b - a;
            let delta = match model.spec().final_softcap {
                Some(cap) => cap * (b / cap).tanh() - cap * (a / cap).tanh(),
                None => pre_cap,
            };
            if model.spec().final_softcap.is_some() {
                let shares = Shares { base: delta - pre_cap, adapter: 0.0 };
                self.push(s, one, Component::whole(Kind::Softcap), None, shares)?;
            }
            let (sum, n_components) = self.sums[s];
            let error = sum - pre_cap;
            table.push(&[
                one.name.into(),
                one.prompt.id().into(),
                one.prompt.item.scenario.clone().into(),
                n_components.into(),
                (one.token_a as usize).into(),
                (one.token_b as usize).into(),
                (error.abs() <= TOLERANCE * pre_cap.abs().max(1.0)).into(),
                sum.into(),
                pre_cap.into(),
                error.into(),
                (delta - pre_cap).into(),
                delta.into(),
            ])?;
        }
        Ok(table)
    }
}
