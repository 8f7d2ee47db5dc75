//! What a circuit has to stand on held-out prompts: sufficiency and partial necessity against random circuits, minimality
//! (Shi et al. 2024, arXiv 2410.13032), the faithfulness curve with its areas CPR and CMD (Mueller et al. 2025, arXiv
//! 2504.13151), and how its members act together.

use super::areas::areas;
use super::grow::without_each;
use super::random::{Random, p_value, spread};
use super::score::Scorer;
use super::settings::Settings;
use super::tables::{CURVE, MEMBERS, PAIRS, TESTS};
use crate::bootstrap::Resampler;
use crate::error::Result;
use crate::interventions::Unit;
use lorascope_record::{Cell, Table};

/// Shares of all components at which the curve is read.
const FRACTIONS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
/// Random orders of the curve's null.
const ORDERS: usize = 8;

/// A circuit and what it is tested with.
pub(super) struct Tested<'a> {
    pub scorer: &'a Scorer<'a>,
    pub settings: &'a Settings,
    /// Members in the order of growth.
    pub members: Vec<Unit>,
    /// All components in the order of the curve.
    pub order: Vec<Unit>,
    pub prompts: &'a [usize],
    pub resampler: Resampler,
    pub seed: u64,
}

impl Tested<'_> {
    fn names(&self) -> [Cell; 2] {
        let model = &self.scorer.context.subject.model;
        [model.name(self.scorer.source).into(), model.name(self.scorer.target).into()]
    }

    fn random(&self, stream: u64) -> Random {
        Random::new(&self.order, self.seed, stream)
    }

    fn complement(&self, of: &[Unit]) -> Vec<Unit> {
        self.order.iter().copied().filter(|u| !of.contains(u)).collect()
    }

    /// Sufficiency, partial necessity, all components, and the areas of the curve.
    pub fn tests(&self, curve: &Table) -> Result<Table> {
        let mut random = self.random(0);
        let circuits: Vec<Vec<Unit>> =
            (0..self.settings.random).map(|_| random.like(&self.members)).collect();
        let mut sets = vec![self.members.clone(), self.complement(&self.members), self.order.clone()];
        let n_own = sets.len();
        sets.extend(circuits.iter().cloned());
        sets.extend(circuits.iter().map(|c| self.complement(c)));
        let scores = self.scorer.score("circuit: random circuits", &sets, self.prompts)?;
        let n = self.settings.random;
        let (sufficient, complements) =
            (scores.faithfulness_of(n_own..n_own + n), scores.faithfulness_of(n_own + n..n_own + 2 * n));
        let mut table = Table::new(&TESTS);
        let mut push = |name: &str, set: usize, null: Option<Null>| -> Result<()> {
            let value = scores.interval(set, &self.resampler);
            let mut row: Vec<Cell> = self.names().into();
            row.extend::<[Cell; 5]>([
                name.into(),
                self.members.len().into(),
                defined(value.mean).into(),
                defined(value.lo).into(),
                defined(value.hi).into(),
            ]);
            row.extend(Null::cells(null));
            Ok(table.push(&row)?)
        };
        // At least as much should arrive as with a random circuit, and without it less than without a random one.
        push("faithfulness", 0, Null::of(scores.faithfulness(0), sufficient.as_deref(), 1.0))?;
        push("complement", 1, Null::of(scores.faithfulness(1), complements.as_deref(), -1.0))?;
        push("all", 2, None)?;
        let points =
            curve.floats("fraction")?.into_iter().zip(curve.floats_or_null("faithfulness")?.to_vec());
        let areas = areas(&points.collect::<Vec<_>>());
        for (name, value) in [("cpr", areas.map(|a| a.cpr)), ("cmd", areas.map(|a| a.cmd))] {
            let mut row: Vec<Cell> = self.names().into();
            row.extend::<[Cell; 3]>([name.into(), self.members.len().into(), value.into()]);
            row.extend(std::iter::repeat_n(Cell::Null, 7));
            table.push(&row)?;
        }
        Ok(table)
    }

    /// Faithfulness against the number of components.
    pub fn curve(&self) -> Result<Table> {
        let n = self.order.len();
        let mut sizes: Vec<usize> = FRACTIONS.iter().map(|f| (f * n as f64).ceil() as usize).collect();
        sizes.extend(0..=self.members.len());
        sizes.sort_unstable();
        sizes.dedup();
        let mut random = self.random(1);
        let orders: Vec<Vec<Unit>> = (0..ORDERS).map(|_| random.order()).collect();
        let first = |order: &[Unit], size: usize| order[..size].to_vec();
        let mut sets: Vec<Vec<Unit>> = sizes.iter().map(|&s| first(&self.order, s)).collect();
        sets.extend(sizes.iter().flat_map(|&s| orders.iter().map(move |o| first(o, s))));
        let scores = self.scorer.score("circuit: faithfulness curve", &sets, self.prompts)?;
        let mut table = Table::new(&CURVE);
        for (i, &size) in sizes.iter().enumerate() {
            let own = scores.interval(i, &self.resampler);
            let first = sizes.len() + i * ORDERS;
            let null = scores.faithfulness_of(first..first + ORDERS).map(|f| f.iter().sum::<f64>());
            let mut row: Vec<Cell> = self.names().into();
            row.extend::<[Cell; 6]>([
                size.into(),
                (size as f64 / n as f64).into(),
                defined(own.mean).into(),
                defined(own.lo).into(),
                defined(own.hi).into(),
                null.map(|sum| sum / ORDERS as f64).into(),
            ]);
            table.push(&row)?;
        }
        Ok(table)
    }

    /// What the removal of each member costs, against what strangers do.
    pub fn minimality(&self) -> Result<Table> {
        let strangers = self.complement(&self.members);
        let mut random = self.random(2);
        let drawn: Vec<Unit> =
            random.order().into_iter().filter(|u| strangers.contains(u)).take(self.settings.random).collect();
        let mut sets = vec![self.members.clone()];
        sets.extend(without_each(&self.members));
        let added = |&u: &Unit| self.members.iter().copied().chain([u]).collect();
        sets.extend(drawn.iter().map(added));
        let scores = self.scorer.score("circuit: minimality", &sets, self.prompts)?;
        let strange = scores.faithfulness_of(1 + self.members.len()..sets.len());
        let strange: Option<Vec<f64>> = scores
            .faithfulness(0)
            .zip(strange)
            .map(|(whole, with)| with.iter().map(|f| (f - whole).abs()).collect());
        let mut table = Table::new(&MEMBERS);
        for (i, unit) in self.members.iter().enumerate() {
            let cost = scores.difference(0, i + 1, &self.resampler);
            let mut row: Vec<Cell> = self.names().into();
            row.extend::<[Cell; 7]>([
                unit.to_string().into(),
                unit.layer.into(),
                unit.head().into(),
                defined(cost.mean).into(),
                defined(cost.lo).into(),
                defined(cost.hi).into(),
                strange.as_deref().map(|strange| p_value(cost.mean, strange)).into(),
            ]);
            table.push(&row)?;
        }
        Ok(table)
    }

    /// How far the effects of two members are from adding up.
    pub fn pairs(&self) -> Result<Table> {
        let members = {
            let mut sorted = self.members.clone();
            sorted.sort_unstable();
            sorted
        };
        let n = members.len();
        let pairs: Vec<(usize, usize)> = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).collect();
        let mut sets: Vec<Vec<Unit>> = members.iter().map(|&u| vec![u]).collect();
        sets.extend(pairs.iter().map(|&(i, j)| vec![members[i], members[j]]));
        let scores = self.scorer.score("circuit: pairs", &sets, self.prompts)?;
        let mut table = Table::new(&PAIRS);
        for (k, &(i, j)) in pairs.iter().enumerate() {
            let together = &scores.aligned[n + k];
            let apart = scores.aligned[i].iter().zip(&scores.aligned[j]).map(|(a, b)| a + b);
            let extra: Vec<f64> = together.iter().zip(apart).map(|(t, a)| t - a).collect();
            let interaction = scores.ratio(&extra, &self.resampler);
            let mut row: Vec<Cell> = self.names().into();
            row.extend::<[Cell; 8]>([
                members[i].to_string().into(),
                members[j].to_string().into(),
                scores.faithfulness(i).into(),
                scores.faithfulness(j).into(),
                scores.faithfulness(n + k).into(),
                defined(interaction.mean).into(),
                defined(interaction.lo).into(),
                defined(interaction.hi).into(),
            ]);
            table.push(&row)?;
        }
        Ok(table)
    }
}

/// What random circuits do.
pub(super) struct Null {
    /// Mean, 2.5th and 97.5th percentile.
    spread: (f64, f64, f64),
    /// Share of them that do as well.
    p: f64,
    n: usize,
}

impl Null {
    /// Where large values, times `sign`, speak for the circuit. `None` where faithfulness is undefined.
    pub fn of(found: Option<f64>, random: Option<&[f64]>, sign: f64) -> Option<Self> {
        let (found, random) = found.zip(random)?;
        let signed: Vec<f64> = random.iter().map(|f| sign * f).collect();
        Some(Self { spread: spread(random), p: p_value(sign * found, &signed), n: random.len() })
    }

    pub fn cells(null: Option<Self>) -> [Cell; 5] {
        let spread = null.as_ref().map(|null| null.spread);
        [
            spread.map(|s| s.0).into(),
            spread.map(|s| s.1).into(),
            spread.map(|s| s.2).into(),
            null.as_ref().map(|null| null.p).into(),
            null.as_ref().map(|null| null.n).into(),
        ]
    }
}

/// Ratios are not finite where source and target do not differ, so that there is nothing to be faithful to.
pub(super) fn defined(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
