//! A tokenizer from a model's folder in the Hugging Face layout.
//!
//! `tokenizer.json` is the tokenizer; `tokenizer_config.json` and, where that is silent,
//! `special_tokens_map.json` name the special tokens; `add_bos_token` and `add_eos_token` override what the
//! tokenizer adds to plain text, as in transformers 5. The chat template is `chat_template.jinja`, or else the
//! key `chat_template` (a text, or a list of named texts of which `default` is taken), or `chat_template.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::{Result, TextError};
use crate::special::{TextEnds, post_processor};
use crate::tokenizer::Tokenizer;

/// Special tokens that a configuration can name; all of them are variables of a chat template.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Other forms of tokenizers, which transformers can convert and this crate does not read.
const OTHER_FORMS: [&str; 4] = ["tokenizer.model", "tekken.json", "vocab.json", "vocab.txt"];

/// A JSON object and the file it is from.
struct Settings {
    path: PathBuf,
    values: Map<String, Value>,
}

impl Tokenizer {
    /// Reads a model folder's tokenizer and chat template.
    ///
    /// # Errors
    /// No `tokenizer.json`; a file that is broken; a special token without an id; a template that doesn't parse.
    pub fn from_folder(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let Some(bytes) = read(&path)? else { return Err(no_tokenizer(dir)) };
        let mut backend = parse(&bytes).map_err(|reason| invalid_tokenizer(&path, reason))?;
        let config = Settings::read(dir.join("tokenizer_config.json"))?;
        let map = Settings::read(dir.join("special_tokens_map.json"))?;
        add_configured_tokens(&mut backend, &config)?;
        let special_tokens = special_tokens(&config, &map)?;
        check_ids(&backend, &special_tokens, &config)?;
        if let Some(ends) = text_ends(&config)? {
            let step = post_processor(ends, &special_tokens, &backend, &config.path.display().to_string())?;
            backend.with_post_processor(Some(step));
        }
        let template = chat_template(dir, &config)?;
        Self::assemble(backend, special_tokens, template.as_deref())
    }
}

/// A file's bytes; nothing if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match lorascope_bounded::read(path, lorascope_bounded::VOCABULARY) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Unreadable { path: path.to_owned(), source }),
    }
}

/// The tokenizer that `tokenizer.json` describes.
fn parse(bytes: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    // The library panics on some contradictions, such as a merge that makes a longer token than there is; it holds
    // nothing at that point that could be left half done.
    let parsed = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(bytes));
    match parsed {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let why = panic.downcast_ref::<String>().map(String::as_str);
            let why = why.or_else(|| panic.downcast_ref().copied()).unwrap_or("for no reason that it tells");
            Err(format!("the library that reads it gave up: {why}"))
        }
    }
}

fn read_text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|error| TextError::Unreadable {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })
}

fn no_tokenizer(dir: &Path) -> TextError {
    let found = OTHER_FORMS.iter().find(|name| dir.join(name).exists());
    let hint = found.map(|name| format!(" (only `{name}`, which is not read)")).unwrap_or_default();
    TextError::NoTokenizer { folder: dir.to_owned(), hint }
}

fn invalid_tokenizer(path: &Path, reason: String) -> TextError {
    TextError::InvalidTokenizer { origin: path.display().to_string(), reason }
}

impl Settings {
    /// The file's object; an empty one if there is no such file.
    fn read(path: PathBuf) -> Result<Self> {
        let Some(bytes) = read(&path)? else { return Ok(Self { path, values: Map::new() }) };
        match serde_json::from_slice(&bytes) {
            Ok(values) => Ok(Self { path, values }),
            Err(error) => Err(TextError::InvalidJson { path, reason: error.to_string() }),
        }
    }

    fn invalid(&self, key: &str, expected: &'static str) -> TextError {
        TextError::InvalidSetting { path: self.path.clone(), key: key.to_owned(), expected }
    }

    /// A flag: nothing where the key is absent, no where it is null (as in Python).
    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(false)),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.invalid(key, "true or false")),
        }
    }

    /// A special token's text, given as such or as an object with `content`.
    fn token(&self, key: &str) -> Result<Option<String>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(token)) => Ok(Some(token.clone())),
            Some(Value::Object(token)) => match token.get("content") {
                Some(Value::String(content)) => Ok(Some(content.clone())),
                _ => Err(self.invalid(key, "a text, or an object with the text `content`")),
            },
            Some(_) => Err(self.invalid(key, "a text, or an object with the text `content`")),
        }
    }
}

fn special_tokens(config: &Settings, map: &Settings) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for name in NAMED {
        // An explicit null is an answer: the model has no such token.
        let source = if config.values.contains_key(name) { config } else { map };
        if let Some(token) = source.token(name)? {
            found.insert(name.to_owned(), token);
        }
    }
    Ok(found)
}

/// BOS and EOS must have ids: the model's embedding has no row for a token that would only be added here.
fn check_ids(
    backend: &tokenizers::Tokenizer,
    special_tokens: &BTreeMap<String, String>,
    config: &Settings,
) -> Result<()> {
    for (role, name) in [("bos", "bos_token"), ("eos", "eos_token")] {
        let missing = special_tokens.get(name).filter(|token| backend.token_to_id(token).is_none());
        if let Some(token) = missing {
            let origin = config.path.display().to_string();
            return Err(TextError::MissingSpecialToken { role, token: token.clone(), origin });
        }
    }
    Ok(())
}

/// What plain text gets, where the configuration says; `None` leaves it to `tokenizer.json`.
fn text_ends(config: &Settings) -> Result<Option<TextEnds>> {
    let (bos, eos) = (config.flag("add_bos_token")?, config.flag("add_eos_token")?);
    let is_explicit = bos.is_some() || eos.is_some();
    Ok(is_explicit.then_some(TextEnds { bos: bos.unwrap_or(false), eos: eos.unwrap_or(false) }))
}

/// `added_tokens_decoder`: tokens by id, with how they are matched. Mostly a copy of what `tokenizer.json` says.
fn add_configured_tokens(backend: &mut tokenizers::Tokenizer, config: &Settings) -> Result<()> {
    const KEY: &str = "added_tokens_decoder";
    let expected = "an object of tokens by id, each with the text `content`";
    let entries = match config.values.get(KEY) {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(config.invalid(KEY, expected)),
    };
    let mut tokens = BTreeMap::new();
    for (id, token) in entries {
        let (Ok(id), Some(token)) = (id.parse::<u32>(), added_token(token)) else {
            return Err(config.invalid(KEY, expected));
        };
        tokens.insert(id, token);
    }
    backend
        .add_tokens(tokens.values().cloned())
        .map_err(|error| invalid_tokenizer(&config.path, error.to_string()))?;
    let displaced = tokens.iter().find(|(id, token)| backend.token_to_id(&token.content) != Some(**id));
    match displaced {
        Some((id, token)) => {
            let reason = format!("`{KEY}` gives `{}` the id `{id}`, tokenizer.json another", token.content);
            Err(invalid_tokenizer(&config.path, reason))
        }
        None => Ok(()),
    }
}

fn added_token(value: &Value) -> Option<AddedToken> {
    let content = value.get("content")?.as_str()?;
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    Some(
        AddedToken::from(content, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}

/// The chat template's source, from the first place that has one.
fn chat_template(dir: &Path, config: &Settings) -> Result<Option<String>> {
    if let Some(text) = read_text(&dir.join("chat_template.jinja"))? {
        return Ok(Some(text));
    }
    if let Some(text) = template_setting(config)? {
        return Ok(Some(text));
    }
    template_setting(&Settings::read(dir.join("chat_template.json"))?)
}

/// The key `chat_template`: a text, or a list of objects with `name` and `template`.
fn template_setting(settings: &Settings) -> Result<Option<String>> {
    const KEY: &str = "chat_template";
    let expected = "a text, or a list of objects with the texts `name` and `template`";
    let entries = match settings.values.get(KEY) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(settings.invalid(KEY, expected)),
    };
    let mut templates = BTreeMap::new();
    for entry in entries {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let (Some(name), Some(template)) = (text("name"), text("template")) else {
            return Err(settings.invalid(KEY, expected));
        };
        templates.insert(name, template);
    }
    match templates.get("default") {
        Some(template) => Ok(Some((*template).to_owned())),
        None => Err(TextError::NoDefaultTemplate {
            path: settings.path.clone(),
            names: templates.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        }),
    }
}
