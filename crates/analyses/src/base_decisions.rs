//! The base's decisions as units of work, for runs on several machines: every analysis asks for them, and no machine should have to
//! put all prompts to the base by itself.

use crate::context::Context;
use crate::error::Result;
use crate::score::{Decision, score};
use crate::subject::Prompt;
use lorascope_record::sha256_hex;

/// Has the base decide on all prompts, where its decisions are not known yet ([`crate::Subject::base_decisions`]).
///
/// # Errors
/// What keeps a prompt from being run, or a part from being kept.
pub fn share_base_decisions(context: &Context) -> Result<()> {
    let subject = context.subject;
    if subject.knows_base_decisions() {
        return Ok(());
    }
    // Analyses with prompts of their own have other decisions.
    let ids: Vec<&str> = subject.prompts.iter().map(Prompt::id).collect();
    let key = &sha256_hex(format!("{ids:?}").as_bytes())[..12];
    let blocks = subject.blocks();
    let variants = |p: usize| {
        let answers = &subject.prompts[p].answers;
        (answers.a.len(), answers.b.len())
    };
    let part = |(b, block): (usize, &Vec<usize>)| {
        let n = block.iter().map(|&p| variants(p).0 + variants(p).1).sum();
        (format!("base-{key}-{b:05}"), n)
    };
    let parts: Vec<(String, usize)> = blocks.iter().enumerate().map(part).collect();
    context.progress.begin("deciding on the base model", blocks.len() as u64);
    let found: Vec<Vec<f64>> = context.many_numbers(&parts, |b| {
        let asked: Vec<&Prompt> = blocks[b].iter().map(|&p| &subject.prompts[p]).collect();
        let decisions = score(&subject.model, &[0], &asked, &|_, _| {})?;
        context.progress.at(b as u64 + 1);
        Ok(decisions.into_iter().flat_map(|d| [d.variants_a, d.variants_b].concat()).collect())
    })?;
    context.progress.end();
    let mut decisions: Vec<(usize, Decision)> = Vec::new();
    for (block, numbers) in blocks.iter().zip(&found) {
        let mut rest = &numbers[..];
        for &p in block {
            let (of_a, after) = rest.split_at(variants(p).0);
            let (of_b, after) = after.split_at(variants(p).1);
            decisions.push((p, Decision { variants_a: of_a.to_vec(), variants_b: of_b.to_vec() }));
            rest = after;
        }
    }
    decisions.sort_by_key(|(p, _)| *p);
    subject.learn_base_decisions(decisions.into_iter().map(|(_, decision)| decision).collect());
    Ok(())
}
