//! Tensors of the file + plan -> adapter, with every tensor used exactly once or the file refused.

use crate::adapter::{Coverage, EmbeddingLowRank, LowRank, PeftAdapter};
use crate::base::ModuleKind;
use crate::config::LoraConfig;
use crate::error::Problem;
use crate::keys::{self, Role};
use crate::plan::{Expected, ModulePlan, Plan, Update};
use lorascope_checkpoint::StoredTensor;
use std::collections::BTreeMap;

/// The file's tensors by module path and role.
pub(crate) struct Placed {
    tensors: BTreeMap<(String, Role), StoredTensor>,
}

impl Placed {
    /// Gives every tensor its module and role, and holds the whole against the plan.
    pub(crate) fn new(
        tensors: Vec<StoredTensor>,
        plan: &Plan,
        config: &LoraConfig,
        hint: &str,
    ) -> Result<Self, Problem> {
        let placed = Self { tensors: by_module(tensors, plan, hint)? };
        let mut missing = Vec::new();
        for (path, module) in &plan.modules {
            let expected = module.expected(config);
            placed.refuse_surplus(path, module, &expected)?;
            for e in expected {
                match placed.get(path, e.role) {
                    Some(tensor) => check_shape(tensor, e, module, hint)?,
                    None if e.required => {
                        missing.push((keys::name(path, e.role, module.update.is_some()), e.why))
                    }
                    None => {}
                }
            }
        }
        let count = missing.len();
        if let Some((tensor, why)) = missing.into_iter().next() {
            return Err(Problem::Missing { tensor, count, why, hint: hint.into() });
        }
        for tensor in placed.tensors.values() {
            check_finite(tensor)?;
        }
        Ok(placed)
    }

    fn get(&self, path: &str, role: Role) -> Option<&StoredTensor> {
        self.tensors.get(&(path.to_owned(), role))
    }

    fn refuse_surplus(&self, path: &str, module: &ModulePlan, expected: &[Expected]) -> Result<(), Problem> {
        let of_module = self.tensors.range((path.to_owned(), Role::A)..=(path.to_owned(), Role::TokenRows));
        for ((_, role), tensor) in of_module {
            if !expected.iter().any(|e| e.role == *role) {
                return Err(Problem::Surplus {
                    tensor: tensor.name().to_owned(),
                    why: module.surplus_reason(*role),
                });
            }
        }
        Ok(())
    }

    /// Builds the adapter; hashes and notes of the file are the caller's.
    pub(crate) fn into_adapter(mut self, plan: &Plan, config: LoraConfig) -> Result<PeftAdapter, Problem> {
        let report = Coverage {
            keys: self.tensors.len(),
            parameters: self.tensors.values().map(|t| t.n_rows() * t.n_cols()).sum(),
            notes: plan.notes.clone(),
            ..Coverage::default()
        };
        self.copy_over_tie(plan, &config)?;
        let mut adapter = PeftAdapter {
            config,
            low_rank: BTreeMap::new(),
            embeddings: BTreeMap::new(),
            replaced_weights: BTreeMap::new(),
            replaced_biases: BTreeMap::new(),
            sha256: String::new(),
            config_sha256: String::new(),
            report,
        };
        for (path, module) in &plan.modules {
            if let Some(update) = &module.update {
                self.take_update(path, module, update, &mut adapter)?;
            }
        }
        for ((path, role), tensor) in self.tensors {
            match role {
                Role::Bias => adapter.replaced_biases.insert(path, tensor),
                _ => adapter.replaced_weights.insert(path, tensor),
            };
        }
        adapter.report.replaced_weights = adapter.replaced_weights.len();
        adapter.report.replaced_biases = adapter.replaced_biases.len();
        Ok(adapter)
    }

    fn take(&mut self, path: &str, role: Role) -> Option<StoredTensor> {
        self.tensors.remove(&(path.to_owned(), role))
    }

    /// The two factors of a module; the plan has made sure that they are there.
    fn take_factors(
        &mut self,
        path: &str,
        a: Role,
        b: Role,
    ) -> Result<(StoredTensor, StoredTensor), Problem> {
        let mut factor = |role| {
            self.take(path, role).ok_or_else(|| Problem::Missing {
                tensor: keys::name(path, role, true),
                count: 1,
                why: "its module is adapted".into(),
                hint: String::new(),
            })
        };
        Ok((factor(a)?, factor(b)?))
    }

    fn take_update(
        &mut self,
        path: &str,
        module: &ModulePlan,
        update: &Update,
        adapter: &mut PeftAdapter,
    ) -> Result<(), Problem> {
        let (rank, scale) = (update.rank, adapter.config.scale(update.alpha, update.rank));
        let report = &mut adapter.report;
        report.adapted += 1;
        *report.ranks.entry(rank).or_default() += 1;
        if module.module.kind == ModuleKind::Embedding {
            let (a, b) = self.take_factors(path, Role::EmbeddingA, Role::EmbeddingB)?;
            report.embeddings += 1;
            if scale == 0.0 || is_zero(&a)? || is_zero(&b)? {
                report.inert.push(path.to_owned());
            }
            adapter.embeddings.insert(path.to_owned(), EmbeddingLowRank { a, b, scale, rank });
            return Ok(());
        }
        let (a, b) = self.take_factors(path, Role::A, Role::B)?;
        let (bias, magnitude) = (self.take(path, Role::BBias), self.take(path, Role::Magnitude));
        let low_rank = LowRank { a, b, scale, bias, magnitude, rank };
        match module.module.kind {
            ModuleKind::Conv1d => report.conv1d += 1,
            _ => report.linear += 1,
        }
        report.dora += usize::from(low_rank.magnitude.is_some());
        report.lora_biases += usize::from(low_rank.bias.is_some());
        if is_inert(&low_rank)? {
            report.inert.push(path.to_owned());
        }
        adapter.low_rank.insert(path.to_owned(), low_rank);
        Ok(())
    }

    /// Where the base ties embedding and head and PEFT changes both, completes the one that the file leaves out.
    fn copy_over_tie(&mut self, plan: &Plan, config: &LoraConfig) -> Result<(), Problem> {
        let Some((embedding, head)) = plan.tie else { return Ok(()) };
        let saved = |path| plan.modules.get(path).is_some_and(|m| m.saved);
        if config.ensure_weight_tying || !(saved(embedding) || saved(head)) {
            // Without `modules_to_save`, PEFT loads a saved embedding into the one parameter that both share.
            self.make_equal(embedding, head)?;
        }
        let head_tied = plan.modules.get(head).is_some_and(|m| m.tied && m.update.is_some());
        if head_tied {
            self.tie_factor((embedding, Role::EmbeddingB), (head, Role::A))?;
            self.tie_factor((embedding, Role::EmbeddingA), (head, Role::B))?;
        }
        Ok(())
    }

    fn make_equal(&mut self, embedding: &str, head: &str) -> Result<(), Problem> {
        match (self.get(embedding, Role::Weight), self.get(head, Role::Weight)) {
            (Some(one), Some(other)) if !same_values(one, other)? => {
                Err(Problem::TiedDiffer { first: one.name().to_owned(), second: other.name().to_owned() })
            }
            (Some(one), None) => {
                let one = one.clone();
                self.tensors.insert((head.to_owned(), Role::Weight), one);
                Ok(())
            }
            (None, Some(other)) => {
                let other = other.clone();
                self.tensors.insert((embedding.to_owned(), Role::Weight), other);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A tied head's factor is the embedding's other factor, transposed.
    fn tie_factor(&mut self, source: (&str, Role), target: (&str, Role)) -> Result<(), Problem> {
        let Some(from) = self.get(source.0, source.1) else { return Ok(()) };
        let transposed = transpose(from, keys::name(target.0, target.1, true))?;
        if let Some(given) = self.get(target.0, target.1)
            && !same_values(given, &transposed)?
        {
            return Err(Problem::TiedDiffer { first: from.name().into(), second: given.name().into() });
        }
        self.tensors.insert((target.0.to_owned(), target.1), transposed);
        Ok(())
    }
}

fn by_module(
    tensors: Vec<StoredTensor>,
    plan: &Plan,
    hint: &str,
) -> Result<BTreeMap<(String, Role), StoredTensor>, Problem> {
    let total = tensors.len();
    let mut placed = BTreeMap::new();
    let mut homeless: Option<(String, String, usize)> = None;
    for tensor in tensors {
        let Some((path, role)) = keys::parse(tensor.name()) else {
            return Err(Problem::UnknownName { tensor: tensor.name().to_owned() });
        };
        if !plan.modules.contains_key(path.as_str()) {
            homeless = Some(match homeless {
                Some((first, its_path, n)) if first.as_str() <= tensor.name() => (first, its_path, n + 1),
                Some((_, _, n)) => (tensor.name().to_owned(), path, n + 1),
                None => (tensor.name().to_owned(), path, 1),
            });
            continue;
        }
        let name = tensor.name().to_owned();
        if let Some(other) = placed.insert((path.clone(), role), tensor) {
            return Err(Problem::Duplicate { first: other.name().to_owned(), second: name, path });
        }
    }
    match homeless {
        Some((tensor, path, count)) => {
            Err(Problem::UnknownModule { tensor, path, count, total, hint: hint.into() })
        }
        None => Ok(placed),
    }
}

fn check_shape(
    tensor: &StoredTensor,
    expected: Expected,
    module: &ModulePlan,
    hint: &str,
) -> Result<(), Problem> {
    if tensor.shape() == expected.shape {
        return Ok(());
    }
    let resized = expected.role == Role::Weight && module.may_be_resized();
    let why = if resized {
        format!("{}; was the adapter saved with a resized vocabulary?", expected.why)
    } else {
        expected.why
    };
    Err(Problem::Shape {
        tensor: tensor.name().to_owned(),
        found: tensor.shape().to_vec(),
        expected: expected.shape,
        why,
        hint: hint.into(),
    })
}

fn check_finite(tensor: &StoredTensor) -> Result<(), Problem> {
    let Some(flat) = tensor.first_non_finite()? else { return Ok(()) };
    let row = flat / tensor.n_cols();
    let mut values = vec![0.0; tensor.n_cols()];
    tensor.widen_rows(row..row + 1, &mut values)?;
    let column = flat % tensor.n_cols();
    let index = if tensor.shape().len() == 1 { vec![column] } else { vec![row, column] };
    Err(Problem::NonFinite { tensor: tensor.name().to_owned(), index, value: values[column] })
}

fn is_zero(tensor: &StoredTensor) -> Result<bool, Problem> {
    Ok(tensor.to_f32()?.iter().all(|x| *x == 0.0))
}

/// Whether `scale · (B·A·x + bias)` is zero for every x. A DoRA module also rescales the base's weight, by norms that
/// only the base can tell, so it never counts.
fn is_inert(update: &LowRank) -> Result<bool, Problem> {
    if update.magnitude.is_some() {
        return Ok(false);
    }
    if update.scale == 0.0 {
        return Ok(true);
    }
    let bias_is_zero = match &update.bias {
        Some(bias) => is_zero(bias)?,
        None => true,
    };
    Ok(bias_is_zero && (is_zero(&update.a)? || is_zero(&update.b)?))
}

fn same_values(one: &StoredTensor, other: &StoredTensor) -> Result<bool, Problem> {
    Ok(one.shape() == other.shape() && one.to_f32()? == other.to_f32()?)
}

fn transpose(tensor: &StoredTensor, name: String) -> Result<StoredTensor, Problem> {
    let (rows, columns) = (tensor.n_rows(), tensor.n_cols());
    let values = tensor.to_f32()?;
    let transposed = (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect();
    Ok(StoredTensor::from_f32(name, &[columns, rows], transposed))
}
