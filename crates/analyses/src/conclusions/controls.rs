//! What adapters do to decisions beside controls of the same size that learned nothing.

use super::claim::{Claim, Verdict, share};
use super::rows::Selection;
use crate::context::Context;
use crate::decide::by_prompt;
use crate::error::Result;
use crate::statistics::Design;
use lorascope_engine::BASE;

pub(super) fn claims(context: &Context) -> Result<Vec<Claim>> {
    let subject = context.subject;
    let Some(table) = context.finished("decisions")? else { return Ok(Vec::new()) };
    let deltas = by_prompt(&table, "delta")?;
    let clusters: Vec<&str> = subject.prompts.iter().map(|p| p.item.cluster()).collect();
    let design = Design::new(&clusters, context.seed);
    let moved = |model: &str| -> Vec<f64> {
        let of = |model: &str, id: &str| deltas.get(&(model, id)).copied();
        let ids = subject.prompts.iter().map(|p| p.id());
        ids.filter_map(|id| Some((of(model, id)? - of(BASE, id)?).abs())).collect()
    };
    let mut claims = Vec::new();
    for adapter in subject.model.adapters() {
        let Some(control) = &adapter.control else { continue };
        let (own, other) = (moved(&adapter.name), moved(&control.of));
        if own.len() != design.n() || other.iter().all(|d| *d == 0.0) {
            continue;
        }
        let found = design.ratio(&own, &other);
        let verdict = if found.hi < 1.0 { Verdict::Yes } else { Verdict::NotResolved };
        let statement = format!(
            "{} ({}) moves decisions {} as far as {}.",
            adapter.name,
            control.kind.description(),
            share(found.mean, Some((found.lo, found.hi))),
            control.of
        );
        claims.push(
            Claim::new("moves_more_than_its_control", verdict, statement)
                .about(format!("{} and {}", control.of, adapter.name))
                .interval(found)
                .null(Some(1.0))
                .n(design.n())
                .from("decisions", &Selection::one_of("model", &[&control.of, &adapter.name, BASE]), None),
        );
    }
    if claims.is_empty() {
        let what = "How far an update of the same size that learned nothing moves decisions";
        claims.push(Claim::not_asked("moves_more_than_its_control", what, "add controls = [random]"));
    }
    Ok(claims)
}
