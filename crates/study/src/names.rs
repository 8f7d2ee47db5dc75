//! Words that name models and sizes, wherever a user writes them.

use lorascope_analyses::CheckpointName;

/// `KEY=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}

/// `NAME=PATH`, where the name can stand in tables and file names.
pub fn parse_adapter(text: &str) -> Result<(String, String), String> {
    let (name, path) = parse_pair(text).map_err(|_| format!("`{text}` is not of the form NAME=PATH"))?;
    check_model_name(&name)?;
    if path.is_empty() {
        return Err(format!("`{text}` names no path"));
    }
    Ok((name, path))
}

/// Names of models appear in tables, figures and file names. What stands before the `@` of a checkpoint is a name too.
pub fn check_model_name(name: &str) -> Result<(), String> {
    let checkpoint = CheckpointName::parse(name);
    let of = checkpoint.as_ref().map_or(name, |c| c.of.as_str());
    if of == lorascope_engine::BASE {
        return Err("`base` is the base model's own name; call the adapter something else".to_owned());
    }
    let good = |c: char| c.is_alphanumeric() || "_-.+".contains(c);
    if of.is_empty() || name.len() > 64 || !of.chars().all(good) {
        return Err(format!(
            "`{name}` can't be a model's name; use up to 64 letters, digits, `_`, `-`, `.`, `+`, and `@STEP` after that for a \
             checkpoint"
        ));
    }
    Ok(())
}

/// A size in bytes: `512MiB`, `3GiB`, `2GB`, `1000000`.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is not a size such as 512MiB, 3GiB or 2GB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "kib" => 1024.0,
        "mb" => 1e6,
        "mib" => 1_048_576.0,
        "gb" => 1e9,
        "gib" => 1_073_741_824.0,
        _ => return Err(wrong()),
    };
    let bytes = number * unit;
    if bytes.is_finite() && bytes < 1e18 { Ok(bytes as usize) } else { Err(wrong()) }
}
