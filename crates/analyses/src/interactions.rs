//! Do components act together, and did fine-tuning change which do? Two measures that answer different questions.
//!
//! *Correlation* of signed contributions (direct logit attribution) over prompts, within scenario and template: whether two
//! components push the decision the same way on the same prompts. It needs several hundred prompts; below a stated number nothing
//! is claimed. It shows no direction: two components that read the same third one correlate too.
//!
//! *Causal interaction* of a pair at the decision point: the effect of patching both from another model minus the sum of the
//! effects of patching each, `I = (m_ij − m) − (m_i − m) − (m_j − m)`. Zero where they act independently.
//!
//! Means of scenario and template come off first, because what all components share across scenarios correlates all of them.
//! What moves between prompts then is tested against permutations ([`correlate`]).

mod causal;
mod centre;
mod correlate;
mod figures;
mod tables;

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::dla::{self, Component, Kind};
use crate::error::{Error, Result};
use crate::flags::{Flag, one_or_many};
use crate::interventions::pairs_by_name;
use crate::scenarios::n_clusters;
use crate::statistics::{Design, benjamini_hochberg};
use crate::subject::Subject;
use centre::Groups;
use correlate::{Standard, pairs};
use lorascope_record::{Table, TableSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tables::{COMPONENTS, CORRELATIONS, DIFFERENCES, EFFECTS, PATCHES};

pub(crate) struct Interactions;

const NAME: &str = "interactions";

/// At or below this adjusted p-value something counts as shown.
const LEVEL: f64 = 0.05;

/// Settings of the interactions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Components with the most varying contributions that are correlated.
    components: usize,
    /// Random permutations.
    permutations: usize,
    /// With fewer prompts no correlation is claimed.
    enough: usize,
    /// Whether adapters are compared with each other too, not only with the base.
    pairs: bool,
    /// Models whose components are patched; with neither, every adapter into the base.
    #[serde(deserialize_with = "one_or_many")]
    source: Vec<String>,
    /// Models that they are put into.
    #[serde(deserialize_with = "one_or_many")]
    target: Vec<String>,
    /// Components of each comparison whose pairs are patched; 0 for none.
    patched: usize,
    /// Prompts on which they are.
    prompts: usize,
    /// How many pairs the report lists.
    top: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            components: 30,
            permutations: 9999,
            enough: 300,
            pairs: false,
            source: Vec::new(),
            target: Vec::new(),
            patched: 8,
            prompts: 64,
            top: 15,
        }
    }
}

const FLAGS: &[Flag] = &[
    Flag { name: "source", value: "MODEL", help: "Patch pairs of components of this model; may be repeated" },
    Flag { name: "target", value: "MODEL", help: "Put them into this model; may be repeated" },
];

static TABLES: &[&TableSpec] = &[&COMPONENTS, &CORRELATIONS, &DIFFERENCES, &PATCHES, &EFFECTS];

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::Settings { analysis: NAME, why })
}

impl Analysis for Interactions {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Interactions of components"
    }
    fn question(&self) -> &'static str {
        "Which components act together, and did that change?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn flags(&self) -> &'static [Flag] {
        FLAGS
    }
    /// It needs more prompts than the default design has.
    fn by_default(&self) -> bool {
        false
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(NAME, given)?;
        let n = settings.components;
        if n < 2 {
            return refuse(format!("components is {n}; a pair needs two"));
        }
        let family = n * (n - 1) / 2;
        let least = (family as f64 / LEVEL).ceil() as usize;
        if settings.permutations + 1 < least {
            return refuse(format!(
                "permutations is {}, but with the {family} pairs of {n} components a single one can reach q ≤ {LEVEL} only with {} or \
                 more",
                settings.permutations,
                least - 1
            ));
        }
        if settings.patched == 1 || settings.prompts == 0 {
            return refuse("patched is 0 or from 2, prompts from 1".to_owned());
        }
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        let settings: Settings = read_settings(NAME, settings)?;
        if settings.source.is_empty() && settings.target.is_empty() && subject.model.n_models() == 1 {
            return Ok(());
        }
        pairs_by_name(NAME, subject, &settings.source, &settings.target).map(|_| ())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        self.check(context.subject, &serde_json::to_value(&settings).unwrap_or_default())?;
        let correlated = Correlated::new(context, &settings)?;
        let (components, correlations) = correlated.tables(context, &settings)?;
        let differences = correlated.differences(context, &settings)?;
        let (patches, effects) = causal::run(context, &settings)?;
        let found = figures::Found {
            correlations: &correlations,
            differences: &differences,
            effects: &effects,
            chosen: &correlated.chosen,
            by_template: correlated.groups.grid().is_some(),
            centres_templates: correlated.groups.centres_templates(),
        };
        let section = figures::section(context, &settings, &found)?;
        Ok(Findings { tables: vec![components, correlations, differences, patches, effects], section })
    }
}

/// The components that vary most, with their contributions.
struct Correlated {
    groups: Groups,
    chosen: Vec<Component>,
    /// `[model][component][prompt]`.
    contributions: Vec<Vec<Vec<f64>>>,
    standard: Vec<Standard>,
    design: Design,
    clusters: usize,
}

impl Correlated {
    fn new(context: &Context, settings: &Settings) -> Result<Self> {
        let subject = context.subject;
        let values = dla::contributions(context, NAME)?;
        let scenarios: Vec<&str> = subject.prompts.iter().map(|p| p.scenario()).collect();
        let templates: Vec<&str> = subject.prompts.iter().map(|p| p.item.cluster()).collect();
        let groups = Groups::new(&scenarios, &templates);
        let n_models = subject.model.n_models();
        let is_unit = |c: &Component| matches!(c.kind, Kind::Head | Kind::Mlp);
        let mut order: Vec<(f64, usize)> = (0..values.components.len())
            .filter(|&c| is_unit(&values.components[c]))
            .map(|c| {
                let variance = |m: usize| variance(&groups, values.contributions(c, m));
                ((0..n_models).map(variance).sum(), c)
            })
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut places: Vec<usize> = order.into_iter().take(settings.components).map(|o| o.1).collect();
        places.sort_by_key(|&c| {
            (values.components[c].layer, values.components[c].kind, values.components[c].head)
        });
        let of_model =
            |m: usize| places.iter().map(|&c| values.contributions(c, m).to_vec()).collect::<Vec<Vec<f64>>>();
        let contributions: Vec<Vec<Vec<f64>>> = (0..n_models).map(of_model).collect();
        let all: Vec<usize> = (0..subject.prompts.len()).collect();
        Ok(Self {
            standard: contributions.iter().map(|c| Standard::new(&groups, c)).collect(),
            chosen: places.iter().map(|&c| values.components[c]).collect(),
            design: Design::new(&templates, context.seed),
            clusters: n_clusters(&subject.prompts, &all),
            contributions,
            groups,
        })
    }

    /// What can be claimed of a q.
    fn verdict(&self, settings: &Settings, q: f64, shown: &'static str) -> &'static str {
        if self.groups.n() >= settings.enough && q <= LEVEL { shown } else { "not resolved" }
    }

    fn tables(&self, context: &Context, settings: &Settings) -> Result<(Table, Table)> {
        let (mut components, mut correlations) = (Table::new(&COMPONENTS), Table::new(&CORRELATIONS));
        let names = context.subject.model.names();
        let templates: Vec<&str> = context.subject.prompts.iter().map(|p| p.item.cluster()).collect();
        let resampler = crate::bootstrap::Resampler::new(&templates, context.seed);
        context.progress.begin("correlating contributions", names.len() as u64);
        for (m, name) in names.iter().enumerate() {
            for (component, values) in self.chosen.iter().zip(&self.contributions[m]) {
                let mean = self.design.mean(values);
                components.push(&[
                    (*name).into(),
                    component.unit_name().into(),
                    self.groups.n().into(),
                    mean.mean.into(),
                    variance(&self.groups, values).sqrt().into(),
                ])?;
            }
            let standard = &self.standard[m];
            let defined: Vec<(usize, usize)> =
                pairs(self.chosen.len()).into_iter().filter(|&p| standard.r(p).is_some()).collect();
            let p = standard.permutation(&self.groups, &defined, settings.permutations, context.seed);
            let q = benjamini_hochberg(&p);
            for ((&(i, j), &p), &q) in defined.iter().zip(&p).zip(&q) {
                let Some(r) = standard.interval((i, j), &resampler) else { continue };
                correlations.push(&[
                    (*name).into(),
                    self.chosen[i].unit_name().into(),
                    self.chosen[j].unit_name().into(),
                    self.groups.n().into(),
                    self.clusters.into(),
                    defined.len().into(),
                    r.mean.into(),
                    r.lo.into(),
                    r.hi.into(),
                    p.into(),
                    q.into(),
                    self.verdict(settings, q, "correlated").into(),
                ])?;
            }
            context.progress.at(m as u64 + 1);
        }
        context.progress.end();
        components.sort_by_keys();
        correlations.sort_by_keys();
        Ok((components, correlations))
    }

    fn differences(&self, context: &Context, settings: &Settings) -> Result<Table> {
        let mut table = Table::new(&DIFFERENCES);
        let names = context.subject.model.names();
        let first = |model: usize| if settings.pairs { model } else { model.min(1) };
        let compared = (1..names.len()).flat_map(|m| (0..first(m)).map(move |minus| (m, minus)));
        let mut found = Vec::new();
        for (model, minus) in compared {
            for pair in pairs(self.chosen.len()) {
                if let Some(one) = self.standard[model].compare(&self.standard[minus], pair, &self.design) {
                    found.push((model, minus, pair, one));
                }
            }
        }
        let q = benjamini_hochberg(&found.iter().map(|f| f.3.2.p).collect::<Vec<f64>>());
        let family = found.len();
        for ((model, minus, (i, j), (r, base, compared)), q) in found.into_iter().zip(q) {
            table.push(&[
                names[model].into(),
                names[minus].into(),
                self.chosen[i].unit_name().into(),
                self.chosen[j].unit_name().into(),
                self.groups.n().into(),
                self.clusters.into(),
                family.into(),
                r.into(),
                base.into(),
                compared.mean.mean.into(),
                compared.mean.lo.into(),
                compared.mean.hi.into(),
                compared.p.into(),
                q.into(),
                self.verdict(settings, q, "different").into(),
            ])?;
        }
        table.sort_by_keys();
        Ok(table)
    }
}

/// Mean square of what varies within scenario and template.
fn variance(groups: &Groups, values: &[f64]) -> f64 {
    let mut centred = values.to_vec();
    groups.centre(&mut centred);
    centred.iter().map(|v| v * v).sum::<f64>() / centred.len() as f64
}
