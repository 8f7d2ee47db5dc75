//! One engine, many pages: questions wait in a line of bounded length, and a page's new question takes the place of its old ones.

use crate::error::{Error, Result};
use crate::explorer::Explorer;
use crate::source::Export;
use crate::state::{State, Wanted};
use lorascope_analyses::Progress;
use serde_json::Value;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Answers that are kept, so that going back costs nothing; a page asks one for each analysis.
const KEPT: usize = 96;

/// What a job wants.
pub(crate) enum Task {
    /// What some analyses say about a state.
    Answer(State, Wanted),
    /// A state as a study file.
    Export(State),
}

/// What it gets.
pub(crate) enum Done {
    /// JSON.
    Answer(Arc<str>),
    /// Files.
    Export(Box<Export>),
}

struct Job {
    /// Which page asks.
    page: String,
    task: Task,
    stop: Arc<Stop>,
    reply: oneshot::Sender<Result<Done>>,
}

/// Whether a question is still wanted.
#[derive(Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The same as runs of a model ask for it.
    pub fn of_runs(&self) -> lorascope_engine::Stop {
        let switch = self.0.clone();
        lorascope_engine::Stop(Arc::new(move || switch.load(Ordering::Relaxed)))
    }
}

impl Progress for Stop {
    fn begin(&self, _what: &str, _total: u64) {}
    fn at(&self, _done: u64) {}
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The line.
pub(crate) struct Queue {
    line: Mutex<Line>,
    wake: Condvar,
    longest: usize,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Job>,
    /// The page and the switch of the question that is being answered.
    running: Option<(String, Arc<Stop>)>,
    closed: bool,
}

/// A question on its way; dropped, it is not wanted any more.
pub(crate) struct Ticket {
    stop: Arc<Stop>,
    answer: oneshot::Receiver<Result<Done>>,
}

impl Ticket {
    pub async fn wait(mut self) -> Result<Done> {
        (&mut self.answer).await.unwrap_or(Err(Error::Replaced))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

impl Queue {
    /// A line for at most `longest` questions, and the thread that answers them; `place` is a folder for what analyses leave.
    pub fn start(explorer: Explorer, longest: usize, place: PathBuf) -> Result<Arc<Self>> {
        let (line, wake) = (Mutex::default(), Condvar::new());
        let queue = Arc::new(Self { line, wake, longest });
        let worker = Worker { queue: queue.clone(), explorer, place, kept: VecDeque::new(), n: 0 };
        let spawned = std::thread::Builder::new().name("engine".to_owned()).spawn(move || worker.work());
        spawned.map_err(Error::io("starting the engine's thread"))?;
        Ok(queue)
    }

    fn locked(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a question into the line; what the same page asked before is not wanted any more.
    pub fn ask(&self, page: &str, task: Task) -> Result<Ticket> {
        let mut line = self.locked();
        let (old, waiting): (Vec<Job>, Vec<Job>) = line.waiting.drain(..).partition(|job| job.page == page);
        line.waiting = waiting.into();
        for job in old {
            // Nobody may be waiting for the reply any more.
            let _ = job.reply.send(Err(Error::Replaced));
        }
        if let Some((asking, stop)) = &line.running
            && asking == page
        {
            stop.stop();
        }
        if line.waiting.len() >= self.longest {
            return Err(Error::Full(self.longest));
        }
        let (reply, answer) = oneshot::channel();
        let stop = Arc::new(Stop::default());
        line.waiting.push_back(Job { page: page.to_owned(), task, stop: stop.clone(), reply });
        drop(line);
        self.wake.notify_one();
        Ok(Ticket { stop, answer })
    }

    /// Ends the line: what is being answered is stopped, what waits is dropped.
    pub fn close(&self) {
        let mut line = self.locked();
        line.closed = true;
        line.waiting.clear();
        if let Some((_, stop)) = &line.running {
            stop.stop();
        }
        drop(line);
        self.wake.notify_all();
    }

    fn next(&self) -> Option<Job> {
        let mut line = self.locked();
        line.running = None;
        loop {
            if line.closed {
                return None;
            }
            if let Some(job) = line.waiting.pop_front() {
                line.running = Some((job.page.clone(), job.stop.clone()));
                return Some(job);
            }
            line = self.wake.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Worker {
    queue: Arc<Queue>,
    explorer: Explorer,
    place: PathBuf,
    /// Questions and answers, the newest last.
    kept: VecDeque<(String, Arc<str>)>,
    n: u64,
}

impl Worker {
    fn work(mut self) {
        while let Some(job) = self.queue.next() {
            if job.stop.should_stop() {
                continue;
            }
            let done = match job.task {
                Task::Export(state) => self.explorer.export(&state).map(|e| Done::Export(Box::new(e))),
                Task::Answer(state, wanted) => self.answer(&state, &wanted, &job.stop).map(Done::Answer),
            };
            // A page that went away waits for nothing.
            let _ = job.reply.send(done);
        }
    }

    fn answer(&mut self, state: &State, wanted: &Wanted, stop: &Stop) -> Result<Arc<str>> {
        let question = serde_json::to_string(&(state, wanted)).map_err(|e| Error::BadState(e.to_string()))?;
        if let Some(at) = self.kept.iter().position(|(asked, _)| *asked == question)
            && let Some(known) = self.kept.remove(at)
        {
            let answer = known.1.clone();
            self.kept.push_back(known);
            return Ok(answer);
        }
        self.n += 1;
        let place = self.place.join(self.n.to_string());
        let explorer = &mut self.explorer;
        let answered = catch_unwind(AssertUnwindSafe(|| explorer.answer(state, wanted, &place, stop)));
        // What analyses left on the way is of no use to anyone; the whole folder goes when the server ends.
        let _ = std::fs::remove_dir_all(&place);
        let value: Value = match answered {
            Ok(answered) => answered?,
            Err(_) => {
                explorer.forget();
                return Err(Error::Failed);
            }
        };
        let answer: Arc<str> = value.to_string().into();
        self.kept.push_back((question, answer.clone()));
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
        Ok(answer)
    }
}
