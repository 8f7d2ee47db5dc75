//! Patched runs by their definition: whole sequences, each alone in its batch, with what is put in written down as numbers
//! that were read in the source's own whole run. No branches, no copies between rows, no chunks.

use super::by_hand::{load, prompt_ids, spelling, spellings};
use super::{Bench, Csv};
use lorascope_engine::{Batch, Capture, Edit, EditOp, HookPoint, Hooks, Mat, Model, Module, Site, States};
use lorascope_text::Tokenizer;
use serde_json::Value;
use std::ops::Range;

/// A prompt and the decision of its primary pair, as tokens.
pub struct Question {
    pub id: String,
    pub prompt: Vec<u32>,
    /// Tokens up to the decision point.
    pub stem: Vec<u32>,
    /// What differs of answer A.
    pub a: Vec<u32>,
    /// What differs of answer B.
    pub b: Vec<u32>,
    /// Both answers in full, in the spelling that counts.
    pub whole: (Vec<u32>, Vec<u32>),
    /// Spans by name, in bytes.
    spans: Vec<(String, Range<usize>)>,
}

impl Question {
    /// Position of the decision point.
    pub fn decision(&self) -> usize {
        self.stem.len() - 1
    }

    /// What a name in the column `position` stands for: tokens are bytes after `<bos>`.
    fn positions(&self, label: &str) -> Vec<usize> {
        match label {
            "decision" => vec![self.decision()],
            "all" => (0..=self.decision()).collect(),
            _ => label.parse().map_or_else(|_| self.span(label), |n: usize| vec![n]),
        }
    }

    fn span(&self, name: &str) -> Vec<usize> {
        let parts = self.spans.iter().filter(|(n, _)| n == name);
        parts.flat_map(|(_, bytes)| bytes.start + 1..bytes.end + 1).collect()
    }
}

/// A change of a whole run: place, position, values, what happens to them.
pub type Change = (HookPoint, usize, Range<usize>, EditOp<f32>);

/// Models and prompts of a bench.
pub struct Naive {
    pub model: Model<f32>,
    pub questions: Vec<Question>,
}

impl Naive {
    /// The bench's base with these adapters, and one of its prompt files.
    pub fn new(bench: &Bench, adapters: &[&str], prompts: &str) -> Self {
        let adapters: Vec<_> = adapters.iter().map(|name| (*name, bench.path(name))).collect();
        let model = load(&bench.path("base"), &adapters);
        let tokenizer = Tokenizer::from_folder(&bench.path("base")).unwrap();
        let items: Value = serde_json::from_slice(&bench.read(prompts)).unwrap();
        let questions = items.as_array().unwrap().iter().map(|item| question(&model, &tokenizer, item));
        let questions = questions.collect();
        Self { model, questions }
    }

    pub fn model_of(&self, name: &str) -> usize {
        self.model.names().iter().position(|n| *n == name).unwrap()
    }

    pub fn question(&self, id: &str) -> &Question {
        self.questions.iter().find(|q| q.id == id).unwrap()
    }

    /// What a model has at a place when it reads a prompt up to its decision point, `[position][value]`.
    pub fn values(&self, which: usize, question: &Question, point: HookPoint) -> Vec<Vec<f32>> {
        self.values_under(which, question, &[], &[point]).remove(0)
    }

    /// The same at several places of a run that is changed: `[point][position][value]`.
    pub fn values_under(
        &self,
        which: usize,
        question: &Question,
        changes: &[Change],
        points: &[HookPoint],
    ) -> Vec<Vec<Vec<f32>>> {
        let batch = Batch::new(self.model.spec(), &[(which, &question.stem)]).unwrap();
        let rows: Vec<usize> = (0..question.stem.len()).collect();
        let captures = points.iter().map(|&point| Capture { point, rows: rows.clone() }).collect();
        self.model.run(&batch, &Hooks { captures, edits: edits(changes) }, &[]).unwrap().captures
    }

    /// The final state of the last of some tokens.
    fn state(&self, which: usize, tokens: &[u32], changes: &[Change]) -> Mat<f32> {
        let batch = Batch::new(self.model.spec(), &[(which, tokens)]).unwrap();
        let hooks = Hooks { captures: Vec::new(), edits: edits(changes) };
        self.model.run(&batch, &hooks, &[tokens.len() - 1]).unwrap().readout
    }

    /// delta of a changed run: the difference of two logits at the decision point, and the log-probabilities of the further
    /// tokens of B minus those of A, each from a run of its own.
    pub fn delta(&self, which: usize, question: &Question, changes: &[Change]) -> f64 {
        let state = self.state(which, &question.stem, changes);
        let logits = self.model.logits_of(which, &state, &[question.a[0], question.b[0]]).unwrap();
        let mut delta = f64::from(logits.row(0)[1]) - f64::from(logits.row(0)[0]);
        for (answer, sign) in [(&question.a, -1.0), (&question.b, 1.0)] {
            for i in 1..answer.len() {
                let tokens = [&question.stem[..], &answer[..i]].concat();
                let normalized = self.state(which, &tokens, changes);
                let wanted = vec![vec![answer[i]]];
                let states =
                    States { model: which, normalized, tokens: wanted, reference: Vec::new(), top: 0 };
                delta += sign * self.model.next_tokens(&states).unwrap()[0].log_prob(0);
            }
        }
        delta
    }

    /// The changes that a row of `patches.csv` speaks of.
    pub fn changes(&self, patches: &Csv, row: usize) -> Vec<Change> {
        let get = |column: &str| patches.get(row, column);
        let (target, question) = (self.model_of(get("target")), self.question(get("prompt_id")));
        let positions = question.positions(get("position"));
        assert_eq!(get("first_position"), positions[0].to_string());
        assert_eq!(get("n_positions"), positions.len().to_string());
        let mut changes = Vec::new();
        for place in places(patches, row) {
            let (point, slice) = self.place(&place);
            for &position in &positions {
                let units = slice(position);
                let numbers = |values: Vec<f32>| EditOp::Set(values[units.clone()].to_vec());
                let op = match get("source") {
                    "zero" => EditOp::Scale(0.0),
                    "mean" => numbers(self.mean(target, point)),
                    "resample" => {
                        let other = self.question(get("source_prompt_id"));
                        assert_ne!(other.id, question.id);
                        numbers(self.values(target, other, point)[other.decision()].clone())
                    }
                    source => {
                        let from = self.question(get("source_prompt_id"));
                        numbers(self.values(self.model_of(source), from, point)[position].clone())
                    }
                };
                changes.push((point, position, units, op));
            }
        }
        changes
    }

    /// Mean over all prompts of what a model has at decision points.
    fn mean(&self, which: usize, point: HookPoint) -> Vec<f32> {
        let all = self.questions.iter().map(|q| self.values(which, q, point)[q.decision()].clone());
        let all: Vec<Vec<f32>> = all.collect();
        let sum = |i: usize| all.iter().map(|values| f64::from(values[i])).sum::<f64>();
        (0..all[0].len()).map(|i| (sum(i) / all.len() as f64) as f32).collect()
    }

    /// The hook point of a unit, and which values are its own at a row of a position.
    pub fn place(&self, place: &Place) -> (HookPoint, impl Fn(usize) -> Range<usize> + use<>) {
        let spec = self.model.spec();
        let (name, module) = place.site.split_once(':').unwrap_or((&place.site, ""));
        let module = Module::from_name(module);
        let (site, width) = match name {
            "z" => (Site::Z, spec.d_head),
            "q" => (Site::Q, spec.d_head),
            "k" => (Site::K, spec.d_head),
            "v" => (Site::V, spec.d_head),
            "pattern" => (Site::Pattern, 0),
            "result" => (Site::Result, spec.d_model),
            "resid_pre" => (Site::ResidPre, spec.d_model),
            "resid_mid" => (Site::ResidMid, spec.d_model),
            "resid_post" => (Site::ResidPost, spec.d_model),
            "attn_out" => (Site::AttnOut, spec.d_model),
            "mlp_out" => (Site::MlpOut, spec.d_model),
            "mlp_post" => (Site::MlpPost, spec.d_mlp),
            "neuron" => (Site::MlpPost, 1),
            "adapter" => (Site::LoraOut(module.unwrap()), spec.module_shape(module.unwrap()).0),
            "adapter_head" if module == Some(Module::O) => (Site::LoraResult, spec.d_model),
            "adapter_head" => (Site::LoraOut(module.unwrap()), spec.d_head),
            other => panic!("site {other}"),
        };
        let index = place.index;
        let slice = move |position: usize| {
            let width = if site == Site::Pattern { position + 1 } else { width };
            index * width..(index + 1) * width
        };
        (HookPoint::Layer(place.layer, site), slice)
    }
}

/// A unit: `z` of head 1 in layer 3.
pub struct Place {
    pub site: String,
    pub layer: usize,
    pub index: usize,
}

impl Place {
    /// Reads `z:3.1`, `mlp_out:5`, `adapter:attn.q_proj:2`.
    pub fn parse(unit: &str) -> Self {
        let (site, place) = unit.rsplit_once(':').unwrap();
        let (layer, index) = place.split_once('.').unwrap_or((place, "0"));
        Self { site: site.to_owned(), layer: layer.parse().unwrap(), index: index.parse().unwrap() }
    }
}

/// The units that a row of `patches.csv` speaks of: one, or those of a joint set.
fn places(patches: &Csv, row: usize) -> Vec<Place> {
    let get = |column: &str| patches.get(row, column);
    if get("layer").is_empty() {
        return get("site").split('+').map(Place::parse).collect();
    }
    let index = [get("head"), get("component")].into_iter().find(|i| !i.is_empty()).unwrap_or("0");
    let (layer, index) = (get("layer").parse().unwrap(), index.parse().unwrap());
    vec![Place { site: get("site").to_owned(), layer, index }]
}

fn edits(changes: &[Change]) -> Vec<Edit<f32>> {
    let edit = |(point, position, units, op): &Change| Edit {
        point: *point,
        row: *position,
        units: units.clone(),
        op: op.clone(),
    };
    changes.iter().map(edit).collect()
}

/// The spelling with the most probability on the base decides.
fn question(model: &Model<f32>, tokenizer: &Tokenizer, item: &Value) -> Question {
    let text = |key: &str| item[key].as_str().unwrap();
    let prompt = prompt_ids(tokenizer, text("prompt"));
    let (all_a, all_b) = (spellings(tokenizer, text("answer_a")), spellings(tokenizer, text("answer_b")));
    let mass = |i: usize| {
        let p = |tokens: &[u32]| spelling(model, 0, &prompt, tokens).exp();
        p(&all_a[i]) + p(&all_b[i])
    };
    let chosen = usize::from(mass(1) > mass(0));
    let (a, b) = (&all_a[chosen], &all_b[chosen]);
    let n = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let number = |v: &Value| v.as_u64().unwrap() as usize;
    let spans = item["spans"].as_array().into_iter().flatten();
    let span = |s: &Value| (s["name"].as_str().unwrap().to_owned(), number(&s["start"])..number(&s["end"]));
    Question {
        id: text("id").to_owned(),
        stem: [&prompt[..], &a[..n]].concat(),
        prompt,
        a: a[n..].to_vec(),
        b: b[n..].to_vec(),
        whole: (a.clone(), b.clone()),
        spans: spans.map(span).collect(),
    }
}
