//! Residual streams that runs of mixtures leave for later ones: those that were used last, up to a budget of memory.

use super::plan::{LayerKey, Plan};
use crate::branch::Start;
use crate::mat::Mat;
use crate::number::Number;
use std::collections::HashMap;
use std::sync::Arc;

/// Streams by what the mixture takes in the layers before.
pub(super) struct Streams<R> {
    /// Bytes.
    budget: usize,
    clock: u64,
    kept: HashMap<Vec<LayerKey>, Stream<R>>,
}

struct Stream<R> {
    /// When it was made or used.
    last: u64,
    rows: Arc<Mat<R>>,
}

/// What a copy of the rows begins with.
#[derive(Debug)]
pub(crate) struct Given<R> {
    layer: usize,
    first_row: usize,
    rows: Arc<Mat<R>>,
}

/// What a copy of the rows is to leave.
#[derive(Debug)]
pub(crate) struct Wanted<R> {
    layer: usize,
    first_row: usize,
    n_rows: usize,
    /// What its mixture takes in the layers before.
    key: Vec<LayerKey>,
    found: Option<Mat<R>>,
}

impl<R: Number> Given<R> {
    /// Puts it into the residual stream before a layer, if it is for that one.
    pub fn put(&self, layer: usize, resid: &mut Mat<R>) {
        if layer == self.layer {
            resid.data[self.first_row * resid.cols..][..self.rows.data.len()]
                .copy_from_slice(&self.rows.data);
        }
    }
}

impl<R: Number> Wanted<R> {
    /// Takes it from the residual stream before a layer, if it is of that one.
    pub fn take(&mut self, layer: usize, resid: &Mat<R>) {
        if layer == self.layer {
            let rows = self.first_row * resid.cols..(self.first_row + self.n_rows) * resid.cols;
            self.found = Some(Mat { data: resid.data[rows].to_vec(), rows: self.n_rows, cols: resid.cols });
        }
    }
}

impl<R: Number> Streams<R> {
    pub fn new(budget: usize) -> Self {
        Self { budget, clock: 0, kept: HashMap::new() }
    }

    /// The most layers of a mixture after which a stream was kept; 0 for none.
    pub fn longest(&self, key: &[LayerKey]) -> usize {
        (1..key.len()).rev().find(|&layer| self.kept.contains_key(&key[..layer])).unwrap_or(0)
    }

    /// What the copies of a plan begin with, and what they are to leave: the streams before all of their layers, those before the last
    /// layers if the budget has no room for all. What was not used for longest makes way. `starts` are the copies' first rows, each of
    /// `n_rows`; a row has `d_model` numbers.
    pub fn passing(
        &mut self,
        plan: &Plan,
        keys: &[Vec<LayerKey>],
        starts: &[usize],
        (n_rows, d_model): (usize, usize),
    ) -> (Vec<Given<R>>, Vec<Wanted<R>>) {
        self.clock += 1;
        let (mut given, mut wanted) = (Vec::new(), Vec::new());
        for ((fork, &mixture), &first_row) in plan.forks.iter().zip(&plan.mixture_of).zip(starts) {
            let key = &keys[mixture];
            if fork.start == Start::Kept
                && let Some(stream) = self.kept.get_mut(&key[..fork.layer])
            {
                stream.last = self.clock;
                given.push(Given { layer: fork.layer, first_row, rows: stream.rows.clone() });
            }
            let after =
                |layer: usize| Wanted { layer, first_row, n_rows, key: key[..layer].to_vec(), found: None };
            wanted.extend((fork.layer + 1..key.len()).map(after));
        }
        let room = self.budget / (n_rows * d_model * size_of::<R>()).max(1);
        wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.layer));
        wanted.truncate(room);
        let mut by_use: Vec<u64> = self.kept.values().map(|stream| stream.last).collect();
        by_use.sort_unstable_by_key(|&last| std::cmp::Reverse(last));
        if let Some(&too_old) = by_use.get(room - wanted.len()) {
            self.kept.retain(|_, stream| stream.last > too_old);
        }
        (given, wanted)
    }

    /// Keeps what a run left.
    pub fn keep(&mut self, left: Vec<Wanted<R>>) {
        for wanted in left {
            if let Some(rows) = wanted.found {
                self.kept.insert(wanted.key, Stream { last: self.clock, rows: Arc::new(rows) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;
    use crate::module::Module;

    /// A mixture of three layers by what it takes in them.
    fn key(layers: [u64; 3]) -> Vec<LayerKey> {
        layers.map(|bits| vec![(Module::Up, 1, bits)]).to_vec()
    }

    /// Carries a run of one mixture out, whose stream has one number; the layer at which it begins.
    fn run(streams: &mut Streams<f32>, mixture: [u64; 3]) -> usize {
        let keys = [key(mixture)];
        let plan = plan(&keys, 2, &|key| streams.longest(key));
        let (given, mut wanted) = streams.passing(&plan, &keys, &[0], (1, 1));
        let mut resid = Mat::zeros(1, 1);
        for (layer, &taken) in mixture.iter().enumerate().skip(plan.forks[0].layer) {
            given.iter().for_each(|given| given.put(layer, &mut resid));
            resid.data[0] = 10.0 * resid.data[0] + taken as f32;
            wanted.iter_mut().for_each(|wanted| wanted.take(layer + 1, &resid));
        }
        assert_eq!(resid.data, [(100 * mixture[0] + 10 * mixture[1] + mixture[2]) as f32]);
        streams.keep(wanted);
        plan.forks[0].layer
    }

    #[test]
    fn runs_begin_where_they_differ_and_the_oldest_makes_way() {
        let mut streams = Streams::new(5 * size_of::<f32>());
        assert_eq!([[1, 2, 3], [1, 2, 4], [1, 5, 6], [1, 5, 7]].map(|m| run(&mut streams, m)), [0, 2, 1, 2]);
        assert_eq!(run(&mut streams, [8, 8, 8]), 0);
        assert_eq!(run(&mut streams, [1, 5, 9]), 2);
        for other in 0..4 {
            run(&mut streams, [9, other, 0]);
            assert!(streams.kept.len() <= 5);
        }
        assert_eq!(run(&mut streams, [1, 2, 3]), 0);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let mut streams = Streams::new(0);
        assert_eq!([[1, 2, 3], [1, 2, 4]].map(|m| run(&mut streams, m)), [0, 0]);
        assert!(streams.kept.is_empty());
    }
}
