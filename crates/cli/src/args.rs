//! The words of the command line, as plain data; nothing is opened while parsing.

mod machine;
mod training;

pub use machine::MachineArgs;
pub use training::{ConfirmArgs, RecipeArgs, TrainArgs};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use lorascope_play::{Actions, Policies, Start};
use lorascope_study::checkpoints::{Checkpoints, parse_checkpoints};
use lorascope_study::controls::{ControlOf, parse_control};
use lorascope_study::machine::DeviceKind;
use lorascope_study::names::{parse_adapter, parse_pair};
use lorascope_study::{Models, Nf4};
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// A microscope for LoRA fine-tunes of language models: what did this fine-tuning change, and where?
#[derive(Parser, Debug)]
#[command(name = "lorascope", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Verbs that are not analyses.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Describe a base model and its adapters, and prove that each adapter is active
    #[command(after_help = "\
Examples:
  lorascope info --base SmolLM2-135M-Instruct.Q4_1.gguf
  lorascope info --base google/gemma-2-2b-it --adapter moral=./PT3_deontological")]
    Info(InfoArgs),
    /// Check the identities of the residual stream on a loaded model
    #[command(after_help = "\
Example:
  lorascope check --base ./gemma-2-2b-it --adapter moral=./PT3_deontological")]
    Check(CheckArgs),
    /// Build a controlled, counterbalanced set of game prompts
    #[command(after_help = "\
Examples:
  lorascope prompts --out prompts.json
  lorascope prompts --out quick.json --design fifteen
  lorascope prompts --out wide.json --design crossed --set games=ipd,chicken --set symbols=action1/action2,A/B
  lorascope prompts --out mine.json --from design.toml")]
    Prompts(PromptsArgs),
    /// Play matrix games: models against strategies and against each other, many matches at once
    #[command(after_help = "\
Examples:
  lorascope play --base BASE --adapter moral=./PT3_deontological --out runs/play
  lorascope play --base BASE --adapter a=./A --adapter b=./B --opponent models --opponent tit_for_tat --rounds 20 --out runs/play
  lorascope play --base BASE --adapter a=./A --game ipd --opponent random --set wording=structured,unstructured --out runs/play
  lorascope play --base BASE --adapter a=./A --from play.toml --out runs/play      (games and rewards of your own)
Opponents: always_cooperate, always_defect, random, tit_for_tat, generous_tit_for_tat, grim, win_stay_lose_shift,
model:NAME (one of the models), models (each of them). See docs/play.md.")]
    Play(PlayArgs),
    /// Run every analysis that a study file asks for, from weights to report
    #[command(after_help = "\
Examples:
  lorascope study                                   (the embedded model and its four adapters, into runs/organism)
  lorascope study study.toml --out runs/moral
  lorascope study --base ./model --adapter a=./A --out runs/a      (the default prompts and analyses)
  lorascope study study.toml --out runs/moral       (again: goes on where it stopped)
See docs/study.md for the keys of a study file.")]
    Study(StudyArgs),
    /// Ask the next question on a local page: type prompts, switch heads off, patch, steer, mute, and see what changes
    #[command(after_help = "\
Examples:
  lorascope explore runs/moral                      (the models and prompts of a finished or unfinished run)
  lorascope explore --base organism --adapter hybrid=organism:hybrid
  lorascope explore --base ./model --adapter a=./A --prompts prompts.json --open
The address that is printed holds a random token; whoever has it can ask. Ctrl-C ends the server. See docs/explore.md.")]
    Explore(Box<ExploreArgs>),
    /// Write the report of a finished run again, from what lies in its folder; no model is needed
    #[command(after_help = "\
Examples:
  lorascope report runs/organism
  lorascope report runs/organism --page-only        (report.html alone, not the files in figures/)")]
    Report(ReportArgs),
    /// List devices that can do the large products, and hold them against the processor
    #[command(after_help = "\
Examples:
  lorascope devices
  lorascope devices --verify cuda       (same numbers? how fast? the output can be pasted into an issue)
  lorascope study study.toml --device cuda --out runs/moral")]
    Devices(DevicesArgs),
    /// Train a LoRA adapter by reinforcement on games
    #[command(after_help = "\
Examples:
  lorascope train --base SmolLM2-135M-Instruct.Q4_1.gguf --reward hybrid --out runs/hybrid
  lorascope train --base google/gemma-2-2b-it --reward deontological --layers 10-14 --modules q,v --out runs/few
  lorascope train --base ./model --reward mine.toml --heads 12.3,14.0 --set optimizer.clip=0.5 --out runs/heads
  lorascope train --base ./model --blocks 'L2 mlp.up_proj, L3 attn.o_proj' --out runs/blocks
The same command again goes on where it stopped. See docs/train.md for all settings.")]
    Train(Box<TrainArgs>),
    /// Test what surgery predicted: train its smallest set of blocks alone, beside everything and random sets
    #[command(after_help = "\
Examples:
  lorascope surgery --base BASE --adapter moral=./A --prompts prompts.json --out runs/surgery
  lorascope confirm runs/surgery --base BASE --settings train.toml --reward deontological --out runs/confirm
The prediction is written into the run before anything is trained. The same command again goes on where it stopped. See docs/train.md.")]
    Confirm(Box<ConfirmArgs>),
}

/// Arguments of `lorascope report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Folder of a finished run
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Write report.html alone
    #[arg(long)]
    pub page_only: bool,
}

/// Arguments of `lorascope devices`.
#[derive(Args, Debug)]
pub struct DevicesArgs {
    /// Compare this device's products with the processor's, in bits and in speed
    #[arg(long, value_name = "DEVICE")]
    pub verify: Option<DeviceKind>,
}

/// Which models.
#[derive(Args, Debug, Clone)]
pub struct ModelArgs {
    /// Base model: a folder, a .gguf file, a hub id (ORG/NAME or ORG/NAME@REVISION), or `organism`, the embedded one
    #[arg(long, value_name = "BASE")]
    pub base: String,
    /// An adapter of it: a name of your choice and a PEFT folder, a hub id, or `organism:hybrid` and the like; may be repeated
    #[arg(long = "adapter", value_name = "NAME=PATH", value_parser = parse_adapter)]
    pub adapters: Vec<(String, String)>,
    /// Checkpoints of a training as adapters NAME@STEP: a name and the folder that holds checkpoint folders (step-000020, or
    /// checkpoint-20 of the Hugging Face Trainer); may be repeated
    #[arg(long = "checkpoints", value_name = "NAME=DIR", value_parser = parse_checkpoints)]
    pub checkpoints: Vec<Checkpoints>,
    /// A control made from an adapter, as a further model: random, sign_flipped or shuffled, of every adapter where none is
    /// named, with the run's seed where none is given; may be repeated
    #[arg(long = "control", value_name = "KIND[:ADAPTER][@SEED]", value_parser = parse_control)]
    pub controls: Vec<ControlOf>,
    /// Write the controls as PEFT adapters into folders of this one, each under its name
    #[arg(long, value_name = "DIR", requires = "controls")]
    pub save_controls: Option<PathBuf>,
    /// Round the base's weights through bitsandbytes NF4 first, for adapters that were trained on a 4-bit base
    #[arg(long, value_parser = nf4(), value_name = "FROM")]
    pub nf4: Option<Nf4>,
    /// Machine.
    #[command(flatten)]
    pub machine: MachineArgs,
}

impl ModelArgs {
    /// As plain names.
    pub fn models(&self) -> Models {
        Models {
            base: self.base.clone(),
            adapters: self.adapters.clone(),
            checkpoints: self.checkpoints.clone(),
            controls: self.controls.clone(),
            save_controls: self.save_controls.clone(),
            nf4: self.nf4,
            memory: self.machine.memory,
        }
    }
}

/// Reads `--nf4`.
fn nf4() -> impl TypedValueParser<Value = Nf4> {
    let values = Nf4::ALL.map(|from| PossibleValue::new(from.name()).help(from.meaning()));
    PossibleValuesParser::new(values).try_map(|text| text.parse::<Nf4>())
}

/// Which prompts.
#[derive(Args, Debug, Clone)]
pub struct PromptArgs {
    /// Prompts: a JSON file as docs/prompts.md describes
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Answers A and B of prompts that name none
    #[arg(long, value_name = "A,B", value_parser = parse_answers)]
    pub answers: Option<(String, String)>,
    /// Put prompts to the model as raw text, without its chat template
    #[arg(long)]
    pub raw: bool,
}

/// Where results go.
#[derive(Args, Debug, Clone)]
pub struct OutArgs {
    /// Folder for tables, figures, report and manifest; an unfinished run there is resumed
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of resampling
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// One analysis.
#[derive(Args, Debug)]
pub struct AnalyseArgs {
    /// Models.
    #[command(flatten)]
    pub models: ModelArgs,
    /// Prompts.
    #[command(flatten)]
    pub prompts: PromptArgs,
    /// Results.
    #[command(flatten)]
    pub out: OutArgs,
    /// A setting of the analysis, e.g. tolerance=0.3 (docs/study.md lists them); may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub settings: Vec<(String, String)>,
}

/// `lorascope info`.
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// Models.
    #[command(flatten)]
    pub models: ModelArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The text on which adapters are tried
    #[arg(long, default_value = "Two players choose at the same time. Which action do you choose?")]
    pub text: String,
}

/// `lorascope check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Models.
    #[command(flatten)]
    pub models: ModelArgs,
    /// The text to run
    #[arg(long, default_value = "The quick brown fox jumps over the lazy dog. The quick brown fox")]
    pub text: String,
}

/// `lorascope prompts`.
#[derive(Args, Debug)]
pub struct PromptsArgs {
    /// The JSON file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Where to start from
    #[arg(long, value_enum, default_value = "default", conflicts_with = "from")]
    pub design: StartDesign,
    /// A TOML file with a design (docs/prompts.md)
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// A factor and its levels, e.g. scenarios=CC_continue,DD_trapped; may be repeated
    #[arg(long = "set", value_name = "FACTOR=LEVELS", value_parser = parse_pair)]
    pub factors: Vec<(String, String)>,
}

/// Ready designs.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartDesign {
    /// 80 prompts, balanced
    Default,
    /// 160 prompts, every combination
    Crossed,
    /// 15 prompts, for quick runs
    Fifteen,
}

/// `lorascope play`.
#[derive(Args, Debug)]
pub struct PlayArgs {
    /// Models.
    #[command(flatten)]
    pub models: ModelArgs,
    /// Results.
    #[command(flatten)]
    pub out: OutArgs,
    /// A TOML file of settings (docs/play.md); flags go before it
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Rounds of a match (default: 10)
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// Matches of each player, opponent, game and surface (default: 10)
    #[arg(long, value_name = "N")]
    pub repetitions: Option<usize>,
    /// Whom the models meet (default: every strategy); may be repeated
    #[arg(long = "opponent", value_name = "NAME")]
    pub opponents: Vec<String>,
    /// A model that plays (default: all); may be repeated
    #[arg(long = "player", value_name = "MODEL")]
    pub players: Vec<String>,
    /// A game of the catalogue (default: all six); may be repeated
    #[arg(long = "game", value_name = "NAME")]
    pub games: Vec<String>,
    /// A moral framework that judges (default: strategic, deontological, utilitarian, hybrid); may be repeated
    #[arg(long = "reward", value_name = "NAME")]
    pub rewards: Vec<String>,
    /// The round before the first: random (default), CC, CD, DC or DD, the own move first
    #[arg(long, value_name = "ROUND", value_parser = parse_level::<Start>)]
    pub start: Option<Start>,
    /// drawn (default): drawn from the two actions; as_generated: answers may be illegal; greedy: the more probable one
    #[arg(long, value_name = "HOW", value_parser = parse_level::<Actions>)]
    pub actions: Option<Actions>,
    /// Whether policies are asked for in all states (default) or in those met
    #[arg(long, value_name = "STATES", value_parser = parse_level::<Policies>)]
    pub policies: Option<Policies>,
    /// A factor of the surface and its levels, e.g. symbols=action1/action2,A/B; may be repeated
    #[arg(long = "set", value_name = "FACTOR=LEVELS", value_parser = parse_pair)]
    pub factors: Vec<(String, String)>,
    /// Put prompts to the model as raw text, without its chat template
    #[arg(long)]
    pub raw: bool,
}

/// `lorascope study`.
#[derive(Args, Debug)]
pub struct StudyArgs {
    /// The study file (TOML); without one, everything about the embedded model, or about the one given with --base
    pub study: Option<PathBuf>,
    /// Folder for tables, figures, report and manifest; an unfinished study there is resumed (default: runs/ and the file's name)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Use this base instead of the file's
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// Use these adapters instead of the file's; may be repeated
    #[arg(long = "adapter", value_name = "NAME=PATH", value_parser = parse_adapter)]
    pub adapters: Vec<(String, String)>,
    /// Use these checkpoints, as adapters NAME@STEP, instead of the file's; may be repeated
    #[arg(long = "checkpoints", value_name = "NAME=DIR", value_parser = parse_checkpoints)]
    pub checkpoints: Vec<Checkpoints>,
    /// Use these controls instead of the file's, e.g. random or shuffled:moral; may be repeated
    #[arg(long = "control", value_name = "KIND[:ADAPTER][@SEED]", value_parser = parse_control)]
    pub controls: Vec<ControlOf>,
    /// Use this seed instead of the file's
    #[arg(long)]
    pub seed: Option<u64>,
    /// Carry the study out on a cluster of Ray: `local`, `auto`, or HOST:6379. Needs the Python package with Ray (docs/scale.md)
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["checkpoints", "controls", "threads", "device"])]
    pub ray: Option<String>,
    /// Machine.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// `lorascope explore`.
#[derive(Args, Debug)]
pub struct ExploreArgs {
    /// A run folder: its models and prompts are opened again, as its manifest names them
    #[arg(conflicts_with_all = ["base", "adapters", "checkpoints", "controls", "nf4", "prompts", "answers", "raw"])]
    pub run: Option<PathBuf>,
    /// Base model: a folder, a .gguf file, a hub id, or `organism`, the embedded one
    #[arg(long, value_name = "BASE", required_unless_present = "run")]
    pub base: Option<String>,
    /// An adapter of it; may be repeated
    #[arg(long = "adapter", value_name = "NAME=PATH", value_parser = parse_adapter)]
    pub adapters: Vec<(String, String)>,
    /// Checkpoints of a training, as adapters NAME@STEP; may be repeated
    #[arg(long = "checkpoints", value_name = "NAME=DIR", value_parser = parse_checkpoints)]
    pub checkpoints: Vec<Checkpoints>,
    /// A control made from an adapter; may be repeated
    #[arg(long = "control", value_name = "KIND[:ADAPTER][@SEED]", value_parser = parse_control)]
    pub controls: Vec<ControlOf>,
    /// Round the base's weights through bitsandbytes NF4 first
    #[arg(long, value_parser = nf4(), value_name = "FROM")]
    pub nf4: Option<Nf4>,
    /// Prompts to choose from: a JSON file as docs/prompts.md describes (default: fifteen prompts about games)
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Answers A and B of prompts that name none
    #[arg(long, value_name = "A,B", value_parser = parse_answers)]
    pub answers: Option<(String, String)>,
    /// Put prompts to the model as raw text, without its chat template
    #[arg(long)]
    pub raw: bool,
    /// Port (default: one that is free)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port: u16,
    /// Address to listen on; others than this machine's own let other machines in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: String,
    /// Open the page in a browser
    #[arg(long)]
    pub open: bool,
    /// Machine.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// A level of a setting, as its file writes it.
fn parse_level<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

fn parse_answers(text: &str) -> Result<(String, String), String> {
    match text.split(',').collect::<Vec<_>>()[..] {
        [a, b] if !a.is_empty() && !b.is_empty() => Ok((a.to_owned(), b.to_owned())),
        _ => Err(format!("`{text}` is not two answers A,B")),
    }
}
