//! One of several machines that carry out a study's units of work.
//!
//! A node has the study as it was sent, its models, and a run folder of its own. Asked for units, it runs their analysis up to where they
//! are divided, carries them out, hands back their parts, and waits there for more: what the analysis prepares is prepared once. Finished
//! parts that it needs are fetched, those that it reads only. Asked for units of a later step it goes on; of another analysis, it leaves
//! this one. It does not know who asks.

use crate::open::open;
use crate::prepared::{Prepared, Task};
use crate::study_file::Ready;
use anyhow::{Context as _, Result, anyhow};
use lorascope_analyses::{
    Context, Error, Hands, Progress, Silent, Work, WorkUnit, alone, missing, share_base_decisions,
};
use lorascope_record::RunFolder;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Parts with their names.
pub type Parts = Vec<(String, Vec<u8>)>;

/// Fetches a finished part of the run by its name; `None` where there is none. An error says why it can't be had.
pub type Fetch = dyn Fn(&str) -> Result<Option<Vec<u8>>, String> + Send + Sync;

/// A machine's part in a study.
pub struct Node {
    shared: Arc<Shared>,
    session: Option<Session>,
}

/// What the thread of an analysis works with.
struct Shared {
    prepared: Prepared,
    run: RunFolder,
    fetch: Box<Fetch>,
}

/// An analysis that waits where its units are carried out.
struct Session {
    analysis: String,
    ask: Sender<Vec<WorkUnit>>,
    found: Receiver<lorascope_analyses::Result<Parts>>,
    thread: JoinHandle<()>,
}

impl Node {
    /// Opens the study's models; the node's run folder is `place`.
    ///
    /// # Errors
    /// What can't be opened or carried out.
    pub fn open(ready: &Ready, place: &Path, fetch: Box<Fetch>) -> Result<Self> {
        let opened = open(&ready.models, ready.plan.seed, &Quiet)?;
        let prepared = Prepared::new(&ready.plan, opened, &ready.asked)?;
        let run = RunFolder::open(place, &prepared.key)?;
        Ok(Self { shared: Arc::new(Shared { prepared, run, fetch }), session: None })
    }

    /// The run's identity, as this machine has its inputs.
    ///
    /// # Errors
    /// Two inputs of one name.
    pub fn identity(&self) -> Result<String> {
        self.shared.prepared.identity()
    }

    /// Carries out units of one step of an analysis: their parts.
    ///
    /// # Errors
    /// What keeps them from being carried out.
    pub fn carry_out(&mut self, analysis: &str, units: &[WorkUnit]) -> Result<Parts> {
        if self.session.as_ref().is_none_or(|s| s.analysis != analysis || s.thread.is_finished()) {
            self.leave();
            self.session = Some(Session::begin(self.shared.clone(), analysis)?);
        }
        let Some(session) = &self.session else { unreachable!("it was begun above") };
        // A thread that is gone has said why, or panicked.
        let _ = session.ask.send(units.to_vec());
        let found = match session.found.recv() {
            Ok(found) => found.map_err(anyhow::Error::from),
            Err(_) => Err(anyhow!("it broke off")),
        };
        if found.is_err() {
            self.leave();
        }
        found.with_context(|| format!("analysis `{analysis}`"))
    }

    /// Ends the analysis that waits.
    fn leave(&mut self) {
        if let Some(Session { ask, thread, .. }) = self.session.take() {
            drop(ask);
            // It ends where it waits; what it may have panicked of was told.
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Session {
    fn begin(shared: Arc<Shared>, analysis: &str) -> Result<Self> {
        let task = shared.prepared.tasks.iter().position(|task| task.analysis.name() == analysis);
        let task = task.with_context(|| format!("no analysis of this study is called `{analysis}`"))?;
        let (ask, asked) = channel();
        let (tell, found) = channel();
        let hands = move || NodeHands {
            shared: shared.clone(),
            asked: Mutex::new(asked),
            tell: Mutex::new(tell),
            open: Mutex::new(None),
        };
        let thread = std::thread::spawn(move || hands().run(task));
        Ok(Self { analysis: analysis.to_owned(), ask, found, thread })
    }
}

/// Carries out what is asked for.
struct NodeHands {
    shared: Arc<Shared>,
    asked: Mutex<Receiver<Vec<WorkUnit>>>,
    tell: Mutex<Sender<lorascope_analyses::Result<Parts>>>,
    /// Units that were asked for and belong to a later step.
    open: Mutex<Option<Vec<WorkUnit>>>,
}

impl NodeHands {
    fn run(&self, task: usize) {
        let Shared { prepared, run, .. } = &*self.shared;
        let task: &Task = &prepared.tasks[task];
        let context = prepared.context(task, run, &Silent, self);
        let ended = share_base_decisions(&context).and_then(|()| task.analysis.run(&context, &task.settings));
        match (ended, self.open().take()) {
            (Err(Error::NotAsked), _) => {}
            (Err(error), _) => self.tell(Err(error)),
            (Ok(_), Some(units)) => {
                let why = format!("there is no unit of work {units:?}; are all machines of one version?");
                self.tell(Err(Error::Elsewhere(why)));
            }
            (Ok(_), None) => {}
        }
    }

    fn tell(&self, found: lorascope_analyses::Result<Parts>) {
        // Where nobody listens any more there is nobody to tell.
        let _ = self.tell.lock().unwrap_or_else(PoisonError::into_inner).send(found);
    }

    fn open(&self) -> MutexGuard<'_, Option<Vec<WorkUnit>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done next; an error where nobody asks any more.
    fn next(&self) -> lorascope_analyses::Result<Vec<WorkUnit>> {
        if let Some(open) = self.open().take() {
            return Ok(open);
        }
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.recv().map_err(|_| Error::NotAsked)
    }
}

impl Hands for NodeHands {
    fn carry_out(
        &self,
        context: &Context,
        units: &[WorkUnit],
        work: &mut Work,
    ) -> lorascope_analyses::Result<()> {
        loop {
            let asked = self.next()?;
            let numbers: Option<Vec<usize>> =
                asked.iter().map(|unit| units.iter().position(|own| own == unit)).collect();
            let Some(numbers) = numbers else {
                // They belong to a later step; what this one gives is finished elsewhere.
                *self.open() = Some(asked);
                return Ok(());
            };
            for i in missing(context, &asked)? {
                alone(context, numbers[i], work)?;
            }
            let mut found = Parts::new();
            for name in asked.into_iter().flatten() {
                let bytes = context.run.part(&name)?.ok_or_else(|| Error::PartGone { name: name.clone() })?;
                found.push((name, bytes));
            }
            self.tell(Ok(found));
        }
    }

    fn fetch(&self, name: &str) -> lorascope_analyses::Result<Option<Vec<u8>>> {
        (self.shared.fetch)(name).map_err(Error::Elsewhere)
    }

    fn are_many(&self) -> bool {
        true
    }
}

/// Loading tells nobody.
struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _what: &str, _total: u64) {}
    fn at(&self, _done: u64) {}
    fn end(&self) {}
}

impl crate::Listener for Quiet {
    fn note(&self, _text: &str) {}
    fn say(&self, _text: &str) {}
}

/// Takes in a part that another machine has made.
///
/// # Errors
/// A part that is there already with other bytes; a folder that can't be written.
pub fn take_in(run: &RunFolder, name: &str, bytes: &[u8]) -> lorascope_analyses::Result<()> {
    match run.part(name)? {
        None => Ok(run.save_part(name, bytes)?),
        Some(there) if there == bytes => Ok(()),
        Some(_) => Err(Error::Elsewhere(format!(
            "two machines gave different bytes for the part `{name}`; all machines need the same lorascope, system library and kind of processor"
        ))),
    }
}
