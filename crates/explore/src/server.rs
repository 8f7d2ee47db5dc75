//! The server: HTTP on one address, few routes, limits on everything that a client can make long.
//!
//! axum routes and hyper speaks HTTP, both on tokio: the stack that the field keeps best, and hyper can end a connection that is slow to
//! say what it wants. Everything that is served is compiled in or computed; no name from a request becomes a path.

use crate::error::{Error, Result};
use crate::explorer::{ANALYSES, Explorer, USUAL};
use crate::guard::{Guard, random_token};
use crate::page::asset;
use crate::queue::{Done, Queue, Task};
use crate::state::{State, Sweep, Wanted};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::json;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Where the server listens, and what it allows.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address or name of this machine.
    pub host: String,
    /// Port; 0 for any that is free.
    pub port: u16,
    /// Whether ctrl-C ends the server.
    pub until_ctrl_c: bool,
    /// Whether pages of this machine's own servers, as notebooks are, may show the page in a frame.
    pub framed: bool,
    /// Limits.
    pub limits: Limits,
}

/// What a client can make long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until a request's head is there.
    pub head: Duration,
    /// Until its body is there.
    pub body: Duration,
    /// How long a connection may last.
    pub connection: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Connections at a time.
    pub connections: usize,
    /// Questions that wait.
    pub questions: usize,
}

impl Default for Options {
    fn default() -> Self {
        let host = "127.0.0.1".to_owned();
        Self { host, port: 0, until_ctrl_c: false, framed: false, limits: Limits::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            body: Duration::from_secs(10),
            connection: Duration::from_secs(900),
            body_bytes: 1 << 20,
            connections: 64,
            questions: 16,
        }
    }
}

/// Bytes of a request's head.
const HEAD_BYTES: usize = 32 << 10;

/// A server that runs. Dropped, it ends.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    url: String,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to open in a browser; holds the token.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it ends by itself (ctrl-C).
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // A thread that failed has ended too.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What all requests share.
#[derive(Clone)]
struct Site {
    guard: Arc<Guard>,
    queue: Arc<Queue>,
    about: Arc<str>,
    limits: Limits,
}

/// Starts a server for a live engine; it answers from now on.
///
/// # Errors
/// An address that can't be had; no random numbers; no folder for temporary files.
pub fn start(explorer: Explorer, options: &Options) -> Result<Running> {
    let place = tempfile::tempdir().map_err(Error::io("making a temporary folder"))?;
    let about: Arc<str> = explorer.about().to_string().into();
    let at = format!("{}:{}", options.host, options.port);
    let mut addresses = (options.host.trim_matches(['[', ']']), options.port)
        .to_socket_addrs()
        .map_err(Error::io(format!("looking up `{at}`")))?;
    let address = addresses.next().ok_or_else(|| Error::NotHere(format!("`{at}` has no address")))?;
    let listener = std::net::TcpListener::bind(address).map_err(Error::io(format!("listening on `{at}`")))?;
    listener.set_nonblocking(true).map_err(Error::io("listening"))?;
    let address = listener.local_addr().map_err(Error::io("listening"))?;
    let guard = Arc::new(Guard::new(random_token()?, &options.host, address, options.framed));
    let host = if address.ip().is_unspecified() { "127.0.0.1" } else { options.host.as_str() };
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let url = format!("http://{host}:{}/{}/", address.port(), guard.token());
    let queue = Queue::start(explorer, options.limits.questions, place.path().to_owned())?;
    let site = Site { guard, queue: queue.clone(), about, limits: options.limits };
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting the server"))?;
    let until_ctrl_c = options.until_ctrl_c;
    let serve = move || {
        runtime.block_on(async {
            let ended = async {
                if until_ctrl_c {
                    end_of_program(stopped).await;
                } else {
                    told(stopped).await;
                }
            };
            tokio::select! {
                () = accept(listener, site) => {}
                () = ended => {}
            }
        });
        queue.close();
        // Open connections end with the runtime.
        runtime.shutdown_background();
        drop(place);
    };
    let thread = std::thread::Builder::new().name("server".to_owned()).spawn(serve);
    let thread = Some(thread.map_err(Error::io("starting the server's thread"))?);
    Ok(Running { address, url, stop, thread })
}

/// Until the owner of the server says so.
async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The same, or ctrl-C.
async fn end_of_program(stopped: watch::Receiver<bool>) {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = told(stopped) => {}
    }
}

/// Takes connections for ever.
async fn accept(listener: std::net::TcpListener, site: Site) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let (slots, router) = (Arc::new(Semaphore::new(site.limits.connections)), router(site.clone()));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(stream, router.clone(), site.limits, slot));
            }
            // Out of file handles, say: later there may be some.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, limits: Limits, _slot: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // What goes wrong with a connection is the client's business.
    let _ = tokio::time::timeout(limits.connection, connection).await;
}

fn router(site: Site) -> Router {
    Router::new()
        .route("/{token}/", get(page))
        .route("/{token}/{asset}", get(file))
        .route("/{token}/api/about", get(about))
        .route("/{token}/api/ask", post(ask))
        .route("/{token}/api/export", post(export))
        .fallback(async || refused(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(from_fn_with_state(site.clone(), guarded))
        .with_state(site)
}

/// Every request passes here first, and every response last.
async fn guarded(Shared(site): Shared<Site>, request: Request, next: Next) -> Response {
    let token = request.uri().path().split('/').nth(1).unwrap_or_default();
    let mut response = match site.guard.check(token, request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, why)) => refused(status, why),
    };
    site.guard.protect(response.headers_mut());
    response
}

fn refused(status: StatusCode, why: &str) -> Response {
    json_response(status, json!({"error": why}).to_string())
}

fn json_response(status: StatusCode, text: impl Into<Body>) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [kind], text.into()).into_response()
}

fn failed(error: &Error) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    refused(status, &error.to_string())
}

async fn page() -> Response {
    of_asset("")
}

async fn file(Path((_, name)): Path<(String, String)>) -> Response {
    of_asset(&name)
}

fn of_asset(name: &str) -> Response {
    match asset(name) {
        Some(asset) => {
            let kind = (header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
            ([kind], asset.text()).into_response()
        }
        None => refused(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

async fn about(Shared(site): Shared<Site>) -> Response {
    json_response(StatusCode::OK, site.about.to_string())
}

/// A question: a state, and the analyses that are to answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    state: serde_json::Value,
    /// Those that are usual, where neither they nor a sweep are named.
    #[serde(default)]
    analyses: Option<Vec<String>>,
    #[serde(default)]
    sweep: Option<Sweep>,
}

async fn ask(Shared(site): Shared<Site>, headers: HeaderMap, body: Body) -> Response {
    answered(&site, &headers, body).await.unwrap_or_else(|refusal| refusal)
}

async fn answered(site: &Site, headers: &HeaderMap, body: Body) -> std::result::Result<Response, Response> {
    let body = read(site, headers, body).await?;
    let bad = |why: String| failed(&Error::BadState(why));
    let question: Question = serde_json::from_slice(&body).map_err(|e| bad(e.to_string()))?;
    let state = State::from_value(question.state).map_err(|e| failed(&e))?;
    let usual = if question.sweep.is_some() { &[] } else { &ANALYSES[..USUAL] };
    let analyses = question.analyses.unwrap_or_else(|| usual.iter().map(|&a| a.to_owned()).collect());
    let wanted = Wanted { analyses, sweep: question.sweep };
    let ticket = site
        .queue
        .ask(&page_of(headers).ok_or_else(unnamed)?, Task::Answer(state, wanted))
        .map_err(|e| failed(&e))?;
    match ticket.wait().await {
        Ok(Done::Answer(text)) => Ok(json_response(StatusCode::OK, text.to_string())),
        Ok(Done::Export(_)) => Err(failed(&Error::Failed)),
        Err(error) => Err(failed(&error)),
    }
}

async fn export(Shared(site): Shared<Site>, headers: HeaderMap, body: Body) -> Response {
    exported(&site, &headers, body).await.unwrap_or_else(|refusal| refusal)
}

async fn exported(site: &Site, headers: &HeaderMap, body: Body) -> std::result::Result<Response, Response> {
    let body = read(site, headers, body).await?;
    let state = State::parse(&body).map_err(|e| failed(&e))?;
    // An export replaces no question of its page.
    let page = format!("{} export", page_of(headers).ok_or_else(unnamed)?);
    let ticket = site.queue.ask(&page, Task::Export(state)).map_err(|e| failed(&e))?;
    match ticket.wait().await {
        Ok(Done::Export(export)) => Ok(json_response(StatusCode::OK, json!(export).to_string())),
        Ok(Done::Answer(_)) => Err(failed(&Error::Failed)),
        Err(error) => Err(failed(&error)),
    }
}

/// A body of JSON, if it comes in time and is not too long.
async fn read(
    site: &Site,
    headers: &HeaderMap,
    body: Body,
) -> std::result::Result<axum::body::Bytes, Response> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    // What a form or a plain text can send needs no leave of this server in a browser; JSON does.
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"));
    }
    let limit = site.limits.body_bytes;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let too_large =
        || refused(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is longer than {limit} bytes"));
    if length.is_some_and(|n| n > limit as u64) {
        return Err(closing(too_large()));
    }
    match tokio::time::timeout(site.limits.body, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(closing(too_large())),
        Err(_) => Err(closing(refused(StatusCode::REQUEST_TIMEOUT, "the body took too long"))),
    }
}

/// A response after which the connection ends, since the request was not read to its end.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The name that a page gives itself, so that its new questions replace its old ones; `None` where it is no name.
fn page_of(headers: &HeaderMap) -> Option<String> {
    let name = headers.get("x-lorascope-page").map_or(Some("no name"), |v| v.to_str().ok());
    name.filter(|name| name.len() <= 64).map(str::to_owned)
}

fn unnamed() -> Response {
    refused(StatusCode::BAD_REQUEST, "`x-lorascope-page` must be at most 64 plain characters")
}
