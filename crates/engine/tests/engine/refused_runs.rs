//! Runs and readings that can't be carried out, each with its message.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use crate::support::{load, shared};
use lorascope_engine::{Batch, Hooks, Mat, Model, States};

#[test]
fn impossible_rows_models_and_states_are_errors() {
    let Some(shared) = shared() else { return };
    let dir = shared.join("tiny/llama");
    let model: Model<f32> = load(&dir.join("model"), &[("lora", dir.join("adapter"))]);
    let spec = model.spec();
    let batch = Batch::new(spec, &[(0, &[2, 5, 7])]).unwrap();
    let nothing = Hooks::default();
    let message = |r: lorascope_engine::Result<_>| r.err().map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(
        message(model.run(&batch, &nothing, &[3]).map(drop)),
        "the readout names row 3, but the batch has 3 rows"
    );
    let stranger = Batch::new(spec, &[(2, &[2, 5, 7])]).unwrap();
    assert_eq!(
        message(model.run(&stranger, &nothing, &[]).map(drop)),
        "rows of model 2 were asked for, but only 2 models are loaded (0 is the base)"
    );
    let states = States {
        model: 0,
        normalized: Mat::zeros(2, spec.d_model),
        tokens: vec![vec![1], vec![2]],
        reference: Vec::new(),
        top: 1,
    };
    let read = |change: fn(&mut States<f32>)| {
        let mut states = states.clone();
        change(&mut states);
        message(model.next_tokens(&states).map(drop))
    };
    assert_eq!(read(|_| {}), "");
    assert_eq!(read(|s| s.tokens.truncate(1)), "states to be read: 1 lists of tokens for 2 rows");
    assert_eq!(read(|s| s.reference = vec![0]), "states to be read: 1 references for 2 rows");
    assert_eq!(read(|s| s.reference = vec![0, 2]), "states to be read: reference row 2 of 2 rows");
    assert_eq!(
        read(|s| s.tokens[1] = vec![512]),
        "states to be read: token 512 is outside the vocabulary of 512 tokens"
    );
    assert_eq!(
        read(|s| s.model = 7),
        "rows of model 7 were asked for, but only 2 models are loaded (0 is the base)"
    );
}
