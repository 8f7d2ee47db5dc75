//! The words of training and of what tests it.

use super::{MachineArgs, nf4};
use clap::Args;
use lorascope_study::Nf4;
use lorascope_study::names::parse_pair;
use std::path::PathBuf;

/// How is trained, and what.
#[derive(Args, Debug, Clone)]
pub struct RecipeArgs {
    /// A TOML file with settings (docs/train.md); flags count more
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// What is rewarded: strategic, deontological, utilitarian, hybrid, or a TOML file with a reward
    #[arg(long, value_name = "NAME|FILE")]
    pub reward: Option<String>,
    /// Against whom, e.g. tit_for_tat
    #[arg(long, value_name = "NAME")]
    pub opponent: Option<String>,
    /// How the policy is improved: exact or ppo
    #[arg(long, value_name = "NAME")]
    pub algorithm: Option<String>,
    /// Rank of every update
    #[arg(long, value_name = "N")]
    pub rank: Option<u32>,
    /// Numerator of the scale alpha/rank
    #[arg(long, value_name = "X")]
    pub alpha: Option<f64>,
    /// Linear maps to adapt, e.g. q,v or gate_proj,down_proj (default: all)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub modules: Vec<String>,
    /// Layers to adapt, e.g. 0,3,10-14 (default: all)
    #[arg(long, value_name = "LAYERS", value_parser = parse_layers)]
    pub layers: Option<Layers>,
    /// Heads to adapt, HEAD in every layer or LAYER.HEAD, e.g. 2.5,7.1 (default: whole modules)
    #[arg(long, value_name = "HEADS", value_delimiter = ',')]
    pub heads: Vec<String>,
    /// Steps
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// Keep the adapter of every N steps too, as PEFT folders in checkpoints/ (default: only the final one)
    #[arg(long, value_name = "N")]
    pub keep_every: Option<u32>,
    /// Peak of the learning rate
    #[arg(long, value_name = "X")]
    pub learning_rate: Option<f64>,
    /// Any other setting, e.g. ppo.samples=16; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
}

/// `lorascope train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// Base model: a folder, a .gguf file, a hub id (ORG/NAME or ORG/NAME@REVISION), or `organism`, the embedded one
    #[arg(long, value_name = "BASE")]
    pub base: String,
    /// Folder for adapter, tables, figures and manifest; an unfinished training there is resumed
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Blocks to adapt, as surgery names them, e.g. "L2 attn.q_proj, L3 mlp"; instead of modules, layers and heads
    #[arg(long, value_name = "BLOCKS", value_delimiter = ',')]
    pub blocks: Vec<String>,
    /// Seed of factors, order of prompts, and samples
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Put prompts to the model as raw text, without its chat template
    #[arg(long)]
    pub raw: bool,
    /// Round the base's weights through bitsandbytes NF4 first, as training on a 4-bit base does
    #[arg(long, value_parser = nf4(), value_name = "FROM")]
    pub nf4: Option<Nf4>,
    /// Machine.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// `lorascope confirm`.
#[derive(Args, Debug)]
pub struct ConfirmArgs {
    /// The finished run of `surgery` (or of a study with it) whose prediction is tested
    #[arg(value_name = "SURGERY_RUN")]
    pub surgery: PathBuf,
    /// The base model that it was made on
    #[arg(long, value_name = "BASE")]
    pub base: String,
    /// Which of the adapters that surgery took apart (default: the only one)
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Random sets to train beside
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub random: u16,
    /// Prompts to compare on instead of surgery's; those that training shows, or on whose templates the set was chosen, are left out
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Folder for trainings, tables, figures, report and manifest; an unfinished run there is resumed
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of factors, order of prompts, samples, random sets and resampling
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Machine.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Numbers of layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers(pub Vec<u32>);

/// `0,3,10-14`.
fn parse_layers(text: &str) -> Result<Layers, String> {
    let mut layers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if first <= last => layers.extend(u32::from(first)..=u32::from(last)),
            _ => return Err(format!("`{part}` is no layer and no range of layers such as 10-14")),
        }
    }
    Ok(Layers(layers))
}
