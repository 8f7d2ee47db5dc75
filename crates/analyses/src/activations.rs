//! Activations of all models on all prompts at chosen sites, layers and positions, for analyses that look at many prompts of one
//! place at once.
//!
//! Everything goes through the models in one pass for each block of prompts. What is read goes to the run folder as parts, one
//! for each block and layer, and comes back one layer at a time: 4 bytes for each model, prompt, position, site and
//! coordinate on disk, and no more than a layer of it in memory.

use crate::context::Context;
use crate::decide::column;
use crate::error::{Error, Result};
use crate::score::Scoring;
use crate::subject::{Prompt, Subject};
use crate::units::WorkUnit;
use lorascope_engine::{Capture, HookPoint, Hooks, Mat, ModelId, Site};
use lorascope_record::ColumnKind::{Int, Text};
use lorascope_record::{ColumnSpec, sha256_hex};

/// Sites that hold one vector of the residual stream's width for each token.
const SITES: [Site; 5] = [Site::ResidPre, Site::ResidMid, Site::ResidPost, Site::AttnOut, Site::MlpOut];

/// Name of the position that every prompt has.
const DECISION: &str = "decision";

/// The site, in tables of places.
pub(crate) const SITE: ColumnSpec = column("site", Text, "", "Where: `resid_post` and so on.");
/// The layer.
pub(crate) const LAYER: ColumnSpec = column("layer", Int, "", "Layer, from 0.");
/// The position.
pub(crate) const POSITION: ColumnSpec = column(
    "position",
    Text,
    "",
    "`decision`, the name of a span (its last token), or a share of the way to the decision point.",
);
/// Clusters behind a number.
pub(crate) const N_CLUSTERS: ColumnSpec = column("n_clusters", Int, "", "Templates that they come from.");

/// What is read: sites, layers and positions by name.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The analysis, for messages.
    pub analysis: &'static str,
    /// Sites, at least one.
    pub sites: Vec<Site>,
    /// Layers, ascending.
    pub layers: Vec<usize>,
    /// Names of positions, at least one.
    pub positions: Vec<String>,
}

/// One place of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub site: Site,
    pub layer: usize,
    pub position: String,
}

impl Reading {
    /// From the names in settings; no layer stands for all.
    pub fn new(
        analysis: &'static str,
        subject: &Subject,
        sites: &[String],
        layers: &[usize],
        positions: &[String],
    ) -> Result<Self> {
        let refuse = |why: String| Err(Error::Settings { analysis, why });
        let n_layers = subject.model.spec().n_layers;
        if let Some(layer) = layers.iter().find(|&&l| l >= n_layers) {
            return refuse(format!("layer {layer} does not exist; layers are 0 to {}", n_layers - 1));
        }
        let mut layers = if layers.is_empty() { (0..n_layers).collect() } else { layers.to_vec() };
        layers.sort_unstable();
        layers.dedup();
        let mut found = Vec::new();
        for name in sites {
            let site = SITES.into_iter().find(|site| site.short_name() == *name);
            let Some(site) = site else {
                let known: Vec<String> = SITES.iter().map(|s| s.short_name()).collect();
                return refuse(format!("`{name}` is not a site; sites are {}", known.join(", ")));
            };
            if !found.contains(&site) {
                found.push(site);
            }
        }
        let mut distinct: Vec<String> = Vec::new();
        for name in positions {
            if !distinct.contains(name) {
                distinct.push(name.clone());
            }
        }
        if found.is_empty() || distinct.is_empty() {
            return refuse("site and position must name one each at least".to_owned());
        }
        let reading = Self { analysis, sites: found, layers, positions: distinct };
        for prompt in &subject.prompts {
            for name in &reading.positions {
                reading.position(name, prompt, prompt.tokens.ids.len() - 1)?;
            }
        }
        Ok(reading)
    }

    /// The token of a prompt that a name stands for: `decision`, `N%` of the way to the decision point, or a span, which is
    /// read at its last token.
    fn position(&self, name: &str, prompt: &Prompt, decision: usize) -> Result<usize> {
        let refuse = |why: String| Err(Error::Settings { analysis: self.analysis, why });
        if name == DECISION {
            return Ok(decision);
        }
        if let Some(share) = name.strip_suffix('%') {
            return match share.parse::<f64>() {
                Ok(share) if (0.0..=100.0).contains(&share) => {
                    Ok((decision as f64 * share / 100.0).round() as usize)
                }
                _ => refuse(format!("position `{name}` is not a share; it must be 0% to 100%")),
            };
        }
        let last = prompt.spans.get(name).into_iter().flatten().map(|range| range.end).max();
        match last {
            Some(end) if end > 0 && end - 1 <= decision => Ok(end - 1),
            Some(_) => refuse(format!(
                "span `{name}` of prompt `{}` has no token up to the decision point",
                prompt.id()
            )),
            None => {
                let known: Vec<&str> = prompt.spans.keys().map(String::as_str).collect();
                refuse(format!(
                    "position `{name}` is not there in prompt `{}`; it must be decision, a share such as 50%, or a span that every \
                     prompt has (this one has: {})",
                    prompt.id(),
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                ))
            }
        }
    }

    /// All places of a layer, in the order of [`Activations::layer`].
    pub fn places(&self, layer: usize) -> Vec<Place> {
        let place = |site, position: &String| Place { site, layer, position: position.clone() };
        self.sites.iter().flat_map(|&s| self.positions.iter().map(move |p| place(s, p))).collect()
    }
}

/// Activations in the run folder.
#[derive(Debug)]
pub(crate) struct Activations<'a> {
    reading: &'a Reading,
    /// Names the sites and positions: analyses that read the same have it from one pass.
    key: String,
    blocks: Vec<Vec<usize>>,
}

impl<'a> Activations<'a> {
    /// Sweeps all models over all prompts, block by block; blocks that are in the run folder are left alone.
    pub fn gather(context: &Context, reading: &'a Reading) -> Result<Self> {
        let subject = context.subject;
        let primary = subject.primary_pairs()?;
        let n_layers = subject.model.spec().n_layers;
        let sites: Vec<String> = reading.sites.iter().map(|site| site.short_name()).collect();
        let key = sha256_hex(serde_json::json!([sites, reading.positions]).to_string().as_bytes());
        let all = Self { reading, key: key[..12].to_owned(), blocks: subject.blocks() };
        context.progress.begin("reading activations", (n_layers * all.blocks.len()) as u64);
        let units: Vec<WorkUnit> = (0..all.blocks.len()).map(|b| all.part_names(b)).collect();
        context.units(&units, &mut |own, b| {
            let at = |done: usize| own.progress.at((b * n_layers + done) as u64);
            for (name, bytes) in units[b].iter().zip(all.sweep(subject, b, &primary, &at)?) {
                own.run.save_part(name, &bytes)?;
            }
            Ok(())
        })?;
        context.progress.end();
        Ok(all)
    }

    fn part_name(&self, block: usize, layer: usize) -> String {
        format!("activations-{}-{block:05}-{layer:05}", self.key)
    }

    fn scale_name(&self, block: usize) -> String {
        format!("activations-{}-{block:05}-scales", self.key)
    }

    fn decisions_name(&self, block: usize) -> String {
        format!("activations-{}-{block:05}-decisions", self.key)
    }

    /// All parts of a block, in the order of [`Activations::sweep`].
    fn part_names(&self, block: usize) -> Vec<String> {
        let layers = self.reading.layers.iter().map(|&layer| self.part_name(block, layer));
        layers.chain([self.scale_name(block), self.decisions_name(block)]).collect()
    }

    /// For each layer that is read, the bytes of all its places, each model by model and prompt by prompt of the block; after
    /// them, the scales of the final norm at each position, and the decisions.
    fn sweep(
        &self,
        subject: &Subject,
        block: usize,
        primary: &[usize],
        at: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Vec<u8>>> {
        let (model, reading, block) = (&subject.model, self.reading, &self.blocks[block]);
        let models: Vec<ModelId> = (0..model.n_models()).collect();
        let prompts: Vec<&Prompt> = block.iter().map(|&i| &subject.prompts[i]).collect();
        let scoring = Scoring::new(model, &models, &prompts)?;
        let mut rows = vec![Vec::with_capacity(models.len() * block.len()); reading.positions.len()];
        for asked in 0..models.len() * block.len() {
            let (prompt, pair) = (prompts[asked % block.len()], primary[block[asked % block.len()]]);
            let decision = prompt.decision_position(pair);
            let pair = &prompt.answers.pairs[pair];
            for (name, rows) in reading.positions.iter().zip(&mut rows) {
                let position = reading.position(name, prompt, decision)?;
                let row = scoring.tree.batch().row_of(scoring.sequence(asked, pair.a), position);
                rows.push(row.unwrap_or_else(|| unreachable!("a variant holds what its pairs share")));
            }
        }
        let points = reading
            .layers
            .iter()
            .flat_map(|&layer| reading.sites.iter().map(move |&site| HookPoint::Layer(layer, site)));
        let points = points.chain([HookPoint::FinalScale]);
        let capture = |point| rows.iter().map(move |rows| Capture { point, rows: rows.clone() });
        let hooks = Hooks { captures: points.flat_map(capture).collect(), edits: Vec::new() };
        let (batch, scored) = (scoring.tree.batch(), scoring.tree.rows());
        let run = model.run_with_progress(batch, &hooks, scored, &|done, _| at(done))?;
        let per_layer = reading.sites.len() * reading.positions.len();
        let bytes = |values: &[Vec<Vec<f32>>]| -> Vec<u8> {
            values.iter().flatten().flatten().flat_map(|v| v.to_le_bytes()).collect()
        };
        let (of_layers, scales) = run.captures.split_at(per_layer * reading.layers.len());
        let mut parts: Vec<Vec<u8>> = of_layers.chunks(per_layer).map(bytes).collect();
        parts.push(bytes(scales));
        let decisions = scoring.decisions(model, &run.readout)?;
        parts.push(decisions.iter().flat_map(|d| d.delta().to_le_bytes()).collect());
        Ok(parts)
    }

    /// For each place of a layer ([`Reading::places`]), the activations of all models on all prompts: row `model · prompts +
    /// prompt`.
    pub fn layer(&self, context: &Context, layer: usize) -> Result<Vec<Mat<f32>>> {
        let subject = context.subject;
        let (n, d) = (subject.prompts.len(), subject.model.spec().d_model);
        let n_places = self.reading.sites.len() * self.reading.positions.len();
        let n_models = subject.model.n_models();
        let mut places: Vec<Mat<f32>> = (0..n_places).map(|_| Mat::zeros(n_models * n, d)).collect();
        for (b, block) in self.blocks.iter().enumerate() {
            let part =
                self.part(context, &self.part_name(b, layer), n_places * n_models * block.len() * d)?;
            let numbers = part.as_chunks::<4>().0;
            let mut rows = numbers.chunks_exact(d);
            for place in &mut places {
                for m in 0..n_models {
                    for (&p, row) in block.iter().zip(&mut rows) {
                        let out = place.row_mut(m * n + p);
                        out.iter_mut().zip(row).for_each(|(o, v)| *o = f32::from_le_bytes(*v));
                    }
                }
            }
        }
        Ok(places)
    }

    /// The scales of the final norm at each position, of all models on all prompts: `model · prompts + prompt`.
    pub fn final_scales(&self, context: &Context) -> Result<Vec<Vec<f64>>> {
        let subject = context.subject;
        let (n, n_models) = (subject.prompts.len(), subject.model.n_models());
        let mut scales = vec![vec![0.0; n_models * n]; self.reading.positions.len()];
        for (b, block) in self.blocks.iter().enumerate() {
            let part = self.part(context, &self.scale_name(b), scales.len() * n_models * block.len())?;
            let mut numbers = part.as_chunks::<4>().0.iter().map(|v| f64::from(f32::from_le_bytes(*v)));
            for position in &mut scales {
                for m in 0..n_models {
                    block.iter().zip(&mut numbers).for_each(|(&p, scale)| position[m * n + p] = scale);
                }
            }
        }
        Ok(scales)
    }

    /// delta of every model on every prompt: `[model][prompt]`.
    pub fn deltas(&self, context: &Context) -> Result<Vec<Vec<f64>>> {
        let subject = context.subject;
        let mut deltas = vec![vec![0.0; subject.prompts.len()]; subject.model.n_models()];
        for (b, block) in self.blocks.iter().enumerate() {
            // Two words of four bytes each.
            let part = self.part(context, &self.decisions_name(b), 2 * deltas.len() * block.len())?;
            let mut numbers = part.as_chunks::<8>().0.iter().map(|v| f64::from_le_bytes(*v));
            for of_model in &mut deltas {
                block.iter().zip(&mut numbers).for_each(|(&p, delta)| of_model[p] = delta);
            }
        }
        Ok(deltas)
    }

    /// A part that was kept, of so many words of four bytes.
    fn part(&self, context: &Context, name: &str, words: usize) -> Result<Vec<u8>> {
        let part = context.bytes(name)?;
        if part.len() != 4 * words {
            return Err(Error::PartGone { name: name.to_owned() });
        }
        Ok(part)
    }
}
