//! Where is trained: any set of layers × modules × heads, as arrays of factors with the parts of them that may move.
//!
//! A head's share of a query, key or value projection is its rows of B; of the output projection, its columns of A. What
//! is not chosen has no gradient and is zero from the beginning (B is zero anyway, those columns of A are made so), so the
//! update outside the chosen heads is exactly zero. Keys and values belong to groups: a query head stands for its group.

use crate::error::{Error, Result};
use crate::settings::Settings;
use lorascope_engine::{Family, ModelSpec, Module};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Which rows or columns of an array may move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of the array.
    Whole,
    /// Some rows.
    Rows(Vec<Range<usize>>),
    /// Some columns.
    Columns(Vec<Range<usize>>),
}

impl Part {
    /// Sets everything of a row-major `[_, cols]` array that is outside the part to zero.
    pub fn clear_outside(&self, values: &mut [f32], cols: usize) {
        let within = |ranges: &[Range<usize>], i: usize| ranges.iter().any(|r| r.contains(&i));
        for (row, values) in values.chunks_mut(cols.max(1)).enumerate() {
            match self {
                Part::Whole => {}
                Part::Rows(ranges) if within(ranges, row) => {}
                Part::Rows(_) => values.fill(0.0),
                Part::Columns(ranges) => {
                    let outside = values.iter_mut().enumerate().filter(|(c, _)| !within(ranges, *c));
                    outside.for_each(|(_, v)| *v = 0.0);
                }
            }
        }
    }

    /// How many numbers of a `[rows, cols]` array may move.
    pub fn count(&self, rows: usize, cols: usize) -> usize {
        let len = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).sum::<usize>();
        match self {
            Part::Whole => rows * cols,
            Part::Rows(ranges) => len(ranges) * cols,
            Part::Columns(ranges) => rows * len(ranges),
        }
    }
}

/// One adapted matrix of the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Path of the module in the checkpoint.
    pub path: String,
    /// Its layer.
    pub layer: usize,
    /// Which of the modules that share a fused matrix are trained, with their outputs (rows of B); else the one.
    pub modules: Vec<(Module, Range<usize>)>,
    /// Inputs: columns of A.
    pub n_in: usize,
    /// Outputs of the stored matrix: rows of B.
    pub n_out: usize,
    /// What of A may move.
    pub a: Part,
    /// What of B may move.
    pub b: Part,
}

/// Everything that is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    /// By layer, modules in the order of use.
    pub targets: Vec<Target>,
    /// Names as `target_modules` of PEFT has them.
    pub names: Vec<String>,
    /// The layers, where they are not all.
    pub layers: Option<Vec<usize>>,
    /// Matrices are stored `[in, out]` (GPT-2).
    pub transposed: bool,
}

impl Targets {
    /// Finds what the settings name in a model.
    ///
    /// # Errors
    /// A layer, module or head that the model does not have; heads of a module that has none; a layer without a head.
    pub fn resolve(settings: &Settings, spec: &ModelSpec, family: &Family) -> Result<Self> {
        let places = places(settings, spec)?;
        let mut targets: Vec<Target> = Vec::new();
        let mut transposed = false;
        for (layer, modules) in &places {
            let layer = *layer;
            let heads = heads(settings, spec, layer)?;
            for &module in modules {
                let Some(source) = (family.names.linear)(module) else { continue };
                let (n_out, n_in) = spec.module_shape(module);
                let outputs = source.part.outputs(n_out);
                let path = source.path(layer);
                transposed |= source.transposed;
                let target = match targets.iter().position(|t| t.path == path) {
                    Some(at) => &mut targets[at],
                    None => {
                        let n_out = source.part.stored_outputs(n_out);
                        let (a, b) = (Part::Whole, Part::Rows(Vec::new()));
                        targets.push(Target { path, layer, modules: Vec::new(), n_in, n_out, a, b });
                        let last = targets.len() - 1;
                        &mut targets[last]
                    }
                };
                target.modules.push((module, outputs.clone()));
                target.admit(module, outputs, heads.as_deref(), spec);
            }
        }
        targets.iter_mut().for_each(Target::settle);
        let (names, layers) = names(&places, &targets, spec, family);
        Ok(Self { targets, names, layers, transposed })
    }

    /// The layers that have a target, in order.
    pub fn layers_trained(&self) -> Vec<usize> {
        let layers: BTreeSet<usize> = self.targets.iter().map(|t| t.layer).collect();
        layers.into_iter().collect()
    }

    /// Numbers that are trained, for a rank.
    pub fn n_trained(&self, rank: usize) -> usize {
        self.targets.iter().map(|t| t.a.count(rank, t.n_in) + t.b.count(t.n_out, rank)).sum()
    }
}

impl Target {
    /// Lets a module's outputs move, or the part of it that belongs to these heads.
    fn admit(&mut self, module: Module, outputs: Range<usize>, heads: Option<&[usize]>, spec: &ModelSpec) {
        let of_head = |h: usize| h * spec.d_head..(h + 1) * spec.d_head;
        let shifted = |r: Range<usize>| outputs.start + r.start..outputs.start + r.end;
        let Part::Rows(rows) = &mut self.b else { return };
        match (heads, module) {
            (Some(heads), Module::Q) => rows.extend(heads.iter().map(|&h| shifted(of_head(h)))),
            (Some(heads), Module::K | Module::V) => {
                let mut groups: Vec<usize> = heads.iter().map(|&h| h / spec.group()).collect();
                groups.dedup();
                rows.extend(groups.into_iter().map(|g| shifted(of_head(g))));
            }
            (Some(heads), Module::O) => {
                rows.push(outputs);
                self.a = Part::Columns(heads.iter().map(|&h| of_head(h)).collect());
            }
            _ => rows.push(outputs),
        }
    }

    /// What covers everything is said so.
    fn settle(&mut self) {
        if self.b.count(self.n_out, 1) == self.n_out {
            self.b = Part::Whole;
        }
        if self.a.count(1, self.n_in) == self.n_in {
            self.a = Part::Whole;
        }
    }
}

/// What PEFT calls the targets, and the layers where they are not all: modules and layers where every layer has the same, else the
/// full path of each.
fn names(
    places: &[(usize, Vec<Module>)],
    targets: &[Target],
    spec: &ModelSpec,
    family: &Family,
) -> (Vec<String>, Option<Vec<usize>>) {
    let Some((_, modules)) = places.first().filter(|first| places.iter().all(|p| p.1 == first.1)) else {
        return (targets.iter().map(|t| t.path.clone()).collect(), None);
    };
    let mut names = Vec::new();
    let all: Vec<&str> = spec.modules().filter_map(family.names.linear).map(|s| s.path).collect();
    for source in modules.iter().filter_map(|&m| (family.names.linear)(m)) {
        let name = peft_name(source.path, &all);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let layers = (places.len() < spec.n_layers).then(|| places.iter().map(|p| p.0).collect());
    (names, layers)
}

/// The last segment of a module's path, with the one before where another module ends alike (GPT-2's `c_proj`).
fn peft_name(path: &str, all: &[&str]) -> String {
    let last = |p: &str| p.rsplit('.').next().unwrap_or_default().to_owned();
    let others = all.iter().filter(|p| **p != path);
    if others.map(|p| last(p)).any(|other| other == last(path)) {
        let segments: Vec<&str> = path.rsplitn(3, '.').collect();
        return segments.iter().take(2).rev().copied().collect::<Vec<_>>().join(".");
    }
    last(path)
}

fn wrong<T>(why: String) -> Result<T> {
    Err(Error::Targets(why))
}

/// Layers in order, each with the modules that are trained there, in the order of a layer.
fn places(settings: &Settings, spec: &ModelSpec) -> Result<Vec<(usize, Vec<Module>)>> {
    if settings.blocks.0.is_empty() {
        let modules = modules(settings, spec)?;
        return Ok(layers(settings, spec)?.into_iter().map(|l| (l, modules.clone())).collect());
    }
    let mut places: BTreeMap<usize, BTreeSet<Module>> = BTreeMap::new();
    for block in &settings.blocks.0 {
        if block.layer >= spec.n_layers {
            return no_layer(block.layer, spec);
        }
        let modules: Vec<Module> = spec.modules().filter(|&m| block.part.has(m)).collect();
        if modules.is_empty() {
            return wrong(format!("a {} model has no block `{block}`", spec.family));
        }
        places.entry(block.layer).or_default().extend(modules);
    }
    Ok(places.into_iter().map(|(layer, modules)| (layer, modules.into_iter().collect())).collect())
}

fn no_layer<T>(layer: usize, spec: &ModelSpec) -> Result<T> {
    wrong(format!("there is no layer {layer}; the model's layers are 0 to {}", spec.n_layers - 1))
}

fn modules(settings: &Settings, spec: &ModelSpec) -> Result<Vec<Module>> {
    const ATTENTION: [Module; 4] = [Module::Q, Module::K, Module::V, Module::O];
    let named = settings.modules()?;
    let by_head = !settings.heads.0.is_empty();
    if let Some(absent) = named.iter().find(|&&m| !spec.modules().any(|has| has == m)) {
        return wrong(format!("a {} model has no `{absent}`", spec.family));
    }
    if by_head && let Some(other) = named.iter().find(|m| !ATTENTION.contains(m)) {
        return wrong(format!(
            "`{other}` has no heads; where `heads` are named, `modules` can be q_proj, k_proj, v_proj and o_proj"
        ));
    }
    Ok(match named.is_empty() {
        true if by_head => ATTENTION.to_vec(),
        true => spec.modules().collect(),
        false => named,
    })
}

fn layers(settings: &Settings, spec: &ModelSpec) -> Result<Vec<usize>> {
    let of_heads: BTreeSet<usize> = settings.heads.0.iter().filter_map(|h| h.layer).collect();
    let everywhere = settings.heads.0.iter().any(|h| h.layer.is_none());
    let mut layers = settings.layers.clone();
    if layers.is_empty() {
        let all = of_heads.is_empty() || everywhere;
        layers = if all { (0..spec.n_layers).collect() } else { of_heads.iter().copied().collect() };
    }
    layers.sort_unstable();
    layers.dedup();
    if let Some(l) = layers.iter().chain(&of_heads).find(|&&l| l >= spec.n_layers) {
        return no_layer(*l, spec);
    }
    match of_heads.iter().find(|l| !layers.contains(l)) {
        Some(l) => wrong(format!(
            "`heads` names layer {l}, which `layers` leaves out; name it in both or leave `layers` out"
        )),
        None => Ok(layers),
    }
}

/// The heads of a layer in order; `None` where whole modules are trained.
fn heads(settings: &Settings, spec: &ModelSpec, layer: usize) -> Result<Option<Vec<usize>>> {
    if settings.heads.0.is_empty() {
        return Ok(None);
    }
    let here = settings.heads.0.iter().filter(|h| h.layer.is_none_or(|l| l == layer));
    let mut heads: Vec<usize> = here.map(|h| h.head).collect();
    heads.sort_unstable();
    heads.dedup();
    if let Some(h) = heads.iter().find(|&&h| h >= spec.n_heads) {
        return wrong(format!("there is no head {h}; the model's heads are 0 to {}", spec.n_heads - 1));
    }
    if heads.is_empty() {
        return wrong(format!("layer {layer} is to be trained, but `heads` names none in it"));
    }
    Ok(Some(heads))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one range of rows is meant")]
mod tests {
    use super::*;
    use lorascope_engine::read_spec;
    use serde_json::{Value, json};

    fn llama() -> Value {
        json!({
            "model_type": "llama", "hidden_size": 6, "intermediate_size": 10, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 7,
            "max_position_embeddings": 5, "hidden_act": "silu"
        })
    }

    fn gpt2() -> Value {
        json!({"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_head": 2, "n_positions": 5, "vocab_size": 7,
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5})
    }

    fn resolve(config: &Value, settings: &str) -> Result<Targets> {
        let (family, spec) = read_spec(config).unwrap();
        Targets::resolve(&Settings::from_table(settings.parse().unwrap()).unwrap(), &spec, family)
    }

    #[test]
    fn everything_is_trained_where_nothing_is_named() {
        let targets = resolve(&llama(), "").unwrap();
        assert_eq!(targets.targets.len(), 3 * 7);
        assert_eq!(
            targets.names,
            ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        );
        assert_eq!(targets.layers, None);
        assert!(targets.targets.iter().all(|t| t.a == Part::Whole && t.b == Part::Whole));
        // Inputs and outputs: q 6, 32; k, v 6, 16; o 32, 6; gate, up 6, 10; down 10, 6.
        assert_eq!(targets.n_trained(2), 3 * 2 * (38 + 22 + 22 + 38 + 16 + 16 + 16));
    }

    #[test]
    fn heads_are_rows_of_b_and_columns_of_a() {
        let targets = resolve(&llama(), "heads = ['1.2', '1.3', '2.0']").unwrap();
        assert_eq!(targets.layers, Some(vec![1, 2]));
        assert_eq!(targets.names, ["q_proj", "k_proj", "v_proj", "o_proj"]);
        let of = |path: &str| targets.targets.iter().find(|t| t.path.ends_with(path)).unwrap();
        assert_eq!(of("1.self_attn.q_proj").b, Part::Rows(vec![16..24, 24..32]));
        assert_eq!(of("1.self_attn.k_proj").b, Part::Rows(vec![8..16]), "heads 2 and 3 are one group");
        assert_eq!(of("1.self_attn.o_proj").a, Part::Columns(vec![16..24, 24..32]));
        assert_eq!(of("1.self_attn.o_proj").b, Part::Whole);
        assert_eq!(of("2.self_attn.q_proj").b, Part::Rows(vec![0..8]));
        assert_eq!(of("2.self_attn.q_proj").a, Part::Whole);
        let everywhere = resolve(&llama(), "heads = [0, 1, 2, 3]\nmodules = ['o']").unwrap();
        assert_eq!(everywhere.layers, None);
        assert!(everywhere.targets.iter().all(|t| t.a == Part::Whole), "all heads are the whole");
    }

    #[test]
    fn a_fused_matrix_is_one_target() {
        let targets = resolve(&gpt2(), "").unwrap();
        assert_eq!(targets.names, ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"]);
        assert!(targets.transposed);
        let fused = &targets.targets[0];
        assert_eq!((fused.path.as_str(), fused.n_in, fused.n_out), ("transformer.h.0.attn.c_attn", 8, 24));
        assert_eq!((fused.modules.len(), &fused.b), (3, &Part::Whole));
        let values = resolve(&gpt2(), "modules = ['v']\nheads = [1]\nlayers = [1]").unwrap();
        assert_eq!(values.targets.len(), 1);
        assert_eq!(values.targets[0].b, Part::Rows(vec![20..24]));
        assert_eq!(values.layers, Some(vec![1]));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let cases = [
            (llama(), "layers = [3]", "there is no layer 3; the model's layers are 0 to 2"),
            (llama(), "heads = [4]", "there is no head 4; the model's heads are 0 to 3"),
            (llama(), "heads = ['5.0']", "there is no layer 5"),
            (llama(), "heads = [0]\nmodules = ['up']", "`mlp.up_proj` has no heads"),
            (llama(), "heads = ['1.0']\nlayers = [0]", "`heads` names layer 1, which `layers` leaves out"),
            (
                llama(),
                "heads = ['1.0']\nlayers = [0, 1]",
                "layer 0 is to be trained, but `heads` names none in it",
            ),
            (gpt2(), "modules = ['gate']", "a gpt2 model has no `mlp.gate_proj`"),
        ];
        for (config, settings, expected) in cases {
            let message = resolve(&config, settings).expect_err(settings).to_string();
            assert!(message.contains(expected), "{settings}: {message}");
        }
    }

    #[test]
    fn only_the_part_keeps_its_numbers() {
        let ones = |part: Part| {
            let mut values = vec![1.0; 6];
            part.clear_outside(&mut values, 3);
            (values, part.count(2, 3))
        };
        assert_eq!(ones(Part::Whole), (vec![1.0; 6], 6));
        assert_eq!(ones(Part::Rows(vec![1..2])), (vec![0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 3));
        assert_eq!(ones(Part::Columns(vec![0..1, 2..3])), (vec![1.0, 0.0, 1.0, 1.0, 0.0, 1.0], 4));
    }
}
