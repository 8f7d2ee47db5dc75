//! Orders of blocks, and the smallest set that recovers enough.

use super::masks::{Bench, Mask};
use super::measure::Whole;
use crate::circuit::prompts::shuffle;
use crate::error::Result;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Blocks that the greedy order tries together: what they share is computed once, but the last of them may be tried in vain.
const TOGETHER: usize = 3;

/// An adapter's bench with what the whole adapter does on it.
pub(super) struct Search<'b, 'a> {
    pub bench: &'b mut Bench<'a>,
    pub whole: &'b Whole,
    pub n: usize,
    /// Share that is wanted.
    pub share: f64,
}

impl Search<'_, '_> {
    /// What each of these sets recovers.
    fn points(&mut self, what: &str, sets: &[Vec<usize>]) -> Result<Vec<f64>> {
        let masks: Vec<Mask> = sets.iter().map(|set| Mask::only(self.n, set)).collect();
        self.bench.measure(what, &masks)?;
        masks.iter().map(|mask| Ok(self.whole.point(&self.bench.of(mask)?))).collect()
    }

    /// The best next block until the share is reached. A block is tried again only where its last known gain could still win
    /// (Minoux 1978): in the order of last known gains, a few together, until the best of them gains no less than the next one's last
    /// known gain. At first these are what blocks recover alone. This finds the best next block where no gain grows as the set does;
    /// gains that do grow are found late. At most `candidates` blocks are tried at a step (0: no limit).
    pub fn greedy(&mut self, alone: &[f64], candidates: usize) -> Result<Vec<usize>> {
        let mut gains = alone.to_vec();
        let (mut on, mut now): (Vec<usize>, f64) = (Vec::new(), 0.0);
        while now < self.share && on.len() < self.n {
            let mut left = by_size(&gains);
            left.retain(|b| !on.contains(b));
            if candidates > 0 {
                left.truncate(candidates);
            }
            let mut best: Option<(usize, f64)> = None;
            for some in left.chunks(TOGETHER) {
                if best.is_some_and(|(_, point)| point - now >= gains[some[0]]) {
                    break;
                }
                let with = |b: &usize| on.iter().copied().chain([*b]).collect();
                let step = format!("greedy step {}", on.len() + 1);
                let found = self.points(&step, &some.iter().map(with).collect::<Vec<_>>())?;
                for (&b, &point) in some.iter().zip(&found) {
                    gains[b] = point - now;
                    // The first of equals.
                    if best.is_none_or(|(_, of_best)| point > of_best) {
                        best = Some((b, point));
                    }
                }
            }
            let Some((block, point)) = best else { break };
            on.push(block);
            now = point;
        }
        Ok(on)
    }

    /// Leaves out of a set, one by one, the block that is missed least, as long as the share stays.
    pub fn prune(&mut self, set: &[usize]) -> Result<Vec<usize>> {
        let mut set = set.to_vec();
        while set.len() > 1 {
            let without = |i: usize| [&set[..i], &set[i + 1..]].concat();
            let smaller: Vec<Vec<usize>> = (0..set.len()).map(without).collect();
            let found = self.points("pruning", &smaller)?;
            match best_of(&found).filter(|&best| found[best] >= self.share) {
                Some(best) => set.clone_from(&smaller[best]),
                None => break,
            }
        }
        set.sort_unstable();
        Ok(set)
    }
}

/// Indices, the largest value first; equal ones in their order.
pub(super) fn by_size(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// The first of the largest.
fn best_of(values: &[f64]) -> Option<usize> {
    by_size(values).first().copied()
}

/// Random orders of `n` blocks.
pub(super) fn random_orders(n: usize, orders: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let order = |_| {
        let mut order: Vec<usize> = (0..n).collect();
        shuffle(&mut order, &mut rng);
        order
    };
    (0..orders).map(order).collect()
}

/// Sizes at which an order of `n` blocks is measured: about `points` of them, evenly, the last being `n`.
pub(super) fn sizes(n: usize, points: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = (1..=points).map(|i| (i * n).div_ceil(points)).collect();
    sizes.dedup();
    sizes
}
