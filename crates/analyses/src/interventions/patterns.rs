//! What other queries and keys do to the pattern, exactly: the query and key correction of AtP* (Kramár et al. 2024).
//!
//! A saturated softmax has next to no slope, so the gradient misses what a query or key would do that moves attention elsewhere. Here the
//! pattern is computed with the new query or key, everything else as it was, and only from the pattern on is the effect linear:
//! `Σ gradient of the pattern · (new pattern − old)`.
//!
//! One pass serves many patched runs: all their queries are replaced at once, and what the heads hand on is put back to what it was,
//! so that no layer sees the changes of another; a second pass does the same for keys. A key that changes alone changes
//! one score of each query, from which its pattern follows without another pass.

use super::estimate::difference;
use super::ground::{Ground, Values, by_place, captures};
use super::sweep::{Change, PatchedRun, Replacement, RunKey, Sweep};
use crate::error::Result;
use lorascope_engine::{Edit, EditOp, HookPoint, Hooks, ModelSpec, Site};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// Queries or keys of patched runs that can be replaced in one pass.
struct Round {
    site: Site,
    /// New values by place, row and first value; two runs that want the same there share it.
    new: BTreeMap<(HookPoint, usize, usize), Vec<f32>>,
    touches: Vec<Touch>,
    /// Scores with the new values.
    scores: Values,
}

/// What one run changes in the scores of one layer.
struct Touch {
    run: usize,
    target: RunKey,
    layer: usize,
    heads: Range<usize>,
    /// Positions whose query or key changes.
    positions: BTreeSet<usize>,
}

/// Scores of some patched runs, and of the runs as they are.
pub(super) struct Patterns {
    rounds: Vec<Round>,
    plain: Values,
    /// Whose run each row is.
    owners: HashMap<usize, (RunKey, usize)>,
}

/// Whether a change goes through the pattern alone.
pub(super) fn is_of_pattern(change: &Change) -> bool {
    let site = matches!(change.point, HookPoint::Layer(_, Site::Q | Site::K));
    site && !matches!(change.replacement, Replacement::Along { .. })
}

impl Sweep<'_> {
    /// Computes the scores with the new queries and keys of these runs; `None` where they have none.
    pub(super) fn patterns(
        &self,
        ground: &Ground,
        runs: &[PatchedRun],
        values: &Values,
    ) -> Result<Option<Patterns>> {
        let spec = self.subject.model.spec();
        let mut rounds: Vec<Round> = Vec::new();
        for (i, run) in runs.iter().enumerate() {
            for change in run.changes.iter().filter(|c| is_of_pattern(c)) {
                let HookPoint::Layer(layer, site) = change.point else { continue };
                let row = ground.row((run.model, run.prompt), change.position);
                let old = &values[&(change.point, row)][change.units.clone()];
                let shift = difference(ground, run, change, values);
                let new: Vec<f32> = old.iter().zip(shift).map(|(&o, d)| (f64::from(o) + d) as f32).collect();
                let key = (change.point, row, change.units.start);
                let fits =
                    |r: &&mut Round| r.site == site && r.new.get(&key).is_none_or(|there| *there == new);
                let round = match rounds.iter_mut().find(fits) {
                    Some(round) => round,
                    None => {
                        let (new, touches, scores) = (BTreeMap::new(), Vec::new(), Values::new());
                        rounds.push(Round { site, new, touches, scores });
                        rounds.last_mut().unwrap_or_else(|| unreachable!("just pushed"))
                    }
                };
                round.new.insert(key, new);
                round.touch(i, run, layer, heads(spec, site, &change.units), change.position);
            }
        }
        if rounds.is_empty() {
            return Ok(None);
        }
        let owners = self.owners(ground, &rounds);
        let layers: BTreeSet<usize> = rounds.iter().flat_map(|r| r.touches.iter().map(|t| t.layer)).collect();
        let rows: BTreeSet<usize> = owners.keys().copied().collect();
        let at = |site: Site| layers.iter().map(move |&l| HookPoint::Layer(l, site));
        let scores: BTreeMap<_, _> = at(Site::AttnScores).map(|point| (point, rows.clone())).collect();
        let both: BTreeMap<_, _> =
            at(Site::AttnScores).chain(at(Site::Z)).map(|p| (p, rows.clone())).collect();
        let plain = self.captured(ground, &both, Vec::new())?;
        let back = |(&(point, row), z): (&(HookPoint, usize), &Vec<f32>)| match point {
            HookPoint::Layer(_, Site::Z) => {
                Some(Edit { point, row, units: 0..z.len(), op: EditOp::Set(z.clone()) })
            }
            _ => None,
        };
        let restored: Vec<Edit<f32>> = plain.iter().filter_map(back).collect();
        for round in &mut rounds {
            let replaced = round.new.iter().map(|(&(point, row, start), new)| Edit {
                point,
                row,
                units: start..start + new.len(),
                op: EditOp::Set(new.clone()),
            });
            round.scores = self.captured(ground, &scores, replaced.chain(restored.clone()).collect())?;
        }
        Ok(Some(Patterns { rounds, plain, owners }))
    }

    /// The rows whose scores can change: those of the targets from the first changed position on.
    fn owners(&self, ground: &Ground, rounds: &[Round]) -> HashMap<usize, (RunKey, usize)> {
        let mut first: BTreeMap<RunKey, usize> = BTreeMap::new();
        for touch in rounds.iter().flat_map(|r| &r.touches) {
            let from = touch.positions.first().copied().unwrap_or(0);
            first.entry(touch.target).and_modify(|f| *f = from.min(*f)).or_insert(from);
        }
        let mut owners = HashMap::new();
        for (key, from) in first {
            for (s, tokens) in self.questions[key.1].sequences().iter().enumerate() {
                for position in from..tokens.len() {
                    if let Some(row) = ground.batch.row_of(ground.first_sequence[&key] + s, position) {
                        owners.insert(row, (key, position));
                    }
                }
            }
        }
        owners
    }

    fn captured(
        &self,
        ground: &Ground,
        wanted: &BTreeMap<HookPoint, BTreeSet<usize>>,
        edits: Vec<Edit<f32>>,
    ) -> Result<Values> {
        let captures = captures(wanted);
        let hooks = Hooks { captures: captures.clone(), edits };
        Ok(by_place(&captures, self.pass(ground, &hooks, &[])?.captures))
    }
}

/// The query heads that read a slice of the queries or keys.
fn heads(spec: &ModelSpec, site: Site, units: &Range<usize>) -> Range<usize> {
    let of = units.start / spec.d_head..units.end.div_ceil(spec.d_head);
    let group = if site == Site::K { spec.n_heads / spec.n_kv_heads } else { 1 };
    of.start * group..of.end * group
}

impl Round {
    fn touch(&mut self, run: usize, of: &PatchedRun, layer: usize, heads: Range<usize>, position: usize) {
        let target = (of.model, of.prompt);
        let same = |t: &&mut Touch| t.run == run && t.layer == layer && t.heads == heads;
        match self.touches.iter_mut().rev().find(same) {
            Some(touch) => {
                touch.positions.insert(position);
            }
            None => self.touches.push(Touch { run, target, layer, heads, positions: [position].into() }),
        }
    }
}

impl Patterns {
    /// Where the gradient of the pattern is needed.
    pub fn places(&self) -> impl Iterator<Item = (HookPoint, usize)> + '_ {
        let scores = self.plain.keys().filter(|(p, _)| matches!(p, HookPoint::Layer(_, Site::AttnScores)));
        scores.map(|&(point, row)| (of_pattern(point), row))
    }

    /// Adds to each run's estimate what its queries and keys do through the pattern.
    pub fn add(&self, slopes: &Values, estimates: &mut [f64]) {
        for round in &self.rounds {
            let mut by_layer: BTreeMap<(usize, RunKey), Vec<&Touch>> = BTreeMap::new();
            for touch in &round.touches {
                by_layer.entry((touch.layer, touch.target)).or_default().push(touch);
            }
            for ((layer, target), touches) in by_layer {
                let point = HookPoint::Layer(layer, Site::AttnScores);
                let mut rows: Vec<(usize, usize)> =
                    self.owners.iter().filter(|(_, o)| o.0 == target).map(|(&row, o)| (row, o.1)).collect();
                rows.sort_unstable();
                let of_row = |&(row, position): &(usize, usize)| -> Vec<f64> {
                    let place = (point, row);
                    let slope = &slopes[&(of_pattern(point), row)];
                    let row = Row { old: &self.plain[&place], new: &round.scores[&place], slope, position };
                    touches.iter().map(|touch| row.change(round.site, touch)).collect()
                };
                // Summed in the order of rows, whatever the threads.
                for of_row in rows.par_iter().map(of_row).collect::<Vec<_>>() {
                    for (touch, change) in touches.iter().zip(of_row) {
                        estimates[touch.run] += change;
                    }
                }
            }
        }
    }
}

fn of_pattern(point: HookPoint) -> HookPoint {
    match point {
        HookPoint::Layer(layer, _) => HookPoint::Layer(layer, Site::Pattern),
        other => other,
    }
}

/// Scores of one query with all its heads, laid out `[head][key]`.
struct Row<'a> {
    old: &'a [f32],
    new: &'a [f32],
    slope: &'a [f32],
    position: usize,
}

impl Row<'_> {
    /// `Σ slope · (new pattern − old)` of the heads that a run changes.
    fn change(&self, site: Site, touch: &Touch) -> f64 {
        let n_keys = self.position + 1;
        let changed: Vec<usize> = match site {
            // A new query changes the score of every key.
            Site::Q if touch.positions.contains(&self.position) => (0..n_keys).collect(),
            Site::Q => return 0.0,
            _ => touch.positions.range(..n_keys).copied().collect(),
        };
        let of_head = |head: usize| {
            let keys = head * n_keys..(head + 1) * n_keys;
            shift(&self.old[keys.clone()], &self.new[keys.clone()], &self.slope[keys], &changed)
        };
        touch.heads.clone().map(of_head).sum()
    }
}

/// `Σ slope · (softmax(scores with the new ones at `changed`) − softmax(old))`.
fn shift(old: &[f32], new: &[f32], slope: &[f32], changed: &[usize]) -> f64 {
    if changed.is_empty() {
        return 0.0;
    }
    let largest =
        old.iter().chain(changed.iter().map(|&k| &new[k])).copied().fold(f32::NEG_INFINITY, f32::max);
    // A key outside the window has a score of −∞ and no share, before and after.
    let share = |score: f32| f64::from(score - largest).exp();
    let (mut total, mut weighted) = (0.0, 0.0);
    for (&score, &g) in old.iter().zip(slope) {
        total += share(score);
        weighted += share(score) * f64::from(g);
    }
    let (mut more, mut more_weighted) = (0.0, 0.0);
    for &key in changed {
        let added = share(new[key]) - share(old[key]);
        more += added;
        more_weighted += added * f64::from(slope[key]);
    }
    (weighted + more_weighted) / (total + more) - weighted / total
}

#[cfg(test)]
mod tests {
    use super::super::estimate::Estimator;
    use super::super::sweep::Source;
    use super::*;
    use crate::context::Silent;
    use crate::testing::{FAMILIES, subject};
    use lorascope_engine::Rules;

    /// All runs in one pass, single keys in closed form, against the definition carried out one run after the other: replace the
    /// query or key, put the heads' outputs back, and multiply what the pattern became by its gradient.
    #[test]
    fn estimates_are_those_of_one_pass_for_each_run() {
        let (mut differ, mut worst) = (0, 0.0_f64);
        for family in FAMILIES {
            let Some(subject) = subject(family) else { return };
            let (spec, n) = (subject.model.spec(), subject.prompts[0].tokens.ids.len());
            let change = |layer: usize, site: Site, head: usize, position: usize| Change {
                point: HookPoint::Layer(layer, site),
                units: head * spec.d_head..(head + 1) * spec.d_head,
                position,
                replacement: Replacement::From(Source { model: 1, prompt: 0, position }),
            };
            let run = |changes: Vec<Change>| PatchedRun { model: 0, prompt: 0, changes };
            let mut runs = Vec::new();
            for layer in 0..spec.n_layers {
                for position in [2, n / 2, n - 1] {
                    runs.push(run(vec![change(layer, Site::Q, spec.n_heads - 1, position)]));
                    runs.push(run(vec![change(layer, Site::K, 0, position)]));
                }
                runs.push(run((0..n).map(|p| change(layer, Site::K, spec.n_kv_heads - 1, p)).collect()));
            }
            let sweep = Sweep::new(&subject, 1 << 30).expect("a sweep");
            let estimators = [Estimator::ExactPatterns, Estimator::Local(Rules::EXACT)];
            let found = sweep.estimate("", &runs, &estimators, &Silent).expect("estimates").changes;
            let ground = sweep.ground(&runs, None).expect("a batch");
            for (i, run) in runs.iter().enumerate() {
                let (want, size) = one_by_one(&sweep, &ground, run);
                // Both start from scores and patterns in f32: a few of its roundings (6e-8) of what is summed.
                let error = (found[0][i] - want).abs();
                assert!(error < 2e-7 * size, "{family} {i}: {} {want}, size {size}", found[0][i]);
                worst = worst.max(error / size);
                differ += usize::from((found[0][i] - found[1][i]).abs() > 1e-6);
            }
        }
        assert!(differ > 20, "the gradient says the same: {differ}");
        println!("off by at most {worst:.1e} of the summands");
    }

    /// The estimate, and the sum of its summands' sizes.
    fn one_by_one(sweep: &Sweep, ground: &Ground, run: &PatchedRun) -> (f64, f64) {
        let HookPoint::Layer(layer, _) = run.changes[0].point else { unreachable!("a place in a layer") };
        let key = (run.model, run.prompt);
        let at = |site: Site| HookPoint::Layer(layer, site);
        let n = sweep.questions[run.prompt].stem().len();
        let rows: BTreeSet<usize> = (0..n).map(|p| ground.row(key, p)).collect();
        let wanted = |site: Site| BTreeMap::from([(at(site), rows.clone())]);
        let plain = |site: Site| sweep.captured(ground, &wanted(site), Vec::new()).expect("a run");
        let (patterns, z) = (plain(Site::Pattern), plain(Site::Z));
        let mut edits: Vec<Edit<f32>> = z
            .iter()
            .map(|(&(point, row), z)| Edit { point, row, units: 0..z.len(), op: EditOp::Set(z.clone()) })
            .collect();
        for change in &run.changes {
            let source = change.replacement.source().expect("from another model");
            let from = ground.row((source.model, source.prompt), source.position);
            let values = BTreeMap::from([(change.point, BTreeSet::from([from]))]);
            let values = sweep.captured(ground, &values, Vec::new()).expect("a run");
            let new = values[&(change.point, from)][change.units.clone()].to_vec();
            let row = ground.row(key, change.position);
            edits.push(Edit { point: change.point, row, units: change.units.clone(), op: EditOp::Set(new) });
        }
        let patched = sweep.captured(ground, &wanted(Site::Pattern), edits).expect("a run");
        let of = BTreeSet::from([key]);
        let (at_pattern, none) = (wanted(Site::Pattern), BTreeMap::new());
        let slopes =
            sweep.slopes(ground, &of, &at_pattern, &none, Vec::new(), Rules::EXACT).expect("slopes").slopes;
        let (mut sum, mut size) = (0.0, 0.0);
        for row in rows {
            let place = (at(Site::Pattern), row);
            for ((new, old), slope) in patched[&place].iter().zip(&patterns[&place]).zip(&slopes[&place]) {
                let (new, old, slope) = (f64::from(*new), f64::from(*old), f64::from(*slope));
                sum += slope * (new - old);
                size += slope.abs() * (new + old);
            }
        }
        (sum, size)
    }

    fn softmax(scores: &[f32]) -> Vec<f64> {
        let e: Vec<f64> = scores.iter().map(|&s| f64::from(s).exp()).collect();
        let total: f64 = e.iter().sum();
        e.into_iter().map(|e| e / total).collect()
    }

    #[test]
    fn the_shift_is_that_of_two_whole_softmaxes() {
        let old = [0.5, -1.0, 30.0, 2.0, f32::NEG_INFINITY];
        let new = [1.5, 33.0, 29.0, -4.0, f32::NEG_INFINITY];
        let slope = [0.3, -2.0, 0.7, 1.1, 5.0];
        for changed in [vec![], vec![1], vec![0, 2], vec![0, 1, 2, 3, 4]] {
            let mut mixed = old;
            changed.iter().for_each(|&k: &usize| mixed[k] = new[k]);
            let (before, after) = (softmax(&old), softmax(&mixed));
            let want: f64 = (0..5).map(|k| f64::from(slope[k]) * (after[k] - before[k])).sum();
            // A share of e^-30 is lost beside 1 in neither; f64 throughout.
            assert!((shift(&old, &new, &slope, &changed) - want).abs() < 1e-12, "{changed:?}");
        }
    }
}
