//! Batches: which rows sequences share, and which rows a row sees, against a map from prefixes to rows.

use lorascope_engine::{Batch, ModelSpec, Row, read_spec};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// A model with 8 tokens and a context of 10.
fn spec() -> ModelSpec {
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 8, "max_position_embeddings": 10, "hidden_act": "silu"
    });
    read_spec(&config).unwrap().1
}

fn batch(sequences: &[(usize, Vec<u32>)]) -> Batch {
    let borrowed: Vec<(usize, &[u32])> = sequences.iter().map(|(m, t)| (*m, t.as_slice())).collect();
    Batch::new(&spec(), &borrowed).unwrap()
}

/// Everything that must hold of a batch of these sequences.
fn check(sequences: &[(usize, Vec<u32>)]) {
    let batch = batch(sequences);
    // Naively, a row is a model and a prefix.
    let prefixes: BTreeSet<(usize, &[u32])> =
        sequences.iter().flat_map(|(m, t)| (1..=t.len()).map(move |n| (*m, &t[..n]))).collect();
    assert_eq!(batch.n_rows(), prefixes.len(), "shared rows exist once");
    let mut row_of_prefix: HashMap<(usize, &[u32]), usize> = HashMap::new();
    for (s, (model, tokens)) in sequences.iter().enumerate() {
        for position in 0..tokens.len() {
            let row = batch.row_of(s, position).unwrap();
            let known = *row_of_prefix.entry((*model, &tokens[..=position])).or_insert(row);
            assert_eq!(known, row, "one prefix, one row");
            assert_eq!(batch.row(row), Row { model: *model, token: tokens[position], position });
        }
        assert_eq!(batch.row_of(s, tokens.len()), None);
        assert_eq!(batch.row_of(s, usize::MAX), None);
    }
    assert_eq!(batch.row_of(sequences.len(), 0), None);
    let distinct: BTreeSet<usize> = row_of_prefix.values().copied().collect();
    assert_eq!(distinct.len(), prefixes.len(), "two prefixes, two rows");
    for ((model, prefix), &row) in &row_of_prefix {
        let keys: Vec<usize> = batch.keys_of(row).into_iter().flatten().collect();
        let expected: Vec<usize> =
            (1..=prefix.len()).map(|n| row_of_prefix[&(*model, &prefix[..n])]).collect();
        assert_eq!(keys, expected, "a row sees its prefixes in order");
        assert!(keys.is_sorted() && keys.last() == Some(&row), "what a row sees lies before it");
    }
    check_segments(&batch);
    check_runs(&batch);
}

fn check_segments(batch: &Batch) {
    let mut next = 0;
    for segment in batch.segments() {
        assert_eq!(segment.rows.start, next, "segments cover the rows without gaps");
        assert!(!segment.rows.is_empty());
        next = segment.rows.end;
        let first = batch.row(segment.rows.start);
        match segment.parent {
            None => assert_eq!(first.position, 0),
            Some(parent) => {
                assert!(parent < segment.rows.start, "parents come first");
                let last = batch.row(parent);
                assert_eq!((first.model, first.position), (last.model, last.position + 1));
            }
        }
        for (n, row) in segment.rows.clone().enumerate() {
            assert_eq!(batch.row(row).position, first.position + n);
            assert_eq!(batch.row(row).model, first.model);
        }
    }
    assert_eq!(next, batch.n_rows());
}

fn check_runs(batch: &Batch) {
    let mut next = 0;
    for (i, (model, rows)) in batch.runs().iter().enumerate() {
        assert_eq!(rows.start, next);
        next = rows.end;
        assert!(rows.clone().all(|r| batch.row(r).model == *model));
        assert!(i == 0 || batch.runs()[i - 1].0 < *model, "models in order, each once");
    }
    assert_eq!(next, batch.n_rows());
    for (start, end) in
        (0..=batch.n_rows()).flat_map(|s| (s..=batch.n_rows()).map(move |e| (s, e))).step_by(7)
    {
        let parts = batch.runs_within(start..end);
        let models: Vec<usize> = parts.iter().flat_map(|(m, r)| r.clone().map(move |_| *m)).collect();
        let expected: Vec<usize> = (start..end).map(|r| batch.row(r).model).collect();
        assert_eq!(models, expected);
        let rows: Vec<usize> = parts.into_iter().flat_map(|(_, r)| r).collect();
        assert_eq!(rows, (0..end - start).collect::<Vec<_>>(), "relative to the first row");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Few different tokens, so that prefixes are shared at every depth.
    #[test]
    fn rows_are_the_distinct_prefixes(
        sequences in prop::collection::vec((0usize..3, prop::collection::vec(0u32..3, 1..8)), 0..12),
    ) {
        check(&sequences);
    }
}

#[test]
fn sequences_share_exactly_their_common_beginning() {
    let rows = |sequences: &[(usize, Vec<u32>)]| {
        check(sequences);
        let batch = batch(sequences);
        (batch.n_rows(), batch.segments().len())
    };
    assert_eq!(rows(&[]), (0, 0));
    assert_eq!(rows(&[(0, vec![1, 2, 3])]), (3, 1));
    assert_eq!(rows(&[(0, vec![1, 2, 3]), (0, vec![1, 2, 3])]), (3, 1), "identical sequences");
    assert_eq!(
        rows(&[(0, vec![1, 2, 3]), (0, vec![1, 2])]),
        (3, 1),
        "a prefix of another ends inside its segment"
    );
    assert_eq!(rows(&[(0, vec![1, 2, 3]), (0, vec![1, 2, 4])]), (4, 3), "a fork");
    assert_eq!(rows(&[(0, vec![1, 2]), (0, vec![2, 2])]), (4, 2), "equal tokens after different ones");
    assert_eq!(rows(&[(0, vec![1, 2]), (1, vec![1, 2])]), (4, 2), "models do not share");
    assert_eq!(rows(&[(2, vec![1]), (0, vec![1]), (2, vec![1, 1])]), (3, 2), "models may come in any order");
}

#[test]
fn sequences_that_no_model_can_take() {
    let refusal = |tokens: &[u32]| Batch::new(&spec(), &[(0, &[1]), (1, tokens)]).unwrap_err().to_string();
    assert_eq!(refusal(&[]), "sequence 1: it has no tokens");
    assert_eq!(refusal(&[0, 8, 9]), "sequence 1: token 8 is outside the vocabulary of 8 tokens");
    assert_eq!(refusal(&[0; 11]), "sequence 1: it has 11 tokens, but the model's context is 10");
    assert!(Batch::new(&spec(), &[(0, &[7; 10])]).is_ok(), "the last token and the full context are allowed");
}
