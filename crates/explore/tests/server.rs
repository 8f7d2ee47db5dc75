//! The server on the embedded model: who may ask, what is refused, and that answers are those of the engine.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use lorascope_analyses::{Meanings, Subject, score};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{
    Batch, Capture, DEFAULT_MEMORY, HookPoint, Hooks, Model, Site, Standing, StandingEdit, StandingOp,
    StandingRows,
};
use lorascope_explore::{Explorer, Limits, Options, Running, Source, start};
use lorascope_games::Design;
use lorascope_organism::{ADAPTERS, part_of, unpack};
use lorascope_prompts::PromptSet;
use lorascope_text::{Tokenizer, Wrapping};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server, and where its models lie.
struct Bench {
    running: Running,
    _models: tempfile::TempDir,
}

fn subject(models: &std::path::Path) -> Subject {
    let folder = |name: &str| unpack(part_of(name).unwrap(), models).unwrap();
    let base = folder("organism");
    let adapters: Vec<_> =
        ADAPTERS.iter().map(|a| ((*a).to_owned(), folder(&format!("organism:{a}")))).collect();
    let model = Model::load(Checkpoint::open(&base).unwrap(), &adapters, DEFAULT_MEMORY).unwrap();
    let tokenizer = Tokenizer::from_folder(&base).unwrap();
    let meanings = Meanings { a: "cooperate".to_owned(), b: "defect".to_owned() };
    Subject::new(model, tokenizer, &set(), None, Wrapping::Auto, meanings).unwrap()
}

fn set() -> PromptSet {
    Design::fifteen().build().unwrap()
}

fn explorer(models: &std::path::Path) -> Explorer {
    let source = Source { base: "organism".to_owned(), ..Source::default() };
    Explorer::new(subject(models), set(), source, Vec::new(), 1 << 28)
}

fn bench(limits: Limits) -> Bench {
    let models = tempfile::tempdir().unwrap();
    let running = start(explorer(models.path()), &Options { limits, ..Options::default() }).unwrap();
    Bench { running, _models: models }
}

/// Short times, so that being slow takes a test no longer than it must.
fn strict() -> Limits {
    let short = Duration::from_millis(400);
    Limits { head: short, body: short, body_bytes: 10_000, connections: 8, ..Limits::default() }
}

/// What came back: status, head, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Bench {
    fn token(&self) -> &str {
        self.running.url().trim_end_matches('/').rsplit('/').next().unwrap()
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.running.address().port())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.running.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends bytes as they are and reads until the server closes.
    fn raw(&self, request: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // The server may have heard enough before all is written.
        let _ = stream.write_all(request);
        answer_from(stream)
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        let host = self.host();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        self.raw(request.as_bytes()).expect("an answer")
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let (host, n) = (self.host(), body.len());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {n}\r\n{headers}\r\n{body}"
        );
        self.raw(request.as_bytes()).expect("an answer")
    }

    fn api(&self, name: &str) -> String {
        format!("/{}/api/{name}", self.token())
    }

    fn ask(&self, question: &Value) -> Answer {
        self.post(&self.api("ask"), "", &question.to_string())
    }

    /// A state's answer.
    fn found(&self, state: Value) -> Value {
        let answer = self.ask(&json!({"state": state}));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    fn first_prompt(&self) -> String {
        self.get(&self.api("about"), "").json()["prompts"][0]["id"].as_str().unwrap().to_owned()
    }
}

/// `None` where the connection ended without a word.
fn answer_from(mut stream: TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    // A reset after the answer is the server's right: it did not read everything.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}

#[test]
fn the_page_and_its_files_come_with_strict_headers() {
    let bench = bench(Limits::default());
    for (name, kind) in [("", "text/html"), ("explore.js", "text/javascript"), ("explore.css", "text/css")] {
        let answer = bench.get(&format!("/{}/{name}", bench.token()), "");
        assert_eq!(answer.status, 200, "{name}");
        assert!(answer.head.contains(&format!("content-type: {kind}")), "{}", answer.head);
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "x-frame-options: deny",
            "cache-control: no-store",
        ] {
            assert!(answer.head.contains(header), "{name} lacks {header}: {}", answer.head);
        }
        assert!(!answer.head.contains("unsafe"), "{}", answer.head);
    }
}

#[test]
fn who_lacks_the_token_or_comes_from_elsewhere_is_refused() {
    let bench = bench(Limits::default());
    let (token, about) = (bench.token().to_owned(), bench.api("about"));
    let other = format!("{}{}", if token.starts_with('0') { "1" } else { "0" }, &token[1..]);
    for path in ["/", "/api/about", "//api/about", &format!("/{other}/"), &format!("/{other}/api/about")] {
        let answer = bench.get(path, "");
        assert_eq!(answer.status, 403, "{path}");
        assert!(!answer.body.contains(&token), "the token is not told");
    }
    assert_eq!(bench.get(&about, "").status, 200);
    let own = format!("Origin: http://{}\r\n", bench.host());
    assert_eq!(bench.get(&about, &own).status, 200);
    for header in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(bench.get(&about, header).status, 403, "{header}");
        assert_eq!(bench.post(&bench.api("ask"), header, "{}").status, 403, "{header}");
    }
    // A name that leads here without being ours: DNS rebinding.
    let rebound = format!("GET {about} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(bench.raw(rebound.as_bytes()).unwrap().status, 421);
    let unnamed = format!("GET {about} HTTP/1.0\r\n\r\n");
    assert_eq!(bench.raw(unnamed.as_bytes()).unwrap().status, 400);
    // What a form of another page could send without asking.
    let body = "{}";
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{body}",
        bench.api("ask"),
        bench.host()
    );
    assert_eq!(bench.raw(request.as_bytes()).unwrap().status, 415);
}

#[test]
fn no_path_leads_anywhere() {
    let bench = bench(Limits::default());
    let token = bench.token();
    for path in [
        "../Cargo.toml",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "....//etc/passwd",
        "explore.js/../../etc/passwd",
        "api/../../../etc/passwd",
        "explore.js%00.html",
        "api/none",
    ] {
        let answer = bench.get(&format!("/{token}/{path}"), "");
        assert!([403, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.body.contains("root:"));
    }
    assert_eq!(bench.get(&bench.api("ask"), "").status, 405);
}

#[test]
fn long_and_slow_requests_are_refused_and_others_go_on() {
    let bench = bench(strict());
    // Too long, said beforehand or not.
    let long = format!("{{\"state\":\"{}\"}}", "x".repeat(20_000));
    assert_eq!(bench.post(&bench.api("ask"), "", &long).status, 413);
    let chunks = format!("1000\r\n{}\r\n", "x".repeat(0x1000)).repeat(4);
    let chunked = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}",
        bench.api("ask"),
        bench.host(),
    );
    assert_eq!(bench.raw(chunked.as_bytes()).unwrap().status, 413);
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nX: {}\r\n\r\n",
        bench.api("about"),
        bench.host(),
        "y".repeat(50_000)
    );
    assert!(bench.raw(head.as_bytes()).is_none_or(|a| a.status == 431));

    // Slow heads, more of them than connections are allowed; a body that never comes.
    let begun = Instant::now();
    let mut slow: Vec<TcpStream> = (0..8).map(|_| bench.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    }
    let body = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"sta",
        bench.api("ask"),
        bench.host()
    );
    assert_eq!(bench.raw(body.as_bytes()).unwrap().status, 408);
    for stream in slow {
        assert!(answer_from(stream).is_none_or(|a| a.status == 408), "slow heads get nothing");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.get(&bench.api("about"), "").status, 200, "others are served");
}

#[test]
fn what_is_no_state_gets_a_reason() {
    let bench = bench(Limits::default());
    let text = "Which one?";
    let typed = |edits: Value| json!({"prompt": {"text": text}, "answers": ["one", "two"], "edits": edits});
    let of = |state: Value| json!({"state": state});
    for (question, status, why) in [
        (json!({}), 400, "missing field `state`"),
        (of(json!({})), 400, "missing field `prompt`"),
        (json!({"state": typed(json!([])), "path": "/etc/passwd"}), 400, "unknown field `path`"),
        (of(json!({"prompt": {"file": "/etc/passwd"}})), 400, "unknown variant `file`"),
        (of(json!({"prompt": {"id": "no such"}})), 422, "no prompt `no such`"),
        (of(json!({"prompt": {"text": text}})), 422, "answer"),
        (of(json!({"prompt": {"text": " "}, "answers": ["a", "b"]})), 422, "white space"),
        (of(json!({"prompt": {"text": text}, "answers": ["a", "a"]})), 422, "white space"),
        (of(json!({"prompt": {"text": "x ".repeat(5000)}, "answers": ["a", "b"]})), 422, "context"),
        (
            of(json!({"prompt": {"text": text}, "answers": ["a", "b"], "models": ["base", "other"]})),
            422,
            "other",
        ),
        (json!({"state": typed(json!([])), "analyses": ["surgery"]}), 400, "`surgery` can't be asked"),
        (of(typed(json!([{"kind": "zero"}]))), 400, "missing field `unit`"),
        (of(typed(json!([{"kind": "zero", "unit": "z:99.0"}]))), 422, "edit 1"),
        (of(typed(json!([{"kind": "zero", "unit": "resid_mid:1"}]))), 422, "can't be edited"),
        (
            of(typed(json!([{"kind": "patch", "unit": "z:1.0", "source": "nobody"}]))),
            422,
            "no model `nobody`",
        ),
        (of(typed(json!([{"kind": "mute", "models": ["base"]}]))), 422, "no adapter to mute"),
        (of(typed(json!([{"kind": "mute", "layers": [77]}]))), 422, "no update there"),
        (
            of(typed(json!([{"kind": "steer", "layer": 1, "plus": "base", "minus": "base", "strength": 1}]))),
            422,
            "differ",
        ),
        (of(typed(json!([{"kind": "mean", "unit": "resid_pre:1"}]))), 422, "can't be edited"),
        (
            json!({"state": typed(json!([])), "sweep": {"source": "hybrid", "target": "nobody"}}),
            422,
            "no model `nobody`",
        ),
        // No ablation hides behind a model's name.
        (
            json!({"state": typed(json!([])), "sweep": {"source": "zero", "target": "base"}}),
            422,
            "no model `zero`",
        ),
        (json!({"state": typed(json!([])), "sweep": {"source": "base", "target": "base"}}), 422, "differ"),
        (json!({"state": typed(json!([])), "sweep": {"source": "base"}}), 400, "missing field `target`"),
        (json!({"state": typed(json!([])), "analyses": ["patch"]}), 400, "`patch` can't be asked"),
    ] {
        let answer = bench.ask(&question);
        assert_eq!(answer.status, status, "{question}: {}", answer.body);
        assert!(answer.error().contains(why), "{question}: {}", answer.error());
    }
    let answer = bench.post(&bench.api("ask"), "", "no JSON");
    assert_eq!(answer.status, 400);
    // A prompt that is markup is a prompt.
    let state = json!({"prompt": {"text": "<script>alert(1)</script>"}, "answers": ["<b>", "</b>"]});
    assert_eq!(bench.ask(&json!({"state": state})).status, 200);
}

/// Columns of a table of an answer, for one model and in a fixed order.
fn column(found: &Value, analysis: &str, table: &str, column: &str, model: &str) -> Vec<Value> {
    let table = &found["found"][analysis]["tables"][table];
    let models = table["model"].as_array().unwrap();
    let values = table[column].as_array().unwrap();
    models.iter().zip(values).filter(|(m, _)| *m == model).map(|(_, v)| v.clone()).collect()
}

#[test]
fn edits_do_what_they_say_and_going_back_brings_the_same_answer() {
    let bench = bench(Limits::default());
    let id = bench.first_prompt();
    let of = |edits: Value| bench.found(json!({"prompt": {"id": id}, "edits": edits}));
    let plain = of(json!([]));
    let delta = |found: &Value, model: &str| column(found, "decide", "decisions", "delta", model);
    let everything = |found: &Value, model: &str| {
        [("decide", "decisions", "delta"), ("lens", "lens", "kl"), ("dla", "dla", "contribution")]
            .map(|(a, t, c)| column(found, a, t, c, model))
    };
    // All blocks muted: the base, in every table.
    let muted = of(json!([{"kind": "mute", "models": ["hybrid"]}]));
    assert_eq!(everything(&muted, "hybrid"), everything(&muted, "base"));
    assert_eq!(everything(&muted, "base"), everything(&plain, "base"));
    assert_eq!(everything(&muted, "strategic"), everything(&plain, "strategic"));
    assert_ne!(everything(&plain, "hybrid"), everything(&plain, "base"));

    // A head that is off contributes nothing, and attribution stays complete.
    let off = of(json!([{"kind": "zero", "unit": "z:2.1", "models": ["hybrid"]}]));
    let at = |found: &Value, model: &str| {
        let of = |c: &str| column(found, "dla", "dla", c, model);
        let rows = of("layer").into_iter().zip(of("head")).zip(of("contribution"));
        let own = rows.filter(|((layer, head), _)| *layer == json!(2) && *head == json!(1));
        own.map(|(_, v)| v.as_f64().unwrap()).collect::<Vec<f64>>()
    };
    assert_eq!(at(&off, "hybrid"), [0.0]);
    assert_eq!(at(&off, "base"), at(&plain, "base"));
    assert_ne!(delta(&off, "hybrid"), delta(&plain, "hybrid"));
    assert_eq!(delta(&off, "base"), delta(&plain, "base"));

    // A steered model: one more component, and complete.
    let steer = json!({"kind": "steer", "layer": 1, "plus": "hybrid", "minus": "base", "strength": 2.0, "models": ["base"]});
    let steered = of(json!([steer]));
    assert_ne!(delta(&steered, "base"), delta(&plain, "base"));
    let kinds = column(&steered, "dla", "dla", "kind", "base");
    assert_eq!(kinds.iter().filter(|k| **k == json!("steering")).count(), 1);
    for found in [&plain, &off, &steered, &muted] {
        for model in ["base", "hybrid", "strategic"] {
            assert_eq!(column(found, "dla", "dla_check", "complete", model), [json!(true)]);
        }
    }
    // Everything that a model computes at the last layer's neurons and heads from another model, and its own head: not the same as
    // that model, but a patch from itself changes nothing.
    let own = of(json!([{"kind": "patch", "unit": "z:2.1", "source": "hybrid", "models": ["hybrid"]}]));
    assert_eq!(everything(&own, "hybrid"), everything(&plain, "hybrid"));

    // Back again, and on another prompt meanwhile.
    let typed = bench.found(json!({"prompt": {"text": "Choose one or two."}, "answers": ["one", "two"]}));
    assert_eq!(typed["prompt"]["answers"], json!(["one", "two"]));
    for (again, then) in [(of(json!([])), &plain), (of(json!([steer])), &steered)] {
        assert_eq!(again["found"], then["found"]);
    }
}

#[test]
fn what_is_known_is_not_run_again() {
    let bench = bench(Limits::default());
    let answers = ["one", "two"];
    let of = |text: &str, edits: Value| {
        bench.found(json!({"prompt": {"text": text}, "answers": answers, "edits": edits}))
    };
    let n_models = of("Choose one or two.", json!([]))["models"].as_array().unwrap().len();
    let cost = |found: &Value| found["tokens_run"].as_u64().unwrap() as usize;
    let length = |found: &Value| found["prompt"]["tokens"].as_array().unwrap().len();
    let long = "You and another player choose one of two words in every round, without talking to each other, and points follow.";
    let whole = of(long, json!([]));
    assert!(cost(&whole) > n_models * length(&whole) / 2, "most of it is new");
    let more = of(&format!("{long} Be quick."), json!([]));
    assert!(length(&more) > length(&whole));
    assert!(cost(&more) < n_models * (length(&more) - length(&whole) + 8), "{} tokens were run", cost(&more));
    // One model changes everywhere, or at its decision only.
    let off = json!({"kind": "zero", "unit": "z:2.1", "models": ["hybrid"]});
    let everywhere = of(long, json!([off]));
    assert!((length(&whole) - 1..=length(&whole)).contains(&cost(&everywhere)), "{}", cost(&everywhere));
    let mut at_decision = off.clone();
    at_decision["position"] = "decision".into();
    assert_eq!(cost(&of(long, json!([at_decision]))), 0, "what comes before the decision is as it was");
    // All of that is what an explorer says that knows of nothing.
    let questions = [
        (format!("{long} Be quick."), json!([])),
        (long.to_owned(), json!([off])),
        (long.to_owned(), json!([at_decision])),
    ];
    for (text, edits) in questions {
        let fresh = crate::bench(Limits::default());
        let state = json!({"prompt": {"text": text}, "answers": answers, "edits": edits});
        assert_eq!(fresh.found(state)["found"], of(&text, edits)["found"]);
    }
}

/// delta of each model on the only prompt of a subject, as the command line scores it.
fn scored(subject: &Subject) -> Vec<f64> {
    let all: Vec<usize> = (0..subject.model.n_models()).collect();
    let prompts: Vec<_> = subject.prompts.iter().collect();
    let decisions = score(&subject.model, &all, &prompts, &|_, _| {}).unwrap();
    decisions.iter().map(lorascope_analyses::Decision::delta).collect()
}

#[test]
fn a_mean_is_that_of_the_models_own_tokens() {
    let bench = bench(Limits::default());
    let models = tempfile::tempdir().unwrap();
    let mut subject = subject(models.path());
    let wanted = bench.first_prompt();
    subject.prompts.retain(|p| p.id() == wanted);
    let stem = subject.prompts[0].stem(subject.primary_pairs().unwrap()[0]);
    let spec = subject.model.spec().clone();
    for (unit, point, units) in [
        ("z:2.1", HookPoint::Layer(2, Site::Z), spec.d_head..2 * spec.d_head),
        ("mlp_post:1", HookPoint::Layer(1, Site::MlpPost), 0..spec.d_mlp),
    ] {
        for (position, rows) in
            [("all", StandingRows::All), ("decision", StandingRows::After([stem.clone()].into()))]
        {
            // Every model gets its own mean, in plain loops.
            let mut edits = Vec::new();
            for model in 0..subject.model.n_models() {
                let batch = Batch::new(&spec, &[(model, &stem)]).unwrap();
                let captures = vec![Capture { point, rows: (1..stem.len()).collect() }];
                let run = subject.model.run(&batch, &Hooks { captures, edits: Vec::new() }, &[]).unwrap();
                let n = (stem.len() - 1) as f64;
                let mean = |i: usize| {
                    let sum: f64 = run.captures[0].iter().map(|row| f64::from(row[i])).sum();
                    (sum / n) as f32
                };
                let op = StandingOp::Set(units.clone().map(mean).collect());
                edits.push(StandingEdit {
                    models: vec![model],
                    point,
                    units: units.clone(),
                    rows: rows.clone(),
                    op,
                });
            }
            let plain = scored(&subject);
            let model = Arc::get_mut(&mut subject.model).unwrap();
            model.stand(Standing { edits, ..Standing::default() }).unwrap();
            let expected = scored(&subject);
            Arc::get_mut(&mut subject.model).unwrap().stand(Standing::default()).unwrap();
            let edit = json!({"kind": "mean", "unit": unit, "position": position});
            let found = bench.found(json!({"prompt": {"id": wanted}, "edits": [edit]}));
            for (m, name) in subject.model.names().into_iter().enumerate() {
                let delta = column(&found, "decide", "decisions", "delta", name)[0].as_f64().unwrap();
                // The mean is summed in another order, in f64.
                assert!(
                    (delta - expected[m]).abs() < 1e-5,
                    "{unit} {position} {name}: {delta} and {}",
                    expected[m]
                );
                assert!((delta - plain[m]).abs() > 1e-4, "{unit} {position} {name}: it does something");
            }
        }
    }
    // In one model it leaves the others alone.
    let edit = json!({"kind": "mean", "unit": "z:2.1", "models": ["hybrid"]});
    let found = bench.found(json!({"prompt": {"id": wanted}, "edits": [edit]}));
    let plain = bench.found(json!({"prompt": {"id": wanted}}));
    let delta = |found: &Value, model: &str| column(found, "decide", "decisions", "delta", model);
    assert_eq!(delta(&found, "base"), delta(&plain, "base"));
    assert_ne!(delta(&found, "hybrid"), delta(&plain, "hybrid"));
}

#[test]
fn a_new_question_of_a_page_takes_the_place_of_its_old_ones() {
    let bench = bench(Limits { questions: 3, ..Limits::default() });
    let id = bench.first_prompt();
    let send = |page: &str, n: usize| {
        let state =
            json!({"prompt": {"id": id}, "edits": [{"kind": "zero", "unit": format!("neuron:0.{n}")}]});
        let body = json!({"state": state, "analyses": ["decide", "lens", "dla", "attention"]}).to_string();
        let mut stream = bench.connect();
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             X-Lorascope-Page: {page}\r\nContent-Length: {}\r\n\r\n{body}",
            bench.api("ask"),
            bench.host(),
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let status = |stream: TcpStream| answer_from(stream).unwrap().status;
    // One page in a hurry: the last question is answered, those before it at most in part.
    let streams: Vec<TcpStream> = (0..12).map(|n| send("one", n)).collect();
    let mut statuses: Vec<u16> = streams.into_iter().map(status).collect();
    assert_eq!(statuses.pop(), Some(200));
    assert!(statuses.iter().all(|s| [200, 409].contains(s)), "{statuses:?}");
    assert!(statuses.contains(&409), "{statuses:?}");
    // Many pages: some are told to come later, nobody waits for ever.
    let streams: Vec<TcpStream> = (0..12).map(|n| send(&format!("page{n}"), 20 + n)).collect();
    let statuses: Vec<u16> = streams.into_iter().map(status).collect();
    assert!(statuses.iter().all(|s| [200, 503].contains(s)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    // A page that goes away leaves the line to others.
    drop(send("gone", 40));
    assert_eq!(status(send("here", 41)), 200);
}

#[test]
fn a_server_that_is_dropped_is_gone_within_a_second() {
    let bench = bench(Limits::default());
    let address = bench.running.address();
    let _open = bench.connect();
    let begun = Instant::now();
    drop(bench);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_export_holds_the_state() {
    let bench = bench(Limits::default());
    let id = bench.first_prompt();
    let state = json!({"prompt": {"id": id}, "edits": [{"kind": "zero", "unit": "z:2.1", "models": ["hybrid"], "position": "decision"}]});
    let answer = bench.post(&bench.api("export"), "", &state.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let export = answer.json();
    let study: toml::Table = export["study"].as_str().unwrap().parse().unwrap();
    assert_eq!(study["prompts"].as_str(), export["prompts_name"].as_str());
    assert_eq!(study["base"].as_str(), Some("organism"));
    assert_eq!(study["edits"][0]["position"].as_str(), Some("decision"));
    let set = lorascope_prompts::PromptSet::parse(export["prompts"].as_str().unwrap()).unwrap();
    assert_eq!(set.items.len(), 1);
    let other = json!({"prompt": {"id": id}, "models": ["base", "somebody"]});
    assert_eq!(bench.post(&bench.api("export"), "", &other.to_string()).status, 422);
}
