//! A study that several nodes carry out gives the bytes of one that a single process does, whatever is lost on the way.
//!
//! All analyses, on the embedded model. The nodes are in this process; that they may be machines is `python/tests/test_scale.py`'s.

#![allow(clippy::unwrap_used, reason = "a helper of these tests may fail them")]

use lorascope_analyses::{Context, Error, Hands, OwnHands, Work, WorkUnit, missing};
use lorascope_record::{Manifest, RunFolder};
use lorascope_study::Listener;
use lorascope_study::node::{Node, take_in};
use lorascope_study::open::open;
use lorascope_study::pipeline::find;
use lorascope_study::prepared::Prepared;
use lorascope_study::study_file::{Ready, StudyFile};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::{TempDir, tempdir};

const STUDY: &str = r#"
base = "organism"
analyses = ["default", "tuned_lens", "interactions", "surgery", "transplants", "steer", "play"]
controls = ["random:hybrid"]

[[adapter]]
name = "hybrid"
path = "organism:hybrid"

[[adapter]]
name = "strategic"
path = "organism:strategic"

[prompts]
per_scenario = 2

[settings.tuned_lens]
steps = 2
rows = 512

[settings.circuit]
samples = 2

[settings.play]
rounds = 3
repetitions = 1
"#;

struct Quiet;

impl lorascope_analyses::Progress for Quiet {
    fn begin(&self, _what: &str, _total: u64) {}
    fn at(&self, _done: u64) {}
    fn end(&self) {}
}

impl Listener for Quiet {
    fn note(&self, _text: &str) {}
    fn say(&self, _text: &str) {}
}

fn ready() -> Ready {
    let folder = tempdir().unwrap();
    let file = folder.path().join("study.toml");
    std::fs::write(&file, STUDY).unwrap();
    StudyFile::read(&file).unwrap().ready(2, 1 << 30).unwrap()
}

fn prepared(ready: &Ready) -> Prepared {
    let opened = open(&ready.models, ready.plan.seed, &Quiet).unwrap();
    Prepared::new(&ready.plan, opened, &ready.asked).unwrap()
}

/// A node and the folder that it works in.
struct Place {
    node: Node,
    folder: TempDir,
}

/// Hands units to two nodes in turn. Every so often a node is lost, with what it knew, and another takes its place.
struct Nodes {
    text: String,
    /// The driver's run folder, and its identity.
    driver: (std::path::PathBuf, String),
    places: Mutex<Vec<Place>>,
    handed: AtomicUsize,
}

impl Nodes {
    fn place(&self) -> Place {
        let folder = tempdir().unwrap();
        let (run, identity) = self.driver.clone();
        let fetch = move |name: &str| RunFolder::part_of(&run, &identity, name).map_err(|e| e.to_string());
        let ready = Ready::from_text(&self.text, 2).unwrap();
        let node = Node::open(&ready, folder.path(), Box::new(fetch)).unwrap();
        assert_eq!(node.identity().unwrap(), self.driver.1, "what was sent is the same study");
        Place { node, folder }
    }
}

impl Hands for Nodes {
    fn carry_out(
        &self,
        context: &Context,
        units: &[WorkUnit],
        _work: &mut Work,
    ) -> lorascope_analyses::Result<()> {
        let mut places = self.places.lock().unwrap();
        for i in missing(context, units)?.into_iter().rev() {
            let handed = self.handed.fetch_add(1, Ordering::Relaxed);
            let which = handed % 2;
            if handed % 20 == 19 {
                let lost = std::mem::replace(&mut places[which], self.place());
                drop(lost.node);
                drop(lost.folder);
            }
            let found = places[which].node.carry_out(context.analysis, &units[i..=i]);
            for (name, bytes) in found.map_err(|e| Error::Elsewhere(format!("{e:#}")))? {
                take_in(context.run, &name, &bytes)?;
            }
        }
        Ok(())
    }

    fn are_many(&self) -> bool {
        true
    }
}

/// The manifest but for its sessions and paths; it has the hash of every file.
fn manifest(run: &Path) -> Manifest {
    let mut manifest = Manifest::read(&run.join("manifest.json")).unwrap().unwrap();
    manifest.sessions.clear();
    manifest
}

#[test]
fn many_nodes_give_the_bytes_of_one_process() {
    let out = tempdir().unwrap();
    let (plain, many) = (out.path().join("plain"), out.path().join("many"));
    let ready = ready();
    let here = prepared(&ready);
    find(&here, Some(&plain), &Quiet, &OwnHands).unwrap();

    let driver = prepared(&ready);
    let nodes = Nodes {
        text: ready.to_text().unwrap(),
        driver: (many.clone(), driver.identity().unwrap()),
        places: Mutex::default(),
        handed: AtomicUsize::new(0),
    };
    nodes.places.lock().unwrap().extend([nodes.place(), nodes.place()]);
    find(&driver, Some(&many), &Quiet, &nodes).unwrap();
    assert_eq!(manifest(&plain), manifest(&many));
    let handed = nodes.handed.load(Ordering::Relaxed);
    assert!(handed > 60, "the work was divided into {handed} units");
}
