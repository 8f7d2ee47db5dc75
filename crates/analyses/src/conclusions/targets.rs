//! Which parts are worth fine-tuning: the smallest sets of blocks that carry what each adapter learned.

use super::LEVEL;
use super::claim::{Answer, Claim, Verdict, share};
use super::rows::Selection;
use crate::context::Context;
use crate::error::Result;

pub(super) fn claims(context: &Context) -> Result<Answer> {
    let Some(table) = context.finished("surgery_sets")? else {
        let claim = Claim::not_asked(
            "few_blocks_are_enough",
            "Which blocks of an adapter carry its behaviour",
            "add surgery to the analyses",
        );
        return Ok(Answer { claims: vec![claim], ..Answer::default() });
    };
    let (adapters, sets) = (table.texts("adapter")?, table.texts("set")?);
    let (n_blocks, parameters) = (table.ints("n_blocks")?, table.floats("parameter_share")?);
    let (recovery, held_out) = (table.floats_or_null("recovery")?, table.floats_or_null("held_out")?);
    let (lo, hi) = (table.floats_or_null("held_out_lo")?, table.floats_or_null("held_out_hi")?);
    let (random, p) = (table.floats_or_null("random")?, table.floats_or_null("random_p")?);
    let (n, folders) = (table.ints("n_held_out")?, table.texts_or_null("folder")?);
    let mut claims = Vec::new();
    let model = &context.subject.model;
    let learned: Vec<&str> = context.subject.fine_tunes().into_iter().map(|m| model.name(m)).collect();
    for i in (0..table.n_rows()).filter(|&i| sets[i] == "smallest" && learned.contains(&adapters[i])) {
        let ends = lo[i].zip(hi[i]);
        let shown = ends.is_some_and(|e| e.0 > 0.0) && p[i].is_some_and(|p| p <= LEVEL);
        let verdict = if shown { Verdict::Yes } else { Verdict::NotResolved };
        let told = |v: Option<f64>, ends| v.map_or("an unknown share".to_owned(), |v| share(v, ends));
        let chance =
            random[i].map_or(String::new(), |r| format!(" (random sets of that size {})", share(r, None)));
        let ready = folders[i].as_deref().map_or(String::new(), |f| {
            format!(" They lie in {f} as an adapter; its config names them as targets. Training on them alone would test it.")
        });
        let statement = format!(
            "{}: {} blocks with {} of the parameters recover {} of its behaviour{chance}, {} on prompts on which they were not \
             chosen.{ready}",
            adapters[i],
            n_blocks[i],
            share(parameters[i], None),
            told(recovery[i], None),
            told(held_out[i], ends)
        );
        claims.push(
            Claim::new("few_blocks_are_enough", verdict, statement)
                .about(adapters[i])
                .value(held_out[i], ends)
                .null(random[i])
                .p(p[i])
                .n(usize::try_from(n[i]).unwrap_or_default())
                .from(
                    "surgery_sets",
                    &Selection::of("adapter", adapters[i]).and("set", "smallest"),
                    Some("surgery_curves"),
                ),
        );
    }
    Ok(Answer { claims, ..Answer::default() })
}
