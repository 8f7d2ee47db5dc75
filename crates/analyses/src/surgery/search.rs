//! Orders of blocks, and the smallest set that recovers enough.

use crate::circuit::prompts::shuffle;
use crate::error::Result;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Blocks that pruning tries to leave out together: what they share is computed once.
const TOGETHER: usize = 6;

/// Candidates that a step of the greedy order tries together before it looks whether more are worth it.
const A_FEW: usize = 3;

/// Blocks in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Grown {
    pub order: Vec<usize>,
    /// Number of blocks after each step.
    pub sizes: Vec<usize>,
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
    ///
    /// A block mostly adds less the more others are on, so its last known gain is a bound for what it adds now: a step tries a few
    /// candidates at a time, and no more once the best of them adds at least as much as the next one ever promised (the lazy greedy order
    /// of Minoux 1978). With 0 candidates nothing is taken on trust.
    pub fn greedy(&mut self, alone: &[f64], candidates: usize) -> Result<Grown> {
        let mut gains = alone.to_vec();
        let (mut on, mut sizes, mut now): (Vec<usize>, Vec<usize>, f64) = (Vec::new(), Vec::new(), 0.0);
        while now < self.share && on.len() < self.n {
            let mut left = by_size(&gains);
            left.retain(|b| !on.contains(b));
            let portion = if candidates > 0 { A_FEW } else { self.n };
            if candidates > 0 {
                left.truncate(candidates);
            }
            let step = format!("greedy step {}", sizes.len() + 1);
            let missing = self.share - now;
            let (mut added, mut tried): (Vec<usize>, usize) = (Vec::new(), 0);
            for some in left.chunks(portion) {
                // As long as all that were tried are added, more may be.
                if added.len() < tried && gains[added[0]] >= gains[some[0]] {
                    break;
                }
                let with: Vec<Vec<usize>> = some.iter().map(|&b| [&on[..], &[b]].concat()).collect();
                let found = (self.points)(&step, &with)?;
                some.iter().zip(&found).for_each(|(&b, &point)| gains[b] = point - now);
                tried += some.len();
                added = best_together(&left[..tried], &gains, missing);
            }
            on.extend(added);
            sizes.push(on.len());
            now = (self.points)(&step, std::slice::from_ref(&on))?[0];
        }
        Ok(Grown { order: on, sizes })
    }

    /// The shortest beginning of an order that reaches the share, found by halving, as if recovery grew along the order; `None` if it
    /// does not reach it with fewer than `than` blocks.
    pub fn shorter(&mut self, order: &[usize], than: usize) -> Result<Option<Vec<usize>>> {
        let (mut too_few, mut enough) = (0, than.saturating_sub(1));
        if enough == 0 || !self.reaches(&order[..enough])? {
            return Ok(None);
        }
        while enough - too_few > 1 {
            let half = usize::midpoint(too_few, enough);
            match self.reaches(&order[..half])? {
                true => enough = half,
                false => too_few = half,
            }
        }
        Ok(Some(order[..enough].to_vec()))
    }

    fn reaches(&mut self, set: &[usize]) -> Result<bool> {
        Ok((self.points)("the shortest beginning of an order", &[set.to_vec()])?[0] >= self.share)
    }

    /// Leaves blocks out of a set, one by one, as long as the share stays, until none can be left out: those that are missed least are
    /// tried first, a few together, and of these the one that is missed least goes.
    ///
    /// `missed` is what leaving each of all blocks out of the whole adapter costs. A block is mostly missed more the fewer others are
    /// on, so one whose last known loss is too large already is not tried.
    pub fn prune(&mut self, set: &[usize], missed: &[f64]) -> Result<Vec<usize>> {
        let (mut set, mut missed) = (set.to_vec(), missed.to_vec());
        let mut now = (self.points)("pruning", std::slice::from_ref(&set))?[0];
        'smaller: while set.len() > 1 {
            let mut tried = set.clone();
            tried.retain(|&b| missed[b] <= now - self.share);
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

/// The block that adds most, and the next ones as long as all add something and together no more than half of what is missing.
fn best_together(blocks: &[usize], gains: &[f64], missing: f64) -> Vec<usize> {
    let mut sorted = blocks.to_vec();
    sorted.sort_by(|&a, &b| gains[b].total_cmp(&gains[a]));
    let mut sum = 0.0;
    let more = |&(k, &b): &(usize, &usize)| {
        sum += gains[b];
        k == 0 || (gains[b] > 0.0 && sum <= missing / 2.0)
    };
    sorted.iter().enumerate().take_while(more).map(|(_, &b)| b).collect()
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

/// Puts a size among others, in place of the nearest but the last one, which is that of all blocks.
pub(super) fn include(sizes: &mut Vec<usize>, size: usize) {
    if sizes.contains(&size) {
        return;
    }
    let before_last = sizes.len().saturating_sub(1);
    match (0..before_last).min_by_key(|&i| sizes[i].abs_diff(size)) {
        Some(nearest) => sizes[nearest] = size,
        None => sizes.insert(0, size),
    }
}
