//! How far a circuit depends on the prompts that it was grown on (Méloux et al. 2025, arXiv 2510.00845): circuits of halves and
//! of bootstrap samples of them.

use super::known::{Draw, Known};
use super::random::Random;
use super::settings::Settings;
use super::tables::SAMPLES;
use super::{Found, grow::grow, unit_of};
use crate::error::Result;
use crate::interventions::Unit;
use lorascope_engine::ModelSpec;
use lorascope_record::{Cell, Table};

/// The first and the second half of the prompts, every other one each; both are the same where there is one prompt only.
pub(super) fn halves(n: usize) -> [Draw; 2] {
    [0, 1].map(|which| (0..n).map(|i| u32::from(n == 1 || i % 2 == which)).collect())
}

/// Circuits of bootstrap samples.
pub(super) struct Samples {
    /// Members of each.
    pub circuits: Vec<Vec<Unit>>,
}

impl Samples {
    /// Grows them, one for each draw.
    pub fn grow(known: &mut Known, settings: &Settings, draws: &[Draw]) -> Result<Table> {
        let circuits = grow(known, settings, draws, "circuits of samples")?;
        let model = &known.scorer.context.subject.model;
        let mut table = Table::new(&SAMPLES);
        for (sample, circuit) in circuits.iter().enumerate() {
            for (step, (unit, reached)) in circuit.members.iter().enumerate() {
                let cells: [Cell; 8] = [
                    model.name(known.scorer.source).into(),
                    model.name(known.scorer.target).into(),
                    sample.into(),
                    unit.to_string().into(),
                    unit.layer.into(),
                    unit.head().into(),
                    step.into(),
                    (*reached).into(),
                ];
                table.push(&cells)?;
            }
        }
        Ok(table)
    }

    /// Reads the circuits of `n` samples back.
    pub fn read(table: &Table, n: usize, spec: &ModelSpec) -> Result<Self> {
        let mut circuits = vec![Vec::new(); n];
        for (name, sample) in table.texts("component")?.into_iter().zip(table.ints("sample")?) {
            let circuit = usize::try_from(sample).ok().and_then(|sample| circuits.get_mut(sample));
            if let Some(circuit) = circuit {
                circuit.push(unit_of(name, spec)?);
            }
        }
        Ok(Self { circuits })
    }

    /// Share of samples in whose circuits a component is; `None` where there are no samples.
    pub fn frequency(&self, unit: Unit) -> Option<f64> {
        let n = self.circuits.len();
        let with = self.circuits.iter().filter(|circuit| circuit.contains(&unit)).count();
        (n > 0).then(|| with as f64 / n as f64)
    }
}

/// Faithfulness where the circuit was grown, and how far circuits of halves and of samples of those prompts agree.
pub(super) fn push_tests(
    known: &mut Known,
    components: &Table,
    found: &Found,
    samples: &Samples,
    tests: &mut Table,
) -> Result<()> {
    let (context, source, target) = (known.scorer.context, known.scorer.source, known.scorer.target);
    let model = &context.subject.model;
    let everything = known.everything();
    let asked = [(&everything, vec![found.members.clone()])];
    let grown = known.faithfulness("circuit: where it was grown", &asked)?[0][0];
    let names = components.texts("component")?;
    let half = |column: &str| -> Result<Vec<Unit>> {
        let within = components.bools_or_null(column)?.iter().map(|is_in| *is_in == Some(true));
        names
            .iter()
            .zip(within)
            .filter(|(_, is_in)| *is_in)
            .map(|(name, _)| unit_of(name, model.spec()))
            .collect()
    };
    let (a, b) = (half("in_half_a")?, half("in_half_b")?);
    let of_samples: Vec<&[Unit]> = samples.circuits.iter().map(Vec::as_slice).collect();
    let random = |stream: u64| Random::new(&found.order, context.seed, stream);
    let stability = random(3).overlap(&[&a, &b]);
    let bootstrap = random(4).overlap(&of_samples);
    let rows = [
        ("grown", grown, None),
        ("stability", stability.map(|o| o.found), stability),
        ("bootstrap", bootstrap.map(|o| o.found), bootstrap),
    ];
    for (test, value, overlap) in rows {
        let cells: [Cell; 12] = [
            model.name(source).into(),
            model.name(target).into(),
            test.into(),
            found.members.len().into(),
            value.into(),
            Cell::Null,
            Cell::Null,
            overlap.map(|o| o.expected).into(),
            Cell::Null,
            Cell::Null,
            overlap.map(|o| o.p).into(),
            overlap.map(|o| o.simulations).into(),
        ];
        tests.push(&cells)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_share_nothing_and_miss_nothing() {
        assert_eq!(halves(5), [vec![1, 0, 1, 0, 1], vec![0, 1, 0, 1, 0]]);
        assert_eq!(halves(1), [vec![1], vec![1]]);
    }
}
