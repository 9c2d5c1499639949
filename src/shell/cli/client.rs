//! The way to the daemon: HTTP over its admin socket.

use core::cell::Cell;
use core::time::Duration;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::args::Common;
use super::console::{Exit, Failure};
use crate::shell::audit::BAD_QUESTION;
use crate::shell::config::{self, ConfigError, Overrides, Settings};
use crate::shell::http::model::{Gate, Problem};

/// The daemon answers within ten seconds or says that it cannot.
const DEADLINE: Duration = Duration::from_secs(15);
/// Twenty thousand credentials at a few KiB each.
const LONGEST_ANSWER: usize = 128 * 1_024 * 1_024;
/// Where a configuration is looked for if none is named.
const USUAL_PLACES: [&str; 2] = ["keyward.toml", "/etc/keyward/keyward.toml"];

/// The configuration file that the command is about.
pub(super) fn config_path(common: &Common) -> Result<PathBuf, Failure> {
    if let Some(path) = &common.config {
        return Ok(path.clone());
    }
    USUAL_PLACES.iter().map(PathBuf::from).find(|p| p.exists()).ok_or_else(|| {
        Failure::new(
            Exit::BadConfig,
            format!("there is no {} and no {}", USUAL_PLACES[0], USUAL_PLACES[1]),
            "name one with -c FILE, or write a first one: keyward init DIR --domain NAME --email ADDRESS",
        )
    })
}

/// Reads the configuration; the error is its whole report.
pub(super) fn settings(path: &Path, common: &Common) -> Result<Settings, ConfigError> {
    config::load(path, Overrides { staging: common.staging, state_dir: None })
}

/// What waits for answers.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|e| Failure::new(Exit::Failed, format!("cannot wait for answers: {e}"), "see ulimit -a"))
}

/// A daemon that may be asked.
#[derive(Debug)]
pub(super) struct Daemon {
    socket: PathBuf,
    /// How it is started, for the hint.
    start: String,
    runtime: Runtime,
    staging: Cell<bool>,
    frozen: Cell<usize>,
}

impl Daemon {
    pub(super) fn at(socket: PathBuf, start: String) -> Result<Self, Failure> {
        Ok(Self { socket, start, runtime: runtime()?, staging: Cell::new(false), frozen: Cell::new(0) })
    }

    /// Whether an answer said that this is a dry run.
    pub(super) fn is_staging(&self) -> bool {
        self.staging.get()
    }

    /// How many freezes the last answer said are in force.
    pub(super) fn freezes(&self) -> usize {
        self.frozen.get()
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.understand(&self.ask("GET", path, Bytes::new())?)
    }

    /// Whatever is there, as it is.
    pub(super) fn bytes(&self, path: &str) -> Result<Bytes, Failure> {
        let (ok, body) = self.ask("GET", path, Bytes::new())?;
        if ok { Ok(body) } else { Err(refusal(&body)) }
    }

    /// The same, where something else is waited for too.
    pub(super) async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.understand(&self.asked("GET", path, Bytes::new()).await?)
    }

    /// Has it do something, where something else is waited for too.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.understand(&self.asked("POST", path, Bytes::from(body)).await?)
    }

    /// A gate's answer, whatever it says.
    pub(super) async fn gate(&self, path: &str) -> Result<Gate, Failure> {
        let (_, body) = self.asked("GET", &format!("/v1/gate/{path}"), Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|e| {
            let text = format!("the gate's answer is not understood: {e}");
            Failure::new(Exit::GateClosed, text, "is the daemon of the same version?")
        })
    }

    /// Waits for what asks the daemon.
    pub(super) fn wait<T>(&self, asking: impl Future<Output = T>) -> T {
        self.runtime.block_on(asking)
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.understand(&self.ask("POST", path, Bytes::from(body))?)
    }

    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, Failure> {
        self.understand(&self.ask("DELETE", path, body)?)
    }

    /// Waits; the runtime's own timer, since nothing here is simulated.
    pub(super) fn pause(&self, span: Duration) {
        self.runtime.block_on(async {
            let mut tick = tokio::time::interval(span);
            tick.tick().await;
            tick.tick().await;
        });
    }

    /// Status and body, whatever they say.
    pub(super) fn ask(&self, method: &str, path: &str, body: Bytes) -> Result<(bool, Bytes), Failure> {
        self.runtime.block_on(self.asked(method, path, body))
    }

    async fn asked(&self, method: &str, path: &str, body: Bytes) -> Result<(bool, Bytes), Failure> {
        tokio::time::timeout(DEADLINE, self.exchange(method, path, body)).await.unwrap_or_else(|_| {
            let text =
                format!("the daemon at {} did not answer within {} s", self.socket.display(), DEADLINE.as_secs());
            Err(Failure::new(Exit::Failed, text, "look at its log; a restart loses nothing"))
        })
    }

    async fn exchange(&self, method: &str, path: &str, body: Bytes) -> Result<(bool, Bytes), Failure> {
        let broken = |what: String| {
            let text = format!("the exchange with {} broke off: {what}", self.socket.display());
            Failure::new(Exit::Failed, text, "is it Keyward's admin socket? See `keyward config explain`")
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.absent(&e))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|e| broken(e.to_string()))?;
        let driver = tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("connection", "close")
            .body(Full::new(body))
            .map_err(|e| broken(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
        let (head, body) = response.into_parts();
        self.staging.set(head.headers.get("keyward-environment").is_some_and(|v| v == "staging"));
        let frozen = head.headers.get("keyward-freezes").and_then(|v| v.to_str().ok()?.parse().ok());
        self.frozen.set(frozen.unwrap_or(0));
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|e| broken(e.to_string()))?;
        driver.abort();
        Ok((head.status.is_success(), body.to_bytes()))
    }

    fn absent(&self, error: &std::io::Error) -> Failure {
        let socket = self.socket.display();
        if error.kind() == ErrorKind::PermissionDenied {
            let hint = "be the daemon's user or root, for example: sudo -u keyward keyward …";
            return Failure::new(Exit::Failed, format!("this user may not use {socket}"), hint);
        }
        let gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
        let why = if gone { String::new() } else { format!(": {error}") };
        Failure::new(
            Exit::Failed,
            format!("no daemon answers at {socket}{why}"),
            format!("start it with `{}`", self.start),
        )
    }

    fn understand<T: DeserializeOwned>(&self, (ok, body): &(bool, Bytes)) -> Result<T, Failure> {
        if !ok {
            return Err(refusal(body));
        }
        serde_json::from_slice(body).map_err(|e| {
            let text = format!("the daemon's answer is not understood: {e}");
            Failure::new(
                Exit::Failed,
                text,
                "is the daemon of the same version? See `keyward status` and `keyward --version`",
            )
        })
    }
}

fn refusal(body: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let exit = match problem.code.as_str() {
                "KW5009" => Exit::Refused,
                BAD_QUESTION | "KW4075" | "KW4076" | "KW4077" => Exit::Usage,
                _ => Exit::Failed,
            };
            Failure::new(exit, format!("{} ({})", problem.detail, problem.code), problem.hint)
        }
        Err(_) => Failure::new(Exit::Failed, "the daemon refused and did not say why", "look at its log"),
    }
}
