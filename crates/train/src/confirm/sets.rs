//! Random sets of blocks to hold a set against: as many parameters, as nearly as blocks allow, in as many layers.

use crate::blocks::BlockName;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// Random sets from which those with the nearest number of parameters are taken.
const DRAWS: usize = 4096;
/// Stream of random numbers: another than those of training.
const STREAM: u64 = 0x5e75;

/// A block with the parameters that training it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sized {
    pub name: BlockName,
    pub parameters: usize,
}

/// Up to `wanted` distinct random sets, as indices in order; none is `set`. Fewer where there are no more.
pub(super) fn random_sets(blocks: &[Sized], set: &[usize], wanted: usize, seed: u64) -> Vec<Vec<usize>> {
    let total = |which: &[usize]| -> usize { which.iter().map(|&b| blocks[b].parameters).sum() };
    let mut by_layer: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (b, block) in blocks.iter().enumerate() {
        by_layer.entry(block.name.layer).or_default().push(b);
    }
    let layers: BTreeSet<usize> = set.iter().map(|&b| blocks[b].name.layer).collect();
    let (target, n_layers) = (total(set), layers.len());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(STREAM);
    let mut seen: BTreeSet<Vec<usize>> = BTreeSet::from([sorted(set)]);
    // Distance from the wanted size, in the order of the draws.
    let mut found: Vec<(usize, Vec<usize>)> = Vec::new();
    for _ in 0..DRAWS {
        let mut order: Vec<usize> = by_layer.keys().copied().collect();
        shuffle(&mut order, &mut rng);
        let mut taken = Vec::new();
        let mut rest = Vec::new();
        for layer in &order[..n_layers.min(order.len())] {
            let mut here = by_layer[layer].clone();
            shuffle(&mut here, &mut rng);
            taken.extend(here.pop());
            rest.extend(here);
        }
        shuffle(&mut rest, &mut rng);
        for b in rest {
            let (now, with) = (total(&taken), total(&taken) + blocks[b].parameters);
            if with.abs_diff(target) < now.abs_diff(target) {
                taken.push(b);
            }
        }
        let taken = sorted(&taken);
        if seen.insert(taken.clone()) {
            found.push((total(&taken).abs_diff(target), taken));
        }
    }
    // Stable: among equally near ones, those that were drawn first.
    found.sort_by_key(|f| f.0);
    found.into_iter().take(wanted).map(|f| f.1).collect()
}

fn sorted(set: &[usize]) -> Vec<usize> {
    let mut set = set.to_vec();
    set.sort_unstable();
    set
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BlockPart;
    use lorascope_engine::Module;

    /// Seven modules a layer, as a model of width 6 has them at rank 1.
    fn blocks(n_layers: usize) -> Vec<Sized> {
        let sizes = [38, 22, 22, 38, 16, 16, 16];
        let one = |layer: usize, i: usize| Sized {
            name: BlockName { layer, part: BlockPart::Module(Module::ALL[i]) },
            parameters: sizes[i],
        };
        (0..n_layers).flat_map(|l| (0..7).map(move |i| one(l, i))).collect()
    }

    #[test]
    fn random_sets_are_others_with_as_many_parameters_in_as_many_layers() {
        let blocks = blocks(5);
        for (seed, set) in
            [(0, vec![0, 4, 9, 20]), (1, vec![30]), (2, (0..12).collect()), (3, vec![33, 1, 2])]
        {
            let total = |which: &[usize]| -> usize { which.iter().map(|&b| blocks[b].parameters).sum() };
            let layers =
                |which: &[usize]| which.iter().map(|&b| blocks[b].name.layer).collect::<BTreeSet<_>>().len();
            let found = random_sets(&blocks, &set, 3, seed);
            assert_eq!(found.len(), 3);
            assert_eq!(found, random_sets(&blocks, &set, 3, seed));
            assert_ne!(found, random_sets(&blocks, &set, 3, seed + 10));
            for (i, random) in found.iter().enumerate() {
                assert_ne!(*random, sorted(&set));
                assert!(!found[..i].contains(random));
                assert!(random.windows(2).all(|w| w[0] < w[1]), "no block twice");
                assert_eq!(layers(random), layers(&set));
                assert_eq!(total(random), total(&set), "these blocks allow an exact match");
            }
        }
    }

    #[test]
    fn what_can_not_be_matched_is_as_near_as_blocks_allow_and_may_be_nothing() {
        let mut uneven = blocks(2);
        uneven.truncate(9);
        // The second layer has two blocks, of 38 and 22; another set with both layers' and 76 is not 76 exactly.
        let found = random_sets(&uneven, &[0, 7], 2, 0);
        let sizes: Vec<usize> = found.iter().map(|f| f.iter().map(|&b| uneven[b].parameters).sum()).collect();
        assert_eq!(sizes[0], 76, "the other of the same size stands where the first did");
        assert!(sizes[1].abs_diff(76) <= 2, "{sizes:?}");
        assert!(random_sets(&blocks(1)[..1], &[0], 3, 0).is_empty(), "there is no other set");
        let all: Vec<usize> = (0..14).collect();
        let other = random_sets(&blocks(2), &all, 3, 0);
        assert!(other.iter().all(|set| *set != all));
    }
}
