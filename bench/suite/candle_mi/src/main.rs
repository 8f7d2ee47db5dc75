//! candle-mi as a peer of the benchmark suite (`bench/suite/contract.py`): loads a model from a folder of f32 safetensors, then
//! reads one job a line and answers with one line. It has neither adapters nor a hook at z, so it does parts of four rows.

use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_mi::{GenericTransformer, HookPoint, HookSpec, Intervention, MIModel};
use candle_nn::VarBuilder;
use serde_json::{Map, Value, json};
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Processor seconds of this process, in hundredths.
fn processor() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().ok_or("no name in /proc/self/stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmHWM")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()? * 1024)
}

/// What `work` gives, with wall and processor seconds.
fn clocked<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64, f64)> {
    let (start, before) = (Instant::now(), processor()?);
    let result = work()?;
    Ok((result, start.elapsed().as_secs_f64(), processor()? - before))
}

fn way(name: &str, units: usize, seconds: f64, processor: f64, values: Map<String, Value>) -> Value {
    json!({"way": name, "units": units, "seconds": seconds, "processor": processor, "values": values})
}

struct Peer {
    model: MIModel,
}

fn ids(value: &Value) -> Result<Vec<u32>> {
    Ok(serde_json::from_value(value.clone())?)
}

fn token(prompt: &Value, name: &str) -> Result<usize> {
    Ok(usize::try_from(prompt[name].as_u64().ok_or("no token")?)?)
}

impl Peer {
    fn load(folder: &Path) -> Result<Self> {
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json"))?)?;
        // transformers writes it within `rope_parameters`, where candle-mi does not look.
        config["rope_theta"] = config["rope_parameters"]["rope_theta"].clone();
        let config = candle_mi::TransformerConfig::from_hf_config(&config)?;
        let device = Device::Cpu;
        let weights = [folder.join("model.safetensors")];
        // SAFETY: nothing changes the file while this process runs.
        let builder = unsafe { VarBuilder::from_mmaped_safetensors(&weights, DType::F32, &device)? };
        let transformer = GenericTransformer::load(config, &device, DType::F32, builder)?;
        Ok(Self { model: MIModel::new(Box::new(transformer), device) })
    }

    /// Logits of all positions, and what was captured.
    fn run(&self, ids: &[u32], hooks: &HookSpec) -> Result<(Tensor, candle_mi::HookCache)> {
        let input = Tensor::new(ids, self.model.device())?.unsqueeze(0)?;
        let cache = self.model.forward(&input, hooks)?;
        Ok((cache.output().i(0)?, cache))
    }

    fn everything(&self) -> HookSpec {
        let mut hooks = HookSpec::new();
        hooks.capture("hook_embed").capture("hook_final_norm");
        let sites = [
            "hook_resid_pre",
            "attn.hook_q",
            "attn.hook_k",
            "attn.hook_v",
            "attn.hook_scores",
            "attn.hook_pattern",
            "hook_attn_out",
            "hook_resid_mid",
            "mlp.hook_pre",
            "mlp.hook_post",
            "hook_mlp_out",
            "hook_resid_post",
        ];
        for layer in 0..self.model.num_layers() {
            for site in sites {
                hooks.capture(format!("blocks.{layer}.{site}").as_str());
            }
        }
        hooks
    }

    fn forward(&self, job: &Value) -> Result<Vec<Value>> {
        let (tokens, runs) = (ids(&job["ids"])?, job["runs"].as_u64().ok_or("no runs")?);
        let mut ways = Vec::new();
        for (name, hooks) in [("kept", self.everything()), ("nothing kept", HookSpec::new())] {
            self.run(&tokens, &hooks)?;
            let (last, seconds, processor) = clocked(|| {
                let mut last = 0.0;
                for _ in 0..runs {
                    let (logits, _cache) = self.run(&tokens, &hooks)?;
                    last = logits.i((tokens.len() - 1, 1))?.to_scalar::<f32>()?;
                }
                Ok(last)
            })?;
            let values = Map::from_iter([("1".to_owned(), json!(last))]);
            ways.push(way(name, usize::try_from(runs)?, seconds, processor, values));
        }
        Ok(ways)
    }

    /// Log-probability of an answer over its spellings, one forward pass each.
    fn answer(&self, prompt: &Value, name: &str) -> Result<f64> {
        let before = ids(&prompt["prompt_ids"])?;
        let mut spellings: Vec<Vec<u32>> = serde_json::from_value(prompt[name].clone())?;
        spellings.dedup();
        let mut total = f64::NEG_INFINITY;
        for spelling in spellings {
            let (logits, _) = self.run(&[before.clone(), spelling.clone()].concat(), &HookSpec::new())?;
            let rows = logits.narrow(0, before.len() - 1, spelling.len())?.to_dtype(DType::F64)?;
            let logp = candle_nn::ops::log_softmax(&rows, D::Minus1)?;
            let mut score = 0.0;
            for (row, &token) in spelling.iter().enumerate() {
                score += logp.i((row, token as usize))?.to_scalar::<f64>()?;
            }
            let (high, low) = (total.max(score), total.min(score));
            total = high + (low - high).exp().ln_1p();
        }
        Ok(total)
    }

    fn decide(&self, job: &Value) -> Result<Vec<Value>> {
        let prompts = job["prompts"].as_array().ok_or("no prompts")?;
        let (values, seconds, processor) = clocked(|| {
            let mut values = Map::new();
            for prompt in prompts {
                let delta = self.answer(prompt, "answer_b")? - self.answer(prompt, "answer_a")?;
                values.insert(format!("base|{}", prompt["id"].as_str().ok_or("no id")?), json!(delta));
            }
            Ok(values)
        })?;
        Ok(vec![way("plain, base only", prompts.len(), seconds, processor, values)])
    }

    fn lens_of(&self, prompt: &Value) -> Result<Map<String, Value>> {
        let tokens = ids(&prompt["ids"])?;
        let (a, b) = (token(prompt, "token_a")?, token(prompt, "token_b")?);
        let (id, last) = (prompt["id"].as_str().ok_or("no id")?, tokens.len() - 1);
        let sites = ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"];
        let mut hooks = HookSpec::new();
        for layer in 0..self.model.num_layers() {
            for site in sites {
                hooks.capture(format!("blocks.{layer}.hook_{site}").as_str());
            }
        }
        let (logits, cache) = self.run(&tokens, &hooks)?;
        let end = candle_nn::ops::log_softmax(&logits.i(last)?, D::Minus1)?;
        let probability = end.exp()?;
        let mut values = Map::new();
        for layer in 0..self.model.num_layers() {
            for site in sites {
                let point: HookPoint = format!("blocks.{layer}.hook_{site}").as_str().into();
                let read = self.model.project_to_vocab(&cache.require(&point)?.i((.., last))?)?.i(0)?;
                let logp = candle_nn::ops::log_softmax(&read, D::Minus1)?;
                let kl = (&probability * (&end - &logp)?)?.sum_all()?.to_scalar::<f32>()?;
                let row = read.to_vec1::<f32>()?;
                let rank = |token: usize| row.iter().filter(|&&logit| logit > row[token]).count();
                std::hint::black_box((rank(a), rank(b), logp.exp()?));
                let place = format!("base|{id}|{site}|{layer}");
                values.insert(format!("delta|{place}"), json!(row[b] - row[a]));
                values.insert(format!("kl|{place}"), json!(kl));
            }
        }
        Ok(values)
    }

    fn lens(&self, job: &Value) -> Result<Vec<Value>> {
        let prompts = job["prompts"].as_array().ok_or("no prompts")?;
        let (values, seconds, processor) = clocked(|| {
            let mut values = Map::new();
            for prompt in prompts {
                values.extend(self.lens_of(prompt)?);
            }
            Ok(values)
        })?;
        Ok(vec![way("one by one, base only", prompts.len(), seconds, processor, values)])
    }

    /// The sampled cells' MLPs, a forward pass each.
    fn patch_between(&self, job: &Value) -> Result<Vec<Value>> {
        let (mut values, mut seconds, mut processor) = (Map::new(), 0.0, 0.0);
        for cell in job["cells"].as_array().ok_or("no cells")? {
            let (from, to) = (&cell["prompt_from"], &cell["prompt_to"]);
            let (source, target) = (ids(&from["ids"])?, ids(&to["ids"])?);
            let (a, b) = (token(to, "token_a")?, token(to, "token_b")?);
            let layers: Vec<usize> = (0..self.model.num_layers()).step_by(8).collect();
            let mut hooks = HookSpec::new();
            for layer in &layers {
                hooks.capture(HookPoint::MlpOut(*layer));
            }
            let (_, cache) = self.run(&source, &hooks)?;
            let (found, wall, used) = clocked(|| {
                let mut found = Vec::new();
                for &layer in &layers {
                    let value = cache.require(&HookPoint::MlpOut(layer))?.narrow(1, source.len() - 1, 1)?;
                    let mut hooks = HookSpec::new();
                    let patch = Intervention::PatchAt { position: target.len() - 1, value };
                    hooks.intervene(HookPoint::MlpOut(layer), patch);
                    let logits = self.run(&target, &hooks)?.0.i(target.len() - 1)?.to_vec1::<f32>()?;
                    found.push((layer, logits[b] - logits[a]));
                }
                Ok(found)
            })?;
            let (from, to) = (from["id"].as_str().ok_or("no id")?, to["id"].as_str().ok_or("no id")?);
            for (layer, delta) in found {
                values.insert(format!("base|base|{from}|{to}|mlp_out|{layer}|"), json!(delta));
            }
            (seconds, processor) = (seconds + wall, processor + used);
        }
        Ok(vec![way("single", values.len(), seconds, processor, values)])
    }

    fn answer_to(&self, asked: &Value) -> Result<Vec<Value>> {
        let job = &asked["job"];
        match asked["row"].as_str().ok_or("no row")? {
            "forward" => self.forward(job),
            "decide" => self.decide(job),
            "lens" => self.lens(job),
            "patch_between" => self.patch_between(job),
            other => Err(format!("candle-mi has no way to do `{other}`").into()),
        }
    }
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or("give the folder of the model")?;
    let peer = Peer::load(Path::new(&folder))?;
    peer.run(&[1, 50, 60, 70], &HookSpec::new())?;
    let load = json!({"processor": processor()?, "peak_bytes": peak_bytes()?});
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{}",
        json!({"peer": "candle-mi", "versions": {"candle-mi": "0.2.2", "candle": "0.11"}, "load": load})
    )?;
    for line in std::io::stdin().lock().lines() {
        std::fs::write("/proc/self/clear_refs", "5")?;
        let asked: Value = serde_json::from_str(&line?)?;
        let reply = match peer.answer_to(&asked) {
            Ok(ways) => json!({"ways": ways, "peak_bytes": peak_bytes()?}),
            Err(error) => json!({"error": error.to_string()}),
        };
        writeln!(out, "{reply}")?;
    }
    Ok(())
}
