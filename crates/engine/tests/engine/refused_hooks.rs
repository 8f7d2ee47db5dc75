//! Requests that can't be carried out: each is refused before anything runs, in exactly these words.

use crate::support::{llama_with_many, tiny, tokens};
use lorascope_engine::{
    Batch, Birth, Branch, Capture, Edit, EditOp, HookPoint, Hooks, Mat, Model, Module, Shift, Site, Stage,
};
use std::sync::Arc;

fn at(layer: usize, site: Site) -> HookPoint {
    HookPoint::Layer(layer, site)
}

/// What a run of two models over the same six tokens says to some hooks: rows 0 to 5 are the base's, 6 to 11 the adapter's.
fn refusal(model: &Model<f64>, hooks: Hooks<f64>) -> String {
    let batch = Batch::new(model.spec(), &[(0, &tokens(1, 6)), (1, &tokens(1, 6))]).unwrap();
    match model.run(&batch, &hooks, &[]) {
        Ok(_) => panic!("accepted: {hooks:?}"),
        Err(e) => e.to_string(),
    }
}

fn edit(point: HookPoint, row: usize, units: std::ops::Range<usize>, op: EditOp<f64>) -> Hooks<f64> {
    Hooks { captures: Vec::new(), edits: vec![Edit { point, row, units, op }] }
}

fn capture(point: HookPoint, rows: &[usize]) -> Hooks<f64> {
    Hooks { captures: vec![Capture { point, rows: rows.to_vec() }], edits: Vec::new() }
}

#[test]
fn edits_and_captures_that_can_not_happen() {
    let Some(llama) = tiny::<f64>("llama") else { return };
    let resid = at(1, Site::ResidPost);
    let (zero, copy) = (|| EditOp::Scale(0.0), EditOp::CopyFrom);
    let up = |site: fn(Module) -> Site| at(0, site(Module::Up));
    let shift = |point, units| EditOp::Shift(Shift { point, units, plus: 8, minus: 2 });
    let along = |u: Vec<f64>| {
        let basis = Mat { rows: 1, cols: u.len(), data: u };
        EditOp::CopyAlong { source: 3, basis: Arc::new(basis) }
    };
    let cases: Vec<(Hooks<f64>, &str)> = vec![
        // Rows.
        (capture(resid, &[3, 12]), "capture at `blocks.1.hook_resid_post`, row 12: the batch has 12 rows"),
        (edit(resid, 12, 0..1, zero()), "edit at `blocks.1.hook_resid_post`, row 12: the batch has 12 rows"),
        // Units and values.
        (
            edit(resid, 0, 60..65, zero()),
            "edit at `blocks.1.hook_resid_post`, row 0: units 60..65 are not within the 64 values there",
        ),
        (
            edit(resid, 0, 5..5, zero()),
            "edit at `blocks.1.hook_resid_post`, row 0: units 5..5 are not within the 64 values there",
        ),
        #[allow(clippy::reversed_empty_ranges)]
        (
            edit(resid, 0, 5..3, zero()),
            "edit at `blocks.1.hook_resid_post`, row 0: units 5..3 are not within the 64 values there",
        ),
        (
            edit(at(1, Site::K), 0, 32..48, zero()), // two groups of 16, not four heads
            "edit at `blocks.1.attn.hook_k`, row 0: units 32..48 are not within the 32 values there",
        ),
        (
            edit(at(1, Site::Pattern), 2, 0..13, zero()), // four heads, three keys
            "edit at `blocks.1.attn.hook_pattern`, row 2: units 0..13 are not within the 12 values there",
        ),
        (
            edit(HookPoint::FinalScale, 2, 0..2, zero()),
            "edit at `ln_final.hook_scale`, row 2: units 0..2 are not within the 1 values there",
        ),
        (
            edit(up(Site::LoraA), 7, 0..5, zero()),
            "edit at `blocks.0.mlp.up_proj.hook_lora_a`, row 7: units 0..5 are not within the 4 values there",
        ),
        (
            edit(resid, 0, 0..2, EditOp::Set(vec![1.0])),
            "edit at `blocks.1.hook_resid_post`, row 0: 1 values for 2 units",
        ),
        (
            edit(resid, 0, 0..2, EditOp::Add(vec![1.0; 3])),
            "edit at `blocks.1.hook_resid_post`, row 0: 3 values for 2 units",
        ),
        // Sources.
        (
            edit(resid, 3, 0..2, copy(4)),
            "edit at `blocks.1.hook_resid_post`, row 3: source row 4 does not come before it",
        ),
        (
            edit(resid, 3, 0..2, copy(3)),
            "edit at `blocks.1.hook_resid_post`, row 3: source row 3 does not come before it",
        ),
        (
            edit(resid, 3, 0..2, copy(99)),
            "edit at `blocks.1.hook_resid_post`, row 3: source row 99 does not come before it",
        ),
        (
            // The first units of both exist, but belong to other heads and keys.
            edit(at(1, Site::Pattern), 9, 0..4, copy(2)),
            "edit at `blocks.1.attn.hook_pattern`, row 9: source row 2 has 12 values there instead of 16",
        ),
        // Places.
        (
            capture(at(4, Site::ResidPost), &[0]),
            "hook point `blocks.4.hook_resid_post` does not exist in this model: it has 4 layers, 0 to 3",
        ),
        (
            edit(at(9, Site::LoraA(Module::Q)), 7, 0..1, zero()),
            "hook point `blocks.9.attn.q_proj.hook_lora_a` does not exist in this model: it has 4 layers, 0 to 3",
        ),
        (
            capture(HookPoint::PosEmbed, &[0]),
            "hook point `hook_pos_embed` does not exist in this model: its positions are rotary",
        ),
        (
            capture(up(Site::LoraA), &[7, 1]),
            "hook point `blocks.0.mlp.up_proj.hook_lora_a` does not exist in this model: model 0 has no adapter there",
        ),
        // Differences.
        (
            edit(at(2, Site::MlpIn), 9, 0..2, shift(at(1, Site::Result), 0..3)),
            "edit at `blocks.2.hook_mlp_in`, row 9: a difference of 3 values for 2 units",
        ),
        (
            edit(at(2, Site::MlpIn), 9, 0..2, shift(at(1, Site::MlpOut), 63..65)),
            "edit at `blocks.2.hook_mlp_in`, row 9: units 63..65 are not within the 64 values of `blocks.1.hook_mlp_out`",
        ),
        (
            edit(at(2, Site::QInput), 9, 0..64, shift(at(2, Site::Result), 0..64)),
            "edit at `blocks.2.hook_q_input`, row 9: `blocks.2.attn.hook_result`, which it reads, does not come before it",
        ),
        // Directions.
        (
            edit(resid, 9, 0..2, along(vec![1.0, 1.0])),
            "edit at `blocks.1.hook_resid_post`, row 9: directions 0 and 0 have the product 2.000e0 instead of 1",
        ),
        (
            edit(resid, 9, 0..3, along(vec![1.0, 0.0])),
            "edit at `blocks.1.hook_resid_post`, row 9: directions of 2 values for 3 units",
        ),
    ];
    for (hooks, message) in cases {
        assert_eq!(refusal(&llama, hooks), message);
    }
}

#[test]
fn branches_that_do_not_fit() {
    let Some(llama) = tiny::<f64>("llama") else { return };
    let sequences = [(0, &tokens(1, 6)[..]), (0, &[&tokens(1, 4)[..], &[7, 8]].concat())];
    let branch = |sequences: &[usize], from, layer| Branch {
        sequences: sequences.to_vec(),
        from,
        birth: Birth { layer, stage: Stage::Heads },
    };
    let refusal = |branch: Branch| match Batch::with_branches(llama.spec(), &sequences, &[branch]) {
        Ok(_) => panic!("accepted"),
        Err(e) => e.to_string(),
    };
    assert_eq!(refusal(branch(&[0], 6, 0)), "branch 0: sequence 0 has no position 6");
    assert_eq!(refusal(branch(&[2], 0, 0)), "branch 0: sequence 2 has no position 0");
    assert_eq!(refusal(branch(&[0], 0, 4)), "branch 0: it begins in layer 4, but the model has 4");
    assert_eq!(refusal(branch(&[], 0, 0)), "branch 0: it copies no sequence");
    assert_eq!(refusal(branch(&[0, 1], 4, 0)), "branch 0: its sequences are apart at position 4 already");
    // Nothing happens to a branch before it exists.
    let batch = Batch::with_branches(llama.spec(), &sequences, &[branch(&[0, 1], 3, 2)]).unwrap();
    let row = batch.branch_row(0, 1, 4).unwrap();
    let run = |hooks| model_refusal(&llama, &batch, hooks);
    let late = "it belongs to a branch that begins in layer 2 at Heads, after this place";
    assert_eq!(
        run(edit(at(2, Site::Pattern), row, 0..1, EditOp::Scale(0.0))),
        format!("edit at `blocks.2.attn.hook_pattern`, row {row}: {late}")
    );
    assert_eq!(run(capture(HookPoint::Embed, &[row])), format!("capture at `hook_embed`, row {row}: {late}"));
}

fn model_refusal(model: &Model<f64>, batch: &Batch, hooks: Hooks<f64>) -> String {
    match model.run(batch, &hooks, &[]) {
        Ok(_) => panic!("accepted: {hooks:?}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn points_that_gpt2_does_not_have() {
    let Some(gpt2) = tiny::<f64>("gpt2") else { return };
    let not_rotary = "its positions are learned, not rotary";
    for (site, why) in [
        (Site::RotQ, not_rotary),
        (Site::RotK, not_rotary),
        (Site::LoraA(Module::Gate), "its MLP has no gate"),
        (Site::LoraOut(Module::Gate), "its MLP has no gate"),
    ] {
        let point = at(0, site);
        let message = format!("hook point `{point}` does not exist in this model: {why}");
        assert_eq!(refusal(&gpt2, capture(point, &[7])), message);
    }
}

#[test]
fn copies_between_ranks_and_modules_without_an_update_are_refused() {
    let Some(model) = llama_with_many::<f64>() else { return };
    let (plain, ranks) = (1, 4);
    assert_eq!(model.name(ranks), "rank_alpha_pattern");
    let batch = Batch::new(model.spec(), &[(plain, &tokens(1, 3)), (ranks, &tokens(1, 3))]).unwrap();
    let message =
        |point, units, op| model.run(&batch, &edit(point, 4, units, op), &[]).unwrap_err().to_string();
    assert_eq!(
        message(at(0, Site::LoraA(Module::Q)), 0..2, EditOp::CopyFrom(1)),
        "edit at `blocks.0.attn.q_proj.hook_lora_a`, row 4: source row 1 has 4 values there instead of 2"
    );
    assert_eq!(
        message(at(0, Site::LoraA(Module::Up)), 0..2, EditOp::Scale(0.0)),
        "hook point `blocks.0.mlp.up_proj.hook_lora_a` does not exist in this model: model 4 has no adapter there"
    );
}

#[test]
fn an_edit_that_leaves_no_number_names_its_place() {
    let Some(llama) = tiny::<f64>("llama") else { return };
    let infinite = edit(at(2, Site::MlpPost), 8, 0..1, EditOp::Set(vec![f64::INFINITY]));
    assert_eq!(
        refusal(&llama, infinite),
        "`blocks.2.mlp.hook_post` became non-finite in row 8 (model `lora`, position 2)"
    );
    let nothing_visible = edit(at(1, Site::AttnScores), 8, 0..12, EditOp::Set(vec![f64::NEG_INFINITY; 12]));
    assert_eq!(
        refusal(&llama, nothing_visible),
        "`blocks.1.attn.hook_pattern` became non-finite in row 8 (model `lora`, position 2)"
    );
}
