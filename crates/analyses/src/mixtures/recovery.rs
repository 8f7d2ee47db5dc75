//! How much of what an adapter changed comes back; or of what one adapter does otherwise than another.

use super::answers::Answer;
use crate::bootstrap::Interval;
use crate::context::Context;
use crate::decide::column;
use crate::error::Result;
use crate::statistics::Design;
use crate::words::percent;
use lorascope_record::ColumnKind::FloatOrNull;
use lorascope_record::{Cell, ColumnSpec, Table};

/// What the whole adapter does to each prompt.
pub(crate) struct Whole {
    pub base: Vec<Answer>,
    pub all: Vec<Answer>,
    pub design: Design,
    floor: f64,
}

/// Behaviour recovered by a mask, with intervals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    /// `Σ change·sign(d) / Σ |d|`, d being what the whole adapter does to delta.
    pub delta: Option<Interval>,
    /// Mean of `change / d` over prompts with `|d|` at least the floor.
    pub mean: Option<f64>,
    /// As `delta`, of the probability of B.
    pub p: Option<f64>,
}

impl Whole {
    pub fn new(
        context: &Context,
        prompts: &[usize],
        base: Vec<Answer>,
        all: Vec<Answer>,
        floor: f64,
    ) -> Self {
        let clusters: Vec<&str> =
            prompts.iter().map(|&p| context.subject.prompts[p].item.cluster()).collect();
        Self { base, all, design: Design::new(&clusters, context.seed), floor }
    }

    /// What the whole adapter does to delta, prompt by prompt.
    fn spans(&self) -> Vec<f64> {
        self.all.iter().zip(&self.base).map(|(a, b)| a.delta - b.delta).collect()
    }

    /// The way in which it moves each prompt's delta: 1, −1, or 0 where it does not.
    pub fn signs(&self) -> Vec<f64> {
        self.spans().iter().map(|&d| if d == 0.0 { 0.0 } else { d.signum() }).collect()
    }

    /// Sum of the sizes of what it does.
    pub fn total(&self) -> f64 {
        self.spans().iter().map(|d| d.abs()).sum()
    }

    /// Prompts whose delta it moves by the floor or more.
    pub fn n_moved(&self) -> usize {
        self.spans().iter().filter(|d| d.abs() >= self.floor && **d != 0.0).count()
    }

    /// Mean of its size over prompts, with its interval.
    pub fn size(&self) -> Interval {
        self.design.mean(&self.spans().iter().map(|d| d.abs()).collect::<Vec<_>>())
    }

    /// Change from `from` to `to`, positive where it goes the way of the adapter.
    pub fn aligned(&self, from: &[Answer], to: &[Answer]) -> Vec<f64> {
        let changes = from.iter().zip(to).map(|(f, t)| t.delta - f.delta);
        changes.zip(self.signs()).map(|(c, sign)| c * sign).collect()
    }

    /// A change from `from` to `to` as a share of what the whole adapter does; `None` where that is nothing.
    pub fn share(&self, from: &[Answer], to: &[Answer]) -> Option<Interval> {
        if self.n_moved() == 0 {
            return None;
        }
        let sizes: Vec<f64> = self.spans().iter().map(|d| d.abs()).collect();
        // Nothing is 0, never −0.
        let of = |sums: &[f64]| if sums[1] == 0.0 { f64::NAN } else { sums[0] / sums[1] + 0.0 };
        self.design.resampler().statistic(&[&self.aligned(from, to), &sizes], of)
    }

    /// What a mask recovers, from its answers.
    pub fn recovery(&self, answers: &[Answer]) -> Recovery {
        let ratios: Vec<f64> = self
            .spans()
            .iter()
            .zip(answers.iter().zip(&self.base))
            .filter(|(d, _)| d.abs() >= self.floor && **d != 0.0)
            .map(|(d, (m, b))| (m.delta - b.delta) / d)
            .collect();
        let mean = (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64 + 0.0);
        let (mut over, mut under) = (0.0, 0.0);
        for ((m, b), a) in answers.iter().zip(&self.base).zip(&self.all) {
            let d = a.p_b - b.p_b;
            if d != 0.0 {
                over += (m.p_b - b.p_b) * d.signum();
                under += d.abs();
            }
        }
        let p = (under > 0.0 && self.n_moved() > 0).then(|| over / under);
        Recovery { delta: self.share(&self.base, answers), mean, p }
    }

    /// The share of delta alone, without an interval: what choices are made by. 0 where there is nothing to recover.
    pub fn point(&self, answers: &[Answer]) -> f64 {
        let over: f64 = self.aligned(&self.base, answers).iter().sum();
        if self.n_moved() == 0 { 0.0 } else { over / self.total() }
    }
}

/// Columns of the interval of a recovery.
pub(crate) const RECOVERY_LO: ColumnSpec =
    column("recovery_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over prompt clusters.");
pub(crate) const RECOVERY_HI: ColumnSpec =
    column("recovery_hi", FloatOrNull, "", "Upper end of its interval.");

/// Cells of an interval that may be absent.
pub(crate) fn interval(of: Option<Interval>) -> [Cell; 3] {
    [of.map(|i| i.mean).into(), of.map(|i| i.lo).into(), of.map(|i| i.hi).into()]
}

/// A recovery with its interval.
pub(crate) type Shown = Option<(f64, f64, f64)>;

/// A value with its interval, from three columns of a row.
pub(crate) fn shown(table: &Table, column: &str, row: usize) -> Result<Shown> {
    let read = |name: &str| -> Result<Option<f64>> { Ok(table.floats_or_null(name)?[row]) };
    let (lo, hi) = (read(&format!("{column}_lo"))?, read(&format!("{column}_hi"))?);
    Ok(read(column)?.zip(lo.zip(hi)).map(|(mean, (lo, hi))| (mean, lo, hi)))
}

pub(crate) fn text(of: Shown) -> String {
    of.map_or("nothing".to_owned(), |(mean, lo, hi)| {
        format!("{} [{}, {}]", percent(mean), percent(lo), percent(hi))
    })
}
