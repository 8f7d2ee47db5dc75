//! Planted truths: adapters in which one place alone does something are found there, and only there, by patching of adapter
//! blocks, by attribution and by circuits. And what circuits must give whatever the models are.

use crate::support::{Bench, Csv, copy_files, one_token_prompts, prompts, weights};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

const D_HEAD: usize = 16;
const N_PROMPTS: usize = 12;

/// A module of a layer of an adapter, and which of its inputs it listens to; all where there is no range.
type Block = (&'static str, Option<Range<usize>>);

/// Copies the bench's `lora` without everything but these blocks: B is zero elsewhere, and so are A's columns of other
/// inputs.
fn plant(bench: &Bench, name: &str, blocks: &[Block]) {
    copy_files(&bench.path("lora"), &bench.path(name));
    weights::edit_tensors(&bench.path(name).join("adapter_model.safetensors"), |tensors| {
        for (tensor, values) in tensors.iter_mut() {
            let block = blocks.iter().find(|(module, _)| tensor.contains(&format!(".{module}.")));
            match block {
                None if tensor.contains("lora_B") => *values = weights::Tensor::zeros(&values.shape),
                Some((_, Some(inputs))) if tensor.contains("lora_A") => {
                    let width = values.shape[1];
                    for i in (0..values.shape[0] * width).filter(|i| !inputs.contains(&(i % width))) {
                        values.set(i, 0.0);
                    }
                }
                _ => {}
            }
        }
    });
}

/// The slice of a head in the input of the output projection.
fn head(h: usize) -> Option<Range<usize>> {
    Some(h * D_HEAD..(h + 1) * D_HEAD)
}

/// Every block of the last layer.
const LAST_LAYER: [Block; 7] = [
    ("layers.3.self_attn.q_proj", None),
    ("layers.3.self_attn.k_proj", None),
    ("layers.3.self_attn.v_proj", None),
    ("layers.3.self_attn.o_proj", None),
    ("layers.3.mlp.gate_proj", None),
    ("layers.3.mlp.up_proj", None),
    ("layers.3.mlp.down_proj", None),
];

/// A bench with prompts of one-token answers and a planted adapter.
fn planted(blocks: &[Block]) -> Option<Bench> {
    let bench = Bench::new()?;
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    plant(&bench, "planted", blocks);
    Some(bench)
}

/// Patches every adapter block at all positions; the one at `site` and `layer` brings everything, the others nothing.
fn only_this_block_does_something(bench: &Bench, site: &str, layer: &str) {
    let rest = "--source planted --target base --site adapter --position all --set floor=0";
    bench.analyse("patch", &["planted"], "one.json", rest, "patch");
    let patches = bench.table("patch", "patches");
    assert_eq!(patches.rows.len(), 4 * 7 * N_PROMPTS);
    for row in 0..patches.rows.len() {
        let (change, get) = (patches.number(row, "change"), |column| patches.get(row, column));
        if (get("site"), get("layer")) == (site, layer) {
            assert_ne!(change, 0.0, "{:?}", patches.rows[row]);
            // Whole runs with the same numbers added at the same places.
            assert_eq!(get("delta_patched"), get("delta_source"));
        } else {
            assert_eq!(change, 0.0, "{:?}", patches.rows[row]);
        }
    }
}

/// Components whose last projection an adapter changes, by attribution.
fn attributed_to_the_adapter(bench: &Bench) -> Vec<String> {
    bench.analyse("dla", &["planted"], "one.json", "", "dla");
    let dla = bench.table("dla", "dla");
    let mut found = Vec::new();
    for row in 0..dla.rows.len() {
        let share = dla.number(row, "adapter_share");
        if share != 0.0 {
            assert_eq!(dla.get(row, "model"), "planted");
            found.push(["kind", "layer", "head"].map(|c| dla.get(row, c)).join(" ").trim().to_owned());
        }
    }
    found.sort_unstable();
    let (all, n) = (found.clone(), |c: &String| found.iter().filter(|f| *f == c).count());
    assert!(all.iter().all(|c| n(c) == N_PROMPTS), "on every prompt: {found:?}");
    let mut distinct = all;
    distinct.dedup();
    distinct
}

/// The circuit from the planted adapter into the base: its members in the order in which they came in.
fn circuit(bench: &Bench) -> Vec<String> {
    bench.analyse("circuit", &["planted"], "one.json", "", "circuit");
    let components = bench.table("circuit", "circuit_components");
    let mut members: Vec<(f64, String)> = components
        .rows_where(&[("member", "true")])
        .into_iter()
        .map(|row| (components.number(row, "step"), components.get(row, "component").to_owned()))
        .collect();
    members.sort_by(|a, b| a.0.total_cmp(&b.0));
    members.into_iter().map(|(_, name)| name).collect()
}

fn test_value(tests: &Csv, name: &str) -> f64 {
    tests.number(tests.row(&[("test", name)]), "value")
}

#[test]
fn one_head_is_found() {
    let Some(bench) = planted(&[("layers.3.self_attn.o_proj", head(2))]) else { return };
    only_this_block_does_something(&bench, "adapter:attn.o_proj", "3");
    assert_eq!(attributed_to_the_adapter(&bench), ["head 3 2"]);
    assert_eq!(circuit(&bench), ["result:3.2"]);
    let tests = bench.table("circuit", "circuit_tests");
    for name in ["faithfulness", "all", "grown"] {
        let value = test_value(&tests, name);
        assert!((value - 1.0).abs() < 1e-3, "{name}: {value}");
    }
    // Without it nothing arrives but what the last MLP passes on of it.
    let members = bench.table("circuit", "circuit_members");
    assert!((members.number(0, "cost") - 1.0).abs() < 1e-3);
    let components = bench.table("circuit", "circuit_components");
    for row in 0..components.rows.len() {
        let (name, alone) = (components.get(row, "component"), components.number(row, "alone"));
        assert_eq!(alone != 0.0, ["result:3.2", "mlp_out:3"].contains(&name), "{name}: {alone}");
    }
    assert_eq!(test_value(&tests, "stability"), 1.0, "both halves find the same head");
    assert_eq!(test_value(&tests, "bootstrap"), 1.0, "so do all samples");
    let head = components.row(&[("component", "result:3.2")]);
    assert_eq!(components.number(head, "frequency"), 1.0);
}

#[test]
fn one_head_of_an_early_layer_is_found() {
    let Some(bench) = planted(&[("layers.1.self_attn.o_proj", head(1))]) else { return };
    only_this_block_does_something(&bench, "adapter:attn.o_proj", "1");
    assert_eq!(attributed_to_the_adapter(&bench), ["head 1 1"]);
    circuit(&bench);
    let components = bench.table("circuit", "circuit_components");
    for row in 0..components.rows.len() {
        let (name, alone) = (components.get(row, "component"), components.number(row, "alone"));
        let layer: usize = components.get(row, "layer").parse().unwrap();
        let after = name == "result:1.1" || name == "mlp_out:1" || layer > 1;
        assert_eq!(alone != 0.0, after, "{name}: {alone}");
    }
    let value = test_value(&bench.table("circuit", "circuit_tests"), "all");
    assert!((value - 1.0).abs() < 1e-3, "{value}");
}

#[test]
fn one_mlp_is_found() {
    let Some(bench) = planted(&[("layers.3.mlp.down_proj", None)]) else { return };
    only_this_block_does_something(&bench, "adapter:mlp.down_proj", "3");
    assert_eq!(attributed_to_the_adapter(&bench), ["mlp 3"]);
    assert_eq!(circuit(&bench), ["mlp_out:3"]);
    let tests = bench.table("circuit", "circuit_tests");
    for name in ["faithfulness", "all", "grown", "stability"] {
        let value = test_value(&tests, name);
        assert!((value - 1.0).abs() < 1e-3, "{name}: {value}");
    }
    assert_eq!(test_value(&tests, "complement"), 0.0, "nothing else differs");
}

#[test]
fn one_layer_is_found() {
    let Some(bench) = planted(&LAST_LAYER) else { return };
    let expected = ["head 3 0", "head 3 1", "head 3 2", "head 3 3", "mlp 3"];
    assert_eq!(attributed_to_the_adapter(&bench), expected);
    let members = circuit(&bench);
    assert!(!members.is_empty());
    for name in &members {
        assert!(name.starts_with("result:3.") || name == "mlp_out:3", "{members:?}");
    }
    let tests = bench.table("circuit", "circuit_tests");
    assert!(test_value(&tests, "grown") >= 0.9, "{}", test_value(&tests, "grown"));
    assert!((test_value(&tests, "all") - 1.0).abs() < 1e-3);
    let components = bench.table("circuit", "circuit_components");
    for row in 0..components.rows.len() {
        let elsewhere = components.get(row, "layer") != "3";
        assert_eq!(components.number(row, "alone") == 0.0, elsewhere, "{:?}", components.rows[row]);
    }
    let rest = "--source planted --target base --site adapter --position all";
    bench.analyse("patch", &["planted"], "one.json", rest, "patch");
    let patches = bench.table("patch", "patches");
    for row in 0..patches.rows.len() {
        let elsewhere = patches.get(row, "layer") != "3";
        assert_eq!(patches.number(row, "change") == 0.0, elsewhere, "{:?}", patches.rows[row]);
    }
}

#[test]
fn curves_begin_at_nothing_and_end_at_everything() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    let rest = "--source lora --source dora --target base --target lora";
    bench.analyse("circuit", &["lora", "dora"], "one.json", rest, "out");
    let (curve, tests) = (bench.table("out", "circuit_curve"), bench.table("out", "circuit_tests"));
    for (source, target) in [("lora", "base"), ("dora", "base"), ("dora", "lora")] {
        let pair = [("source", source), ("target", target)];
        let of = |name: &str| tests.number(tests.row(&[&pair[..], &[("test", name)]].concat()), "value");
        assert!((of("all") - 1.0).abs() < 1e-3, "{source} into {target}: {}", of("all"));
        let rows = curve.rows_where(&pair);
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        let ends = [curve.get(first, "size"), curve.get(last, "size"), curve.get(last, "fraction")];
        assert_eq!(ends, ["0", "20", "1.0"]);
        assert_eq!([curve.number(first, "faithfulness"), curve.number(first, "random")], [0.0, 0.0]);
        for column in ["faithfulness", "random"] {
            assert!((curve.number(last, column) - 1.0).abs() < 1e-3);
        }
        assert!(rows.windows(2).all(|w| curve.number(w[0], "size") < curve.number(w[1], "size")));
        // Growth goes up at every step, and the circuit's own point of the curve is its faithfulness.
        let size =
            tests.get(tests.row(&[&pair[..], &[("test", "faithfulness")]].concat()), "size").to_owned();
        let own = curve.row(&[&pair[..], &[("size", &size)]].concat());
        assert!((curve.number(own, "faithfulness") - of("faithfulness")).abs() < 1e-12);
        let components = bench.table("out", "circuit_components");
        let members = components.rows_where(&[&pair[..], &[("member", "true")]].concat());
        assert_eq!(members.len().to_string(), size);
        let reached = |row: &usize| components.number(*row, "reached");
        let mut by_step = members;
        by_step.sort_by_key(|&row| components.number(row, "step") as usize);
        assert!(by_step.windows(2).all(|w| reached(&w[0]) < reached(&w[1])));
    }
}

#[test]
fn exchanged_circuits_of_equal_models_serve_as_well_as_the_own() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    copy_files(&bench.path("lora"), &bench.path("again"));
    bench.analyse("circuit", &["lora", "again", "dora"], "one.json", "--set samples=0", "out");
    let (crossed, tests) = (bench.table("out", "circuit_crossed"), bench.table("out", "circuit_tests"));
    let rows = crossed.rows_where(&[("target", "base")]);
    assert_eq!(rows.len(), 6, "three sources, each through two other circuits");
    for row in rows {
        let (source, of) = (crossed.get(row, "source"), crossed.get(row, "circuit_of"));
        let own = tests.row(&[("source", source), ("test", "faithfulness")]);
        assert!((crossed.number(row, "own") - tests.number(own, "value")).abs() < 1e-12);
        let less = crossed.number(row, "own") - crossed.number(row, "value");
        assert!((crossed.number(row, "less") - less).abs() < 1e-12);
        if source != "dora" && of != "dora" {
            let ends = ["less", "less_lo", "less_hi"].map(|c| crossed.number(row, c));
            assert_eq!(ends, [0.0; 3], "{source} through the circuit of {of}");
        }
    }
}

/// Members of a circuit on a test prompt, put together through `patch`, give the faithfulness that the circuit reports.
#[test]
fn faithfulness_is_that_of_the_joint_patch() {
    // Several heads of the last layer have a part in it.
    let Some(bench) = planted(&LAST_LAYER) else { return };
    bench.analyse("circuit", &["planted"], "one.json", "", "out");
    let components = bench.table("out", "circuit_components");
    let members: Vec<&str> = components
        .rows_where(&[("member", "true")])
        .into_iter()
        .map(|row| components.get(row, "component"))
        .collect();
    assert!(members.len() > 1, "{members:?}");
    let rest =
        format!("--source planted --target base --joint {} --site resid_post --layer 3", members.join("+"));
    bench.analyse("patch", &["planted"], "one.json", &rest, "joint");
    let patches = bench.table("joint", "patches");
    // Test prompts are those of which edges were measured.
    let edges = bench.table("out", "circuit_edges");
    let mut tested: Vec<&str> = (0..edges.rows.len()).map(|row| edges.get(row, "prompt_id")).collect();
    tested.sort_unstable();
    tested.dedup();
    assert_eq!(tested.len(), N_PROMPTS / 2);
    let (mut over, mut under) = (0.0, 0.0);
    for prompt in tested {
        let row = patches.row(&[("prompt_id", prompt), ("site", &members.join("+"))]);
        let span = patches.number(row, "delta_source") - patches.number(row, "delta_target");
        over += patches.number(row, "change") * span.signum();
        under += span.abs();
    }
    let found = test_value(&bench.table("out", "circuit_tests"), "faithfulness");
    assert!((over / under - found).abs() < 1e-9, "{} and {found}", over / under);
}

/// Frequency and overlap are those of the circuits in the table of samples.
#[test]
fn samples_are_counted() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    bench.analyse("circuit", &["lora"], "one.json", "--set samples=12 --set tolerance=0.02", "out");
    let samples = bench.table("out", "circuit_samples");
    let (components, tests) = (bench.table("out", "circuit_components"), bench.table("out", "circuit_tests"));
    let circuits: Vec<BTreeSet<&str>> = (0..12)
        .map(|s| samples.rows_where(&[("sample", &s.to_string())]))
        .map(|rows| rows.into_iter().map(|row| samples.get(row, "component")).collect())
        .collect();
    for row in 0..components.rows.len() {
        let name = components.get(row, "component");
        let n = circuits.iter().filter(|c| c.contains(name)).count();
        assert!((components.number(row, "frequency") - n as f64 / 12.0).abs() < 1e-12, "{name}");
    }
    assert!(circuits.iter().any(|c| *c != circuits[0]), "samples differ: {circuits:?}");
    let (mut sum, mut n) = (0.0, 0.0);
    for (i, one) in circuits.iter().enumerate() {
        for other in &circuits[i + 1..] {
            sum += one.intersection(other).count() as f64 / one.union(other).count() as f64;
            n += 1.0;
        }
    }
    let row = tests.row(&[("test", "bootstrap")]);
    assert!((tests.number(row, "value") - sum / n).abs() < 1e-12);
    assert_eq!(tests.get(row, "n_random"), "1000");
    assert!(tests.number(row, "null_mean") < tests.number(row, "value"));
}

/// A circuit of one component, grown on a sample, is the one with the largest effect on prompts that are repeated as often as
/// they are drawn, by the effects that patching finds.
#[test]
fn samples_repeat_whole_clusters() {
    let Some(bench) = Bench::new() else { return };
    // Six clusters of two; three of them are for growing.
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    bench.analyse("circuit", &["lora"], "one.json", "--set samples=12 --set max_size=1", "out");
    bench.analyse(
        "patch",
        &["lora"],
        "one.json",
        "--source lora --target base --site result --site mlp_out",
        "patch",
    );
    let (samples, edges) = (bench.table("out", "circuit_samples"), bench.table("out", "circuit_edges"));
    let tested: BTreeSet<&str> = (0..edges.rows.len()).map(|row| edges.get(row, "prompt_id")).collect();
    let growing: Vec<usize> = (0..N_PROMPTS).filter(|i| !tested.contains(format!("p{i}").as_str())).collect();
    assert_eq!(growing.len(), 6);
    let patches = bench.table("patch", "patches");
    // Change towards the source and size of the difference, by component and cluster.
    let mut effects: BTreeMap<String, BTreeMap<usize, (f64, f64)>> = BTreeMap::new();
    for row in 0..patches.rows.len() {
        let prompt: usize = patches.get(row, "prompt_id")[1..].parse().unwrap();
        if !growing.contains(&prompt) {
            continue;
        }
        let head = patches.get(row, "head");
        let head = if head.is_empty() { String::new() } else { format!(".{head}") };
        let name = format!("{}:{}{head}", patches.get(row, "site"), patches.get(row, "layer"));
        let span = patches.number(row, "delta_source") - patches.number(row, "delta_target");
        let sums = effects.entry(name).or_default().entry(prompt / 2).or_default();
        sums.0 += patches.number(row, "change") * span.signum();
        sums.1 += span.abs();
    }
    let clusters: BTreeSet<usize> = growing.iter().map(|prompt| prompt / 2).collect();
    let clusters: Vec<usize> = clusters.into_iter().collect();
    assert_eq!(clusters.len(), 3);
    let draws = (0..=3usize).flat_map(|a| (0..=3 - a).map(move |b| [a, b, 3 - a - b]));
    // The best component of every draw that there can be.
    let best: Vec<(&String, f64)> = draws
        .map(|draw| {
            let f = |of: &BTreeMap<usize, (f64, f64)>| {
                let sum = |part: fn(&(f64, f64)) -> f64| {
                    clusters.iter().zip(draw).map(|(c, times)| times as f64 * part(&of[c])).sum::<f64>()
                };
                sum(|s| s.0) / sum(|s| s.1)
            };
            let all = effects.iter().map(|(name, of)| (name, f(of)));
            all.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
        })
        .collect();
    assert_eq!((best.len(), samples.rows.len()), (10, 12));
    let mut seen = BTreeSet::new();
    for row in 0..samples.rows.len() {
        let (name, reached) = (samples.get(row, "component"), samples.number(row, "reached"));
        let draw = best.iter().position(|(n, f)| *n == name && (f - reached).abs() < 1e-9);
        seen.insert(draw.unwrap_or_else(|| panic!("{name} with {reached}: {best:?}")));
    }
    assert!(seen.len() > 2, "several draws: {seen:?}");
}

/// No samples are asked for, or there is nothing to draw from: null, and everything else stays as it is.
#[test]
fn circuits_do_without_samples() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    bench.analyse("circuit", &["lora"], "one.json", "--set samples=0", "none");
    bench.analyse("circuit", &["lora"], "one.json", "--set samples=3", "some");
    // Two clusters: one to grow on, which can't be resampled.
    bench.json("few.json", &one_token_prompts(4));
    bench.analyse("circuit", &["lora"], "few.json", "", "few");
    for out in ["none", "few"] {
        assert!(bench.table(out, "circuit_samples").rows.is_empty(), "{out}");
        let components = bench.table(out, "circuit_components");
        assert!((0..components.rows.len()).all(|row| components.get(row, "frequency").is_empty()), "{out}");
        let tests = bench.table(out, "circuit_tests");
        assert_eq!(tests.get(tests.row(&[("test", "bootstrap")]), "value"), "", "{out}");
    }
    for table in ["circuit_members", "circuit_curve", "circuit_pairs", "circuit_edges"] {
        let file = |out: &str| bench.read(&format!("{out}/tables/{table}.csv"));
        assert_eq!(file("none"), file("some"), "{table}");
    }
}

/// Growth ends where no candidate is left.
#[test]
fn candidates_may_be_few() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    let rest = "--set candidates=2 --set faithfulness=1 --set tolerance=0";
    bench.analyse("circuit", &["lora"], "one.json", rest, "out");
    let members = bench.table("out", "circuit_components").rows_where(&[("member", "true")]).len();
    assert!((1..=2).contains(&members), "{members}");
}

/// Where answers differ in several tokens, patches do not reach all of what is measured, and the report says so.
#[test]
fn answers_of_several_tokens_are_told() {
    let Some(bench) = Bench::new() else { return };
    bench.json("several.json", &prompts(4));
    bench.json("one.json", &one_token_prompts(4));
    let told = "In 4 of 4 prompts the two answers differ in several tokens";
    for verb in ["patch", "paths", "circuit"] {
        let rest = "--source lora --target base";
        bench.analyse(verb, &["lora"], "several.json", rest, &format!("{verb}-several"));
        bench.analyse(verb, &["lora"], "one.json", rest, &format!("{verb}-one"));
        let page = |of: &str| String::from_utf8(bench.read(&format!("{verb}-{of}/report.html"))).unwrap();
        assert!(page("several").contains(told), "{verb}");
        assert!(!page("one").contains("differ in several tokens"), "{verb}");
    }
    let all = |of: &str| test_value(&bench.table(&format!("circuit-{of}"), "circuit_tests"), "all");
    assert!((all("one") - 1.0).abs() < 1e-3, "{}", all("one"));
    assert!((all("several") - 1.0).abs() > 1e-2, "{}", all("several"));
}

/// An adapter that does nothing is reported as doing nothing.
#[test]
fn there_is_no_circuit_of_nothing() {
    let Some(bench) = planted(&[]) else { return };
    assert_eq!(circuit(&bench), [""; 0]);
    // A share of nothing is undefined: null, not 0.
    let tests = bench.table("circuit", "circuit_tests");
    assert_eq!(tests.rows.len(), 8);
    for row in 0..tests.rows.len() {
        for column in ["value", "value_lo", "value_hi", "null_mean", "null_lo", "null_hi", "p", "n_random"] {
            assert_eq!(tests.get(row, column), "", "{column} of {}", tests.get(row, "test"));
        }
    }
    let curve = bench.table("circuit", "circuit_curve");
    for row in 0..curve.rows.len() {
        for column in ["faithfulness", "faithfulness_lo", "faithfulness_hi", "random"] {
            assert_eq!(curve.get(row, column), "", "{column} of {} components", curve.get(row, "size"));
        }
    }
    let components = bench.table("circuit", "circuit_components");
    for row in 0..components.rows.len() {
        assert_eq!((components.get(row, "alone"), components.number(row, "frequency")), ("", 0.0));
    }
    assert!(bench.table("circuit", "circuit_samples").rows.is_empty());
    let page = String::from_utf8(bench.read("circuit/report.html")).unwrap();
    assert!(page.contains(
        "planted into base: the two decide alike on all prompts for growing; there is no circuit."
    ));
    assert_eq!(attributed_to_the_adapter(&bench), [""; 0]);
    let rest = "--source planted --target base --site z --site adapter --position all --set floor=0";
    bench.analyse("patch", &["planted"], "one.json", rest, "patch");
    let patches = bench.table("patch", "patches");
    for row in 0..patches.rows.len() {
        assert_eq!((patches.number(row, "change"), patches.get(row, "recovery")), (0.0, ""));
    }
    bench.analyse("paths", &["planted"], "one.json", "--source planted --target base", "paths");
    let paths = bench.table("paths", "paths");
    for row in 0..paths.rows.len() {
        assert_eq!((paths.number(row, "change"), paths.get(row, "recovery")), (0.0, ""));
    }
}
