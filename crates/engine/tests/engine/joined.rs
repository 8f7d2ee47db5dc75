//! Prompts that begin alike go forward once for what they share, and each has values and gradients as if it were alone.

use crate::support::{each_family, noise, points_of, tiny, tokens};
use lorascope_engine::{
    Batch, Capture, Error, HookPoint, Hooks, Mat, Model, Run, Site, Standing, StandingEdit, StandingOp,
    StandingRows, Wanted,
};

/// Positions of the longest prompt; more than the tiny models' windows of 16.
const N: usize = 20;
/// Enough for all tapes.
const PLENTY: usize = 1 << 30;

/// Values and gradients at some rows, and final states.
type Found = (Mat<f64>, Vec<Vec<Vec<f64>>>, Vec<Vec<Vec<f64>>>);

/// A prompt of a model.
type Prompt<'p> = (usize, &'p [u32]);

/// Every point of a prompt at its third row and in its middle.
fn captures(model: &Model<f64>, batch: &Batch, s: usize, (which, tokens): Prompt) -> Vec<Capture> {
    let rows: Vec<usize> = [2, tokens.len() / 2].iter().map(|&p| batch.row_of(s, p).unwrap()).collect();
    points_of(model, which).into_iter().map(|point| Capture { point, rows: rows.clone() }).collect()
}

/// There and back from a scalar of the last row of every prompt.
fn there_and_back(
    model: &Model<f64>,
    batch: &Batch,
    prompts: &[Prompt],
    captures: Vec<Capture>,
    memory: usize,
) -> Found {
    let readout = ends(batch, prompts);
    let wanted = Wanted { captures: captures.clone(), ..Wanted::default() };
    let loss = |run: &Run<f64>| {
        let (rows, cols) = (run.readout.rows, run.readout.cols);
        Ok::<_, Error>(Mat { data: noise(11, cols).repeat(rows), rows, cols })
    };
    let hooks = Hooks { captures, edits: Vec::new() };
    let (run, found) = model.gradients(batch, &hooks, &readout, &wanted, memory, loss).unwrap();
    (run.readout, run.captures, found.captures)
}

fn ends(batch: &Batch, prompts: &[Prompt]) -> Vec<usize> {
    prompts.iter().enumerate().map(|(s, p)| batch.row_of(s, p.1.len() - 1).unwrap()).collect()
}

/// Every prompt among the others, each apart, has the bits that it has alone.
fn company_changes_nothing(name: &str, model: &Model<f64>, prompts: &[Prompt]) {
    let apart: Vec<(usize, usize, &[u32])> = prompts.iter().enumerate().map(|(g, p)| (p.0, g, p.1)).collect();
    let batch = Batch::apart(model.spec(), &apart).unwrap();
    for (s, &prompt) in prompts.iter().enumerate() {
        let alone = Batch::new(model.spec(), &[prompt]).unwrap();
        let expected = there_and_back(model, &alone, &[prompt], captures(model, &alone, 0, prompt), PLENTY);
        assert!(expected.2.iter().flatten().flatten().any(|g| *g != 0.0), "{name}");
        let own = captures(model, &batch, s, prompt);
        for memory in [PLENTY, 0] {
            let found = there_and_back(model, &batch, prompts, own.clone(), memory);
            assert_eq!(found.0.row(s), expected.0.row(0), "{name}, prompt {s}: final states");
            assert_eq!(found.1, expected.1, "{name}, prompt {s}: values");
            assert_eq!(found.2, expected.2, "{name}, prompt {s}: gradients");
        }
        let hooks = Hooks { captures: own, edits: Vec::new() };
        let run = model.run(&batch, &hooks, &ends(&batch, prompts)).unwrap();
        assert_eq!(run.captures, expected.1, "{name}, prompt {s}: values of a run");
        assert_eq!(run.readout.row(s), expected.0.row(0), "{name}, prompt {s}: final states of a run");
    }
}

#[test]
fn company_changes_no_bit_of_a_value_or_gradient() {
    each_family::<f64>(|name, model| {
        let long = tokens(3, N);
        let other = [&long[..N / 2], &tokens(5, 6)[..]].concat();
        company_changes_nothing(name, model, &[(1, &long), (0, &long), (1, &other), (1, &long[..N - 3])]);
    });
}

#[test]
fn nor_under_edits_that_stand() {
    let Some(mut model) = tiny::<f64>("gemma2") else { return };
    let long = tokens(3, N);
    let edit = |site, rows, op| StandingEdit {
        models: vec![1],
        point: HookPoint::Layer(0, site),
        units: 0..4,
        rows,
        op,
    };
    // At rows that prompts share and at rows of one alone; an edited scale is part of the way back, too.
    let after = StandingRows::After([long[..3].to_vec(), long[..N - 1].to_vec()].into());
    let scale =
        StandingEdit { units: 0..1, ..edit(Site::Ln2Scale, after.clone(), StandingOp::Set(vec![3.0])) };
    let edits = vec![
        edit(Site::Z, after, StandingOp::Scale(0.25)),
        edit(Site::MlpOut, StandingRows::All, StandingOp::Add(noise(7, 4))),
        scale,
    ];
    model.stand(Standing { edits, muted: Default::default() }).unwrap();
    company_changes_nothing("gemma2", &model, &[(1, &long), (1, &long[..N - 2]), (0, &long)]);
}

#[test]
fn nor_where_there_are_more_rows_than_a_block_has() {
    let Some(model) = tiny::<f64>("llama") else { return };
    let start = tokens(3, 4);
    let prompts: Vec<Vec<u32>> = (0..70).map(|i| [&start[..], &tokens(100 + i, 9)[..]].concat()).collect();
    let all: Vec<Prompt> = prompts.iter().map(|p| (1, p.as_slice())).collect();
    let apart: Vec<(usize, usize, &[u32])> = all.iter().enumerate().map(|(g, p)| (p.0, g, p.1)).collect();
    let batch = Batch::apart(model.spec(), &apart).unwrap();
    // A prompt whose joined rows lie in two blocks of 512.
    for s in [0, 55, 56, 57, 69] {
        let alone = Batch::new(model.spec(), &all[s..=s]).unwrap();
        let expected =
            there_and_back(&model, &alone, &all[s..=s], captures(&model, &alone, 0, all[s]), PLENTY);
        let own = captures(&model, &batch, s, all[s]);
        assert_eq!(there_and_back(&model, &batch, &all, own, PLENTY).2, expected.2, "prompt {s}");
    }
}

#[test]
fn an_error_names_the_row_that_was_asked_for() {
    let Some(model) = tiny::<f64>("llama") else { return };
    let long = tokens(3, N);
    let batch = Batch::apart(model.spec(), &[(0, 0, &long), (1, 1, &long), (1, 2, &long)]).unwrap();
    let row = batch.row_of(2, 0).unwrap();
    let nowhere = HookPoint::Layer(99, Site::Z);
    let ask = |rows: Vec<usize>| {
        let hooks = Hooks { captures: vec![Capture { point: nowhere, rows }], edits: Vec::new() };
        model.run(&batch, &hooks, &[]).unwrap_err().to_string()
    };
    let alone = Batch::new(model.spec(), &[(1, &long)]).unwrap();
    let hooks = Hooks { captures: vec![Capture { point: nowhere, rows: vec![0] }], edits: Vec::new() };
    assert_eq!(ask(vec![row]), model.run(&alone, &hooks, &[]).unwrap_err().to_string());
    assert!(ask(vec![3 * N]).contains(&format!("row {}", 3 * N)), "{}", ask(vec![3 * N]));
}

#[test]
fn an_overflow_is_told_of_the_row_that_was_asked_for() {
    let Some(mut model) = tiny::<f64>("llama") else { return };
    let long = tokens(3, N);
    let other = [&long[..N / 2], &tokens(5, 6)[..]].concat();
    let batch = Batch::apart(model.spec(), &[(1, 0, &long), (1, 1, &other)]).unwrap();
    let row = batch.row_of(1, N / 2 + 1).unwrap();
    assert_eq!(row, N + N / 2 + 1);
    let edit = StandingEdit {
        models: vec![1],
        point: HookPoint::Layer(0, Site::ResidPre),
        units: 0..4,
        rows: StandingRows::After([batch.tokens_to(row)].into()),
        op: StandingOp::Scale(1e200),
    };
    model.stand(Standing { edits: vec![edit], muted: Default::default() }).unwrap();
    let failed = model.run(&batch, &Hooks::default(), &[row]).unwrap_err();
    let Error::NonFiniteActivation { row: told, position, .. } = failed else { panic!("{failed}") };
    assert_eq!((told, position), (row, N / 2 + 1));
}
