//! What the estimates are worth: held against exact patches.

use super::settings::{ESTIMATORS, Settings};
use super::verify::{families, family_of_rows};
use crate::decide::column;
use crate::error::Result;
use crate::patch::{DIRECTION, POSITION, SOURCE, TARGET, keys};
use crate::statistics::{share_bound, spearman};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text};
use lorascope_record::{Table, TableSpec};

pub(super) static ACCURACY: TableSpec = TableSpec {
    name: "attribution_accuracy",
    doc: "Each estimator held against exact patches: places of one pair and position, means over prompts.",
    columns: &[
        SOURCE,
        TARGET,
        DIRECTION,
        POSITION,
        column("estimator", Text, "", "Name of the estimator."),
        column("n_places", Int, "", "Places that were estimated."),
        column("n_top", Int, "", "Places patched exactly because some estimator ranks them high."),
        column("n_sample", Int, "", "Places patched exactly that were drawn from the others."),
        column(
            "rank_correlation",
            FloatOrNull,
            "",
            "Spearman's correlation of estimated and exact mean change over all patched places; null where one does not vary.",
        ),
        column(
            "slope",
            FloatOrNull,
            "",
            "Σ estimated · exact / Σ exact²: 1 where the size is right, less where it is underestimated.",
        ),
        column("mean_error", Float, "logit", "Mean of |estimated − exact| over patched places."),
        column("worst_error", Float, "logit", "Largest |estimated − exact| of a place's mean."),
        column("worst_place", Text, "", "Where that is."),
        column("worst_run_error", Float, "logit", "Largest |estimated − exact| of a single patched run."),
        column(
            "missed",
            Int,
            "",
            "Sampled places whose exact effect would have been among the largest (as many as `top`) of those ranked high.",
        ),
        column(
            "missed_bound",
            FloatOrNull,
            "",
            "Upper 95% confidence bound (Clopper-Pearson) on the share of the other places of which that is true; null without a \
             sample.",
        ),
    ],
};

pub(super) fn accuracy(attributions: &Table, places: &Table, settings: &Settings) -> Result<Table> {
    let mut table = Table::new(&ACCURACY);
    let (of_place, of_run) = (family_of_rows(places)?, family_of_rows(attributions)?);
    let verified = places.texts_or_null("verified")?;
    let (exact, exact_runs) = (places.floats_or_null("exact")?, attributions.floats_or_null("exact")?);
    let names = keys(places)?;
    for family in families(places)? {
        let own: Vec<usize> = (0..places.n_rows()).filter(|&i| of_place[i] == family).collect();
        let runs: Vec<usize> = (0..attributions.n_rows()).filter(|&i| of_run[i] == family).collect();
        for name in ESTIMATORS.into_iter().filter(|n| settings.estimator.iter().any(|e| e == n)) {
            let (estimate, estimate_runs) =
                (places.floats_or_null(name)?, attributions.floats_or_null(name)?);
            let both: Vec<(usize, f64, f64)> =
                own.iter().filter_map(|&i| Some((i, estimate[i]?, exact[i]?))).collect();
            if both.is_empty() {
                continue;
            }
            let (estimated, measured): (Vec<f64>, Vec<f64>) = both.iter().map(|b| (b.1, b.2)).unzip();
            let error = |b: &(usize, f64, f64)| (b.1 - b.2).abs();
            let worst = both.iter().fold(&both[0], |w, b| if error(b) > error(w) { b } else { w });
            let in_runs = runs.iter().filter_map(|&i| Some((estimate_runs[i]? - exact_runs[i]?).abs()));
            let of = |why: &str| -> Vec<f64> {
                let chosen = both.iter().filter(|b| verified[b.0].as_deref() == Some(why));
                chosen.map(|b| b.2.abs()).collect()
            };
            let (mut found, sampled) = (of("top"), of("sample"));
            found.sort_by(|a, b| b.total_cmp(a));
            let least = found.get(settings.top - 1).or(found.last()).copied().unwrap_or(f64::INFINITY);
            let missed = sampled.iter().filter(|size| **size > least).count();
            let squares: f64 = measured.iter().map(|m| m * m).sum();
            let product: f64 = estimated.iter().zip(&measured).map(|(e, m)| e * m).sum();
            table.push(&[
                family.0.as_str().into(),
                family.1.as_str().into(),
                family.2.as_str().into(),
                family.3.as_str().into(),
                name.into(),
                own.len().into(),
                found.len().into(),
                sampled.len().into(),
                spearman(&estimated, &measured).into(),
                (squares > 0.0).then(|| product / squares).into(),
                (both.iter().map(error).sum::<f64>() / both.len() as f64).into(),
                error(worst).into(),
                names[worst.0].place().into(),
                in_runs.fold(0.0, f64::max).into(),
                missed.into(),
                (!sampled.is_empty()).then(|| share_bound(missed, sampled.len())).into(),
            ])?;
        }
    }
    table.sort_by_keys();
    Ok(table)
}
