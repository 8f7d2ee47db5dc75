//! Requests to the explorer, over a real connection to a live engine.

use lorascope_analyses::{Meanings, Subject};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{DEFAULT_MEMORY, Model};
use lorascope_explore::{Explorer, Options, Running, Source, start};
use lorascope_games::Design;
use lorascope_organism::{part_of, unpack};
use lorascope_text::{Tokenizer, Wrapping};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::Duration;

/// A request by somebody who has the token: the last part of its address on the first line, its body after it. Every answer is of
/// HTTP, and the server lives on.
pub fn question(data: &[u8]) {
    static SERVER: OnceLock<Running> = OnceLock::new();
    let server = SERVER.get_or_init(serve);
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (name, body) = (&data[..end], &data[(end + 1).min(data.len())..]);
    if !name.iter().all(|byte| byte.is_ascii_graphic()) {
        return;
    }
    let path = format!("{}api/{}", token_path(server), String::from_utf8_lossy(name));
    let answer = post(server, &path, body);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
    let status = status.unwrap_or_else(|| panic!("not HTTP: {answer:?}"));
    assert!(status != 500 && (200..600).contains(&status), "{answer}");
}

fn serve() -> Running {
    let models = tempfile::tempdir().expect("a temporary folder");
    let part = |name: &str| unpack(part_of(name).expect("a part"), models.path()).expect("an unpacked part");
    let (base, adapter) = (part("organism"), part("organism:hybrid"));
    let checkpoint = Checkpoint::open(&base).expect("the embedded model");
    let model = Model::load(checkpoint, &[("hybrid".to_owned(), adapter)], DEFAULT_MEMORY)
        .expect("the embedded model");
    let tokenizer = Tokenizer::from_folder(&base).expect("its tokenizer");
    let prompts = Design::fifteen().build().expect("prompts");
    let subject = Subject::new(model, tokenizer, &prompts, None, Wrapping::Auto, Meanings::default());
    let source = Source { base: "organism".to_owned(), ..Source::default() };
    let explorer = Explorer::new(subject.expect("a subject"), prompts, source, Vec::new(), 1 << 28);
    start(explorer, &Options::default()).expect("a server")
}

/// `/TOKEN/`
fn token_path(server: &Running) -> &str {
    let after_host = server.url().splitn(4, '/').nth(3).unwrap_or_default();
    let start = server.url().len() - after_host.len() - 1;
    &server.url()[start..]
}

fn post(server: &Running, path: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        server.address(),
        body.len()
    );
    // The server may have heard enough before all is written.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
