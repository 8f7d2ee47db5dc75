//! Orders of blocks, and the smallest set that recovers enough.

use crate::circuit::prompts::shuffle;
use crate::error::Result;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Blocks that pruning tries to leave out together: what they share is computed once.
const TOGETHER: usize = 6;

/// Blocks in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Grown {
    pub order: Vec<usize>,
    /// Number of blocks after each step.
    pub sizes: Vec<usize>,
    /// What each of all blocks added when it was last tried.
    pub gains: Vec<f64>,
}

/// Measures what sets of blocks recover; told what it is for.
pub(super) type Points<'a> = dyn FnMut(&str, &[Vec<usize>]) -> Result<Vec<f64>> + 'a;

/// A search for few of `n` blocks that recover a share.
pub(super) struct Search<'a> {
    pub points: &'a mut Points<'a>,
    pub n: usize,
    /// Share that is wanted.
    pub share: f64,
}

impl Search<'_> {
    /// The best next blocks until the share is reached. A step tries the `candidates` blocks (0: all) with the largest last known
    /// gains, at first what they recover alone, and adds the best of them: one, or several as long as their gains add up to no more
    /// than half of what is still missing. So early steps, which leave much to be added, are large, and the last ones single blocks;
    /// what several blocks of a step do twice is left to [`Search::prune`].
    pub fn greedy(&mut self, alone: &[f64], candidates: usize) -> Result<Grown> {
        let mut gains = alone.to_vec();
        let (mut on, mut sizes, mut now): (Vec<usize>, Vec<usize>, f64) = (Vec::new(), Vec::new(), 0.0);
        while now < self.share && on.len() < self.n {
            let mut left = by_size(&gains);
            left.retain(|b| !on.contains(b));
            if candidates > 0 {
                left.truncate(candidates);
            }
            let step = format!("greedy step {}", sizes.len() + 1);
            let with: Vec<Vec<usize>> = left.iter().map(|&b| [&on[..], &[b]].concat()).collect();
            let found = (self.points)(&step, &with)?;
            for (&b, &point) in left.iter().zip(&found) {
                gains[b] = point - now;
            }
            let missing = self.share - now;
            let mut added = 0.0;
            for (k, &i) in by_size(&found).iter().enumerate() {
                added += found[i] - now;
                if k > 0 && (found[i] <= now || added > missing / 2.0) {
                    break;
                }
                on.push(left[i]);
            }
            sizes.push(on.len());
            now = (self.points)(&step, std::slice::from_ref(&on))?[0];
        }
        Ok(Grown { order: on, sizes, gains })
    }

    /// Leaves blocks out of a set, one by one, as long as the share stays, until none can be left out: those with the smallest gains
    /// are tried first, a few together, and of these the one that is missed least goes.
    pub fn prune(&mut self, grown: &Grown) -> Result<Vec<usize>> {
        let mut set = grown.order.clone();
        let mut missed = grown.gains.clone();
        let mut now = (self.points)("pruning", std::slice::from_ref(&set))?[0];
        'smaller: while set.len() > 1 {
            let mut tried = set.clone();
            tried.sort_by(|&a, &b| missed[a].total_cmp(&missed[b]));
            for some in tried.chunks(TOGETHER) {
                let without = |&b: &usize| set.iter().copied().filter(|&o| o != b).collect();
                let smaller: Vec<Vec<usize>> = some.iter().map(without).collect();
                let found = (self.points)("pruning", &smaller)?;
                some.iter().zip(&found).for_each(|(&b, &point)| missed[b] = now - point);
                if let Some(best) = best_of(&found).filter(|&best| found[best] >= self.share) {
                    set.clone_from(&smaller[best]);
                    now = found[best];
                    continue 'smaller;
                }
            }
            break;
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
