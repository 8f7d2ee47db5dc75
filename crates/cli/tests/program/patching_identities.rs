//! What activation patching must give whatever the models are: identities between patches of different places.

use crate::support::{Bench, Csv, one_token_prompts};

const ADAPTERS: [&str; 2] = ["lora", "dora"];
/// All transfers between three models.
const PAIRS: &str = "--source base --source lora --source dora";
const N_PROMPTS: usize = 4;

/// Patches of the bench with answers of one token, at the decision point.
fn patched(bench: &Bench, rest: &str, out: &str) -> Csv {
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    bench.analyse("patch", &ADAPTERS, "one.json", &format!("{PAIRS} {rest}"), out);
    bench.table(out, "patches")
}

/// What identifies a run but its place.
fn keys(patches: &Csv, row: usize) -> [(&'static str, &str); 3] {
    ["source", "target", "prompt_id"].map(|column| (column, patches.get(row, column)))
}

#[test]
fn the_last_residual_stream_is_all_there_is() {
    let Some(bench) = Bench::new() else { return };
    let patches = patched(&bench, "--site resid_post --layer 3", "out");
    assert_eq!(patches.rows.len(), 6 * N_PROMPTS);
    for row in 0..patches.rows.len() {
        assert_eq!(patches.get(row, "delta_patched"), patches.get(row, "delta_source"));
        assert_ne!(patches.get(row, "delta_target"), patches.get(row, "delta_source"));
    }
}

#[test]
fn all_components_together_are_the_source() {
    let Some(bench) = Bench::new() else { return };
    let layer = |l: usize| (0..4).map(move |h| format!("result:{l}.{h}")).chain([format!("mlp_out:{l}")]);
    let heads = (0..4).flat_map(layer).collect::<Vec<_>>().join("+");
    let outputs =
        (0..4).flat_map(|l| [format!("attn_out:{l}"), format!("mlp_out:{l}")]).collect::<Vec<_>>().join("+");
    let rest = format!("--site resid_mid --layer 0 --joint {heads} --joint {outputs}");
    let patches = patched(&bench, &rest, "out");
    for site in [&heads, &outputs] {
        let rows = patches.rows_where(&[("site", site)]);
        assert_eq!(rows.len(), 6 * N_PROMPTS);
        for row in rows {
            // The adapters leave the embedding as it is.
            let error = patches.number(row, "delta_patched") - patches.number(row, "delta_source");
            assert!(error.abs() < 1e-4, "{error:.1e}: {:?}", patches.rows[row]);
        }
    }
}

#[test]
fn a_layer_is_the_sum_of_its_parts() {
    let Some(bench) = Bench::new() else { return };
    let mut rest = "--site resid_post --site resid_mid".to_owned();
    let outputs = |l: usize| format!("attn_out:{l}+mlp_out:{l}+resid_pre:{l}");
    let heads =
        |l: usize| format!("result:{l}.0+result:{l}.1+result:{l}.2+result:{l}.3+mlp_out:{l}+resid_pre:{l}");
    let half = |l: usize| format!("resid_pre:{l}+attn_out:{l}");
    for l in 0..4 {
        rest += &format!(" --joint {} --joint {} --joint {}", outputs(l), heads(l), half(l));
    }
    let patches = patched(&bench, &rest, "out");
    let mut compared = 0;
    for (whole, parts, tolerance) in [
        // The same numbers are added in the same order.
        ("resid_post", &outputs as &dyn Fn(usize) -> String, 0.0),
        ("resid_mid", &half, 0.0),
        ("resid_post", &heads, 1e-4),
    ] {
        for layer in 0..4 {
            for row in patches.rows_where(&[("site", whole), ("layer", &layer.to_string())]) {
                let joint = parts(layer);
                let parts = patches.row(&[&keys(&patches, row)[..], &[("site", &joint)]].concat());
                let error = patches.number(parts, "delta_patched") - patches.number(row, "delta_patched");
                assert!(error.abs() <= tolerance, "{joint}: {error:.1e}: {:?}", patches.rows[row]);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3 * 4 * 6 * N_PROMPTS);
}

/// Everything that LoRA adds lies in the span of the update's left singular vectors; one of them alone is not everything.
#[test]
fn components_of_an_update_together_are_the_update() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    let modules = ["attn.q_proj", "attn.v_proj", "attn.o_proj", "mlp.up_proj", "mlp.down_proj"];
    let joint =
        |module: &str| (0..4).map(|i| format!("adapter_rank:{module}:1.{i}")).collect::<Vec<_>>().join("+");
    let mut rest = "--source lora --source base --target base --target lora --layer 1 --site adapter --site adapter_rank \
                    --position decision --position all"
        .to_owned();
    modules.iter().for_each(|module| rest += &format!(" --joint {}", joint(module)));
    bench.analyse("patch", &["lora"], "one.json", &rest, "out");
    let patches = bench.table("out", "patches");
    for module in modules {
        let rows = patches.rows_where(&[("site", &format!("adapter:{module}"))]);
        assert_eq!(rows.len(), 2 * N_PROMPTS * 2);
        for row in rows {
            let position = [("position", patches.get(row, "position"))];
            let own = [&keys(&patches, row)[..], &position].concat();
            let all = patches.row(&[&own[..], &[("site", &joint(module))]].concat());
            let error = patches.number(all, "delta_patched") - patches.number(row, "delta_patched");
            assert!(error.abs() < 1e-4, "{error:.1e}: {:?}", patches.rows[row]);
            let site = format!("adapter_rank:{module}");
            let singles = patches.rows_where(&[&own[..], &[("site", &site)]].concat());
            assert_eq!(singles.len(), 4, "one for each rank");
            assert!(singles.iter().all(|&s| patches.get(s, "change") != patches.get(row, "change")));
        }
    }
}

/// Between updates of unlike ranks the components are the source's, where it has an update.
#[test]
fn components_are_those_of_the_source() {
    let Some(bench) = Bench::new() else { return };
    // Of rank 2 at q_proj of layer 0, 8 at v_proj of layer 3, 4 at these two elsewhere, none at others.
    crate::support::copy_files(
        &bench.shared.join("tiny/llama/edge/rank_alpha_pattern"),
        &bench.path("ranks"),
    );
    for (source, target, n) in [("lora", "ranks", 28 + 28), ("ranks", "lora", (2 + 4 + 20) + (4 + 8 + 20))] {
        let rest = format!("--source {source} --target {target} --site adapter_rank --layer 0 --layer 3");
        bench.analyse("patch", &["lora", "ranks"], "prompts.json", &rest, &format!("from_{source}"));
        assert_eq!(
            bench.table(&format!("from_{source}"), "patches").rows.len(),
            5 * n,
            "{source} into {target}"
        );
    }
}

/// Slices of an update by head add up to it: of queries, keys and values exactly, of the output up to rounding.
#[test]
fn heads_of_an_update_together_are_the_update() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(N_PROMPTS));
    let modules =
        [("attn.q_proj", 4, 0.0), ("attn.k_proj", 2, 0.0), ("attn.v_proj", 2, 0.0), ("attn.o_proj", 4, 1e-4)];
    let joint = |module: &str, n: usize| {
        (0..n).map(|i| format!("adapter_head:{module}:2.{i}")).collect::<Vec<_>>().join("+")
    };
    let mut rest = format!("{PAIRS} --layer 2 --site adapter --position all");
    modules.iter().for_each(|(module, n, _)| rest += &format!(" --joint {}", joint(module, *n)));
    bench.analyse("patch", &ADAPTERS, "one.json", &rest, "out");
    let patches = bench.table("out", "patches");
    for (module, n, tolerance) in modules {
        let rows = patches.rows_where(&[("site", &format!("adapter:{module}"))]);
        assert_eq!(rows.len(), 6 * N_PROMPTS);
        for row in rows {
            let all = patches.row(&[&keys(&patches, row)[..], &[("site", &joint(module, n))]].concat());
            let error = patches.number(all, "delta_patched") - patches.number(row, "delta_patched");
            assert!(error.abs() <= tolerance, "{module}: {error:.1e}: {:?}", patches.rows[row]);
        }
    }
}

#[test]
fn heads_of_one_layer_have_effects_of_their_own() {
    let Some(bench) = Bench::new() else { return };
    let patches = patched(&bench, "--site z --site result", "out");
    for row in patches.rows_where(&[("head", "0")]) {
        let own = [("site", patches.get(row, "site")), ("layer", patches.get(row, "layer"))];
        let mut changes: Vec<&str> = patches
            .rows_where(&[&keys(&patches, row)[..], &own].concat())
            .into_iter()
            .map(|r| patches.get(r, "change"))
            .collect();
        changes.sort_unstable();
        changes.dedup();
        assert_eq!(changes.len(), 4, "{:?}", patches.rows[row]);
    }
}

/// Where nothing of the adapters lies between z and result, one is as good as the other; between models the projections
/// differ.
#[test]
fn z_and_result_differ_by_the_projection() {
    let Some(bench) = Bench::new() else { return };
    let patches = patched(&bench, "--site z --site result --layer 2", "out");
    let mut differ = 0;
    for row in patches.rows_where(&[("site", "z")]) {
        let same =
            [&keys(&patches, row)[..], &[("site", "result"), ("head", patches.get(row, "head"))]].concat();
        differ += usize::from(patches.get(patches.row(&same), "change") != patches.get(row, "change"));
    }
    assert_eq!(differ, 6 * N_PROMPTS * 4, "every adapter changes o_proj");
}
