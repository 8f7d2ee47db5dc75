//! Numbers that stop to be finite: caught, and named by the place where that happened first.

use crate::support::{all_rows, shared, tokens};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{Batch, Capture, Edit, EditOp, Error, HookPoint, Hooks, Mat, Model, Site, States};

/// Large enough that its square is infinite, or twice itself.
const SQUARE_OVERFLOWS: f32 = 1e20;
const SUM_OVERFLOWS: f32 = 3e38;

fn llama() -> Option<Model<f32>> {
    let dir = shared()?.join("tiny/llama");
    let adapters = [("lora".to_owned(), dir.join("adapter"))];
    Some(Model::load(Checkpoint::open(&dir.join("model")).unwrap(), &adapters, usize::MAX).unwrap())
}

fn at(layer: usize, site: Site) -> HookPoint {
    HookPoint::Layer(layer, site)
}

/// What is said of a run of the base and the adapter in which all values of a place are `value` in the third row of model `which`.
fn said(model: &Model<f32>, which: usize, point: HookPoint, width: usize, value: f32) -> String {
    let ids = tokens(7, 6);
    let batch = Batch::new(model.spec(), &[(0, &ids), (1, &ids)]).unwrap();
    let row = batch.row_of(which, 2).unwrap();
    let op = EditOp::Set(vec![value; width]);
    let hooks = Hooks { captures: Vec::new(), edits: vec![Edit { point, row, units: 0..width, op }] };
    let error = model.run(&batch, &hooks, &all_rows(&batch)).unwrap_err();
    let Error::NonFiniteActivation { row: found, position, model: name, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*found, *position, name.as_str()), (row, 2, model.name(which)), "{error}");
    error.to_string()
}

#[test]
fn the_first_place_is_named() {
    let Some(model) = llama() else { return };
    let spec = model.spec();
    let (d, heads, neurons, last) = (spec.d_model, spec.n_heads * spec.d_head, spec.d_mlp, spec.n_layers - 1);
    let cases = [
        // The sum over neurons, each finite, overflows; where an adapter reads them first, its features do.
        (0, at(1, Site::MlpPost), neurons, SUM_OVERFLOWS, "blocks.1.hook_mlp_out"),
        (1, at(1, Site::MlpPost), neurons, SUM_OVERFLOWS, "blocks.1.mlp.down_proj.hook_lora_a"),
        // What one head writes overflows before all of them together do.
        (0, at(1, Site::Z), heads, SUM_OVERFLOWS, "blocks.1.attn.hook_result"),
        // A query that large gives infinite scores, and those no pattern.
        (0, at(1, Site::RotQ), heads, SUM_OVERFLOWS, "blocks.1.attn.hook_attn_scores"),
        // Finite values of which a norm would make zeros.
        (0, at(1, Site::ResidMid), d, SQUARE_OVERFLOWS, "blocks.1.ln2.hook_scale"),
        (1, at(0, Site::ResidPre), d, SQUARE_OVERFLOWS, "blocks.0.ln1.hook_scale"),
        (0, at(last, Site::ResidPost), d, SQUARE_OVERFLOWS, "ln_final.hook_scale"),
    ];
    for (which, point, width, value, first) in cases {
        let said = said(&model, which, point, width, value);
        assert!(said.starts_with(&format!("`{first}` became non-finite in row ")), "{point}: {said}");
    }
}

/// What is named is what captures show: the values before it are finite.
#[test]
fn nothing_before_the_first_place_is_amiss() {
    let Some(model) = llama() else { return };
    let spec = model.spec();
    let said = said(&model, 0, at(1, Site::MlpPost), spec.d_mlp, SUM_OVERFLOWS);
    let ids = tokens(7, 6);
    let batch = Batch::new(spec, &[(0, &ids), (1, &ids)]).unwrap();
    let rows = vec![batch.row_of(0, 2).unwrap()];
    // Up to the edit the run is as it always is; the edit itself is of finite numbers.
    let before =
        [Site::ResidPre, Site::Q, Site::Pattern, Site::Z, Site::AttnOut, Site::ResidMid, Site::MlpPre];
    let captures = before.map(|site| Capture { point: at(1, site), rows: rows.clone() }).to_vec();
    let run = model.run(&batch, &Hooks { captures, edits: Vec::new() }, &[]).unwrap();
    assert!(run.captures.iter().flatten().flatten().all(|v| v.is_finite()));
    assert!(said.contains("hook_mlp_out"), "{said}");
}

/// Finite states of which the output matrix makes logits that are not; a soft cap would make plausible numbers of them.
#[test]
fn logits_are_not_read_where_they_are_not_finite() {
    let Some(shared) = shared() else { return };
    for family in ["llama", "gemma2"] {
        let base = Checkpoint::open(&shared.join("tiny").join(family).join("model")).unwrap();
        let model: Model<f32> = Model::load(base, &[], usize::MAX).unwrap();
        let mut normalized = Mat::zeros(3, model.spec().d_model);
        // Along the row of token 5, so that nothing cancels.
        let along = model.output_row(0, 5).unwrap();
        normalized.row_mut(1).iter_mut().zip(along).for_each(|(v, w)| *v = SUM_OVERFLOWS.copysign(w));
        let states =
            States { model: 0, normalized, tokens: vec![vec![1, 5]; 3], reference: Vec::new(), top: 0 };
        let weights = vec![vec![1.0, -1.0]; 3];
        let said = [
            model.next_tokens(&states).unwrap_err(),
            model.all_logits(0, &states.normalized).unwrap_err(),
            model.logits_of(0, &states.normalized, &[1, 5]).unwrap_err(),
            model.log_probs_backward(&states, &weights).unwrap_err(),
        ];
        for error in said {
            let Error::NonFiniteLogits { model, state } = &error else { panic!("{family}: {error}") };
            assert_eq!((model.as_str(), *state), ("base", 1), "{error}");
        }
    }
}
