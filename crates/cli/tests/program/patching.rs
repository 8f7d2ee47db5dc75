//! Activation patching by the program against its definition: every kind of place, every kind of source, every position,
//! held against whole runs of single sequences.

use crate::support::naive::Naive;
use crate::support::{Bench, Csv, by_hand, one_token_prompts, prompts};
use serde_json::json;
use std::collections::BTreeMap;

const ADAPTERS: [&str; 2] = ["lora", "dora"];
/// All sites but single neurons, of which there are many, and components of updates, which are no values of a place.
const SITES: [&str; 14] = [
    "z",
    "result",
    "q",
    "k",
    "v",
    "pattern",
    "attn_out",
    "mlp_out",
    "resid_pre",
    "resid_mid",
    "resid_post",
    "mlp_post",
    "adapter",
    "adapter_head",
];
/// One prompt whose answers differ in one token, one whose answers begin alike and differ in three, one whose answers are of
/// different lengths; the first two have a span.
fn three_prompts(bench: &Bench) {
    let mut items = prompts(3);
    for (i, (a, b)) in [("k", "g"), ("act one", "act two"), ("no", "maybe")].into_iter().enumerate() {
        (items[i]["answer_a"], items[i]["answer_b"]) = (a.into(), b.into());
    }
    for item in &mut items.as_array_mut().unwrap()[..2] {
        // In two parts: "Game" and "coins".
        let at = item["prompt"].as_str().unwrap().find("coins").unwrap();
        let part = |start: usize, end: usize| json!({"name": "words", "start": start, "end": end});
        item["spans"] = json!([part(0, 4), part(at, at + 5)]);
    }
    bench.json("three.json", &items);
}

/// Holds rows of `patches.csv` against whole runs: of each combination of source, target, prompt, site and position, one.
/// Branches have the bits of whole runs, and both sides add the same numbers in the same order, so delta is the same to the
/// bit. Returns how many patches of each site change something.
fn compare(naive: &Naive, patches: &Csv) -> BTreeMap<String, usize> {
    let mut groups: BTreeMap<Vec<&str>, Vec<usize>> = BTreeMap::new();
    for row in 0..patches.rows.len() {
        let key = ["source", "target", "prompt_id", "site", "position"];
        groups.entry(key.map(|c| patches.get(row, c)).to_vec()).or_default().push(row);
    }
    let mut sites = BTreeMap::new();
    for (i, (key, rows)) in groups.iter().enumerate() {
        let row = rows[i * 7 % rows.len()];
        let (target, question) = (naive.model_of(key[1]), naive.question(key[2]));
        let unpatched = naive.delta(target, question, &[]);
        assert_eq!(patches.number(row, "delta_target"), unpatched, "{:?}", patches.rows[row]);
        let expected = naive.delta(target, question, &naive.changes(patches, row));
        assert_eq!(patches.number(row, "delta_patched"), expected, "{:?}", patches.rows[row]);
        assert_eq!(patches.number(row, "change"), expected - unpatched);
        *sites.entry(key[3].to_owned()).or_default() += usize::from(expected != unpatched);
    }
    println!("{} of {} runs compared, all with the bits of whole ones", groups.len(), patches.rows.len());
    sites
}

#[test]
fn every_place_equals_a_whole_run() {
    let Some(bench) = Bench::new() else { return };
    three_prompts(&bench);
    let naive = Naive::new(&bench, &ADAPTERS, "three.json");
    let pairs = "--source lora --source base --target base --target dora";
    let positions = "--position decision --position 17 --position words --position all";
    let sites: String = SITES.iter().map(|s| format!(" --site {s}")).collect();
    bench.analyse("patch", &ADAPTERS, "three.json", &format!("{pairs} {positions}{sites}"), "out");
    let patches = bench.table("out", "patches");
    let units = 4 * (4 * 4 + 2 * 2 + 6 + 7 + 12);
    // One prompt of three lacks the span.
    assert_eq!(patches.rows.len(), units * 3 * (4 + 4 + 3));
    let changed = compare(&naive, &patches);
    assert_eq!(changed.len(), 12 + 7 + 4, "{changed:?}");
    assert!(changed.values().all(|&n| n > 10), "patches that change something: {changed:?}");
}

#[test]
fn every_neuron_equals_a_whole_run() {
    let Some(bench) = Bench::new() else { return };
    three_prompts(&bench);
    let naive = Naive::new(&bench, &ADAPTERS, "three.json");
    let rest = "--source dora --target lora --site neuron --layer 1 --position decision --position all";
    bench.analyse("patch", &ADAPTERS, "three.json", rest, "out");
    let patches = bench.table("out", "patches");
    assert_eq!(patches.rows.len(), 160 * 3 * 2);
    let neurons = patches.rows_where(&[("component", "159")]);
    assert_eq!(neurons.len(), 6);
    assert_eq!(compare(&naive, &patches)["neuron"], 6);
}

#[test]
fn ablations_equal_whole_runs() {
    let Some(bench) = Bench::new() else { return };
    three_prompts(&bench);
    let naive = Naive::new(&bench, &ADAPTERS, "three.json");
    let sites: String = SITES.iter().filter(|s| **s != "pattern").map(|s| format!(" --site {s}")).collect();
    let sources = "--source zero --source mean --source resample --target dora --target lora";
    let rest = format!("{sources}{sites} --joint z:0.1+mlp_out:2 --set floor=0");
    bench.analyse("patch", &ADAPTERS, "three.json", &rest, "out");
    let patches = bench.table("out", "patches");
    let changed = compare(&naive, &patches);
    assert!(changed.contains_key("z:0.1+mlp_out:2") && changed.values().all(|&n| n > 6), "{changed:?}");
    for row in 0..patches.rows.len() {
        let resampled = patches.get(row, "source") == "resample";
        assert_eq!(patches.get(row, "direction"), "ablation");
        assert_eq!(patches.get(row, "source_prompt_id").is_empty(), !resampled);
        assert_eq!(patches.get(row, "recovery").is_empty(), !resampled);
    }
    // Zeros can be put anywhere.
    let rest = "--source zero --target lora --site pattern --site adapter --position all --position words";
    bench.analyse("patch", &ADAPTERS, "three.json", rest, "zeros");
    compare(&naive, &bench.table("zeros", "patches"));
}

#[test]
fn patches_between_prompts_equal_whole_runs() {
    let Some(bench) = Bench::new() else { return };
    let mut items = prompts(6);
    for (i, item) in items.as_array_mut().unwrap().iter_mut().enumerate() {
        // The last two decide three tokens later, so that nothing of them fits the others.
        let (a, b) = if i < 4 { ("k", "g") } else { ("act one", "act two") };
        (item["answer_a"], item["answer_b"]) = (a.into(), b.into());
    }
    bench.json("six.json", &items);
    let naive = Naive::new(&bench, &ADAPTERS, "six.json");
    let rest = "--between s0:s1 --between s1:s1 --position decision --position all --site z --site pattern --joint \
                attn_out:1+mlp_out:3";
    bench.analyse("patch", &ADAPTERS, "six.json", rest, "out");
    let patches = bench.table("out", "patches");
    let mut partners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in 0..patches.rows.len() {
        let found = partners.entry(patches.get(row, "prompt_id")).or_default();
        found.push(patches.get(row, "source_prompt_id"));
        assert_eq!(patches.get(row, "direction"), "prompts");
        assert_eq!(patches.get(row, "source"), patches.get(row, "target"));
    }
    partners.values_mut().for_each(|p| {
        p.sort_unstable();
        p.dedup();
    });
    // Between p4 (s0) and p5 (s1) too, which decide at the same place as each other.
    let expected = [("p1", vec!["p0", "p2", "p3"]), ("p3", vec!["p0", "p1", "p2"]), ("p5", vec!["p4"])];
    assert_eq!(partners, BTreeMap::from(expected));
    compare(&naive, &patches);
}

#[test]
fn delta_of_an_unpatched_run_is_the_difference_of_log_probabilities() {
    let Some(bench) = Bench::new() else { return };
    three_prompts(&bench);
    let naive = Naive::new(&bench, &ADAPTERS, "three.json");
    bench.analyse("patch", &ADAPTERS, "three.json", "--source base --site mlp_out --layer 0", "out");
    let patches = bench.table("out", "patches");
    assert_eq!(patches.rows.len(), 6);
    for row in 0..patches.rows.len() {
        let question = naive.question(patches.get(row, "prompt_id"));
        for (model, delta) in [("source", "delta_source"), ("target", "delta_target")] {
            let which = naive.model_of(patches.get(row, model));
            // Token by token over both answers in full: what they share cancels.
            let log = |answer: &[u32]| by_hand::spelling(&naive.model, which, &question.prompt, answer);
            let expected = log(&question.whole.1) - log(&question.whole.0);
            let found = patches.number(row, delta);
            assert!((found - expected).abs() < 1e-5, "{}: {found} and {expected}", question.id);
        }
    }
}

#[test]
fn directions_have_their_names() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(2));
    let pairs = "--source base --source lora --target base --target lora --target dora";
    bench.analyse("patch", &ADAPTERS, "one.json", &format!("{pairs} --site attn_out --layer 0"), "out");
    let patches = bench.table("out", "patches");
    let name = |row| (patches.get(row, "source"), patches.get(row, "target"), patches.get(row, "direction"));
    let names: std::collections::BTreeSet<_> = (0..patches.rows.len()).map(name).collect();
    let expected = [
        ("base", "dora", "noising"),
        ("base", "lora", "noising"),
        ("lora", "base", "denoising"),
        ("lora", "dora", "transfer"),
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
    // Without names: every adapter into the base and the base into every adapter.
    bench.analyse("patch", &ADAPTERS, "one.json", "--site attn_out --layer 0", "default");
    let patches = bench.table("default", "patches");
    for (source, target) in [("base", "dora"), ("base", "lora"), ("dora", "base"), ("lora", "base")] {
        assert_eq!(patches.rows_where(&[("source", source), ("target", target)]).len(), 2);
    }
    assert_eq!(patches.rows.len(), 8);
}

#[test]
fn recovery_and_flips_are_what_they_say() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(6));
    let run = |floor: &str, out: &str| {
        let rest = format!("--source lora --source dora --site z --site resid_post --set floor={floor}");
        bench.analyse("patch", &ADAPTERS, "one.json", &rest, out);
        bench.table(out, "patches")
    };
    let (patches, high) = (run("2", "low"), run("1000", "high"));
    let (mut nulls, mut flips) = (0, 0);
    for row in 0..patches.rows.len() {
        let number = |column: &str| patches.number(row, column);
        let span = number("delta_source") - number("delta_target");
        match patches.get(row, "recovery") {
            "" => {
                assert!(span.abs() < 2.0, "{span}");
                nulls += 1;
            }
            recovery => {
                assert!(span.abs() >= 2.0, "{span}");
                assert_eq!(recovery.parse::<f64>().unwrap(), number("change") / span);
            }
        }
        let flipped = (number("delta_patched") > 0.0) != (number("delta_target") > 0.0);
        assert_eq!(patches.get(row, "flipped"), flipped.to_string());
        flips += usize::from(flipped);
        assert_eq!(high.get(row, "recovery"), "", "no difference reaches a floor of 1000");
    }
    println!("{} patches, {nulls} below the floor, {flips} flips", patches.rows.len());
    assert!(flips > 0 && flips < patches.rows.len(), "{flips} flips tell nothing");
    assert!(nulls > 0 && nulls < patches.rows.len(), "{nulls} nulls tell nothing");
    // Averages are those of the rows.
    let effects = bench.table("low", "patch_effects");
    for row in 0..effects.rows.len() {
        let keys = ["source", "target", "site", "layer", "head"].map(|c| (c, effects.get(row, c)));
        let rows = patches.rows_where(&keys);
        let mean = rows.iter().map(|&r| patches.number(r, "change")).sum::<f64>() / rows.len() as f64;
        assert!((effects.number(row, "change") - mean).abs() < 1e-12);
        let n_flipped = rows.iter().filter(|&&r| patches.get(r, "flipped") == "true").count();
        let counts = (effects.get(row, "n"), effects.get(row, "n_flipped"));
        assert_eq!(counts, ("6", n_flipped.to_string().as_str()));
        let mut by_cluster = [0.0; 3];
        for &r in &rows {
            let prompt: usize = patches.get(r, "prompt_id")[1..].parse().unwrap();
            let span = patches.number(r, "delta_source") - patches.number(r, "delta_target");
            by_cluster[prompt / 2] += patches.number(r, "change") * span.signum();
        }
        assert!((effects.number(row, "recovery_p") - sign_flip_p(by_cluster)).abs() < 1e-12);
        assert!(effects.number(row, "recovery_q") >= effects.number(row, "recovery_p"));
    }
}

/// Share of all sign patterns of three sums whose total is as far from zero as without a flip.
fn sign_flip_p(sums: [f64; 3]) -> f64 {
    let total = |signs: [f64; 3]| (0..3).map(|i| signs[i] * sums[i]).sum::<f64>().abs();
    let observed = total([1.0; 3]);
    let mut extreme = 0;
    for a in [1.0, -1.0] {
        for b in [1.0, -1.0] {
            for c in [1.0, -1.0] {
                extreme += usize::from(total([a, b, c]) >= observed * (1.0 - 1e-9));
            }
        }
    }
    f64::from(u32::try_from(extreme).unwrap()) / 8.0
}

/// Models may have names that read like numbers or like JSON's words.
#[test]
fn a_name_stays_a_name() {
    let Some(bench) = Bench::new() else { return };
    for (from, to) in [("lora", "null"), ("dora", "1e2")] {
        crate::support::copy_files(&bench.path(from), &bench.path(to));
    }
    bench.analyse("patch", &["null", "1e2"], "prompts.json", "--source null --target 1e2 --layer 2", "out");
    let patches = bench.table("out", "patches");
    assert_eq!(patches.rows.len(), 5 * 6);
    assert_eq!(patches.rows_where(&[("source", "null"), ("target", "1e2"), ("layer", "2")]).len(), 30);
}

/// What is named twice is patched once: averages would count it twice.
#[test]
fn nothing_is_counted_twice() {
    let Some(bench) = Bench::new() else { return };
    let once = "--source lora --target base --site z --position decision --position 3";
    bench.analyse("patch", &ADAPTERS, "prompts.json", once, "once");
    let twice = "--source lora --source lora --target base --target base --site z --site z --joint z:0.1 --joint z:2.3+z:2.3 \
                 --position decision --position 3 --position decision --position 3 --layer 0 --layer 1 --layer 2 --layer 3 \
                 --layer 3";
    bench.analyse("patch", &ADAPTERS, "prompts.json", twice, "twice");
    for table in ["patches", "patch_effects"] {
        let csv = |out: &str| bench.read(&format!("{out}/tables/{table}.csv"));
        assert_eq!(csv("once"), csv("twice"), "{table}");
    }
    let once = "--source lora --target base --sender mlp_out:1 --receiver logits --span mlp:1-1";
    bench.analyse("paths", &ADAPTERS, "prompts.json", once, "paths_once");
    let twice = format!("{once} --source lora --sender mlp_out:1 --receiver logits --span mlp:1-1");
    bench.analyse("paths", &ADAPTERS, "prompts.json", &twice, "paths_twice");
    for table in ["paths", "spans", "path_effects", "span_effects"] {
        let csv = |out: &str| bench.read(&format!("{out}/tables/{table}.csv"));
        assert_eq!(csv("paths_once"), csv("paths_twice"), "{table}");
    }
}

/// Zeros go into every model that has such a place; the base has no adapter's.
#[test]
fn adapters_are_ablated_where_they_are() {
    let Some(bench) = Bench::new() else { return };
    bench.analyse("patch", &ADAPTERS, "prompts.json", "--source zero --site adapter", "out");
    let patches = bench.table("out", "patches");
    let n = |target: &str| patches.rows_where(&[("target", target)]).len();
    assert_eq!([n("base"), n("lora"), n("dora")], [0, 4 * 7 * 5, 4 * 7 * 5]);
}
