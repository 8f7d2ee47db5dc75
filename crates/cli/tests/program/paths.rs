//! Path patching by the program against its definition (Wang et al. 2022, appendix B), carried out in whole runs: first a run in
//! which the sender is the source's and every component after it is held at the target's value, read at the receiver; then a
//! run in which the receiver alone has what was read.

use crate::support::naive::{Change, Naive, Place, Question};
use crate::support::{Bench, one_token_prompts};
use lorascope_engine::{Batch, Birth, Branch, Edit, EditOp, HookPoint, Hooks, Shift, Site};
use std::collections::BTreeMap;

const ADAPTERS: [&str; 2] = ["lora", "dora"];
const N_LAYERS: usize = 4;
const N_HEADS: usize = 4;
/// f32 activations of order one, added up in another order.
const TOLERANCE: f64 = 1e-4;

/// Every head and every MLP, as flags.
fn senders() -> String {
    let of_layer =
        |l: usize| (0..N_HEADS).map(move |h| format!("result:{l}.{h}")).chain([format!("mlp_out:{l}")]);
    (0..N_LAYERS).flat_map(of_layer).map(|unit| format!(" --sender {unit}")).collect()
}

/// Values of a place at the decision point.
fn at_decision(naive: &Naive, which: usize, question: &Question, point: HookPoint) -> Vec<f32> {
    naive.values(which, question, point)[question.decision()].clone()
}

/// Sets some values at the decision point.
fn set(question: &Question, point: HookPoint, units: std::ops::Range<usize>, values: &[f32]) -> Change {
    (point, question.decision(), units.clone(), EditOp::Set(values[units].to_vec()))
}

/// delta of the target when the source's sender is seen by one receiver only.
fn by_definition(
    naive: &Naive,
    source: usize,
    target: usize,
    question: &Question,
    edge: (&str, &str),
) -> f64 {
    let (sender, receiver) = edge;
    let spec = naive.model.spec();
    let at = HookPoint::Layer;
    let place = Place::parse(sender);
    let (point, slice) = naive.place(&place);
    let units = slice(question.decision());
    let sent = set(question, point, units, &at_decision(naive, source, question, point));
    let own = |point: HookPoint| {
        let values = at_decision(naive, target, question, point);
        set(question, point, 0..values.len(), &values)
    };
    // The layer up to which outputs are held, and whether its attention's is.
    let (kind, layer, head) = match receiver.split_once(':') {
        None => (receiver, N_LAYERS, 0),
        Some((kind, _)) => {
            let place = Place::parse(receiver);
            (kind, place.layer, place.index)
        }
    };
    let mut frozen = vec![sent];
    for l in place.layer..N_LAYERS.min(layer + 1) {
        if l > place.layer && (l < layer || kind == "mlp") {
            frozen.push(own(at(l, Site::AttnOut)));
        }
        if (l > place.layer || !sender.starts_with("mlp_out")) && l < layer {
            frozen.push(own(at(l, Site::MlpOut)));
        }
    }
    if kind == "logits_frozen" {
        frozen.push(own(HookPoint::FinalScale));
    }
    if kind.starts_with("logits") {
        return naive.delta(target, question, &frozen);
    }
    let kv = head / spec.group();
    let reads = match kind {
        "q" => vec![(Site::Q, head)],
        "k" => vec![(Site::K, head)],
        "v" => vec![(Site::V, head)],
        "head" => vec![(Site::Q, head), (Site::K, kv), (Site::V, kv)],
        "mlp" => vec![(Site::MlpOut, 0)],
        other => panic!("receiver {other}"),
    };
    let points: Vec<HookPoint> = reads.iter().map(|(site, _)| at(layer, *site)).collect();
    let read = naive.values_under(target, question, &frozen, &points);
    let received = reads.iter().zip(&points).zip(&read).map(|(((site, part), &point), values)| {
        let values = &values[question.decision()];
        let width = if *site == Site::MlpOut { values.len() } else { spec.d_head };
        set(question, point, part * width..(part + 1) * width, values)
    });
    naive.delta(target, question, &received.collect::<Vec<_>>())
}

#[test]
fn edges_equal_their_definition() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(3));
    let naive = Naive::new(&bench, &ADAPTERS, "one.json");
    let receivers = [
        "q:1.0",
        "q:2.3",
        "k:2.1",
        "v:2.0",
        "v:3.1",
        "head:3.2",
        "head:1.1",
        "mlp:0",
        "mlp:2",
        "mlp:3",
        "logits",
        "logits_frozen",
    ];
    let flags: String = receivers.iter().map(|r| format!(" --receiver {r}")).collect();
    let rest = format!(
        "--source lora --source base --target dora --target base{} --sender attn_out:1{flags}",
        senders()
    );
    bench.analyse("paths", &ADAPTERS, "one.json", &rest, "out");
    let paths = bench.table("out", "paths");
    let (mut worst, mut moved, mut seen) = (0.0f64, 0, BTreeMap::new());
    for row in 0..paths.rows.len() {
        let get = |column: &str| paths.get(row, column);
        let question = naive.question(get("prompt_id"));
        let (source, target) = (naive.model_of(get("source")), naive.model_of(get("target")));
        let expected = by_definition(&naive, source, target, question, (get("sender"), get("receiver")));
        let found = paths.number(row, "delta_patched");
        assert!((found - expected).abs() < TOLERANCE, "{:?}: {expected}", paths.rows[row]);
        worst = worst.max((found - expected).abs());
        moved += usize::from(paths.number(row, "change").abs() > 10.0 * TOLERANCE);
        *seen.entry(get("receiver").to_owned()).or_insert(0) += 1;
    }
    println!("{} edges, {moved} that move delta, off by at most {worst:.1e}", paths.rows.len());
    assert!(moved > paths.rows.len() / 2, "{moved} of {} edges move delta", paths.rows.len());
    // Receivers see what comes before them: an MLP its own layer's heads too.
    let before = |receiver: &str| seen[receiver] / 9;
    assert_eq!(receivers.map(before), [5, 11, 11, 11, 16, 16, 5, 4, 15, 20, 21, 21]);
}

/// With the scale σ of the final norm frozen, an edge to the logits is w·(s − t)/σ_t, s and t being what the component
/// adds in source and target. Attribution gives c_s = w·s/σ_s and c_t = w·t/σ_t, each at its own scale; so the edge is
/// c_s·σ_s/σ_t − c_t. Over all components the embedding, which the adapters leave alone, cancels likewise, and the sum is
/// delta_s·σ_s/σ_t − delta_t.
#[test]
fn direct_effects_add_up_to_the_difference_of_attributions() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(4));
    let naive = Naive::new(&bench, &ADAPTERS, "one.json");
    let rest = format!("--source lora --target base --target dora{} --receiver logits_frozen", senders());
    bench.analyse("paths", &ADAPTERS, "one.json", &rest, "out");
    bench.analyse("dla", &ADAPTERS, "one.json", "", "attributed");
    let (paths, dla) = (bench.table("out", "paths"), bench.table("attributed", "dla"));
    let attribution = |model: &str, prompt: &str, sender: &str| {
        let place = Place::parse(sender);
        let (kind, head) = if sender.starts_with("mlp_out") {
            ("mlp", String::new())
        } else {
            ("head", place.index.to_string())
        };
        let layer = place.layer.to_string();
        let keys =
            [("model", model), ("prompt_id", prompt), ("kind", kind), ("layer", &layer), ("head", &head)];
        dla.number(dla.row(&keys), "contribution")
    };
    let mut sums: BTreeMap<(String, String), (f64, f64)> = BTreeMap::new();
    for row in 0..paths.rows.len() {
        let get = |column: &str| paths.get(row, column);
        let (source, target, prompt, sender) =
            (get("source"), get("target"), get("prompt_id"), get("sender"));
        let scale = |model: &str| {
            let question = naive.question(prompt);
            f64::from(at_decision(&naive, naive.model_of(model), question, HookPoint::FinalScale)[0])
        };
        let ratio = scale(source) / scale(target);
        let expected = attribution(source, prompt, sender) * ratio - attribution(target, prompt, sender);
        let change = paths.number(row, "change");
        assert!((change - expected).abs() < TOLERANCE, "{expected}: {:?}", paths.rows[row]);
        let whole = paths.number(row, "delta_source") * ratio - paths.number(row, "delta_target");
        let sum = sums.entry((target.to_owned(), prompt.to_owned())).or_insert((0.0, whole));
        sum.0 += change;
    }
    assert_eq!((sums.len(), paths.rows.len()), (8, 8 * 20));
    for (key, (sum, whole)) in sums {
        println!("{key:?}: {sum:+.6} and {whole:+.6}");
        assert!((sum - whole).abs() < TOLERANCE, "{key:?}: {sum} and {whole}");
        assert!(whole.abs() > 10.0 * TOLERANCE);
    }
}

/// A reader whose own output is held at the target's value passes nothing on, whatever it reads.
#[test]
fn a_path_through_a_frozen_receiver_has_no_effect() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(1));
    let naive = Naive::new(&bench, &ADAPTERS, "one.json");
    let (model, spec) = (&naive.model, naive.model.spec());
    let (question, position, d) = (&naive.questions[0], naive.questions[0].decision(), spec.d_model);
    let sequences = [(0, &question.stem[..]), (1, &question.stem[..])];
    let at = HookPoint::Layer;
    let sender = at(0, Site::MlpOut);
    // Reader, its part, its output, which part of that.
    let head = 2;
    let z = head * spec.d_head..(head + 1) * spec.d_head;
    let kv = head / spec.group();
    let two: Vec<_> = (0..N_HEADS).filter(|h| h / spec.group() == kv).collect();
    let group = two[0] * spec.d_head..(two[1] + 1) * spec.d_head;
    for (reader, part, output, held) in [
        (at(2, Site::QInput), head, at(2, Site::Z), z),
        (at(2, Site::KInput), kv, at(2, Site::Z), group.clone()),
        (at(2, Site::VInput), kv, at(2, Site::Z), group),
        (at(1, Site::MlpIn), 0, at(1, Site::MlpOut), 0..d),
    ] {
        let branch = || Branch { sequences: vec![0], from: position, birth: Birth::before(reader).unwrap() };
        let batch = Batch::with_branches(spec, &sequences, &[branch(), branch()]).unwrap();
        let row = |branch: usize| batch.branch_row(branch, 0, position).unwrap();
        let (own, source) = (batch.row_of(0, position).unwrap(), batch.row_of(1, position).unwrap());
        let shift = |row| Edit {
            point: reader,
            row,
            units: part * d..(part + 1) * d,
            op: EditOp::Shift(Shift { point: sender, units: 0..d, plus: source, minus: own }),
        };
        let hold = Edit { point: output, row: row(1), units: held, op: EditOp::CopyFrom(own) };
        let hooks = Hooks { captures: Vec::new(), edits: vec![shift(row(0)), shift(row(1)), hold] };
        let states = model.run(&batch, &hooks, &[own, row(0), row(1)]).unwrap().readout;
        assert_ne!(states.row(1), states.row(0), "{reader}: what is read matters");
        assert_eq!(states.row(2), states.row(0), "{reader}: held, it passes nothing on");
    }
}

#[test]
fn spans_are_joint_patches_and_the_widest_is_the_source() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(4));
    let pairs = "--source lora --source base --target dora --target base";
    let edge = "--sender mlp_out:0 --receiver logits";
    bench.analyse("paths", &ADAPTERS, "one.json", &format!("{pairs} {edge}"), "out");
    let mut joint = String::new();
    for l in 0..N_LAYERS {
        joint += &format!(" --joint attn_out:{l}+mlp_out:{l}");
    }
    joint += " --joint attn_out:0+attn_out:1+attn_out:2";
    bench.analyse(
        "paths",
        &ADAPTERS,
        "one.json",
        &format!(
            "{pairs} {edge} --span residual:1-1 --span attn:0-2 --span mlp:2- \
        --span residual:0-0 --span residual:2-2 --span residual:3-3"
        ),
        "named",
    );
    let rest = format!("{pairs} --site mlp_out --site attn_out{joint}");
    bench.analyse("patch", &ADAPTERS, "one.json", &rest, "patched");
    let (spans, named, patches) =
        (bench.table("out", "spans"), bench.table("named", "spans"), bench.table("patched", "patches"));
    // By default each kind from layer 0 up to every layer: 3 pairs of models, 4 prompts.
    assert_eq!(spans.rows.len(), 3 * 4 * 3 * N_LAYERS);
    assert_eq!(named.rows.len(), 3 * 4 * (4 + 1 + 2));
    let mut widest = 0;
    for row in spans.rows_where(&[("kind", "residual"), ("last_layer", "3")]) {
        let error = spans.number(row, "delta_patched") - spans.number(row, "delta_source");
        assert!(error.abs() < TOLERANCE, "{error:.1e}: {:?}", spans.rows[row]);
        assert!((spans.number(row, "recovery") - 1.0).abs() < 1e-2);
        widest += 1;
    }
    assert_eq!(widest, 12);
    let mut compared = 0;
    for table in [&spans, &named] {
        for row in 0..table.rows.len() {
            let get = |column: &str| table.get(row, column);
            let (first, last) = (get("first_layer"), get("last_layer"));
            let (site, layer) = match (get("kind"), first == last, last) {
                ("residual", true, l) => (format!("attn_out:{l}+mlp_out:{l}"), ""),
                (kind, true, l) => (format!("{kind}_out"), l),
                ("attn", false, "2") => ("attn_out:0+attn_out:1+attn_out:2".to_owned(), ""),
                _ => continue,
            };
            let keys = ["source", "target", "prompt_id"].map(|c| (c, get(c)));
            let own = [("site", &site[..]), ("layer", layer)];
            let patch = patches.row(&[&keys[..], &own].concat());
            assert_eq!(get("delta_patched"), patches.get(patch, "delta_patched"), "{site}");
            compared += 1;
        }
    }
    assert_eq!(compared, 12 * (3 + 1) + 12 * (4 + 1 + 1));
}
