//! Whether two models have distinct circuits.

use super::LEVEL;
use super::claim::{Answer, Claim, Verdict, share};
use super::rows::Selection;
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::ALL_PROMPTS;
use crate::statistics::Design;
use std::collections::BTreeMap;

/// Another's circuit serves as well if it brings less by no more than this share of the behaviour.
const AS_WELL: f64 = 0.1;

/// Two models by name.
struct Pair<'a> {
    one: &'a str,
    other: &'a str,
}

pub(super) fn claims(context: &Context, pair: Option<(usize, usize)>) -> Result<Answer> {
    let Some((one, other)) = pair else {
        let claim = Claim::new("exchanged_circuit", Verdict::NotAsked, "It takes two adapters to compare.");
        return Ok(Answer { claims: vec![claim], ..Answer::default() });
    };
    let model = &context.subject.model;
    let pair = Pair { one: model.name(one), other: model.name(other) };
    let mut claims = Vec::new();
    claims.extend(pair.behaviour(context)?);
    let exchanged = pair.exchanged(context)?;
    let summary = pair.summary(&exchanged);
    claims.extend(exchanged);
    claims.extend(pair.overlap(context)?);
    claims.push(pair.attention(context)?);
    claims.push(pair.interactions(context)?);
    claims.extend(pair.weights(context)?);
    Ok(Answer { summary, claims })
}

impl Pair<'_> {
    fn about(&self) -> String {
        format!("{} and {}", self.one, self.other)
    }

    fn is(&self, a: &str, b: &str) -> bool {
        (a == self.one && b == self.other) || (a == self.other && b == self.one)
    }

    /// Rows in which two columns name the two, in either order.
    fn both(&self, column: &str, other: &str) -> Selection {
        let both = [self.one, self.other];
        Selection::one_of(column, &both).and_one_of(other, &both)
    }

    /// Whether they decide differently at all.
    fn behaviour(&self, context: &Context) -> Result<Option<Claim>> {
        let Some(table) = context.finished("decisions")? else { return Ok(None) };
        let (models, ids, delta) = (table.texts("model")?, table.texts("prompt_id")?, table.floats("delta")?);
        let of = |model: &str| -> BTreeMap<&str, f64> {
            (0..table.n_rows()).filter(|&i| models[i] == model).map(|i| (ids[i], delta[i])).collect()
        };
        let (one, other) = (of(self.one), of(self.other));
        let prompts = &context.subject.prompts;
        let both = |p: &str| Some((one.get(p)?, other.get(p)?));
        let differ: Vec<f64> = prompts
            .iter()
            .filter_map(|p| both(p.id()).map(|(a, b)| f64::from(u8::from((*a > 0.0) != (*b > 0.0)))))
            .collect();
        if differ.len() != prompts.len() {
            return Ok(None);
        }
        let clusters: Vec<&str> = prompts.iter().map(|p| p.item.cluster()).collect();
        let found = Design::new(&clusters, context.seed).mean(&differ);
        let verdict = match found.mean {
            0.0 => Verdict::No,
            _ if found.lo > 0.0 => Verdict::Yes,
            _ => Verdict::NotResolved,
        };
        let statement = format!(
            "{} prefer different answers on {} of the prompts.",
            self.about(),
            share(found.mean, Some((found.lo, found.hi)))
        );
        let rows = Selection::one_of("model", &[self.one, self.other]);
        Ok(Some(
            Claim::new("decide_differently", verdict, statement)
                .about(self.about())
                .interval(found)
                .n(differ.len())
                .from("decisions", &rows, None),
        ))
    }

    /// Whether each one's behaviour comes through the other's circuit as well as through its own.
    fn exchanged(&self, context: &Context) -> Result<Vec<Claim>> {
        let Some(table) = context.finished("circuit_crossed")? else {
            let what = "Whether their circuits can be exchanged";
            return Ok(vec![Claim::not_asked("exchanged_circuit", what, "add circuit to the analyses")]);
        };
        let (source, target) = (table.texts("source")?, table.texts("target")?);
        let circuit = table.texts("circuit_of")?;
        let (own, value, null) = (
            table.floats_or_null("own")?,
            table.floats_or_null("value")?,
            table.floats_or_null("null_mean")?,
        );
        let (less, lo, hi) = (
            table.floats_or_null("less")?,
            table.floats_or_null("less_lo")?,
            table.floats_or_null("less_hi")?,
        );
        let mut claims = Vec::new();
        for i in (0..table.n_rows()).filter(|&i| self.is(source[i], circuit[i])) {
            let numbers = (own[i], value[i], less[i], lo[i], hi[i]);
            let (Some(own), Some(value), Some(less), Some(lo), Some(hi)) = numbers else { continue };
            let (verdict, word) = if lo > 0.0 && hi > AS_WELL {
                (Verdict::No, "clearly less")
            } else if hi <= AS_WELL {
                (Verdict::Yes, "as much, or all but")
            } else {
                (Verdict::NotResolved, "how much less is not resolved")
            };
            let random =
                null[i].map_or(String::new(), |n| format!("; random components bring {}", share(n, None)));
            let statement = format!(
                "{} into {}: the circuit of {} brings {} of its behaviour, its own {} ({word}: {} less){random}.",
                source[i],
                target[i],
                circuit[i],
                share(value, None),
                share(own, None),
                share(less, Some((lo, hi)))
            );
            claims.push(
                Claim::new("exchanged_circuit_serves", verdict, statement)
                    .about(format!("{} through the circuit of {}", source[i], circuit[i]))
                    .value(Some(less), Some((lo, hi)))
                    // In the measure of the value: how much less random components bring.
                    .null(null[i].map(|random| own - random))
                    .from(
                        "circuit_crossed",
                        &Selection::of("source", source[i])
                            .and("target", target[i])
                            .and("circuit_of", circuit[i]),
                        Some("circuit_crossed"),
                    ),
            );
        }
        if claims.is_empty() {
            let statement =
                format!("{}: one of the two has no circuit that could be exchanged.", self.about());
            claims.push(
                Claim::new("exchanged_circuit_serves", Verdict::NotResolved, statement).about(self.about()),
            );
        }
        Ok(claims)
    }

    /// What exchanging circuits comes to.
    fn summary(&self, exchanged: &[Claim]) -> String {
        let count = |verdict: Verdict| exchanged.iter().filter(|c| c.verdict == verdict).count();
        let about = self.about();
        match (exchanged.len(), count(Verdict::No), count(Verdict::Yes)) {
            (n, no, _) if n > 1 && no == n => {
                format!("{about} have distinct circuits: each one's own serves it better than the other's.")
            }
            (n, _, yes) if n > 1 && yes == n => {
                format!(
                    "{about} do not have distinct circuits: each one's serves the other as well as its own."
                )
            }
            (n, no, _) if n > 1 && no > 0 => {
                format!(
                    "{about} have circuits that are distinct in part: one of them does not serve the other."
                )
            }
            (n, ..) if n > 1 => {
                format!("Whether {about} have distinct circuits is not resolved at this sample size.")
            }
            _ => String::new(),
        }
    }

    fn overlap(&self, context: &Context) -> Result<Vec<Claim>> {
        let Some(table) = context.finished("circuit_overlap")? else { return Ok(Vec::new()) };
        let (one, other) = (table.texts("source_one")?, table.texts("source_other")?);
        let (to_one, to_other) = (table.texts("target_one")?, table.texts("target_other")?);
        let (jaccard, expected, p) =
            (table.floats_or_null("jaccard")?, table.floats_or_null("expected")?, table.floats_or_null("p")?);
        let (shared, sizes) = (table.ints("shared")?, (table.ints("size_one")?, table.ints("size_other")?));
        let mut claims = Vec::new();
        for i in (0..table.n_rows()).filter(|&i| self.is(one[i], other[i]) && to_one[i] == to_other[i]) {
            let (Some(found), Some(chance), Some(p)) = (jaccard[i], expected[i], p[i]) else { continue };
            let statement = format!(
                "Into {}, their circuits of {} and {} components share {}: {} of those in either, {} by chance (p = {p:.3}).",
                to_one[i],
                sizes.0[i],
                sizes.1[i],
                shared[i],
                share(found, None),
                share(chance, None)
            );
            let verdict = if p <= LEVEL { Verdict::Yes } else { Verdict::NotResolved };
            claims.push(
                Claim::new("circuits_overlap_beyond_chance", verdict, statement)
                    .about(self.about())
                    .value(Some(found), None)
                    .null(Some(chance))
                    .p(Some(p))
                    .from(
                        "circuit_overlap",
                        &Selection::of("source_one", one[i])
                            .and("source_other", other[i])
                            .and("target_one", to_one[i]),
                        Some("circuit_differences"),
                    ),
            );
        }
        Ok(claims)
    }

    /// Whether heads of both attend alike: every head and span passes an equivalence test.
    fn attention(&self, context: &Context) -> Result<Claim> {
        let asked = "set pairs = true in [settings.attention]";
        let missing = || Claim::not_asked("attention_is_equivalent", "Whether they attend alike", asked);
        let Some(table) = context.finished("attention_differences")? else { return Ok(missing()) };
        let (model, minus) = (table.texts("model")?, table.texts("minus")?);
        let (scenario, measure, verdict) =
            (table.texts("scenario")?, table.texts("measure")?, table.texts("verdict")?);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let whole = |i: &usize| scenario[*i] == ALL_PROMPTS && measure[*i] == "mass";
        (0..table.n_rows())
            .filter(|&i| self.is(model[i], minus[i]))
            .filter(whole)
            .for_each(|i| *counts.entry(verdict[i]).or_default() += 1);
        let n: usize = counts.values().sum();
        if n == 0 {
            return Ok(missing());
        }
        let of = |verdict: &str| counts.get(verdict).copied().unwrap_or(0);
        let alike = of("equivalent") + of("small");
        let statement = format!(
            "Of {n} pairs of head and span, {alike} have equivalent attention in both ({} of them with a difference that is clear but \
             smaller than the margin), {} differ, and {} are not resolved.",
            of("small"),
            of("different"),
            of("not resolved")
        );
        let found = match (of("different"), alike) {
            (0, alike) if alike == n => Verdict::Yes,
            (0, _) => Verdict::NotResolved,
            _ => Verdict::No,
        };
        Ok(Claim::new("attention_is_equivalent", found, statement)
            .about(self.about())
            .value(Some(alike as f64 / n as f64), None)
            .n(n)
            .from(
                "attention_differences",
                &self.both("model", "minus").and("measure", "mass").and("scenario", ALL_PROMPTS),
                None,
            ))
    }

    /// Whether correlations of components differ.
    fn interactions(&self, context: &Context) -> Result<Claim> {
        let asked = "add interactions to the analyses, with pairs = true and several hundred prompts";
        let missing =
            || Claim::not_asked("interactions_differ", "Whether components act together otherwise", asked);
        let Some(table) = context.finished("interaction_differences")? else { return Ok(missing()) };
        let (model, minus, verdict) = (table.texts("model")?, table.texts("minus")?, table.texts("verdict")?);
        let rows: Vec<usize> = (0..table.n_rows()).filter(|&i| self.is(model[i], minus[i])).collect();
        if rows.is_empty() {
            return Ok(missing());
        }
        let differ = rows.iter().filter(|&&i| verdict[i] == "different").count();
        let statement = format!(
            "Of {} pairs of components, the correlation of {differ} over prompts differs at a false discovery rate of 5%.",
            rows.len()
        );
        let found = if differ > 0 { Verdict::Yes } else { Verdict::NotResolved };
        Ok(Claim::new("interactions_differ", found, statement)
            .about(self.about())
            .value(Some(differ as f64), None)
            .null(Some(LEVEL * differ as f64))
            .n(rows.len())
            .from("interaction_differences", &self.both("model", "minus"), None))
    }

    /// Whether their updates are more alike than controls are.
    fn weights(&self, context: &Context) -> Result<Option<Claim>> {
        let Some(table) = context.finished("weights_similarity_summary")? else { return Ok(None) };
        let (model, other) = (table.texts("model")?, table.texts("other")?);
        let (module, measure) = (table.texts("module")?, table.texts("measure")?);
        let control = table.texts_or_null("control")?;
        let is_whole =
            |&i: &usize| module[i] == "all" && measure[i] == "cosine_whole" && control[i].is_none();
        let row = (0..table.n_rows()).filter(is_whole).find(|&i| self.is(model[i], other[i]));
        let Some(i) = row else { return Ok(None) };
        let (mean, lo, hi) = (table.floats("mean")?[i], table.floats("lo")?[i], table.floats("hi")?[i]);
        let statement = format!(
            "As one vector, their changes of the weights have a cosine of {mean:.2} [{lo:.2}, {hi:.2}] (0 for unrelated ones)."
        );
        let verdict = if lo > 0.0 { Verdict::Yes } else { Verdict::NotResolved };
        let rows = self.both("model", "other").and("module", "all").and("measure", "cosine_whole");
        Ok(Some(
            Claim::new("weight_changes_are_alike", verdict, statement)
                .about(self.about())
                .value(Some(mean), Some((lo, hi)))
                .null(Some(0.0))
                .from("weights_similarity_summary", &rows, Some("weights_cosine")),
        ))
    }
}
