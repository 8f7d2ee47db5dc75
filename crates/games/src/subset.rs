//! Small sets that stay counterbalanced. A *frame* is a prompt without its situation and without its
//! label assignment, given as one level number per factor.

use std::collections::{BTreeMap, BTreeSet};

/// How much an unequal use of single levels weighs against an unequal use of pairs of levels.
const SINGLE_WEIGHT: i64 = 1;
/// How many starting points the search tries, for few frames.
const STARTS: usize = 1000;
/// Upper bound of the work of one search, in visits of a frame.
const VISITS: usize = 4_000_000;

/// The `wanted` frames that are best balanced together: each level of each factor, and each pair of
/// levels of two factors, is used as equally often as can be found. Found by exchanging single
/// frames from several fixed starting points (no outside randomness: same frames, same answer). The
/// result is ordered so that its beginnings are balanced too.
///
/// Returns indices into `frames`; all of them where `wanted` is larger.
pub(crate) fn balanced(frames: &[Vec<u16>], wanted: usize) -> Vec<usize> {
    let pool = dense(frames);
    let all = (0..frames.len()).collect();
    if wanted >= frames.len() {
        return greedy(&pool, all, frames.len());
    }
    let sweep = (wanted * (frames.len() - wanted)).max(1);
    let mut best = greedy(&pool, all, wanted);
    let mut best_cost = improve(&pool, &mut best);
    let perfect = perfect_cost(&pool, wanted);
    for start in 1..STARTS.min(VISITS / sweep) {
        if best_cost as f64 <= perfect {
            break;
        }
        let mut chosen = shuffled(frames.len(), start as u64);
        chosen.truncate(wanted);
        let cost = improve(&pool, &mut chosen);
        if cost < best_cost {
            (best, best_cost) = (chosen, cost);
        }
    }
    best.sort_unstable();
    greedy(&pool, best, wanted)
}

/// Frames with every level of every factor numbered through, for use as indices of one table.
struct Dense {
    frames: Vec<Vec<usize>>,
    levels: usize,
}

fn dense(frames: &[Vec<u16>]) -> Dense {
    let mut numbers = BTreeMap::new();
    let mut number = |key: (usize, u16)| {
        let next = numbers.len();
        *numbers.entry(key).or_insert(next)
    };
    let frames: Vec<Vec<usize>> = frames
        .iter()
        .map(|f| f.iter().enumerate().map(|(factor, &l)| number((factor, l))).collect())
        .collect();
    Dense { frames, levels: numbers.len() }
}

/// What [`Counts::total`] would be if every level and every pair of levels were used equally often;
/// no set of this size is below it.
fn perfect_cost(pool: &Dense, wanted: usize) -> f64 {
    let factors = pool.frames.first().map_or(0, Vec::len);
    let levels: Vec<f64> = (0..factors)
        .map(|f| pool.frames.iter().map(|frame| frame[f]).collect::<BTreeSet<_>>().len() as f64)
        .collect();
    let square = (wanted * wanted) as f64;
    let single: f64 = levels.iter().map(|l| SINGLE_WEIGHT as f64 * square / l).sum();
    let pairs = levels.iter().enumerate().flat_map(|(f, l)| levels[..f].iter().map(move |m| l * m));
    single + pairs.map(|cells| square / cells).sum::<f64>()
}

/// How often each pair of levels has been used; the diagonal counts single levels.
struct Counts {
    used: Vec<i64>,
    levels: usize,
}

impl Counts {
    fn new(levels: usize) -> Self {
        Counts { used: vec![0; levels * levels], levels }
    }

    fn cells(&self, frame: &[usize]) -> impl Iterator<Item = (usize, i64)> {
        let levels = self.levels;
        frame.iter().enumerate().flat_map(move |(at, &x)| {
            frame[at..].iter().map(move |&y| (x * levels + y, if x == y { SINGLE_WEIGHT } else { 1 }))
        })
    }

    /// By how much the sum of weighted squares grows when this frame is added, halved and without
    /// its constant.
    fn cost(&self, frame: &[usize]) -> i64 {
        self.cells(frame).map(|(cell, weight)| weight * self.used[cell]).sum()
    }

    fn add(&mut self, frame: &[usize], by: i64) {
        let cells: Vec<usize> = self.cells(frame).map(|(cell, _)| cell).collect();
        cells.into_iter().for_each(|cell| self.used[cell] += by);
    }

    /// The sum of weighted squares over the frames that were added.
    fn total(&self, frames: &Dense, chosen: &[usize]) -> i64 {
        chosen.iter().map(|&f| self.cost(&frames.frames[f])).sum()
    }
}

/// Takes `wanted` of the candidates, always the one whose levels were used least so far (ties: the
/// earlier one).
fn greedy(frames: &Dense, mut candidates: Vec<usize>, wanted: usize) -> Vec<usize> {
    let mut counts = Counts::new(frames.levels);
    let mut order = Vec::with_capacity(wanted);
    while order.len() < wanted {
        let next = (0..candidates.len()).min_by_key(|&at| counts.cost(&frames.frames[candidates[at]]));
        let Some(next) = next else { break };
        let frame = candidates.remove(next);
        counts.add(&frames.frames[frame], 1);
        order.push(frame);
    }
    order
}

/// Exchanges a chosen frame for one that is not, as long as that helps; returns the final cost.
fn improve(frames: &Dense, chosen: &mut [usize]) -> i64 {
    let mut counts = Counts::new(frames.levels);
    let mut inside = vec![false; frames.frames.len()];
    for &frame in chosen.iter() {
        counts.add(&frames.frames[frame], 1);
        inside[frame] = true;
    }
    let sweep = (chosen.len() * (frames.frames.len() - chosen.len())).max(1);
    for _ in 0..(VISITS / sweep).clamp(1, 100) {
        let mut changed = false;
        for slot in chosen.iter_mut() {
            counts.add(&frames.frames[*slot], -1);
            let here = counts.cost(&frames.frames[*slot]);
            let others = (0..frames.frames.len()).filter(|&f| !inside[f]);
            let best = others.map(|f| (counts.cost(&frames.frames[f]), f)).min();
            if let Some((cost, other)) = best
                && cost < here
            {
                inside[*slot] = false;
                inside[other] = true;
                *slot = other;
                changed = true;
            }
            counts.add(&frames.frames[*slot], 1);
        }
        if !changed {
            break;
        }
    }
    counts.total(frames, chosen)
}

/// A fixed shuffle of `0..len` (SplitMix64 with Fisher and Yates' exchange), one for each `start`.
fn shuffled(len: usize, start: u64) -> Vec<usize> {
    let mut state = start;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let mut order: Vec<usize> = (0..len).collect();
    for at in (1..len).rev() {
        order.swap(at, (next() % (at as u64 + 1)) as usize);
    }
    order
}

/// Which `wanted` of the variants each block (a scenario of a game) gets: a window that moves
/// cyclically over the shortest balanced beginning of the list. Where `wanted` is a multiple of 4
/// every block gets the same variants; where it is not, each block has the best balance that its
/// number allows, and over all blocks every variant is used equally often, or once more.
pub(crate) fn window(block: usize, wanted: usize, available: usize) -> Vec<usize> {
    let cycle = (wanted.div_ceil(4) * 4).min(available);
    (0..wanted.min(available)).map(|i| (block * wanted + i) % cycle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_frames(levels: &[u16]) -> Vec<Vec<u16>> {
        levels.iter().fold(vec![Vec::new()], |frames, &n| {
            frames.iter().flat_map(|f| (0..n).map(move |l| [f.as_slice(), &[l]].concat())).collect()
        })
    }

    /// Every pair of levels of two factors is used equally often.
    fn assert_pairs_balanced(levels: &[u16], wanted: usize) {
        let frames = all_frames(levels);
        let chosen = balanced(&frames, wanted);
        assert_eq!(chosen.len(), wanted);
        for f in 0..levels.len() {
            for g in 0..f {
                for (l, m) in (0..levels[f]).flat_map(|l| (0..levels[g]).map(move |m| (l, m))) {
                    let uses = chosen.iter().filter(|&&at| frames[at][f] == l && frames[at][g] == m).count();
                    let cells = usize::from(levels[f] * levels[g]);
                    assert_eq!(uses * cells, wanted, "levels {l}, {m} of factors {f}, {g} of {levels:?}");
                }
            }
        }
    }

    #[test]
    fn pairs_of_levels_are_balanced_where_that_is_possible() {
        assert_pairs_balanced(&[2, 2, 2, 2], 8);
        assert_pairs_balanced(&[2, 2, 2], 4);
        assert_pairs_balanced(&[2, 2, 2, 2, 2], 8);
        assert_pairs_balanced(&[2, 2, 2, 2, 2, 2], 16);
        assert_pairs_balanced(&[3, 2, 2, 2, 2], 24);
        assert_pairs_balanced(&[2, 2, 2, 2], 16);
    }

    #[test]
    fn two_frames_mirror_each_other() {
        let frames = all_frames(&[2, 2, 2, 2]);
        let chosen = balanced(&frames, 2);
        let (one, other) = (&frames[chosen[0]], &frames[chosen[1]]);
        assert!(one.iter().zip(other).all(|(a, b)| a != b), "{one:?} {other:?}");
    }

    #[test]
    fn the_largest_pool_is_balanced_in_every_level() {
        let levels = [4, 4, 4, 2, 2, 2, 2];
        let frames = all_frames(&levels);
        assert_eq!(frames.len(), crate::MAX_SUBSET_FRAMES);
        let chosen = balanced(&frames, 512);
        for (factor, &count) in levels.iter().enumerate() {
            for level in 0..count {
                let uses = chosen.iter().filter(|&&at| frames[at][factor] == level).count();
                assert_eq!(uses * usize::from(count), 512, "level {level} of factor {factor}");
            }
        }
    }

    #[test]
    fn windows_share_the_work_equally() {
        assert_eq!(window(1, 3, 32), [3, 0, 1]);
        assert_eq!(window(3, 16, 32), (0..16).map(|i| (48 + i) % 16).collect::<Vec<_>>());
        assert_eq!(window(2, 7, 5).len(), 5);
        let mut uses = [0; 4];
        (0..5).flat_map(|block| window(block, 3, 32)).for_each(|at| uses[at] += 1);
        assert_eq!(uses, [4, 4, 4, 3]);
    }
}
