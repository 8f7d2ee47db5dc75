//! What a circuit has to stand on held-out prompts: sufficiency and partial necessity against random circuits, minimality
//! (Shi et al. 2024, arXiv 2410.13032), the faithfulness curve with its areas CPR and CMD (Mueller et al. 2025, arXiv
//! 2504.13151), and how its members act together.

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
        let of = |range: std::ops::Range<usize>| range.map(|i| scores.faithfulness(i)).collect::<Vec<f64>>();
        let (sufficient, complements) = (of(n_own..n_own + n), of(n_own + n..n_own + 2 * n));
        let mut table = Table::new(&TESTS);
        let mut push = |name: &str, set: usize, null: Option<(&[f64], f64)>| -> Result<()> {
            let value = scores.interval(set, &self.resampler);
            let spread = null.map(|(values, _)| spread(values));
            let mut row: Vec<Cell> = self.names().into();
            row.extend::<[Cell; 10]>([
                name.into(),
                self.members.len().into(),
                finite(value.mean).into(),
                Some(value.lo).filter(|v| v.is_finite()).into(),
                Some(value.hi).filter(|v| v.is_finite()).into(),
                spread.map(|s| s.0).into(),
                spread.map(|s| s.1).into(),
                spread.map(|s| s.2).into(),
                null.map(|(_, p)| p).into(),
                null.map(|(values, _)| values.len()).into(),
            ]);
            Ok(table.push(&row)?)
        };
        push("faithfulness", 0, Some((&sufficient, p_value(scores.faithfulness(0), &sufficient))))?;
        // Without the circuit less should arrive than without a random one.
        let negative: Vec<f64> = complements.iter().map(|f| -f).collect();
        push("complement", 1, Some((&complements, p_value(-scores.faithfulness(1), &negative))))?;
        push("all", 2, None)?;
        for (name, value) in areas(curve)? {
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
            let null = (0..ORDERS).map(|o| scores.faithfulness(sizes.len() + i * ORDERS + o)).sum::<f64>();
            let mut row: Vec<Cell> = self.names().into();
            row.extend::<[Cell; 6]>([
                size.into(),
                (size as f64 / n as f64).into(),
                finite(own.mean).into(),
                finite(own.lo).into(),
                finite(own.hi).into(),
                (null / ORDERS as f64).into(),
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
        let whole = scores.faithfulness(0);
        let first = 1 + self.members.len();
        let strange: Vec<f64> = (first..sets.len()).map(|i| (scores.faithfulness(i) - whole).abs()).collect();
        let mut table = Table::new(&MEMBERS);
        for (i, unit) in self.members.iter().enumerate() {
            let cost = scores.difference(0, i + 1, &self.resampler);
            let mut row: Vec<Cell> = self.names().into();
            row.extend::<[Cell; 7]>([
                unit.to_string().into(),
                unit.layer.into(),
                unit.head().into(),
                finite(cost.mean).into(),
                finite(cost.lo).into(),
                finite(cost.hi).into(),
                p_value(cost.mean, &strange).into(),
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
            let interaction = self.resampler.ratio(&extra, &scores.spans);
            let mut row: Vec<Cell> = self.names().into();
            row.extend::<[Cell; 8]>([
                members[i].to_string().into(),
                members[j].to_string().into(),
                scores.faithfulness(i).into(),
                scores.faithfulness(j).into(),
                scores.faithfulness(n + k).into(),
                finite(interaction.mean).into(),
                finite(interaction.lo).into(),
                finite(interaction.hi).into(),
            ]);
            table.push(&row)?;
        }
        Ok(table)
    }
}

/// 0 where source and target do not differ on any prompt, so that there is nothing to be faithful to.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// CPR, the area under f over the fraction of components, and CMD, the area under |1 − f|: trapezoids from no component to
/// all.
fn areas(curve: &Table) -> Result<[(&'static str, f64); 2]> {
    let points: Vec<(f64, f64)> =
        curve.floats("fraction")?.into_iter().zip(curve.floats("faithfulness")?).collect();
    let area = |f: &dyn Fn(f64) -> f64| {
        let trapezoid = |w: &[(f64, f64)]| (w[1].0 - w[0].0) * (f(w[0].1) + f(w[1].1)) / 2.0;
        points.windows(2).map(trapezoid).sum::<f64>()
    };
    Ok([("cpr", area(&|f| f)), ("cmd", area(&|f| (1.0 - f).abs()))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_by_hand() {
        let mut curve = Table::new(&CURVE);
        for (size, fraction, f) in [(0usize, 0.0, 0.0), (1, 0.25, 0.8), (4, 1.0, 1.0)] {
            let cells: [Cell; 8] = [
                "a".into(),
                "base".into(),
                size.into(),
                fraction.into(),
                f.into(),
                f.into(),
                f.into(),
                0.0.into(),
            ];
            curve.push(&cells).unwrap();
        }
        let [cpr, cmd] = areas(&curve).unwrap();
        assert!((cpr.1 - (0.25 * 0.4 + 0.75 * 0.9)).abs() < 1e-12);
        assert!((cmd.1 - (0.25 * 0.6 + 0.75 * 0.1)).abs() < 1e-12);
    }
}
