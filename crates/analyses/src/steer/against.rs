//! Vectors beside controls: how unusual a vector's effect is among directions of its norm.

use super::tables::AGAINST;
use crate::circuit::random::spread;
use crate::error::Result;
use crate::statistics::benjamini_hochberg;
use lorascope_record::{Cell, Table};
use std::collections::BTreeMap;

/// Which row of averages a control belongs to: source, target, contrast, site, layer, dose.
pub(super) type Key = (String, String, String, String, i64, i64);

/// The keys of a table that has their columns, row by row.
pub(super) fn keys(table: &Table) -> Result<Vec<Key>> {
    let (source, target, contrast) =
        (table.texts("source")?, table.texts("target")?, table.texts("contrast")?);
    let (site, layer, dose) = (table.texts("site")?, table.ints("layer")?, table.ints("dose")?);
    let text = |t: &str| t.to_owned();
    let key =
        |i: usize| (text(source[i]), text(target[i]), text(contrast[i]), text(site[i]), layer[i], dose[i]);
    Ok((0..table.n_rows()).map(key).collect())
}

/// Rows without a strength of 0.
pub(super) fn steered(runs: &Table) -> Result<Table> {
    let columns = runs.spec().columns.iter().map(|c| runs.cells(c.name));
    let columns: Vec<Vec<Cell>> = columns.collect::<std::result::Result<_, _>>()?;
    let mut table = Table::new(runs.spec());
    for (row, strength) in runs.floats("strength")?.into_iter().enumerate() {
        if strength != 0.0 {
            table.push(&columns.iter().map(|column| column[row].clone()).collect::<Vec<Cell>>())?;
        }
    }
    Ok(table)
}

/// One vector at one strength beside one kind of control.
struct Beside {
    cells: Vec<Cell>,
    family: (String, String, String),
    strength: f64,
    effect: f64,
    controls: Vec<f64>,
    p: f64,
}

/// The table of vectors against controls.
pub(super) fn against(effects: &Table, controls: &Table) -> Result<Table> {
    let mut of: BTreeMap<(Key, String), Vec<usize>> = BTreeMap::new();
    let kinds = controls.texts("control")?;
    for (row, key) in keys(controls)?.into_iter().enumerate() {
        of.entry((key, kinds[row].to_owned())).or_default().push(row);
    }
    let positions = effects.texts("position")?;
    let strengths = effects.floats("strength")?;
    let mut found = Vec::new();
    for (row, key) in keys(effects)?.into_iter().enumerate() {
        // The share that comes back counts every prompt in its own direction; where there is none, the change.
        let measure = if effects.floats_or_null("recovery")?[row].is_some() { "recovery" } else { "change" };
        let values = controls.floats_or_null(measure)?;
        let Some(effect) = effects.floats_or_null(measure)?[row] else { continue };
        for kind in ["random", "shuffled"] {
            let Some(rows) = of.get(&(key.clone(), kind.to_owned())) else { continue };
            let controls: Vec<f64> = rows.iter().filter_map(|&r| values[r]).collect();
            let (source, target, contrast, site, layer, dose) = &key;
            let cells = vec![
                source.as_str().into(),
                target.as_str().into(),
                contrast.as_str().into(),
                site.as_str().into(),
                (*layer).into(),
                positions[row].into(),
                (*dose).into(),
                kind.into(),
                measure.into(),
                controls.len().into(),
            ];
            let family = (source.clone(), target.clone(), kind.to_owned());
            let p = p_value(effect, &controls);
            found.push(Beside { cells, family, strength: strengths[row], effect, controls, p });
        }
    }
    let mut families: BTreeMap<(String, String, String), Vec<usize>> = BTreeMap::new();
    for (i, one) in found.iter().enumerate() {
        families.entry(one.family.clone()).or_default().push(i);
    }
    let mut corrected = vec![(1.0, 0); found.len()];
    for rows in families.into_values() {
        let p: Vec<f64> = rows.iter().map(|&i| found[i].p).collect();
        for (&i, q) in rows.iter().zip(benjamini_hochberg(&p)) {
            corrected[i] = (q, rows.len());
        }
    }
    let mut table = Table::new(&AGAINST);
    for (one, (q, n_tests)) in found.into_iter().zip(corrected) {
        let (mean, lo, hi) = spread(&one.controls);
        let deviation = deviation(&one.controls, mean);
        let z = deviation.filter(|d| *d > 0.0).map(|d| (one.effect - mean) / d);
        let mut cells = one.cells;
        cells.extend([n_tests.into(), one.strength.into(), one.effect.into(), mean.into()]);
        cells.extend([deviation.into(), lo.into(), hi.into(), z.into(), one.p.into(), q.into()]);
        table.push(&cells)?;
    }
    table.sort_by_keys();
    Ok(table)
}

/// Share of controls whose effect is as large in size, with what was found counted in (Phipson & Smyth 2010).
fn p_value(effect: f64, controls: &[f64]) -> f64 {
    let sizes: Vec<f64> = controls.iter().map(|c| c.abs()).collect();
    crate::circuit::random::p_value(effect.abs(), &sizes)
}

/// Standard deviation; `None` for one value.
fn deviation(values: &[f64], mean: f64) -> Option<f64> {
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() as f64 - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_cases_by_hand() {
        assert_eq!(p_value(2.0, &[-3.0, 1.0, 0.5]), 0.5, "the size counts, and the vector itself");
        assert_eq!(p_value(-4.0, &[-3.0, 1.0, 0.5]), 0.25);
        assert_eq!(p_value(0.0, &[0.0; 9]), 1.0);
        assert_eq!(deviation(&[1.0, 3.0], 2.0), Some(2.0f64.sqrt()));
        assert_eq!(deviation(&[1.0], 1.0), None);
    }
}
