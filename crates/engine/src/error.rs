//! What can go wrong between a checkpoint and a number.

/// An error of the engine; messages say what was wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device that multiplies.
    #[error("device {0}")]
    Device(#[from] lorascope_kernels::DeviceError),
    /// Reading weights.
    #[error(transparent)]
    Checkpoint(#[from] lorascope_checkpoint::Error),
    /// Reading an adapter.
    #[error("adapter `{name}`: {source}")]
    Adapter {
        /// The name that the user gave it.
        name: String,
        /// What is wrong with it.
        source: lorascope_peft::Error,
    },
    /// The checkpoint's `model_type` has no family here.
    #[error("model_type `{given}` is not supported; supported are {}", supported.join(", "))]
    UnsupportedFamily {
        /// From config.json.
        given: String,
        /// All families.
        supported: Vec<&'static str>,
    },
    /// A key that the family needs is absent.
    #[error("config.json has no `{key}`, which a {family} model needs")]
    ConfigMissing {
        /// The family.
        family: &'static str,
        /// The key.
        key: String,
    },
    /// A key has a value that this family can't compute with.
    #[error("config.json: `{key}` is {value}; {expected}")]
    ConfigValue {
        /// The key.
        key: String,
        /// Its value, as JSON.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// Keys that may change the computation and that nobody here handles.
    #[error(
        "config.json of this {family} model has keys that lorascope does not handle and that may change the \
         computation: {}", keys.join(", ")
    )]
    ConfigUnhandled {
        /// The family.
        family: &'static str,
        /// `key = value` of each.
        keys: Vec<String>,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor `{name}` has shape {found:?}, but config.json makes it {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// From the file.
        found: Vec<usize>,
        /// From the configuration.
        expected: Vec<usize>,
    },
    /// Tensors that the family has no place for.
    #[error("the checkpoint has tensors that a {family} model has no place for: {}", names.join(", "))]
    SurplusTensors {
        /// The family.
        family: &'static str,
        /// The first few names.
        names: Vec<String>,
    },
    /// There is no way back through a run.
    #[error("no gradient: {why}")]
    NoGradient {
        /// What stands in the way.
        why: String,
    },
    /// An array can't be trained.
    #[error("`{parameter}` can't be trained: {why}")]
    Untrainable {
        /// Its name.
        parameter: String,
        /// Why not.
        why: String,
    },
    /// A weight is infinite or not a number.
    #[error(
        "tensor `{name}` holds a non-finite value at element {index}; the file is damaged or has overflowed"
    )]
    NonFiniteWeight {
        /// The tensor.
        name: String,
        /// Flat index.
        index: usize,
    },
    /// Logits became infinite or not numbers, of finite states.
    #[error(
        "logits of model `{model}` became non-finite (state {state} of those that were read); the output of the final norm and the \
         output matrix are too large for each other"
    )]
    NonFiniteLogits {
        /// The model.
        model: String,
        /// Which of the states.
        state: usize,
    },
    /// An activation became infinite or not a number.
    #[error("`{point}` became non-finite in row {row} (model `{model}`, position {position})")]
    NonFiniteActivation {
        /// First hook point where it was seen.
        point: String,
        /// Row of the batch.
        row: usize,
        /// Model of that row.
        model: String,
        /// Token position of that row.
        position: usize,
    },
    /// A part of an adapter that this engine has no place for.
    #[error("adapter `{adapter}`: {what} `{path}` is not supported: {why}")]
    AdapterUnsupported {
        /// The adapter.
        adapter: String,
        /// Kind of part.
        what: &'static str,
        /// Module path.
        path: String,
        /// Reason.
        why: String,
    },
    /// An adapter of which a control can't be made.
    #[error("control `{kind}` of adapter `{adapter}`: {source}")]
    Control {
        /// The adapter.
        adapter: String,
        /// The kind of control.
        kind: &'static str,
        /// Reason.
        source: Box<lorascope_peft::ControlError>,
    },
    /// A control of an adapter that is not there.
    #[error("control `{control}` is of `{of}`, but no adapter is called so; there are {}", known.join(", "))]
    NoSuchOriginal {
        /// Name of the control.
        control: String,
        /// The adapter that it should be made from.
        of: String,
        /// Names of all adapters.
        known: Vec<String>,
    },
    /// Two models of one comparison have the same name.
    #[error("two models are called `{0}`; give every adapter a name of its own (`base` is the base model)")]
    DuplicateModel(String),
    /// A name that is no hook point.
    #[error("`{given}` is not a hook point{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownHookPoint {
        /// What was asked for.
        given: String,
        /// The nearest valid name.
        nearest: Option<String>,
    },
    /// A hook point that this model does not have.
    #[error("hook point `{point}` does not exist in this model: {why}")]
    NoSuchHookPoint {
        /// The point.
        point: String,
        /// Reason.
        why: String,
    },
    /// A capture or edit that can't be carried out.
    #[error("{kind} at `{point}`, row {row}: {why}")]
    BadHook {
        /// `capture` or `edit`.
        kind: &'static str,
        /// The point.
        point: String,
        /// Row of the batch.
        row: usize,
        /// Reason.
        why: String,
    },
    /// A visitor could not go on.
    #[error("visit of `{point}`: {why}")]
    Visitor {
        /// The point.
        point: String,
        /// What it says.
        why: String,
    },
    /// Somebody wants the run to end ([`crate::Model::stop_when`]).
    #[error("stopped")]
    Stopped,
    /// A capture or edit did not happen exactly once: a bug here, never to be ignored.
    #[error("{kind} at `{point}`, row {row} fired {times} times instead of once; please report this")]
    FiredWrongly {
        /// `capture` or `edit`.
        kind: &'static str,
        /// The point.
        point: String,
        /// Row of the batch.
        row: usize,
        /// How often it fired.
        times: usize,
    },
    /// A row of a model that is not loaded.
    #[error("rows of model {model} were asked for, but only {n_models} models are loaded (0 is the base)")]
    NoSuchModel {
        /// The model asked for.
        model: usize,
        /// Models that are loaded.
        n_models: usize,
    },
    /// Final states of a row that does not exist.
    #[error("the readout names row {row}, but the batch has {n_rows} rows")]
    NoSuchRow {
        /// The row.
        row: usize,
        /// Rows of the batch.
        n_rows: usize,
    },
    /// A batch that goes on kept sequences was run without them, or with others.
    #[error("the batch goes on sequences that were kept by another run than the one it is run after")]
    OtherBatch,
    /// States whose parts do not fit together.
    #[error("states to be read: {why}")]
    BadStates {
        /// What does not fit.
        why: String,
    },
    /// A branch that does not fit the sequences of its batch.
    #[error("branch {branch}: {why}")]
    BadBranch {
        /// Index of the branch in the batch.
        branch: usize,
        /// Reason.
        why: String,
    },
    /// A mixture that can't be put together, or rows that can't run as one.
    #[error("mixture {mixture}: {why}")]
    BadMixture {
        /// Index of the mixture.
        mixture: usize,
        /// Reason.
        why: String,
    },
    /// Directions that can't be taken back through the weights named.
    #[error("directions to be taken back: {why}")]
    BadDirections {
        /// What does not fit.
        why: String,
    },
    /// A sequence that the model can't take.
    #[error("sequence {sequence}: {why}")]
    BadSequence {
        /// Index of the sequence in the batch.
        sequence: usize,
        /// Reason.
        why: String,
    },
}

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;
