//! A model put together from blocks as a PEFT adapter of its own.

use crate::context::Context;
use crate::error::Result;
use lorascope_engine::{Adapter, Mixture, Model, ModelId, Part, Update};
use lorascope_peft::{NewFolder, NewUpdate, folder};
use std::collections::BTreeMap;

/// What a mixture takes of the matrix at a path.
struct Taken<'a> {
    part: Part,
    update: Update<'a>,
}

/// Writes a mixture of the subject's adapters into a folder of the run.
pub(crate) fn write(context: &Context, place: &str, mixture: &Mixture) -> Result<()> {
    let files = adapter(context.subject.model.adapters(), mixture)?;
    context.run.write_text(&format!("{place}/adapter_config.json"), &files.config)?;
    context.run.write_bytes(&format!("{place}/adapter_model.safetensors"), &files.weights)?;
    Ok(())
}

/// The folder of an adapter that is this mixture. Each module has the factors, rank and scale of the adapter that it was taken from.
pub(crate) fn adapter(adapters: &[Adapter], mixture: &Mixture) -> Result<NewFolder> {
    // Paths in the order in which layers use them; modules of a fused matrix have one path.
    let mut order: Vec<&str> = Vec::new();
    let mut by_path: BTreeMap<&str, Vec<Taken>> = BTreeMap::new();
    let mut like = None;
    for ((layer, module), part) in mixture.parts() {
        let Some(adapter) = part.model.checked_sub(1).and_then(|i| adapters.get(i)) else { continue };
        let Some(update) = adapter.update(layer, module) else { continue };
        like = like.or(Some(&adapter.peft.config));
        if !by_path.contains_key(update.path) {
            order.push(update.path);
        }
        by_path.entry(update.path).or_default().push(Taken { part, update });
    }
    let updates = order.iter().map(|path| new_update(path, &by_path[path])).collect::<Result<Vec<_>>>()?;
    let like = like.cloned().unwrap_or_default();
    Ok(folder(&updates, &like)?)
}

/// The update of one matrix. Where its modules (of a fused matrix) were taken from several adapters, their factors are stacked: the
/// ranks add up, each module's rows of B are zero but for its own ranks, and B makes up for what their scales differ. Rows
/// of B that belong to no module of the mixture are zero.
fn new_update(path: &str, taken: &[Taken]) -> Result<NewUpdate> {
    let scale = |t: &Taken| t.part.factor * t.update.factors.scale;
    let mut sources: Vec<(ModelId, u64)> = Vec::new();
    for t in taken {
        let source = (t.part.model, t.part.factor.to_bits());
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    let of = |source: &(ModelId, u64)| {
        let source = *source;
        taken.iter().filter(move |t| (t.part.model, t.part.factor.to_bits()) == source)
    };
    let ranks: Vec<usize> =
        sources.iter().map(|s| of(s).next().map_or(0, |t| t.update.factors.rank)).collect();
    let rank: usize = ranks.iter().sum();
    let first = &taken[0];
    let common = if scale(first) == 0.0 { 1.0 } else { scale(first) };
    let n_out = first.update.factors.b.n_rows();
    let (mut a, mut b) = (Vec::new(), vec![0.0; n_out * rank]);
    let mut column = 0;
    for (source, &own_rank) in sources.iter().zip(&ranks) {
        for (n, t) in of(source).enumerate() {
            let factors = &t.update.factors;
            if n == 0 {
                a.extend(Model::<f32>::widened(&factors.a)?);
            }
            let own = Model::<f32>::widened(&factors.b)?;
            // 1 where the scales are equal, and then no bit of B changes.
            let ratio = (scale(t) / common) as f32;
            for row in t.update.outputs.clone() {
                let from = &own[row * own_rank..(row + 1) * own_rank];
                let to = &mut b[row * rank + column..row * rank + column + own_rank];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = ratio * from);
            }
        }
        column += own_rank;
    }
    Ok(NewUpdate { path: path.to_owned(), rank, a, b, scale: common })
}

/// Where it goes in the run folder: named after the adapters that it was made of, where their names are plain.
pub(crate) fn place(context: &Context, models: &[ModelId], what: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = |&model: &ModelId| {
        let name = context.subject.model.name(model);
        if name.chars().all(plain) { name.to_owned() } else { format!("adapter{model}") }
    };
    format!("adapters/{}_{what}", models.iter().map(name).collect::<Vec<_>>().join("_in_"))
}
