//! What was found, in sentences and a small table.

use super::Tables;
use super::against::{Key, keys};
use super::settings::Settings;
use super::vectors::{MODELS, Recipe};
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{Effect, effects_of};
use crate::words::signed_percent;
use lorascope_record::Table;
use lorascope_report::{SummaryColumn, SummaryTable};
use std::collections::BTreeMap;

/// A value with the ends of its interval.
type Shown = (f64, f64, f64);

/// A vector's effect among those of one kind of control.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    pub n: i64,
    pub mean: f64,
    pub lo: f64,
    pub hi: f64,
    pub z: Option<f64>,
    pub p: f64,
}

/// Everything about one vector at one strength.
#[derive(Clone, Debug)]
pub(super) struct Dose {
    pub strength: f64,
    pub effect: Effect,
    /// p of the sign-flip test after correction, and the clusters behind it.
    q: f64,
    n_clusters: i64,
    /// Recovery where there is one, else the change, with its interval.
    pub shown: Shown,
    pub is_share: bool,
    pub beside: BTreeMap<String, Beside>,
    /// KL by the vector, and by random directions.
    pub kl: BTreeMap<String, Shown>,
    pub mass: Option<Shown>,
}

/// All doses but 0, by key.
pub(super) type Doses = BTreeMap<Key, Dose>;

pub(super) fn doses(tables: &Tables) -> Result<Doses> {
    let mut beside: BTreeMap<Key, BTreeMap<String, Beside>> = BTreeMap::new();
    let against = &tables.against;
    let (kinds, n, z) =
        (against.texts("control")?, against.ints("n_controls")?, against.floats_or_null("z")?);
    let (mean, lo, hi) =
        (against.floats("control_mean")?, against.floats("control_lo")?, against.floats("control_hi")?);
    let p = against.floats("p")?;
    for (i, key) in keys(against)?.into_iter().enumerate() {
        let one = Beside { n: n[i], mean: mean[i], lo: lo[i], hi: hi[i], z: z[i], p: p[i] };
        beside.entry(key).or_default().insert(kinds[i].to_owned(), one);
    }
    let mut kl: BTreeMap<Key, BTreeMap<String, Shown>> = BTreeMap::new();
    let mut mass: BTreeMap<Key, Shown> = BTreeMap::new();
    let sides = &tables.side_effects;
    let directions = sides.texts("direction")?;
    for (i, key) in keys(sides)?.into_iter().enumerate() {
        if let Some(of_text) = shown(sides, "kl", i)? {
            kl.entry(key.clone()).or_default().insert(directions[i].to_owned(), of_text);
        }
        mass.extend(shown(sides, "mass", i)?.map(|m| (key, m)));
    }
    let effects = effects_of(&tables.effects)?;
    let strengths = tables.effects.floats("strength")?;
    let (q, share_q) = (tables.effects.floats("q")?, tables.effects.floats_or_null("recovery_q")?);
    let n_clusters = tables.effects.ints("n_clusters")?;
    let mut found = Doses::new();
    for (i, (key, effect)) in keys(&tables.effects)?.into_iter().zip(effects).enumerate() {
        let share = shown(&tables.effects, "recovery", i)?;
        let dose = Dose {
            strength: strengths[i],
            shown: share.unwrap_or(effect.change),
            is_share: share.is_some(),
            effect,
            q: share_q[i].unwrap_or(q[i]),
            n_clusters: n_clusters[i],
            beside: beside.remove(&key).unwrap_or_default(),
            kl: kl.remove(&key).unwrap_or_default(),
            mass: mass.remove(&key),
        };
        found.insert(key, dose);
    }
    Ok(found)
}

/// A value with its interval, from three columns of a row.
pub(super) fn shown(table: &Table, column: &str, row: usize) -> Result<Option<Shown>> {
    let read = |name: &str| -> Result<Option<f64>> { Ok(table.floats_or_null(name)?[row]) };
    let (lo, hi) = (read(&format!("{column}_lo"))?, read(&format!("{column}_hi"))?);
    Ok(read(column)?.map(|v| (v, lo.unwrap_or(v), hi.unwrap_or(v))))
}

/// The vectors of one recipe in one target.
#[derive(Clone, Debug)]
pub(super) struct Pair<'r> {
    pub recipe: &'r Recipe,
    pub source: String,
    pub target: String,
}

impl Pair<'_> {
    /// `strategic → base`, `mood in strategic`.
    pub fn title(&self) -> String {
        match self.recipe.contrast.as_str() {
            MODELS => format!("{} → {}", self.source, self.target),
            contrast => format!("{contrast} in {}", self.source),
        }
    }

    pub fn has(&self, key: &Key) -> bool {
        (&key.0, &key.1, &key.2) == (&self.source, &self.target, &self.recipe.contrast)
    }
}

pub(super) fn pairs<'r>(context: &Context, recipes: &'r [Recipe]) -> Vec<Pair<'r>> {
    let name = |m: usize| context.subject.model.name(m).to_owned();
    let of = |recipe: &'r Recipe| {
        recipe.targets.iter().map(move |&t| Pair { recipe, source: name(recipe.source), target: name(t) })
    };
    recipes.iter().flat_map(of).collect()
}

/// Number of the strength that is nearest to 1 and not 0: the one that sentences speak of.
pub(super) fn reference(settings: &Settings) -> i64 {
    let steering = settings.strengths.iter().enumerate().filter(|(_, s)| **s != 0.0);
    let nearest = steering.min_by(|(_, a), (_, b)| (*a - 1.0).abs().total_cmp(&(*b - 1.0).abs()));
    nearest.map_or(0, |(dose, _)| dose as i64)
}

/// The place at which a pair's vector does the most at the reference strength; the first of equals.
pub(super) fn strongest<'d>(doses: &'d Doses, pair: &Pair, dose: i64) -> Option<(&'d Key, &'d Dose)> {
    let own = doses.iter().filter(|(key, _)| pair.has(key) && key.5 == dose);
    own.reduce(|best, one| if one.1.shown.0.abs() > best.1.shown.0.abs() { one } else { best })
}

fn value(of: f64, is_share: bool) -> String {
    if is_share { signed_percent(of) } else { format!("{of:+.3}") }
}

fn with_interval((mean, lo, hi): Shown, is_share: bool) -> String {
    let [mean, lo, hi] = [mean, lo, hi].map(|v| value(v, is_share));
    format!("{mean} [{lo}, {hi}]")
}

fn place(key: &Key) -> String {
    format!("L{} {}", key.4, key.3)
}

fn of_controls(kind: &str, beside: &Beside, is_share: bool) -> String {
    let what = match kind {
        "random" => "random directions of the same length",
        _ => "differences between random groups of prompts, brought to that length,",
    };
    let z = beside.z.map_or(String::new(), |z| format!("z = {z:.1}, "));
    format!(
        "{} {what} bring {} on average, 95% of them between {} and {} ({z}p = {:.3})",
        beside.n,
        value(beside.mean, is_share),
        value(beside.lo, is_share),
        value(beside.hi, is_share),
        beside.p
    )
}

/// What the vectors of a pair do.
pub(super) fn paragraph(settings: &Settings, tables: &Tables, doses: &Doses, pair: &Pair) -> Result<String> {
    let recipe = pair.recipe;
    let is_models = recipe.contrast == MODELS;
    let what = if is_models {
        format!(
            "The vector of {} (its mean activation minus that of the base), added to {}",
            pair.source, pair.target
        )
    } else {
        format!(
            "The vector of {} in {} (prompts of {} minus prompts of {})",
            recipe.contrast, pair.source, recipe.plus, recipe.minus
        )
    };
    if let Some(problem) = &recipe.problem {
        return Ok(format!("{what}: there is none, since {problem}."));
    }
    let dose = reference(settings);
    let Some((key, found)) = strongest(doses, pair, dose) else {
        return Ok(format!("{what}, is zero at all places: it does nothing."));
    };
    let own: Vec<(&Key, &Dose)> = doses.iter().filter(|(k, _)| pair.has(k)).collect();
    let n_places = own.iter().filter(|(k, _)| k.5 == dose).count();
    let unit = if found.is_share { "of the difference between the two models" } else { "logits of delta" };
    let among = if n_places > 1 { format!(", the strongest of {n_places} places") } else { String::new() };
    let controls: Vec<String> =
        found.beside.iter().map(|(kind, beside)| of_controls(kind, beside, found.is_share)).collect();
    // More random directions than these would be needed for p-values that stand correction.
    let beyond = own.iter().filter_map(|(_, d)| d.beside.get("random"));
    let beyond = beyond.filter(|b| b.p <= 1.0 / (b.n as f64 + 1.0) + 1e-12).count();
    let by_chance = own.len() as f64 / (settings.random as f64 + 1.0);
    let at = |d: &&(&Key, &Dose)| d.0.3 == key.3 && d.0.4 == key.4;
    let line: Vec<&(&Key, &Dose)> = own.iter().filter(at).collect();
    let ends = match (line.first(), line.last()) {
        (Some(first), Some(last)) if first.0 != last.0 => format!(
            " Over strengths from {:+} to {:+} it brings from {} to {}.",
            first.1.strength,
            last.1.strength,
            value(first.1.shown.0, found.is_share),
            value(last.1.shown.0, found.is_share)
        ),
        _ => String::new(),
    };
    Ok(format!(
        "{what}: at strength {:+}, {}{among}, it brings {} {unit} (q = {:.3} over {} templates). {}. At {beyond} of {} places and \
         strengths its effect is larger than that of every random direction, where {by_chance:.1} would be by chance.{ends}{}{}",
        found.strength,
        place(key),
        with_interval(found.shown, found.is_share),
        found.q,
        found.n_clusters,
        controls.join("; "),
        own.len(),
        lengths(tables, pair, key)?,
        price(found),
    ))
}

/// How long the vector is, and whether the two halves agree on its direction.
fn lengths(tables: &Tables, pair: &Pair, key: &Key) -> Result<String> {
    let Some(row) = row_of(&tables.vectors, pair, key)? else { return Ok(String::new()) };
    let relative = tables.vectors.floats_or_null("relative_norm")?[row];
    let relative = relative.map_or(String::new(), |r| {
        format!(" The vector is {:.1}% as long as the activations there", 100.0 * r)
    });
    let cosine = tables.vectors.floats_or_null("half_cosine")?[row];
    let halves =
        cosine.map_or(String::new(), |c| format!("; those of the two halves have a cosine of {c:.2}"));
    Ok(if relative.is_empty() { relative } else { format!("{relative}{halves}.") })
}

/// The row of a vector in the table of vectors.
fn row_of(vectors: &Table, pair: &Pair, key: &Key) -> Result<Option<usize>> {
    let (source, contrast) = (vectors.texts("source")?, vectors.texts("contrast")?);
    let (site, layer) = (vectors.texts("site")?, vectors.ints("layer")?);
    let is_it = |&i: &usize| {
        source[i] == pair.source
            && contrast[i] == pair.recipe.contrast
            && site[i] == key.3
            && layer[i] == key.4
    };
    Ok((0..vectors.n_rows()).find(is_it))
}

fn price(found: &Dose) -> String {
    let nats = |(mean, lo, hi): Shown| format!("{mean:.3} [{lo:.3}, {hi:.3}]");
    let Some(own) = found.kl.get("vector") else { return String::new() };
    let random = found
        .kl
        .get("random")
        .map_or(String::new(), |kl| format!("; random directions of its length move it by {}", nats(*kl)));
    format!(" On unrelated text it moves the next token by {} nats (KL){random}.", nats(*own))
}

/// Every vector at the reference strength.
pub(super) fn table(
    settings: &Settings,
    tables: &Tables,
    doses: &Doses,
    pairs: &[Pair],
) -> Result<SummaryTable> {
    let dose = reference(settings);
    let mut rows = Vec::new();
    for pair in pairs {
        for (key, found) in doses.iter().filter(|(key, _)| pair.has(key) && key.5 == dose) {
            let row = row_of(&tables.vectors, pair, key)?;
            let column = |name: &str, n: usize| -> Result<String> {
                let values = tables.vectors.floats_or_null(name)?;
                Ok(row.and_then(|r| values[r]).map_or(String::new(), |v| format!("{v:.n$}")))
            };
            let beside = |kind: &str| {
                found.beside.get(kind).map_or(String::new(), |b| {
                    let z = b.z.map_or(String::new(), |z| format!("z {z:.1}, "));
                    format!("{z}p {:.3}", b.p)
                })
            };
            let kl = |kind: &str| found.kl.get(kind).map_or(String::new(), |kl| format!("{:.3}", kl.0));
            rows.push(vec![
                pair.title(),
                place(key),
                column("norm", 3)?,
                column("relative_norm", 3)?,
                column("half_cosine", 2)?,
                found.effect.text(),
                found.effect.recovery_text(),
                beside("random"),
                beside("shuffled"),
                kl("vector"),
                kl("random"),
                found.mass.map_or(String::new(), |m| format!("{:.3}", m.0)),
            ]);
        }
    }
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    let strength = settings.strengths.get(dose as usize).copied().unwrap_or(1.0);
    Ok(SummaryTable {
        title: format!("Vectors at strength {strength:+}"),
        columns: vec![
            column("vector", "Source → steered model, or a contrast between the prompts of a model.", false),
            column("place", "Layer and site.", false),
            column("length", "Length of the vector from all prompts.", true),
            column("relative", "The same, divided by the mean length of the source's activations.", true),
            column("cosine", "Between the vectors of the two halves of the templates.", true),
            column("change", "Mean change of delta (logit), with its 95% interval over templates.", true),
            column("recovery", "Share of the difference between source and target that comes.", true),
            column("random", "The effect among those of random directions of the same length.", true),
            column("shuffled", "Among differences between random groups of prompts.", true),
            column("KL", "On unrelated text: nats per token.", true),
            column("KL random", "The same of random directions.", true),
            column("mass", "Legal mass of the steered prompts.", true),
        ],
        rows,
    })
}

/// What a reader must know.
pub(super) fn notes(settings: &Settings, recipes: &[Recipe], share_of_mass: f64) -> Vec<String> {
    let mut notes = vec![
        "Vectors that are tested on a prompt come from the other half of the templates, so that no prompt is steered by what it \
         helped to make. The files hold the vectors from all prompts."
            .to_owned(),
        format!(
            "Random directions are spread over all dimensions, most of which activations hardly use, so a vector beats them easily. \
             Differences between random groups of prompts lie where activations vary, and prompts differ in their decision: they \
             are the harder control. With n directions no p can be below 1/(n + 1); here there are {} and {}. That is enough to see \
             where a vector stands, not for a correction for many places; more of them (random, shuffled) are.",
            settings.random, settings.shuffled
        ),
        format!(
            "delta is that of the primary pair of answers, which holds {:.0}% of the legal mass on the base; the legal mass here is \
             that of this pair, given the tokens that both answers begin with.",
            100.0 * share_of_mass
        ),
    ];
    if recipes.iter().any(|r| r.problem.is_none() && r.halves.len() < 2) {
        notes.push(
            "There is one template only: vectors are tested on the very prompts that they are made from, and their effects are too \
             large for that reason."
                .to_owned(),
        );
    }
    notes
}
