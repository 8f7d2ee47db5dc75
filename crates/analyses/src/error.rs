//! What can keep an analysis from being carried out.

/// An error of an analysis.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Running a model.
    #[error(transparent)]
    Engine(#[from] lorascope_engine::Error),
    /// Writing or reading results.
    #[error(transparent)]
    Record(#[from] lorascope_record::Error),
    /// Drawing.
    #[error(transparent)]
    Report(#[from] lorascope_report::Error),
    /// Turning a prompt into tokens.
    #[error("prompt `{id}`: {source}")]
    Prompt {
        /// The prompt.
        id: String,
        /// What is wrong.
        source: lorascope_text::TextError,
    },
    /// The answers of a prompt.
    #[error(transparent)]
    Answers(#[from] lorascope_prompts::PromptError),
    /// An answer that has no tokens.
    #[error(
        "prompt `{id}`: answer `{answer}` becomes no token at all; choose an answer that the tokenizer keeps"
    )]
    EmptyAnswer {
        /// The prompt.
        id: String,
        /// The answer.
        answer: String,
    },
    /// Two answers that the tokenizer can't tell apart.
    #[error("prompt `{id}`: answers `{a}` and `{b}` become the same tokens; choose answers that differ")]
    SameTokens {
        /// The prompt.
        id: String,
        /// Answer A.
        a: String,
        /// Answer B.
        b: String,
    },
    /// One answer continues the other, so that no token decides between them.
    #[error(
        "prompt `{id}`: the tokens of `{shorter}` are the beginning of those of `{longer}`, so there is no token at \
         which they differ; choose answers of which none begins with the other"
    )]
    NoDecisionPoint {
        /// The prompt.
        id: String,
        /// The answer that is a beginning.
        shorter: String,
        /// The answer that goes on.
        longer: String,
    },
    /// A change between whose ends there is no way to integrate along.
    #[error("integrated estimates: {why}; leave such pairs or this estimator out")]
    NoPath {
        /// What is missing.
        why: String,
    },
    /// A prompt that leaves no room for its answer.
    #[error(
        "prompt `{id}` has {tokens} tokens with its longest answer, but the model's context is {context}; shorten the \
         prompt"
    )]
    TooLong {
        /// The prompt.
        id: String,
        /// Tokens of prompt and longest answer.
        tokens: usize,
        /// The model's context.
        context: usize,
    },
    /// A span of the prompt that the chat template dropped.
    #[error(
        "prompt `{id}`: span `{span}` is not in the text that the model sees; the chat template removed or changed it"
    )]
    LostSpan {
        /// The prompt.
        id: String,
        /// The span.
        span: String,
    },
    /// Putting an adapter's file together.
    #[error("the adapter's file can't be put together: {0}")]
    NewAdapter(#[from] lorascope_peft::SafeTensorError),
    /// Settings of an analysis.
    #[error("settings of `{analysis}`: {why}")]
    Settings {
        /// The analysis.
        analysis: &'static str,
        /// What is wrong.
        why: String,
    },
    /// An edit of the models.
    #[error("edit {number}: {why}")]
    Edit {
        /// Which of the edits, from 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// Models that several subjects share can't be edited for one of them.
    #[error("the models are in use by another analysis and can't be edited meanwhile")]
    SharedModels,
    /// A finished part that is not where it was kept.
    #[error(
        "the finished part `{name}` is gone from the run folder, or is not what was written; remove the folder and run again"
    )]
    PartGone {
        /// The part.
        name: String,
    },
    /// What others keep or do can't be had.
    #[error("{0}")]
    Elsewhere(String),
    /// What follows is not asked of this machine.
    #[error("the rest of this analysis is carried out elsewhere")]
    NotAsked,
    /// The user wants to stop.
    #[error("stopped; what is finished is kept, and the same command goes on from there")]
    Stopped,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
