//! One adapter taken apart: its single blocks, curves, sets and doses, as rows of the tables.

use super::Tables;
use super::blocks::Block;
use super::gradient;
use super::masks::{Bench, Mask};
use super::search::{Grown, Search, by_size, include, random_orders, sizes};
use super::settings::Settings;
use crate::bootstrap::Interval;
use crate::circuit::prompts::Split;
use crate::context::Context;
use crate::error::Result;
use crate::mixtures::{Answer, Recovery, Whole, interval, place, write};
use crate::statistics::benjamini_hochberg;
use lorascope_record::Cell;
use std::collections::BTreeMap;

/// What is taken apart.
pub(super) struct Apart<'a> {
    pub context: &'a Context<'a>,
    pub settings: &'a Settings,
    pub model: usize,
    pub blocks: &'a [Block],
}

/// An adapter that was taken apart, for words and figures.
pub(super) struct Patient {
    pub model: usize,
    pub blocks: Vec<Block>,
    /// Mean size of what it does to delta, with its interval.
    pub size: Interval,
    /// Prompts that it moves by the floor or more, and all.
    pub moved: (usize, usize),
}

/// Recoveries of random sets by their number of blocks, and the mean answers over these sets.
type Random = BTreeMap<usize, (Vec<f64>, Vec<Answer>)>;

impl Apart<'_> {
    /// Fills the tables.
    pub fn take_apart(&self, split: &Split, tables: &mut Tables) -> Result<Patient> {
        let n = self.blocks.len();
        let mut bench = Bench::new(self.context, self.model, self.blocks, split.grow.clone(), "chosen");
        let (none, all) = (Mask::uniform(n, 0.0), Mask::uniform(n, 1.0));
        let singles = (0..n).flat_map(|b| [Mask::without(n, b), Mask::only(n, &[b])]);
        let first: Vec<Mask> = [none.clone(), all.clone()].into_iter().chain(singles).collect();
        bench.measure("switching single blocks", &first)?;
        let (base, full) = (bench.of(&none)?, bench.of(&all)?);
        let whole = Whole::new(self.context, &bench.prompts, base, full, self.settings.floor);
        let orders = random_orders(n, self.settings.orders, self.context.seed);
        let mut random_sizes = match self.settings.shapley {
            true => (1..=n).collect(),
            false => sizes(n, self.settings.points),
        };
        let gradients = gradient::shares(self.context, self.model, self.blocks, &bench.prompts, &whole)?;
        let (mut alone, mut missed) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for b in 0..n {
            alone.push(whole.point(&bench.of(&Mask::only(n, &[b]))?));
            missed.push(1.0 - whole.point(&bench.of(&Mask::without(n, b))?));
        }
        let norms: Vec<f64> = self.blocks.iter().map(|b| b.norm).collect();
        let by_gradient: Vec<f64> = gradients.iter().map(|g| g.unwrap_or(0.0)).collect();
        let plain =
            [("alone", by_size(&alone)), ("gradient", by_size(&by_gradient)), ("norm", by_size(&norms))];
        let moved = whole.n_moved();
        let (mut grown, mut smallest) = (Grown::default(), Vec::new());
        if moved > 0 {
            let mut points = |what: &str, sets: &[Vec<usize>]| {
                let masks: Vec<Mask> = sets.iter().map(|set| Mask::only(n, set)).collect();
                bench.measure(what, &masks)?;
                masks.iter().map(|mask| Ok(whole.point(&bench.of(mask)?))).collect()
            };
            let mut search = Search { points: &mut points, n, share: self.settings.share };
            grown = search.greedy(&alone, self.settings.candidates)?;
            let mut shortest = grown.order.clone();
            for (_, order) in &plain {
                shortest = search.shorter(order, shortest.len())?.unwrap_or(shortest);
            }
            smallest = search.prune(&shortest, &missed)?;
            include(&mut random_sizes, smallest.len());
        }
        let random = match moved {
            0 => Random::new(),
            _ => self.random(&mut bench, &whole, &orders, &random_sizes, smallest.len())?,
        };
        let shapley = match self.settings.shapley && moved > 0 {
            true => Some(self.shapley(&mut bench, &whole, &orders)?),
            false => None,
        };
        self.push_blocks(&mut bench, &whole, &gradients, shapley.as_deref(), tables)?;
        if moved > 0 {
            self.push_curve(&mut bench, &whole, "greedy", &grown.order, &grown.sizes, &random, tables)?;
            for (name, order) in &plain {
                self.push_curve(&mut bench, &whole, name, order, &random_sizes, &random, tables)?;
            }
            self.push_random(&whole, &random, tables)?;
            let sets = [("greedy", &grown.order), ("smallest", &smallest)];
            self.push_sets(&mut bench, &whole, split, sets, &random, tables)?;
        }
        self.push_doses(&mut bench, &whole, tables)?;
        tables.runs.append(bench.into_runs())?;
        let prompts = split.grow.len();
        Ok(Patient {
            model: self.model,
            blocks: self.blocks.to_vec(),
            size: whole.size(),
            moved: (moved, prompts),
        })
    }

    fn name(&self) -> Cell {
        self.context.subject.model.name(self.model).into()
    }

    fn parameters(&self, set: &[usize]) -> usize {
        set.iter().map(|&b| self.blocks[b].parameters).sum()
    }

    fn parameter_share(&self, set: &[usize]) -> f64 {
        let all: usize = self.blocks.iter().map(|b| b.parameters).sum();
        self.parameters(set) as f64 / all as f64
    }

    /// Random sets of some sizes; most of the size that is `tested`.
    fn random(
        &self,
        bench: &mut Bench,
        whole: &Whole,
        orders: &[Vec<usize>],
        sizes: &[usize],
        tested: usize,
    ) -> Result<Random> {
        let n = self.blocks.len();
        // A p-value needs many sets of one size, a curve needs few sets of each.
        let few = if self.settings.shapley { orders.len() } else { orders.len().div_ceil(2) };
        let of_size = |&k: &usize| -> Vec<Mask> {
            let n_orders = if k == tested { orders.len() } else { few };
            orders[..n_orders].iter().map(|o| Mask::only(n, &o[..k])).collect()
        };
        let masks: Vec<Vec<Mask>> = sizes.iter().map(of_size).collect();
        bench.measure("random orders", &masks.concat())?;
        let mut random = Random::new();
        for (&k, masks) in sizes.iter().zip(masks) {
            let mut recoveries = Vec::with_capacity(masks.len());
            let mut sum = vec![Answer { delta: 0.0, p_b: 0.0 }; whole.base.len()];
            for mask in &masks {
                let answers = bench.of(mask)?;
                recoveries.push(whole.point(&answers));
                for (sum, answer) in sum.iter_mut().zip(answers) {
                    sum.delta += answer.delta / masks.len() as f64;
                    sum.p_b += answer.p_b / masks.len() as f64;
                }
            }
            random.insert(k, (recoveries, sum));
        }
        Ok(random)
    }

    /// What each block adds to those before it, by order: `[block][order]`.
    fn shapley(&self, bench: &mut Bench, whole: &Whole, orders: &[Vec<usize>]) -> Result<Vec<Vec<f64>>> {
        let n = self.blocks.len();
        let mut added = vec![Vec::with_capacity(orders.len()); n];
        for order in orders {
            let mut before = whole.point(&whole.base);
            for k in 1..=n {
                let now = whole.point(&bench.of(&Mask::only(n, &order[..k]))?);
                added[order[k - 1]].push(now - before);
                before = now;
            }
        }
        Ok(added)
    }

    fn push_blocks(
        &self,
        bench: &mut Bench,
        whole: &Whole,
        gradients: &[Option<f64>],
        shapley: Option<&[Vec<f64>]>,
        tables: &mut Tables,
    ) -> Result<()> {
        let n = self.blocks.len();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let change = |from: &[Answer], to: &[Answer]| {
            mean(from.iter().zip(to).map(|(f, t)| t.delta - f.delta).collect())
        };
        let mut rows = Vec::with_capacity(n);
        for b in 0..n {
            let (without, only) = (bench.of(&Mask::without(n, b))?, bench.of(&Mask::only(n, &[b]))?);
            let left_out = (
                whole.share(&without, &whole.all),
                whole.design.compare(&whole.aligned(&without, &whole.all)).p,
            );
            let alone =
                (whole.share(&whole.base, &only), whole.design.compare(&whole.aligned(&whole.base, &only)).p);
            rows.push((left_out, change(&whole.all, &without), alone, change(&whole.base, &only)));
        }
        let left_out_q = benjamini_hochberg(&rows.iter().map(|r| r.0.1).collect::<Vec<_>>());
        let alone_q = benjamini_hochberg(&rows.iter().map(|r| r.2.1).collect::<Vec<_>>());
        for (b, (left_out, left_change, alone, alone_change)) in rows.into_iter().enumerate() {
            let block = &self.blocks[b];
            let mut cells = vec![
                self.name(),
                b.into(),
                block.layer.into(),
                block.name.into(),
                block.parameters.into(),
                block.norm.into(),
            ];
            cells.extend(interval(left_out.0));
            cells.extend([left_change.into(), left_out.1.into(), left_out_q[b].into()]);
            cells.extend(interval(alone.0));
            cells.extend([alone_change.into(), alone.1.into(), alone_q[b].into(), gradients[b].into()]);
            let value = shapley.map(|added| mean_and_error(&added[b]));
            cells.extend([value.map(|v| v.0).into(), value.and_then(|v| v.1).into()]);
            tables.blocks.push(&cells)?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what a curve is")]
    fn push_curve(
        &self,
        bench: &mut Bench,
        whole: &Whole,
        name: &str,
        order: &[usize],
        sizes: &[usize],
        random: &Random,
        tables: &mut Tables,
    ) -> Result<()> {
        let n = self.blocks.len();
        let masks: Vec<Mask> = sizes.iter().map(|&k| Mask::only(n, &order[..k])).collect();
        bench.measure("measuring orders", &masks)?;
        for (&k, mask) in sizes.iter().zip(&masks) {
            let answers = bench.of(mask)?;
            let share = self.parameter_share(&order[..k]);
            let mut cells = vec![self.name(), name.into(), k.into(), share.into()];
            cells.extend(recovery(whole.recovery(&answers)));
            cells.extend(null(random.get(&k), Some(whole.point(&answers))));
            tables.curves.push(&cells)?;
        }
        Ok(())
    }

    fn push_random(&self, whole: &Whole, random: &Random, tables: &mut Tables) -> Result<()> {
        let n = self.blocks.len();
        for (&k, found) in random {
            // In a random order every block is as likely as any other to be among the first k.
            let mut cells = vec![self.name(), "random".into(), k.into(), (k as f64 / n as f64).into()];
            cells.extend(recovery(whole.recovery(&found.1)));
            cells.extend(null(Some(found), None));
            tables.curves.push(&cells)?;
        }
        Ok(())
    }

    fn push_sets(
        &self,
        bench: &mut Bench,
        whole: &Whole,
        split: &Split,
        sets: [(&str, &Vec<usize>); 2],
        random: &Random,
        tables: &mut Tables,
    ) -> Result<()> {
        let n = self.blocks.len();
        let tested: Vec<usize> = split.test.iter().copied().filter(|p| !split.grow.contains(p)).collect();
        let (none, all) = (Mask::uniform(n, 0.0), Mask::uniform(n, 1.0));
        let mut held_out = None;
        if !tested.is_empty() {
            let mut other = Bench::new(self.context, self.model, self.blocks, tested.clone(), "held out");
            let masks: Vec<Mask> = sets.iter().map(|(_, set)| Mask::only(n, set)).collect();
            other.measure("held out prompts", &[&[none.clone(), all.clone()], &masks[..]].concat())?;
            let (base, full) = (other.of(&none)?, other.of(&all)?);
            let whole = Whole::new(self.context, &tested, base, full, self.settings.floor);
            held_out = Some((other, whole));
        }
        for (name, set) in sets {
            let mask = Mask::only(n, set);
            let answers = bench.of(&mask)?;
            let labels: Vec<String> = set.iter().map(|&b| self.blocks[b].label()).collect();
            let mut cells = vec![
                self.name(),
                name.into(),
                labels.join(", ").into(),
                set.len().into(),
                self.parameters(set).into(),
                self.parameter_share(set).into(),
            ];
            cells.extend(recovery(whole.recovery(&answers)));
            cells.extend(null(random.get(&set.len()), Some(whole.point(&answers))));
            let found = match &mut held_out {
                Some((other, whole)) => whole.share(&whole.base, &other.of(&mask)?),
                None => None,
            };
            cells.extend(interval(found));
            cells.push(tested.len().into());
            let folder = (name == "smallest").then(|| place(self.context, &[self.model], "smallest"));
            if let Some(folder) = &folder {
                write(self.context, folder, &bench.mixture(&mask))?;
            }
            cells.push(folder.into());
            tables.sets.push(&cells)?;
        }
        if let Some((other, _)) = held_out {
            tables.runs.append(other.into_runs())?;
        }
        Ok(())
    }

    fn push_doses(&self, bench: &mut Bench, whole: &Whole, tables: &mut Tables) -> Result<()> {
        let n = self.blocks.len();
        let masks: Vec<Mask> = self.settings.scales.iter().map(|&s| Mask::uniform(n, s as f32)).collect();
        bench.measure("scaling the adapter", &masks)?;
        for (i, (mask, &scale)) in masks.iter().zip(&self.settings.scales).enumerate() {
            let answers = bench.of(mask)?;
            let mut cells = vec![self.name(), i.into(), scale.into()];
            cells.extend(recovery(whole.recovery(&answers)));
            let delta = whole.design.mean(&answers.iter().map(|a| a.delta).collect::<Vec<_>>());
            cells.extend([delta.mean.into(), delta.lo.into(), delta.hi.into()]);
            tables.doses.push(&cells)?;
        }
        Ok(())
    }
}

pub(super) fn recovery(of: Recovery) -> Vec<Cell> {
    let mut cells = interval(of.delta).to_vec();
    cells.extend([of.mean.into(), of.p.into()]);
    cells
}

/// What random sets recover, and how many of them reach a point.
fn null(random: Option<&(Vec<f64>, Vec<Answer>)>, point: Option<f64>) -> [Cell; 4] {
    let Some((found, _)) = random else {
        return std::array::from_fn(|_| None::<f64>.into());
    };
    let mut sorted = found.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let as_much = |point: f64| found.iter().filter(|&&r| r >= point).count();
    let p = point.map(|point| (1 + as_much(point)) as f64 / (1 + found.len()) as f64);
    [mean.into(), at(0.025).into(), at(0.975).into(), p.into()]
}

/// Mean and its standard error.
fn mean_and_error(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()))
}
