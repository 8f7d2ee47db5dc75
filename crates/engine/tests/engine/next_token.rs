//! Statements about the next token against sums over all logits, with vocabularies of one block, of several and of a
//! last block that is not full; with ties, references and the soft cap.

use crate::support::{
    Tensors, copy_folder, each_family, edit_json, edit_tensors, load, shared, states, tokens,
};
use lorascope_engine::{Batch, Mat, Model, NextToken, Number, States};

/// The definition: logits of all tokens, then sums over them.
fn naive<R: Number>(model: &Model<R>, s: &States<R>) -> Vec<NextToken> {
    let all = model.all_logits(s.model, &s.normalized).unwrap();
    let logits: Vec<Vec<f64>> =
        (0..all.rows).map(|r| all.row(r).iter().map(|v| v.to_f64()).collect()).collect();
    let log_sum_exp = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        max + row.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
    };
    let one = |(i, row): (usize, &Vec<f64>)| {
        let lse = log_sum_exp(row);
        let kl = s.reference.get(i).map_or(0.0, |&r| {
            let from = log_sum_exp(&logits[r]);
            logits[r].iter().zip(row).map(|(p, q)| (p - from).exp() * ((p - from) - (q - lse))).sum()
        });
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        NextToken {
            logits: s.tokens[i].iter().map(|&t| row[t as usize]).collect(),
            ranks: s.tokens[i]
                .iter()
                .map(|&t| row.iter().filter(|v| **v > row[t as usize]).count())
                .collect(),
            log_sum_exp: lse,
            kl,
            top: order.into_iter().take(s.top).map(|t| (t as u32, row[t])).collect(),
        }
    };
    logits.iter().enumerate().map(one).collect()
}

fn agrees<R: Number>(name: &str, model: &Model<R>, s: &States<R>) -> Vec<NextToken> {
    let (got, want) = (model.next_tokens(s).unwrap(), naive(model, s));
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        // A logit has one value, whichever tokens are computed beside it: ranks and ties depend on that.
        assert_eq!((&g.logits, &g.ranks, &g.top), (&w.logits, &w.ranks, &w.top), "{name}, row {i}");
        assert!(
            (g.log_sum_exp - w.log_sum_exp).abs() < 1e-12 * w.log_sum_exp.abs().max(1.0),
            "{name}, row {i}"
        );
        assert!((g.kl - w.kl).abs() < 1e-11, "{name}, row {i}: {} {}", g.kl, w.kl);
        assert!(g.kl >= 0.0);
        for t in 0..g.logits.len() {
            assert_eq!(g.log_prob(t), g.logits[t] - g.log_sum_exp);
        }
    }
    got
}

/// States of 12 rows, different tokens asked for in each, references in a circle.
fn request<R: Number>(model: &Model<R>, which: usize, extra: &[u32]) -> States<R> {
    let batch = Batch::new(model.spec(), &[(which, &tokens(9, 12))]).unwrap();
    let normalized = states(model, &batch, Vec::new());
    let wanted = |i: usize| tokens(i as u64, i).into_iter().chain(extra.iter().copied()).collect();
    let reference = (0..12).map(|i| (i + 5) % 12).collect();
    States { model: which, normalized, tokens: (0..12).map(wanted).collect(), reference, top: 7 }
}

fn all_requests_agree<R: Number>(name: &str, model: &Model<R>, extra: &[u32]) {
    for which in 0..model.n_models() {
        let all = request(model, which, extra);
        let got = agrees(name, model, &all);
        assert!(got.iter().all(|n| n.kl > 0.0), "{name}: other rows are other distributions");
        // The most probable token has rank 0, and its logit is the largest.
        let top = got.iter().map(|n| vec![n.top[0].0]).collect();
        for n in agrees(name, model, &States { tokens: top, top: 0, reference: Vec::new(), ..all.clone() }) {
            assert_eq!((n.ranks[0], n.kl, n.top.len()), (0, 0.0, 0));
        }
        let own = agrees(name, model, &States { reference: (0..12).collect(), ..all.clone() });
        assert!(own.iter().all(|n| n.kl < 1e-13), "{name}: a distribution diverges from itself by 0");
        let everything = States { top: model.spec().d_vocab + 3, ..all };
        for n in agrees(name, model, &everything) {
            assert_eq!(n.top.len(), model.spec().d_vocab, "{name}: no more tokens than there are");
            let total: f64 = n.top.iter().map(|(_, l)| (l - n.log_sum_exp).exp()).sum();
            assert!((total - 1.0).abs() < 1e-12, "{name}: probabilities add up to {total}");
        }
    }
}

#[test]
fn every_family_in_one_block() {
    each_family::<f64>(|name, model| all_requests_agree(name, model, &[0, 511, 0]));
    each_family::<f32>(|name, model| all_requests_agree(name, model, &[0, 511, 0]));
}

/// A tiny model whose vocabulary is repeated, with small changes, up to `d_vocab` tokens; tokens 4096 apart are equal
/// where the first is divisible by 3, so that there are ties within and across blocks.
fn enlarged<R: Number>(family: &str, d_vocab: usize) -> Option<Model<R>> {
    let dir = copy_folder(&shared()?.join("tiny").join(family).join("model"));
    edit_json(&dir.path().join("config.json"), |c| c["vocab_size"] = d_vocab.into());
    edit_tensors(&dir.path().join("model.safetensors"), |tensors: &mut Tensors| {
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let Some((shape, values)) = tensors.get_mut(name) else { continue };
            let (v, d) = (shape[0], shape[1]);
            let at = |t: usize, j: usize| {
                let first = t % 4096;
                let copy = if first.is_multiple_of(3) { first } else { t };
                values[(copy % v) * d + j] * (1.0 - (copy / v) as f32 * 0.01)
            };
            let more =
                (0..d_vocab).flat_map(|t| (0..d).map(move |j| (t, j))).map(|(t, j)| at(t, j)).collect();
            (*shape, *values) = (vec![d_vocab, d], more);
        }
    });
    Some(load(dir.path(), &[]))
}

#[test]
fn several_blocks_with_ties_across_them() {
    for family in ["gemma2", "llama"] {
        for d_vocab in [4095, 4096, 4097, 8192, 9001] {
            let Some(model) = enlarged::<f64>(family, d_vocab) else { return };
            let last = d_vocab as u32 - 1;
            all_requests_agree(&format!("{family} {d_vocab}"), &model, &[0, last, last / 2, 4094]);
        }
        let Some(model) = enlarged::<f32>(family, 8195) else { return };
        all_requests_agree(&format!("{family} 8195"), &model, &[8194, 4098, 2, 4096, 0]);
        // Tokens 3 and 4099 are one token twice: the same logit, the same rank, the smaller one first.
        let s = States { tokens: vec![vec![3, 4099]; 12], top: 8195, ..request(&model, 0, &[]) };
        for n in agrees(family, &model, &s) {
            assert_eq!((n.logits[0], n.ranks[0]), (n.logits[1], n.ranks[1]));
            let at = |t: u32| n.top.iter().position(|k| k.0 == t).unwrap();
            assert!(at(3) < at(4099));
        }
    }
}

#[test]
fn the_soft_cap_is_part_of_every_logit() {
    let Some(gemma) = crate::support::tiny::<f64>("gemma2") else { return };
    let cap = gemma.spec().final_softcap.unwrap();
    let s = request(&gemma, 0, &[17, 300]);
    let next = gemma.next_tokens(&s).unwrap();
    for (i, next) in next.iter().enumerate() {
        for (t, logit) in s.tokens[i].iter().zip(&next.logits) {
            let raw = crate::support::dot(&gemma.output_row(0, *t).unwrap(), s.normalized.row(i));
            assert!((logit - cap * (raw / cap).tanh()).abs() < 1e-11);
        }
    }
    // A state 1000 times as long would have logits in the thousands.
    let long = Mat { data: s.normalized.data.iter().map(|v| v * 1000.0).collect(), ..s.normalized.clone() };
    assert!(gemma.all_logits(0, &long).unwrap().data.iter().all(|v| v.abs() <= cap));
}

#[test]
fn an_adapter_with_a_head_of_its_own_is_read_by_it() {
    let Some(shared) = shared() else { return };
    let dir = shared.join("tiny/llama");
    let model = load::<f64>(
        &dir.join("model"),
        &[("head", dir.join("edge/save_lm_head")), ("lora", dir.join("adapter"))],
    );
    let normalized = request(&model, 0, &[]).normalized;
    let logits = |which| model.all_logits(which, &normalized).unwrap();
    assert_ne!(logits(0), logits(1));
    assert_eq!(logits(0), logits(2));
    all_requests_agree("save_lm_head", &model, &[511]);
    let own = model.output_row(1, 5).unwrap();
    let stored = crate::support::Stored::read(&dir.join("edge/save_lm_head/adapter_model.safetensors"));
    let name = "base_model.model.lm_head.weight";
    assert_eq!(own, stored.get(name)[5 * 64..6 * 64]);
}
