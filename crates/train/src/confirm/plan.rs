//! What is trained to test a prediction, and when it counts as confirmed: fixed before anything is trained.

use super::prediction::Prediction;
use super::sets::{Sized, random_sets};
use super::tables::PREDICTION;
use super::verdict::MARGIN;
use crate::blocks::{BlockName, BlockPart, Blocks};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::targets::Targets;
use lorascope_engine::{Family, ModelSpec, Module};
use lorascope_record::Table;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Name of the whole training.
pub(super) const FULL: &str = "full";
/// Name of the whole training with another seed.
pub(super) const AGAIN: &str = "full_again";
/// Name of the training of the set alone.
pub(super) const SET: &str = "set";
/// Beginning of the names of random sets.
pub(super) const RANDOM: &str = "random";

/// One training.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// `full`, `full_again`, `set`, `random_1` and so on: the name of its adapter and folder.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// The recipe, with the blocks that it trains.
    pub settings: Settings,
    /// These blocks.
    pub blocks: Blocks,
    /// Numbers that may move.
    pub parameters: usize,
    /// Share of the set's parameters that it trains too.
    pub overlap: f64,
}

impl Arm {
    /// Whether it is a random set.
    pub(super) fn is_random(&self) -> bool {
        self.name.starts_with(RANDOM)
    }

    /// Number of layers in which it trains.
    pub(super) fn n_layers(&self) -> usize {
        self.blocks.0.iter().map(|b| b.layer).collect::<BTreeSet<_>>().len()
    }
}

/// A prediction with the trainings that test it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What surgery predicts.
    pub prediction: Prediction,
    /// Recovery that the set's training has to reach.
    pub needed: f64,
    /// The trainings, the full one first.
    pub arms: Vec<Arm>,
    /// Random sets that were asked for; there may be no more than are there.
    pub n_random: usize,
}

/// Layers and modules that a recipe trains.
type Places = BTreeSet<(usize, Module)>;

/// A block as blocks of which all is trained: itself, or those of its modules that the recipe trains.
fn trained_part(block: BlockName, trained: &Places, spec: &ModelSpec) -> Vec<BlockName> {
    let of_block: Vec<Module> = spec.modules().filter(|&m| block.part.has(m)).collect();
    let here: Vec<Module> =
        of_block.iter().copied().filter(|&m| trained.contains(&(block.layer, m))).collect();
    if here.len() == of_block.len() {
        return vec![block];
    }
    here.into_iter().map(|m| BlockName { part: BlockPart::Module(m), ..block }).collect()
}

impl Plan {
    /// The full training is that of `recipe`, which must train what surgery took apart; the others are the same recipe on other blocks.
    ///
    /// # Errors
    /// A recipe of heads, or one that trains other modules and layers than the adapter has.
    pub fn new(
        prediction: Prediction,
        recipe: &Settings,
        spec: &ModelSpec,
        family: &Family,
        n_random: usize,
        seed: u64,
    ) -> Result<Self> {
        let trained = trained(&prediction, recipe, spec, family)?;
        let count = |settings: &Settings| -> Result<usize> {
            Ok(Targets::resolve(settings, spec, family)?.n_trained(settings.rank))
        };
        let only = |blocks: &[BlockName]| Settings {
            blocks: Blocks(blocks.iter().flat_map(|&b| trained_part(b, &trained, spec)).collect()),
            modules: Vec::new(),
            layers: Vec::new(),
            ..recipe.clone()
        };
        let all = &prediction.all.0;
        let mut sized = Vec::with_capacity(all.len());
        for &name in all {
            sized.push(Sized { name, parameters: count(&only(&[name]))? });
        }
        let index = |b: &BlockName| all.iter().position(|a| a == b).unwrap_or_default();
        let set: Vec<usize> = prediction.set.0.iter().map(index).collect();
        let size = |which: &[usize]| which.iter().map(|&b| sized[b].parameters).sum::<usize>();
        let arm = |name: &str, seed: u64, which: &[usize], settings: Settings| -> Result<Arm> {
            let common: Vec<usize> = which.iter().copied().filter(|b| set.contains(b)).collect();
            Ok(Arm {
                name: name.to_owned(),
                seed,
                parameters: count(&settings)?,
                settings,
                blocks: Blocks(which.iter().map(|&b| all[b]).collect()),
                overlap: size(&common) as f64 / size(&set) as f64,
            })
        };
        let whole: Vec<usize> = (0..all.len()).collect();
        let part = |which: &[usize]| only(&which.iter().map(|&b| all[b]).collect::<Vec<_>>());
        let mut arms = vec![
            arm(FULL, seed, &whole, recipe.clone())?,
            arm(AGAIN, seed.wrapping_add(1), &whole, recipe.clone())?,
            arm(SET, seed, &set, part(&set))?,
        ];
        for (i, random) in random_sets(&sized, &set, n_random, seed).iter().enumerate() {
            arms.push(arm(&format!("{RANDOM}_{}", i + 1), seed, random, part(random))?);
        }
        let needed = prediction.recovery.lo.min(prediction.share);
        Ok(Self { prediction, needed, arms, n_random })
    }

    /// When the prediction counts as confirmed.
    pub fn criterion(&self) -> String {
        format!(
            "confirmed if the set's training recovers {:.4} or more of what the full one does (the lower end of its 95% interval does), \
             and more than every random set by more than the full training with another seed differs from the full one (the lower end \
             of the 95% interval of each difference does); not confirmed if it recovers less (the upper end does) or a random set is \
             as good (the upper end of a difference is below {MARGIN}); else not resolved",
            self.needed
        )
    }

    /// For the run's identity.
    pub fn to_json(&self) -> Value {
        let p = &self.prediction;
        let arm =
            |a: &Arm| json!({"name": a.name, "seed": a.seed, "blocks": a.blocks, "parameters": a.parameters});
        json!({
            "adapter": p.adapter,
            "set": p.set,
            "parameter_share": self.share_of(SET),
            "recovery": {"mean": p.recovery.mean, "lo": p.recovery.lo, "hi": p.recovery.hi, "prompts": p.n_held_out},
            "needed": self.needed,
            "margin": MARGIN,
            "criterion": self.criterion(),
            "trainings": self.arms.iter().map(arm).collect::<Vec<_>>(),
        })
    }

    /// The arm of that name.
    pub(super) fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|a| a.name == name)
    }

    /// Parameters of an arm as a share of the full training's.
    pub(super) fn share_of(&self, name: &str) -> f64 {
        self.arm(name).map_or(0.0, |a| a.parameters as f64) / self.arms[0].parameters as f64
    }

    /// The prediction as a table of one row.
    ///
    /// # Errors
    /// A number that is not finite.
    pub fn table(&self) -> Result<Table> {
        let mut table = Table::new(&PREDICTION);
        let p = &self.prediction;
        let set = self.arm(SET);
        table.push(&[
            p.adapter.as_str().into(),
            p.set.to_string().into(),
            p.set.0.len().into(),
            set.map_or(0, Arm::n_layers).into(),
            set.map_or(0, |a| a.parameters).into(),
            p.n_held_out.into(),
            self.share_of(SET).into(),
            p.recovery.mean.into(),
            p.recovery.lo.into(),
            p.recovery.hi.into(),
            self.needed.into(),
            MARGIN.into(),
            self.criterion().into(),
        ])?;
        Ok(table)
    }
}

/// What the recipe trains, which must be what the adapter's blocks are made of.
fn trained(prediction: &Prediction, recipe: &Settings, spec: &ModelSpec, family: &Family) -> Result<Places> {
    if !recipe.heads.0.is_empty() {
        return Err(Error::Confirm("the recipe trains single heads; blocks are whole modules".to_owned()));
    }
    let targets = Targets::resolve(recipe, spec, family)?;
    let trained: Places =
        targets.targets.iter().flat_map(|t| t.modules.iter().map(|m| (t.layer, m.0))).collect();
    let blocks = &prediction.all.0;
    let say = "say with `modules` and `layers` what the adapter has, so that the full training can be compared with it";
    if let Some(block) = blocks.iter().find(|&&b| trained_part(b, &trained, spec).is_empty()) {
        return Err(Error::Confirm(format!(
            "the adapter that surgery took apart has a block `{block}` that the recipe does not train; {say}"
        )));
    }
    let in_a_block =
        |&&(layer, m): &&(usize, Module)| blocks.iter().any(|b| b.layer == layer && b.part.has(m));
    match trained.iter().find(|place| !in_a_block(place)) {
        Some((layer, module)) => Err(Error::Confirm(format!(
            "the recipe trains `L{layer} {module}`, which the adapter that surgery took apart does not have; {say}"
        ))),
        None => Ok(trained),
    }
}
