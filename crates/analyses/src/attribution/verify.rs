//! Which places are patched exactly, and what that gave.

use super::settings::{ESTIMATORS, Settings};
use super::{ATP_STAR, EXACT, GIM, GRADIENT, INTEGRATED, QK_FIX, RELP};
use crate::decide::{PROMPT_ID, SCENARIO, column};
use crate::error::Result;
use crate::patch::{COMPONENT, DIRECTION, HEAD, LAYER, POSITION, SITE, SOURCE, SOURCE_PROMPT_ID, TARGET};
use lorascope_record::ColumnKind::{Float, Int, TextOrNull};
use lorascope_record::{Cell, Table, TableSpec};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// Columns that name a patched run, and those of them that name its place.
const RUN: [&str; 11] = [
    "source",
    "target",
    "prompt_id",
    "scenario",
    "source_prompt_id",
    "direction",
    "site",
    "layer",
    "head",
    "component",
    "position",
];
const PLACE: [usize; 8] = [0, 1, 5, 6, 7, 8, 9, 10];
/// Of those, the ones whose places are ranked together.
const FAMILY: [usize; 4] = [0, 1, 5, 10];

/// Exact values, as parts of a run keep them.
pub(super) static VERIFIED: TableSpec = TableSpec {
    name: "attribution_verified",
    doc: "Exact change of delta of the places that were chosen.",
    columns: &[
        SOURCE,
        TARGET,
        PROMPT_ID,
        SCENARIO,
        SOURCE_PROMPT_ID,
        DIRECTION,
        SITE,
        LAYER,
        HEAD,
        COMPONENT,
        POSITION,
        column("change", Float, "logit", "Change of delta by the patch."),
    ],
};

pub(super) static PLACES: TableSpec = TableSpec {
    name: "attribution_places",
    doc: "Means over prompts of the estimates for each place, and of the exact changes where it was patched.",
    columns: &[
        SOURCE,
        TARGET,
        DIRECTION,
        SITE,
        LAYER,
        HEAD,
        COMPONENT,
        POSITION,
        column("n", Int, "", "Patched runs behind the row."),
        GRADIENT,
        QK_FIX,
        GIM,
        RELP,
        ATP_STAR,
        INTEGRATED,
        EXACT,
        column(
            "verified",
            TextOrNull,
            "",
            "Why it was patched: `top` (a largest estimate of some estimator), `sample` (drawn from the others); null where it was \
             not.",
        ),
    ],
};

fn text(cells: &[Cell], which: &[usize]) -> String {
    let one = |&i: &usize| match &cells[i] {
        // A table gives whole numbers back as signed ones.
        Cell::UInt(value) => format!("Int({value})"),
        other => format!("{other:?}"),
    };
    which.iter().map(one).collect::<Vec<_>>().join("\u{1f}")
}

/// Places that are patched exactly.
pub(super) struct Chosen(BTreeMap<String, &'static str>);

impl Chosen {
    /// Whether the place of a run, given by its identity, is among them.
    pub fn has(&self, identity: &[Cell]) -> bool {
        self.0.contains_key(&text(identity, &PLACE))
    }
}

/// The cells that name the runs of a table.
fn identities(table: &Table) -> Result<Vec<Vec<Cell>>> {
    let columns = RUN.iter().map(|name| table.cells(name)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok((0..table.n_rows()).map(|row| columns.iter().map(|c| c[row].clone()).collect()).collect())
}

/// A place with the sums of what is known of it.
struct Sums {
    identity: Vec<Cell>,
    n: usize,
    /// Of the estimates and of the exact value, `None` once one was missing.
    sums: [Option<f64>; ESTIMATORS.len() + 1],
}

impl Sums {
    fn mean(&self, i: usize) -> Option<f64> {
        self.sums[i].map(|s| s / self.n as f64)
    }
}

fn by_place(table: &Table) -> Result<BTreeMap<String, Sums>> {
    let names = ESTIMATORS.iter().copied().chain(["exact"]);
    let columns = names.map(|n| table.floats_or_null(n)).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut places: BTreeMap<String, Sums> = BTreeMap::new();
    for (row, identity) in identities(table)?.into_iter().enumerate() {
        let fresh = || Sums { identity: identity.clone(), n: 0, sums: [Some(0.0); ESTIMATORS.len() + 1] };
        let place = places.entry(text(&identity, &PLACE)).or_insert_with(fresh);
        place.n += 1;
        for (sum, column) in place.sums.iter_mut().zip(&columns) {
            *sum = sum.zip(column[row]).map(|(s, v)| s + v);
        }
    }
    Ok(places)
}

/// The largest estimates of every estimator, in each family of pair and position, and a sample of the other places.
pub(super) fn choose(estimates: &Table, settings: &Settings, seed: u64) -> Result<Chosen> {
    let places = by_place(estimates)?;
    let mut families: BTreeMap<String, Vec<(&String, &Sums)>> = BTreeMap::new();
    for (key, sums) in &places {
        families.entry(text(&sums.identity, &FAMILY)).or_default().push((key, sums));
    }
    let mut chosen = BTreeMap::new();
    for (f, places) in families.values().enumerate() {
        for e in 0..ESTIMATORS.len() {
            let size = |sums: &Sums| sums.mean(e).map(f64::abs);
            let mut ranked: Vec<_> = places.iter().filter_map(|(k, s)| Some((size(s)?, *k))).collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
            chosen.extend(ranked.into_iter().take(settings.top).map(|(_, key)| (key.clone(), "top")));
        }
        let mut others: Vec<&String> =
            places.iter().map(|(k, _)| *k).filter(|k| !chosen.contains_key(*k)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(f as u64);
        let (drawn, _) = others.partial_shuffle(&mut rng, settings.sample);
        chosen.extend(drawn.iter().map(|key| ((*key).clone(), "sample")));
    }
    Ok(Chosen(chosen))
}

/// Estimates with the exact values beside them.
pub(super) fn joined(estimates: Table, exact: &Table) -> Result<Table> {
    let all: Vec<usize> = (0..RUN.len()).collect();
    let changes = exact.floats("change")?;
    let known: BTreeMap<String, f64> =
        identities(exact)?.iter().map(|cells| text(cells, &all)).zip(changes).collect();
    let columns =
        ESTIMATORS.iter().map(|name| estimates.cells(name)).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut table = Table::new(estimates.spec());
    for (row, mut cells) in identities(&estimates)?.into_iter().enumerate() {
        let value = known.get(&text(&cells, &all)).copied();
        cells.extend(columns.iter().map(|c| c[row].clone()));
        cells.push(value.into());
        table.push(&cells)?;
    }
    Ok(table)
}

/// Means over prompts.
pub(super) fn places(attributions: &Table, chosen: &Chosen) -> Result<Table> {
    let mut table = Table::new(&PLACES);
    for (key, sums) in by_place(attributions)? {
        let mut cells: Vec<Cell> = PLACE.iter().map(|&i| sums.identity[i].clone()).collect();
        cells.push(sums.n.into());
        cells.extend((0..=ESTIMATORS.len()).map(|i| Cell::from(sums.mean(i))));
        cells.push(chosen.0.get(&key).copied().into());
        table.push(&cells)?;
    }
    table.sort_by_keys();
    Ok(table)
}

/// Names of a family of places: source, target, direction, position.
pub(super) type Family = (String, String, String, String);

/// The families of a table, in order.
pub(super) fn families(table: &Table) -> Result<BTreeSet<Family>> {
    Ok(family_of_rows(table)?.into_iter().collect())
}

/// The family of each row.
pub(super) fn family_of_rows(table: &Table) -> Result<Vec<Family>> {
    let column = |name: &str| table.texts(name);
    let (source, target) = (column("source")?, column("target")?);
    let (direction, position) = (column("direction")?, column("position")?);
    let row = |i: usize| {
        (source[i].to_owned(), target[i].to_owned(), direction[i].to_owned(), position[i].to_owned())
    };
    Ok((0..table.n_rows()).map(row).collect())
}
