//! Loaded models.

use crate::edits::Intervention;
use crate::error::{plain, raised_or, told};
use crate::gradients::{self, gradients};
use crate::interrupt::{Raised, asked};
use crate::listener::PyListener;
use crate::run::{Asked, Found, run};
use crate::shape::{Shape, points};
use anyhow::{Context, anyhow};
use lorascope_engine::{HookPoint, Stop};
use lorascope_study::checkpoints::Checkpoints;
use lorascope_study::controls::parse_control;
use lorascope_study::export::peft_folder;
use lorascope_study::names::{check_model_name, parse_size};
use lorascope_study::open::{Opened, open};
use lorascope_study::{Models, Nf4};
use lorascope_text::{Message, PromptInput, Wrapping};
use lorascope_train::Blocks;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::path::PathBuf;
use std::sync::Arc;

/// A base and its adapters, loaded.
#[pyclass(frozen, module = "lorascope._native")]
pub(crate) struct Model {
    pub opened: Opened,
    pub memory: usize,
    pub nf4: Option<Nf4>,
}

/// Opens models by name, so that ctrl-C ends every run of them.
pub(crate) fn open_models(
    py: Python,
    models: &Models,
    seed: u64,
    listener: &PyListener,
    raised: &Raised,
) -> PyResult<Opened> {
    let opened = py.detach(|| open(models, seed, listener));
    let mut opened = opened.map_err(|error| raised_or(raised, told(&error)))?;
    if let Some(model) = Arc::get_mut(&mut opened.model) {
        model.stop_when(Some(Stop(Arc::new(asked))));
    }
    Ok(opened)
}

/// The names, checked as the command line checks them.
pub(crate) fn named(
    base: String,
    adapters: Vec<(String, String)>,
    checkpoints: Vec<(String, PathBuf)>,
    controls: &[String],
    nf4: Option<&str>,
    memory: &str,
) -> anyhow::Result<Models> {
    let wrong = |why: String| anyhow!(why);
    for name in adapters.iter().map(|(name, _)| name).chain(checkpoints.iter().map(|(name, _)| name)) {
        check_model_name(name).map_err(wrong)?;
    }
    let controls = controls.iter().map(|text| parse_control(text)).collect::<Result<_, _>>();
    let checkpoints = checkpoints.into_iter().map(|(name, path)| Checkpoints { name, path, every: None });
    Ok(Models {
        base,
        adapters,
        checkpoints: checkpoints.collect(),
        controls: controls.map_err(wrong).context("`controls`")?,
        save_controls: None,
        nf4: nf4.map(str::parse).transpose().map_err(wrong)?,
        memory: parse_size(memory).map_err(wrong).context("`memory`")?,
    })
}

#[pymethods]
impl Model {
    #[staticmethod]
    #[pyo3(signature = (base, adapters, checkpoints, controls, nf4, memory, seed, progress))]
    #[allow(clippy::too_many_arguments, reason = "they are one question, asked by the package only")]
    fn load(
        py: Python,
        base: String,
        adapters: Vec<(String, String)>,
        checkpoints: Vec<(String, PathBuf)>,
        controls: Vec<String>,
        nf4: Option<String>,
        memory: &str,
        seed: u64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let models = named(base, adapters, checkpoints, &controls, nf4.as_deref(), memory);
        let models = models.map_err(|error| told(&error))?;
        let raised = Arc::new(Raised::new());
        let listener = PyListener::new(progress, raised.clone());
        let opened = open_models(py, &models, seed, &listener, &raised)?;
        match raised.take() {
            Some(error) => Err(error),
            None => Ok(Self { opened, memory: models.memory, nf4: models.nf4 }),
        }
    }

    /// Dimensions and family.
    fn spec<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let spec = self.opened.model.spec();
        let found = PyDict::new(py);
        found.set_item("family", spec.family)?;
        for (name, value) in [
            ("n_layers", spec.n_layers),
            ("n_heads", spec.n_heads),
            ("n_key_value_heads", spec.n_kv_heads),
            ("d_model", spec.d_model),
            ("d_head", spec.d_head),
            ("d_mlp", spec.d_mlp),
            ("d_vocab", spec.d_vocab),
            ("n_ctx", spec.n_ctx),
        ] {
            found.set_item(name, value)?;
        }
        Ok(found)
    }

    /// Names of all models, the base first, and how each control was made.
    fn models(&self) -> Vec<(String, Option<String>)> {
        let model = &self.opened.model;
        let made = |which: usize| {
            let control = model.adapters().get(which.checked_sub(1)?)?.control.as_ref()?;
            Some(format!("{} of {}, seed {}", control.kind.name(), control.of, control.seed))
        };
        (0..model.n_models()).map(|which| (model.name(which).to_owned(), made(which))).collect()
    }

    /// Names of a model's hook points, in the order of the forward pass.
    fn hook_names(&self, which: usize) -> Vec<String> {
        points(&self.opened.model, which).iter().map(ToString::to_string).collect()
    }

    /// Dimensions of a hook point after batch and position; `(None, heads)` for one number per head and key.
    fn hook_shape(&self, name: &str, which: usize) -> PyResult<(Option<Vec<usize>>, usize)> {
        let point: HookPoint = name.parse().map_err(plain)?;
        Ok(match Shape::of(&self.opened.model, which, point).map_err(plain)? {
            Shape::Fixed(dims) => (Some(dims), 0),
            Shape::PerKey(heads) => (None, heads),
        })
    }

    /// Token ids of a text as a prompt, after the BOS if the tokenizer adds one.
    fn tokenize(&self, text: &str) -> PyResult<Vec<u32>> {
        Ok(self.opened.tokenizer.tokens_prompt(text, Wrapping::Raw).map_err(plain)?.ids)
    }

    /// A conversation, `(role, content)` each, through the chat template: its text and token ids.
    fn chat(&self, messages: Vec<(String, String)>) -> PyResult<(String, Vec<u32>)> {
        let messages: Vec<Message> =
            messages.into_iter().map(|(role, content)| Message { role, content }).collect();
        let input = PromptInput::Messages(&messages);
        let prompt = self.opened.tokenizer.tokens_prompt(input, Wrapping::ChatTemplate).map_err(plain)?;
        Ok((prompt.text, prompt.ids))
    }

    /// The text of some tokens.
    fn decode(&self, ids: Vec<u32>) -> PyResult<String> {
        self.opened.tokenizer.decode(&ids).map_err(plain)
    }

    /// One token as text.
    fn token_text(&self, id: u32) -> String {
        self.opened.tokenizer.token_text(id)
    }

    /// The id of a token by its exact text.
    fn token_id(&self, token: &str) -> Option<u32> {
        self.opened.tokenizer.token_id(token)
    }

    /// Whether there is a chat template.
    fn has_chat_template(&self) -> bool {
        self.opened.tokenizer.has_chat_template()
    }

    /// Runs prompts: for each group its logits and its cached activations.
    #[allow(clippy::too_many_arguments, reason = "they are one question, asked by the package only")]
    fn run(
        &self,
        py: Python,
        groups: Vec<Vec<Vec<u32>>>,
        which: usize,
        names: Vec<String>,
        interventions: Vec<Intervention>,
        functions: Vec<(String, Py<PyAny>)>,
        logits: String,
    ) -> PyResult<Found> {
        let asked = Asked { groups, which, names, interventions, functions, logits };
        run(py, &self.opened.model, &asked)
    }

    /// Runs prompts of equal length there and back: logits, then values and gradients at hook points.
    #[allow(clippy::too_many_arguments, reason = "they are one question, asked by the package only")]
    fn gradients(
        &self,
        py: Python,
        prompts: Vec<Vec<u32>>,
        which: usize,
        names: Vec<String>,
        interventions: Vec<Intervention>,
        logits: String,
        loss: Py<PyAny>,
    ) -> PyResult<gradients::Found> {
        let memory = self.memory / 2;
        let asked = gradients::Asked { prompts, which, names, interventions, logits, loss, memory };
        gradients(py, &self.opened.model, &asked)
    }

    /// The two files of a PEFT folder with an adapter, or with some of its blocks.
    fn adapter_files(
        &self,
        py: Python,
        which: usize,
        blocks: Option<Vec<String>>,
    ) -> PyResult<(String, Py<PyBytes>)> {
        let adapter = which.checked_sub(1).and_then(|i| self.opened.model.adapters().get(i));
        let adapter = adapter.ok_or_else(|| plain("the base is no adapter"))?;
        let named = blocks.map(|names| names.iter().map(|name| name.parse()).collect::<Result<_, _>>());
        let blocks = named.transpose().map_err(plain)?.map(Blocks);
        let files = peft_folder(adapter, blocks.as_ref()).map_err(|error| told(&error))?;
        Ok((files.config, PyBytes::new(py, &files.weights).unbind()))
    }
}
