//! `lorascope info`: what a base model and its adapters are, whether each adapter is active, and what memory they need.

use crate::args::InfoArgs;
use crate::progress::Bars;
use anyhow::{Context, Result};
use lorascope_analyses::{
    Activity, ChangedWeight, MemoryEstimate, MergeSummary, Spread, Verdict, adapter_activity, memory_estimate,
};
use lorascope_study::open::{Opened, open};
use lorascope_text::{PromptInput, Wrapping};
use serde_json::json;
use std::process::ExitCode;

/// For how much work the memory is estimated: a usual prompt set.
const PROMPTS: usize = 80;
/// Tokens of a usual prompt.
const PROMPT_TOKENS: usize = 256;

/// Describes the models.
pub fn run(args: &InfoArgs) -> Result<ExitCode> {
    args.models.machine.take()?;
    let bars = Bars::default();
    let opened = open(&args.models.models(), 0, &bars)?;
    let text = PromptInput::Text(&args.text);
    let tokens = opened.tokenizer.tokens_prompt(text, Wrapping::Raw).context("the text of --text")?;
    let activities = adapter_activity(&opened.model, &tokens.ids, &bars)?;
    let memory = memory_estimate(&opened.model, PROMPTS, PROMPT_TOKENS);
    if args.json {
        print_json(&opened, &activities, &memory)?;
    } else {
        print_model(&opened, &memory);
        activities.iter().for_each(|a| print_adapter(&opened, a));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(opened: &Opened, activities: &[Activity], memory: &MemoryEstimate) -> Result<()> {
    let spec = opened.model.spec();
    let value = json!({
        "model": {
            "family": spec.family, "layers": spec.n_layers, "width": spec.d_model, "heads": spec.n_heads,
            "kv_heads": spec.n_kv_heads, "head_width": spec.d_head, "mlp": spec.d_mlp, "vocabulary": spec.d_vocab,
            "context": spec.n_ctx, "parameters": spec.n_parameters(),
        },
        "memory": memory,
        "adapters": activities,
    });
    println!("{}", serde_json::to_string_pretty(&value)?);
    Ok(())
}

fn print_model(opened: &Opened, memory: &MemoryEstimate) {
    let spec = opened.model.spec();
    println!("family      {}", spec.family);
    println!("layers      {}", spec.n_layers);
    println!("width       {}", spec.d_model);
    println!("heads       {} ({} for keys and values), width {}", spec.n_heads, spec.n_kv_heads, spec.d_head);
    println!("mlp         {}", spec.d_mlp);
    println!("vocabulary  {}", spec.d_vocab);
    println!("context     {}", spec.n_ctx);
    println!("parameters  {}", spec.n_parameters());
    let mib = |bytes: usize| bytes.div_ceil(1 << 20);
    println!(
        "memory      about {} MiB for {PROMPTS} prompts of {PROMPT_TOKENS} tokens on {} model(s), and {} MiB of mapped files",
        mib(memory.needed()),
        opened.model.n_models(),
        mib(memory.files)
    );
    println!(
        "            packed weights {} MiB ({}), output matrix {}, rows {}, work {}, program {}",
        mib(memory.packed),
        if memory.resident { "kept" } else { "one layer at a time" },
        mib(memory.output),
        mib(memory.rows),
        mib(memory.work),
        mib(memory.program)
    );
}

fn print_adapter(opened: &Opened, a: &Activity) {
    println!("\nadapter     {}: {}", a.adapter, verdict(&a.verdict));
    println!(
        "file        {} tensors, {} parameters, all used; sha256 {}",
        a.keys,
        a.parameters,
        &a.sha256[..16.min(a.sha256.len())]
    );
    println!(
        "changes     {} modules with factors, {} replaced whole; ‖ΔW‖ {:.4}; {} inert{}",
        a.adapted,
        a.replaced,
        a.delta_norm,
        a.inert.len(),
        listed(&a.inert)
    );
    let l = &a.logits;
    println!(
        "logits      move by at most {:.3e}, {:.3e} on average (largest |logit| of the base {:.2}); KL(base‖adapter) {:.3e} nats",
        l.max, l.mean, l.scale, l.kl
    );
    let token = |id: u32| format!("{:?}", opened.tokenizer.token_text(id));
    println!("next token  {} on the base, {} with the adapter", token(l.top_base), token(l.top_adapter));
    a.merge.iter().for_each(print_merge);
    a.notes.iter().for_each(|note| println!("note        {note}"));
    print_modules(&a.changes);
}

fn print_merge(merge: &MergeSummary) {
    let line =
        |s: &Spread| format!("{:.3} (modules {:.3} / {:.3} / {:.3})", s.overall, s.min, s.median, s.max);
    println!("bf16 merge  keeps {} of the update (smallest / middle / largest)", line(&merge.retained));
    println!(
        "            is off by {} of its norm, of which the base's own rounding {:.3}",
        line(&merge.error),
        merge.base_error.overall
    );
    println!(
        "            leaves {:.1} % of the changed weights as they were",
        100.0 * merge.unchanged.overall
    );
}

/// Layers do not fit a screen; modules do.
fn print_modules(changes: &[ChangedWeight]) {
    let mut names: Vec<&str> = Vec::new();
    for change in changes {
        if !names.contains(&change.module.as_str()) {
            names.push(&change.module);
        }
    }
    println!(
        "  {:<28} {:>6} {:>10} {:>9} {:>10} {:>10} {:>10}",
        "module", "layers", "kind", "rank", "‖ΔW‖", "‖ΔW‖/‖W‖", "bf16 keeps"
    );
    for name in names {
        let of: Vec<&ChangedWeight> = changes.iter().filter(|c| c.module == name).collect();
        let norm = |value: fn(&ChangedWeight) -> f64| of.iter().map(|c| value(c).powi(2)).sum::<f64>().sqrt();
        let (delta, weight) = (norm(|c| c.delta_norm), norm(|c| c.weight_norm));
        let kept: f64 =
            of.iter().map(|c| c.merge.map_or(0.0, |m| m.retained * c.delta_norm * c.delta_norm)).sum();
        let number = |v: f64| if v.is_finite() { format!("{v:.3e}") } else { "-".to_owned() };
        println!(
            "  {:<28} {:>6} {:>10} {:>9} {:>10} {:>10} {:>10}",
            name,
            of.len(),
            of[0].kind.label(),
            ranks(&of),
            number(delta),
            number(delta / weight),
            number(kept / (delta * delta))
        );
    }
}

fn ranks(changes: &[&ChangedWeight]) -> String {
    let mut ranks: Vec<usize> = changes.iter().filter_map(|c| c.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    match ranks[..] {
        [] => "-".to_owned(),
        [one] => one.to_string(),
        [first, .., last] => format!("{first}..{last}"),
    }
}

fn listed(inert: &[String]) -> String {
    const SHOWN: usize = 4;
    match inert.len() {
        0 => String::new(),
        n if n <= SHOWN => format!(": {}", inert.join(", ")),
        n => format!(": {}, and {} more", inert[..SHOWN].join(", "), n - SHOWN),
    }
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Active => "active".to_owned(),
        Verdict::BelowPrecision(why) => format!("NOT MEASURABLE: {why}"),
        Verdict::DoesNothing(why) => format!("DOES NOTHING: {why}"),
    }
}
