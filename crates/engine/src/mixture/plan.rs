//! Which rows mixtures share.

use crate::batch::ModelId;
use crate::branch::{Fork, Start};
use crate::module::Module;

/// What a mixture takes in a layer: module, adapter, bits of the factor.
pub(super) type LayerKey = Vec<(Module, ModelId, u64)>;

/// The copies of a batch that run some mixtures.
pub(super) struct Plan {
    /// Copies, each with the mixture that runs it.
    pub forks: Vec<Fork>,
    /// For each mixture, the copy whose end is its own.
    pub copy_of: Vec<usize>,
    /// For each copy, its mixture.
    pub mixture_of: Vec<usize>,
}

/// A mixture begins as a copy of the one before it in sorted order that is equal longest, or where an earlier run left what is equal
/// even longer (`kept`: in how many of its first layers that is), or at the embedding. Models of mixtures are numbered from `n_models` on.
pub(super) fn plan(keys: &[Vec<LayerKey>], n_models: usize, kept: &dyn Fn(&[LayerKey]) -> usize) -> Plan {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|&a, &b| keys[a].cmp(&keys[b]));
    let mut plan =
        Plan { forks: Vec::new(), copy_of: vec![0; keys.len()], mixture_of: Vec::with_capacity(keys.len()) };
    for (i, &now) in order.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| order[i]);
        let shared = before.map_or(0, |b| keys[b].iter().zip(&keys[now]).take_while(|(a, b)| a == b).count());
        if let Some(before) = before.filter(|_| shared == keys[now].len()) {
            plan.copy_of[now] = plan.copy_of[before];
            continue;
        }
        // In sorted order nobody before shares more layers; go back to rows that exist at the first layer of difference.
        let mut of = before.map(|before| plan.copy_of[before]);
        while let Some(fork) = of.map(|of| plan.forks[of]).filter(|fork| fork.layer > shared) {
            of = match fork.start {
                Start::Fork(of) => Some(of),
                Start::Embedding | Start::Kept => None,
            };
        }
        let longest = kept(&keys[now]);
        let (start, layer) = match of {
            Some(of) if shared >= longest => (Start::Fork(of), shared),
            _ if longest > 0 => (Start::Kept, longest),
            _ => (Start::Embedding, 0),
        };
        plan.copy_of[now] = plan.forks.len();
        plan.forks.push(Fork { start, model: n_models + now, layer });
        plan.mixture_of.push(now);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::super::{Mixture, Part};
    use super::*;

    /// A mixture of a model with one module a layer, from the adapter that each layer takes (0: none).
    fn key(layers: &[usize]) -> Vec<LayerKey> {
        let mut mixture = Mixture::default();
        for (layer, &model) in layers.iter().enumerate().filter(|(_, m)| **m > 0) {
            mixture.take(layer, Module::Up, Part { model, factor: 1.0 });
        }
        mixture.key(layers.len())
    }

    const ALL: [[usize; 4]; 6] =
        [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 1], [0, 0, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0]];

    /// Layers that are computed; also looks whether every copy begins with what it claims.
    fn computed(keys: &[Vec<LayerKey>], plan: &Plan, kept: &dyn Fn(&[LayerKey]) -> usize) -> usize {
        for (n, fork) in plan.forks.iter().enumerate() {
            let own = &keys[plan.mixture_of[n]];
            assert_eq!(fork.model, 3 + plan.mixture_of[n]);
            match fork.start {
                Start::Embedding => assert_eq!(fork.layer, 0),
                Start::Kept => assert_eq!(fork.layer, kept(own)),
                Start::Fork(of) => {
                    assert!(of < n, "a copy comes after what it copies");
                    assert!(plan.forks[of].layer <= fork.layer);
                    // What it copies runs the same mixture in the layers before.
                    assert_eq!(keys[plan.mixture_of[of]][..fork.layer], own[..fork.layer]);
                }
            }
        }
        plan.forks.iter().map(|fork| 4 - fork.layer).sum()
    }

    #[test]
    fn mixtures_divide_where_they_differ_and_equal_ones_are_one() {
        let keys = ALL.map(|m| key(&m));
        let plan = plan(&keys, 3, &|_| 0);
        assert_eq!(plan.copy_of[0], plan.copy_of[4]);
        assert_eq!(plan.forks.len(), 5);
        // 4 for nothing, 1 for the last layer alone, 4 for 1010, 1 for 1011, 3 for 1100.
        assert_eq!(computed(&keys, &plan, &|_| 0), 4 + 1 + 4 + 1 + 3);
    }

    #[test]
    fn what_earlier_runs_left_is_not_computed_again() {
        let keys = ALL.map(|m| key(&m));
        // Left of 1010: before its third layer; of 0000: before its last.
        let kept = |own: &[LayerKey]| match own {
            own if own[..3] == keys[1][..3] => 3,
            own if own[..2] == keys[0][..2] => 2,
            _ => 0,
        };
        let plan = plan(&keys, 3, &kept);
        // 1 for nothing, 1 for the last layer alone, 2 for 1010, 1 for 1011; 1100 finds nobody at its second layer and begins anew.
        assert_eq!(computed(&keys, &plan, &kept), 1 + 1 + 2 + 1 + 4);
    }
}
