//! Configuration + base model -> which tensors the file must hold, with which shapes.
//!
//! Touches no file: it is the specification that `assemble.rs` holds the file against.

use crate::base::{BaseIdentity, BaseModule, ModuleKind, OUTPUT_HEAD};
use crate::config::{BiasKind, LoraConfig};
use crate::error::Problem;
use crate::keys::Role;
use crate::select::{Selection, self_and_ancestors};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Last segments of the input embedding's path in the families that lorascope reads.
const INPUT_EMBEDDINGS: [&str; 2] = ["embed_tokens", "wte"];

/// Rank and numerator of one module's update.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub rank: usize,
    /// The configuration key that the rank comes from.
    pub rank_key: String,
    pub alpha: f64,
}

/// What the adapter does to one module.
pub(crate) struct ModulePlan<'b> {
    pub module: &'b BaseModule,
    pub update: Option<Update>,
    pub saved: bool,
    /// Whether the tensors of this module may be absent because it shares those of the input embedding.
    pub tied: bool,
    /// Whether the module's bias is replaced, and by which key's word.
    pub bias: Option<&'static str>,
}

/// A tensor that a module's plan has room for.
pub(crate) struct Expected {
    pub role: Role,
    pub shape: Vec<usize>,
    pub required: bool,
    pub why: String,
}

/// What an adapter does to a base model.
pub(crate) struct Plan<'b> {
    pub modules: BTreeMap<&'b str, ModulePlan<'b>>,
    /// Paths of the input embedding and of the output head, where they share one weight.
    pub tie: Option<(&'b str, &'b str)>,
    pub notes: Vec<String>,
}

impl<'b> Plan<'b> {
    pub(crate) fn new(
        config: &LoraConfig,
        base: &'b [BaseModule],
        identity: Option<&BaseIdentity>,
        hint: &str,
    ) -> Result<Self, Problem> {
        let selection = Selection::new(config)?;
        refuse_containers(&selection, base)?;
        let mut modules = BTreeMap::new();
        for module in base {
            modules.insert(module.path.as_str(), plan_module(config, &selection, module)?);
        }
        let tie = if identity.is_some_and(|i| i.tied_embeddings) { find_tie(base) } else { None };
        if config.ensure_weight_tying
            && let Some((embedding, head)) = tie
        {
            extend_over_tie(&selection, &mut modules, embedding, head)?;
        }
        let adapted: Vec<&str> =
            modules.values().filter(|m| m.update.is_some()).map(|m| m.module.path.as_str()).collect();
        if adapted.is_empty() {
            return Err(nothing_targeted(config, hint));
        }
        let notes = selection.unused(&adapted, base)?;
        Ok(Self { modules, tie, notes })
    }
}

fn plan_module<'b>(
    config: &LoraConfig,
    selection: &Selection,
    module: &'b BaseModule,
) -> Result<ModulePlan<'b>, Problem> {
    let path = &module.path;
    let targeted = selection.targets(module)?;
    let saved = selection.saves(path);
    if targeted && saved {
        return Err(Problem::AdaptedAndSaved { path: path.clone() });
    }
    if targeted && module.kind == ModuleKind::Norm {
        return Err(Problem::NotAdaptable { path: path.clone(), what: "a norm" });
    }
    if targeted && module.kind == ModuleKind::Embedding {
        refuse_on_embedding(config)?;
    }
    let update = if targeted { Some(update_of(selection, path)?) } else { None };
    let bias = match config.bias {
        _ if !module.has_bias => None,
        _ if saved => Some("`modules_to_save` names its module"),
        BiasKind::All => Some("`bias` is `all`"),
        BiasKind::LoraOnly if targeted => Some("`bias` is `lora_only`"),
        _ => None,
    };
    Ok(ModulePlan { module, update, saved, tied: false, bias })
}

fn update_of(selection: &Selection, path: &str) -> Result<Update, Problem> {
    let (rank, rank_key) = selection.rank(path)?;
    Ok(Update { rank, rank_key, alpha: selection.alpha(path)? })
}

fn refuse_on_embedding(config: &LoraConfig) -> Result<(), Problem> {
    let refuse = |key, why| Err(Problem::Unsupported { key, value: "true".into(), why });
    if config.use_dora {
        return refuse(
            "use_dora",
            "DoRA on an embedding is not implemented; leave the embedding out of `target_modules`",
        );
    }
    if config.lora_bias {
        return refuse("lora_bias", "PEFT has no `lora_bias` on an embedding");
    }
    Ok(())
}

/// PEFT refuses a selected module that is neither linear nor an embedding; the base's list has only leaves, so the
/// modules that hold them are asked about here.
fn refuse_containers(selection: &Selection, base: &[BaseModule]) -> Result<(), Problem> {
    let leaves: BTreeSet<&str> = base.iter().map(|m| m.path.as_str()).collect();
    let mut asked = BTreeSet::new();
    for part in base.iter().flat_map(|m| self_and_ancestors(&m.path)) {
        if !leaves.contains(part) && asked.insert(part) && selection.targets_path(part)? {
            return Err(Problem::NotAdaptable { path: part.to_owned(), what: "a group of modules" });
        }
    }
    Ok(())
}

fn find_tie(base: &[BaseModule]) -> Option<(&str, &str)> {
    let head = base.iter().find(|m| m.is_output_head())?;
    let is_input = |m: &&BaseModule| {
        m.kind == ModuleKind::Embedding && INPUT_EMBEDDINGS.contains(&m.path.rsplit('.').next().unwrap_or(""))
    };
    let embedding = base.iter().find(is_input)?;
    Some((&embedding.path, &head.path))
}

/// With `ensure_weight_tying`, what is done to the embedding or to the head that shares its weight is done to both,
/// and the file may hold it once.
fn extend_over_tie<'b>(
    selection: &Selection,
    modules: &mut BTreeMap<&'b str, ModulePlan<'b>>,
    embedding: &str,
    head: &str,
) -> Result<(), Problem> {
    let any = |modules: &BTreeMap<&str, ModulePlan>, f: fn(&ModulePlan) -> bool| {
        [embedding, head].iter().any(|path| modules.get(path).is_some_and(f))
    };
    let saved = any(modules, |m| m.saved);
    let adapted = any(modules, |m| m.update.is_some());
    for path in [embedding, head] {
        let Some(plan) = modules.get_mut(path) else { continue };
        plan.tied = path == OUTPUT_HEAD && (saved || adapted);
        plan.saved = saved;
        plan.update = if adapted && !saved { Some(update_of(selection, path)?) } else { None };
    }
    Ok(())
}

fn nothing_targeted(config: &LoraConfig, hint: &str) -> Problem {
    let mut selection = format!("`target_modules` {}", json(&config.target_modules));
    if config.exclude_modules.is_some() {
        selection += &format!(" less `exclude_modules` {}", json(&config.exclude_modules));
    }
    if config.layers_to_transform.is_some() {
        selection += &format!(" within `layers_to_transform` {}", json(&config.layers_to_transform));
    }
    if config.layers_pattern.is_some() {
        selection += &format!(" of `layers_pattern` {}", json(&config.layers_pattern));
    }
    Problem::NothingTargeted { selection, hint: hint.into() }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| e.to_string())
}

impl ModulePlan<'_> {
    /// The tensors that this module's plan has room for.
    pub(crate) fn expected(&self, config: &LoraConfig) -> Vec<Expected> {
        let mut expected = Vec::new();
        if let Some(update) = &self.update {
            self.expect_factors(config, update, &mut expected);
        }
        let own_weight = Expected {
            role: Role::Weight,
            shape: self.module.shape.clone(),
            required: self.saved && !self.tied,
            why: if self.saved {
                "`modules_to_save` replaces the base's weight, which has that shape".into()
            } else {
                "it replaces the base's weight, which has that shape".into()
            },
        };
        if self.saved || self.may_be_resized() {
            expected.push(own_weight);
        }
        if let Some(key) = self.bias {
            let why = format!("{key}, and the base's bias has that length");
            expected.push(Expected {
                role: Role::Bias,
                shape: vec![self.module.n_out()],
                required: true,
                why,
            });
        }
        expected
    }

    fn expect_factors(&self, config: &LoraConfig, update: &Update, expected: &mut Vec<Expected>) {
        let (rank, n_in, n_out) = (update.rank, self.module.n_in(), self.module.n_out());
        let why =
            format!("rank {rank} comes from `{}`, the other length from the base's weight", update.rank_key);
        let (a, b) = match self.module.kind {
            ModuleKind::Embedding => (Role::EmbeddingA, Role::EmbeddingB),
            _ => (Role::A, Role::B),
        };
        let mut expect = |role, shape, why: &str| {
            expected.push(Expected { role, shape, required: !self.tied, why: why.into() });
        };
        expect(a, vec![rank, n_in], &why);
        expect(b, vec![n_out, rank], &why);
        if config.lora_bias {
            expect(Role::BBias, vec![n_out], "`lora_bias` gives every B a bias of the output's length");
        }
        if config.use_dora {
            expect(Role::Magnitude, vec![n_out], "`use_dora` gives every output of an adapted module a norm");
        }
    }

    /// PEFT also saves embedding and head when one of them is adapted or the vocabulary was resized.
    pub(crate) fn may_be_resized(&self) -> bool {
        self.module.kind == ModuleKind::Embedding || self.module.is_output_head()
    }

    /// Why a tensor of `role` has no place in this module.
    pub(crate) fn surplus_reason(&self, role: Role) -> &'static str {
        match role {
            Role::TokenRows => {
                "it holds single rows of an embedding (`trainable_token_indices`), which is not supported"
            }
            Role::Weight => "its module is not in `modules_to_save`",
            Role::Bias if !self.module.has_bias => "its module has no bias in the base model",
            Role::Bias => "`bias` does not cover it",
            _ if self.update.is_none() => {
                "the configuration does not select its module (`target_modules` and its limits)"
            }
            Role::BBias => "`lora_bias` is not set",
            Role::Magnitude => "`use_dora` is not set",
            _ => {
                "factors of embeddings are `lora_embedding_A` and `lora_embedding_B`, those of linear maps `lora_A` and \
                  `lora_B`"
            }
        }
    }
}
