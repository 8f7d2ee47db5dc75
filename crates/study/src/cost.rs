//! What an analysis takes: time, processor time and memory, as far as the system tells (Linux).

use lorascope_record::Cost;
use std::fs::{read_to_string, write};
use std::time::Instant;

/// Ticks of `/proc/self/stat` in a second: `USER_HZ`, the same on all architectures.
const TICKS: f64 = 100.0;

/// The beginning of something whose cost is wanted.
pub struct Meter {
    begun: Instant,
    processor: Option<f64>,
    resets: bool,
}

impl Meter {
    pub fn begin() -> Self {
        // `5` sets the high-water mark of memory back to what is held now.
        let resets = write("/proc/self/clear_refs", "5").is_ok();
        Self { begun: Instant::now(), processor: processor_seconds(), resets }
    }

    /// What it took since then.
    pub fn end(&self, analysis: &str) -> Cost {
        Cost {
            analysis: analysis.to_owned(),
            seconds: rounded(self.begun.elapsed().as_secs_f64()),
            processor_seconds: processor_seconds().zip(self.processor).map(|(now, then)| rounded(now - then)),
            peak_bytes: if self.resets { peak_bytes() } else { None },
        }
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

/// Of all threads, in user and in system mode.
fn processor_seconds() -> Option<f64> {
    let stat = read_to_string("/proc/self/stat").ok()?;
    // The program's name, in brackets, may hold anything; what follows it are numbers, the third of all fields first.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = |nth: usize| fields.split_ascii_whitespace().nth(nth - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS)
}

fn peak_bytes() -> Option<u64> {
    let status = read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// `patch: 412.0 s (780 s of processor time), at most 1.21 GiB of memory`.
pub fn in_words(cost: &Cost) -> String {
    let processor = cost.processor_seconds.map(|s| format!(" ({s:.1} s of processor time)"));
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let memory = cost.peak_bytes.map(|b| format!(", at most {:.2} GiB of memory", gib(b)));
    format!(
        "{}: {:.1} s{}{}",
        cost.analysis,
        cost.seconds,
        processor.unwrap_or_default(),
        memory.unwrap_or_default()
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let meter = Meter::begin();
        let block = vec![1u8; 64 << 20];
        let mut sum = 0u64;
        while meter.begun.elapsed().as_secs_f64() < 0.2 {
            sum += block.iter().step_by(4096).map(|b| u64::from(*b)).sum::<u64>();
        }
        let cost = meter.end("x");
        assert!(sum > 0 && cost.seconds >= 0.2);
        assert!(cost.processor_seconds.is_some_and(|s| s >= 0.05), "{cost:?}");
        assert!(cost.peak_bytes.is_some_and(|b| b >= 64 << 20), "{cost:?}");
        assert!(in_words(&cost).starts_with("x: 0."), "{}", in_words(&cost));
    }
}
