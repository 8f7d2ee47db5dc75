//! From names of models and prompts to a loaded subject, with the hashes of everything that was read.

use crate::checkpoints::with_checkpoints;
use crate::listener::Listener;
use crate::models::{Models, Nf4};
use anyhow::{Context, Result, anyhow, bail};
use lorascope_analyses::{Meanings, Subject};
use lorascope_checkpoint::gguf::Metadata;
use lorascope_checkpoint::{Checkpoint, Nf4Rounding};
use lorascope_engine::Model;
use lorascope_hub::{Event, Options, RepoKind, resolve};
use lorascope_prompts::PromptSet;
use lorascope_record::InputFile;
use lorascope_text::{Clock, GgufTokenizer, Tokenizer, Wrapping};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A loaded base with its adapters and tokenizer.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Base and adapters.
    pub model: Arc<Model<f32>>,
    /// Tokenizer and chat template.
    pub tokenizer: Arc<Tokenizer>,
    /// Every file that was read.
    pub inputs: Vec<InputFile>,
}

/// A base whose weights are not loaded yet, and its tokenizer.
pub struct OpenedBase {
    /// Its stored weights.
    pub checkpoint: Checkpoint,
    /// Tokenizer and chat template.
    pub tokenizer: Tokenizer,
    /// Every file that was read.
    pub inputs: Vec<InputFile>,
    /// Where it lies.
    pub path: PathBuf,
}

/// Opens the base and its tokenizer.
pub fn open_base(base: &str, nf4: Option<Nf4>, listener: &dyn Listener) -> Result<OpenedBase> {
    let path = locate(base, RepoKind::Model, listener).with_context(|| format!("base model `{base}`"))?;
    let mut checkpoint = Checkpoint::open(&path).with_context(|| format!("base model {}", path.display()))?;
    let tokenizer = tokenizer(&checkpoint).with_context(|| format!("tokenizer of {}", path.display()))?;
    let inputs = hash_base(&checkpoint, listener)?;
    if let Some(from) = nf4 {
        let from = from.round_from();
        checkpoint
            .round_through_nf4(Nf4Rounding { double_quantisation: false, from })
            .context("rounding to NF4")?;
    }
    Ok(OpenedBase { checkpoint, tokenizer, inputs, path })
}

/// Opens the base, its adapters with their controls, and its tokenizer. `seed` is that of controls that name none.
pub fn open(models: &Models, seed: u64, listener: &dyn Listener) -> Result<Opened> {
    let given = with_checkpoints(&models.adapters, &models.checkpoints)?;
    let base = open_base(&models.base, models.nf4, listener)?;
    let (tokenizer, mut inputs) = (base.tokenizer, base.inputs);
    let mut adapters = Vec::new();
    for (name, spec) in &given {
        let dir = locate(spec, RepoKind::Adapter, listener).with_context(|| format!("adapter `{name}`"))?;
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            let path = dir.join(file);
            if path.is_file() {
                inputs.push(InputFile::read(format!("adapter/{name}/{file}"), &path)?);
            }
        }
        adapters.push((name.clone(), dir));
    }
    let controls = models.controls.iter().map(|control| control.resolve(&adapters, seed));
    let controls = controls.collect::<Result<Vec<_>, _>>().map_err(|why| anyhow!(why))?.concat();
    let model = Model::load_with_controls(base.checkpoint, &adapters, &controls, models.memory);
    let model = model.map_err(|e| named(e, &base.path))?;
    if let Some(folder) = &models.save_controls {
        crate::controls::save(folder, model.adapters(), &adapters, listener)?;
    }
    Ok(Opened { model: model.into(), tokenizer: tokenizer.into(), inputs })
}

/// Says which base an error is about; errors of adapters name theirs already.
pub fn named(error: lorascope_engine::Error, base: &Path) -> anyhow::Error {
    use lorascope_engine::Error::{Adapter, AdapterUnsupported, Control, DuplicateModel};
    let of_adapters =
        matches!(error, Adapter { .. } | AdapterUnsupported { .. } | Control { .. } | DuplicateModel(_));
    let error = anyhow::Error::from(error);
    if of_adapters { error } else { error.context(format!("base model {}", base.display())) }
}

/// The embedded model unpacked; a local path as it is; a hub id through the cache, downloading what is missing.
pub(crate) fn locate(spec: &str, kind: RepoKind, listener: &dyn Listener) -> Result<PathBuf> {
    if let Some(path) = crate::embedded::locate(spec)? {
        return Ok(path);
    }
    let started = std::cell::Cell::new(false);
    let on_event = |event: Event| match event {
        Event::Progress { file, done, total } => {
            if !started.replace(true) {
                listener.begin(file, total);
            }
            listener.at(done);
            if done == total {
                listener.end();
                started.set(false);
            }
        }
        Event::UsingCache { repo, commit, reason } => {
            listener.note(&format!(
                "note: the hub can't be reached ({reason}); using {repo} at {commit} from the cache"
            ));
        }
        _ => {}
    };
    let found = resolve(spec, kind, &Options { on_event: &on_event, ..Options::from_env() });
    listener.end();
    Ok(found?)
}

fn hash_base(checkpoint: &Checkpoint, listener: &dyn Listener) -> Result<Vec<InputFile>> {
    let files = checkpoint.files();
    listener.begin("hashing the base model", files.len() as u64);
    let mut inputs = Vec::new();
    for (i, path) in files.iter().enumerate() {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        inputs.push(InputFile::read(format!("base/{name}"), path)?);
        listener.at(i as u64 + 1);
    }
    listener.end();
    let folder = checkpoint.path();
    if folder.is_dir() {
        for name in
            ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
        {
            let path = folder.join(name);
            if path.is_file() {
                inputs.push(InputFile::read(format!("base/{name}"), &path)?);
            }
        }
    }
    // A folder's list of files may or may not hold its config already.
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    inputs.dedup_by(|a, b| a.name == b.name);
    Ok(inputs)
}

fn tokenizer(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    match checkpoint.gguf() {
        Some(metadata) => Ok(Tokenizer::from_gguf(&gguf_tokenizer(metadata)?)?),
        None => Ok(Tokenizer::from_folder(checkpoint.path())?),
    }
}

/// The keys `tokenizer.ggml.*` of a GGUF file.
fn gguf_tokenizer(metadata: &Metadata) -> Result<GgufTokenizer> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let text = |name: &str| metadata.get_str(&key(name)).map(str::to_owned);
    let texts = |name: &str| metadata.get_str_array(&key(name)).unwrap_or_default().to_vec();
    let id = |name: &str| metadata.get_u64(&key(name)).and_then(|id| u32::try_from(id).ok());
    Ok(GgufTokenizer {
        model: text("model").context("the file has no tokenizer (no key `tokenizer.ggml.model`)")?,
        pre: text("pre"),
        tokens: texts("tokens"),
        token_types: metadata.get_i32_array(&key("token_type")).unwrap_or_default(),
        scores: metadata.get_f32_array(&key("scores")).unwrap_or_default().to_vec(),
        merges: texts("merges"),
        bos_id: id("bos_token_id"),
        eos_id: id("eos_token_id"),
        unk_id: id("unknown_token_id"),
        pad_id: id("padding_token_id"),
        add_bos: metadata.get_bool(&key("add_bos_token")),
        add_eos: metadata.get_bool(&key("add_eos_token")),
        add_space_prefix: metadata.get_bool(&key("add_space_prefix")),
        chat_template: metadata.get_str("tokenizer.chat_template").map(str::to_owned),
    })
}

/// What prompts are put to the models, and how.
#[derive(Debug)]
pub struct Asked {
    /// The prompts.
    pub set: PromptSet,
    /// Answers A and B of prompts that name none.
    pub answers: Option<(String, String)>,
    /// Whether they go through the chat template.
    pub wrapping: Wrapping,
    /// Seconds since 1970 that a chat template takes for now.
    pub now: Option<i64>,
}

/// Midnight UTC of today, in seconds since 1970.
pub fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(now / 86_400 * 86_400).unwrap_or(0)
}

/// Prompts of a file.
pub fn read_prompts(path: &Path) -> Result<PromptSet> {
    Ok(PromptSet::read(path)?)
}

impl Opened {
    /// The subject of analyses. A chat template that asks for the date gets `asked.now`, so that a run that is resumed
    /// another day sees the same prompts.
    pub fn into_subject(self, asked: &Asked) -> Result<(Subject, Vec<InputFile>)> {
        let mut tokenizer = self.tokenizer;
        if asked.wrapping != Wrapping::Raw && tokenizer.chat_depends_on_date() {
            let Some(now) = asked.now else {
                bail!(
                    "the model's chat template writes today's date into prompts; say which with `date` in the study file"
                )
            };
            Arc::make_mut(&mut tokenizer).set_clock(Clock::Fixed(now));
        }
        let subject = asked.subject(self.model, tokenizer, &asked.set)?;
        Ok((subject, self.inputs))
    }
}

impl Asked {
    /// Models on prompts, which need not be those that were asked for.
    pub fn subject(
        &self,
        model: impl Into<Arc<Model<f32>>>,
        tokenizer: impl Into<Arc<Tokenizer>>,
        set: &PromptSet,
    ) -> Result<Subject> {
        let answers = self.answers.as_ref().map(|(a, b)| (a.as_str(), b.as_str()));
        let meanings = if is_game(set) {
            Meanings { a: "cooperate".to_owned(), b: "defect".to_owned() }
        } else {
            Meanings::default()
        };
        let subject = Subject::new(model, tokenizer, set, answers, self.wrapping, meanings)?;
        check_vocabulary(&subject)?;
        Ok(subject)
    }
}

/// Refuses tokens that the model does not have, before anything is computed.
fn check_vocabulary(subject: &Subject) -> Result<()> {
    let n = subject.model.spec().d_vocab;
    for prompt in &subject.prompts {
        let answers = prompt.answers.a.iter().chain(&prompt.answers.b).flatten();
        if let Some(&id) = prompt.tokens.ids.iter().chain(answers).find(|&&id| id as usize >= n) {
            let token = subject.tokenizer.token_text(id);
            bail!(
                "prompt `{}`: token `{token}` has the id {id}, but the model has {n} tokens; is this tokenizer the model's own?",
                prompt.id()
            );
        }
    }
    Ok(())
}

/// Whether every prompt was made by the builder of games, whose answer A always means to cooperate.
fn is_game(set: &PromptSet) -> bool {
    set.items.iter().all(|item| item.rest.contains_key("game") && item.rest.contains_key("labels"))
}
