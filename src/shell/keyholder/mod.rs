//! The key holder: a process of its own that has the private keys of private CAs, and signs only what the audit log
//! announces.
//!
//! ```text
//! peer ─► serve (who, how much) ─► warrant (does the log announce exactly this?) ─► worker (new? then sign) ─► chain (flush)
//!                                                                                                       └─► answer
//! ```
//!
//! It trusts neither the guardian's word nor its own disk: the guardian has to show the committed entry, and the disk its
//! codes. Refuses to know the network, the configuration, and what a certificate is for.

mod book;
mod calls;
mod chain;
mod confine;
mod files;
mod passphrase;
mod serve;
mod token;
mod vault;
mod warrant;
mod worker;

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use crate::domain::key::Digest;
use crate::ports::{Clock, Entropy};

use self::book::Book;
use self::chain::{KEY_SUFFIX, OwnLog};
use self::files::Directory;
use self::serve::Door;
use self::vault::Vault;
use self::worker::Worker;

pub use self::passphrase::Source;
pub use self::token::TokenOptions;
pub use self::warrant::Lifetimes;

/// What it is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where keys and log are.
    pub directory: PathBuf,
    /// Where it is asked.
    pub socket: PathBuf,
    /// The group that may open the socket besides its owner.
    pub group: Option<String>,
    /// The users that may ask; without any, its own.
    pub peers: Vec<String>,
    /// The user that it becomes.
    pub user: Option<String>,
    /// What opens the keys.
    pub passphrase: Source,
    /// The token that has the keys, instead of files.
    pub token: Option<TokenOptions>,
    /// The keys of the guardian's log, one a line; needed at the first start.
    pub log_keys: Option<PathBuf>,
    /// How long what it signs may live.
    pub lives: Lifetimes,
    /// When it ends.
    pub life: Life,
    /// Whether it starts where the kernel lacks something of the confinement.
    pub confinement: Wanted,
}

/// When the key holder ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// When somebody ends it.
    OwnTerm,
    /// When standard input ends: whoever holds the other end of the pipe may die in any way.
    WithInput,
}

/// How much of the confinement must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All, or it does not start.
    Whole,
    /// What there is.
    Possible,
}

/// Why it ends where [`Life::WithInput`] has it end, which is no failure.
pub const GONE: &str = "whoever started it is gone";

/// A file of log keys has at most so many bytes.
const LONGEST_KEYS: usize = 16 * 1_024;

/// Runs it; returns only what went wrong, or [`GONE`]. `say` prints a line for the operator.
pub fn run(options: &Options, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, say: &dyn Fn(&str)) -> String {
    match start(options, clock, entropy, say) {
        Ok((worker, door, listener, jobs)) => {
            say(&format!("key holder ready at {}, process {}", options.socket.display(), std::process::id()));
            worker.confinement.iter().for_each(|line| say(&format!("confinement: {line}")));
            // Whichever of them ends first ends the process: the caller exits with this text.
            let (ended, end) = sync_channel(8);
            let door = Arc::new(door);
            let begun = begin("worker", &ended, move || worker.run(&jobs))
                .and_then(|()| begin("accept", &ended, move || serve::accept(&listener, &door)))
                .and_then(|()| match options.life {
                    Life::WithInput => begin("input", &ended, input_ended),
                    Life::OwnTerm => Ok(()),
                });
            if let Err(error) = begun {
                return format!("a thread cannot be started: {error}");
            }
            end.recv().unwrap_or_else(|_| "a thread broke: see the lines before".to_owned())
        }
        Err(why) => why,
    }
}

/// Starts a thread that says why it ended, also if it breaks.
fn begin(
    name: &str,
    ended: &SyncSender<String>,
    work: impl FnOnce() -> String + Send + 'static,
) -> std::io::Result<()> {
    let ended = Ended(ended.clone());
    std::thread::Builder::new().name(name.to_owned()).spawn(move || drop(ended.0.try_send(work()))).map(drop)
}

struct Ended(SyncSender<String>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Too late, if the thread has said why itself.
        drop(self.0.try_send("a thread broke: see the lines before".to_owned()));
    }
}

fn input_ended() -> String {
    use std::io::Read as _;
    let mut rest = [0; 64];
    while std::io::stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
    GONE.to_owned()
}

type Started = (Worker, Door, std::os::unix::net::UnixListener, std::sync::mpsc::Receiver<worker::Job>);

fn start(
    options: &Options,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    say: &dyn Fn(&str),
) -> Result<Started, String> {
    let account = options.user.as_deref().map(confine::account).transpose()?;
    let group = options.group.as_deref().map(confine::group).transpose()?;
    let mut peers = options.peers.iter().map(|name| confine::user(name)).collect::<Result<Vec<_>, _>>()?;
    let confinement = confine::begin(account, group)?;
    if peers.is_empty() {
        peers.push(rustix::process::geteuid().as_raw());
    }
    let passphrase = passphrase::read(&options.passphrase, &clock)?;
    let pins = options.log_keys.as_deref().map(read_pins).transpose()?;
    let dir = Directory::open(&options.directory)?;
    let mut book = Book::default();
    let opened =
        OwnLog::open(&dir, &passphrase, pins, clock.now(), &*entropy, |record, place| book.note(record, place))?;
    let token = options.token.as_ref().map(|t| open_token(t, &clock)).transpose()?;
    let mut vault = Vault::new(passphrase, token);
    for (key, known) in book.keys() {
        if let Err(why) = vault.load(&dir, *key) {
            say(&format!("the key of {:?} cannot be used: {why}", known.held.label));
        }
    }
    book.destroyed().try_for_each(|key| vault.destroy(&dir, key))?;
    tidy(&dir, &book, say)?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    let listener = serve::bind(&options.socket, mode, group)?;
    // Where systemd waits for it, it may go on: whoever connects now is answered soon.
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    let paths = options.token.iter().flat_map(|token| token.paths.clone());
    let paths: Vec<PathBuf> = core::iter::once(dir.path().to_owned()).chain(paths).collect();
    let confinement = confine::finish(confinement, &paths)?;
    if options.confinement == Wanted::Whole && !confinement.missing().is_empty() {
        return Err(format!("--require-confinement: {}", confinement.missing().join("; ")));
    }
    let (sender, jobs) = sync_channel(serve::MOST_CONNECTIONS);
    let door = Door {
        pins: opened.pins,
        newest: Mutex::default(),
        lives: options.lives,
        peers,
        clock: clock.clone(),
        jobs: sender,
        large: Mutex::new(()),
        open: AtomicUsize::new(0),
    };
    let confinement = confinement.lines();
    let worker = Worker { dir, vault, log: opened.log, book, clock, entropy, confinement };
    Ok((worker, door, listener, jobs))
}

fn open_token(options: &TokenOptions, clock: &Arc<dyn Clock>) -> Result<token::Token, String> {
    let pin = passphrase::line(&options.pin, clock)?;
    token::Token::open(&options.module, &options.label, &pin)
}

fn read_pins(path: &std::path::Path) -> Result<warrant::Pins, String> {
    let said = |why: &dyn core::fmt::Display| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| said(&e))?;
    if text.len() > LONGEST_KEYS {
        return Err(said(&format!("it has more than {LONGEST_KEYS} bytes")));
    }
    warrant::Pins::parse(&text).map_err(|e| said(&e))
}

/// Key files that the log does not know, because a crash came before their record: named and left alone. They sign nothing.
fn tidy(dir: &Directory, book: &Book, say: &dyn Fn(&str)) -> Result<(), String> {
    for name in dir.names()? {
        let Some(key) = name.strip_suffix(KEY_SUFFIX) else { continue };
        match Digest::parse(key) {
            Some(key) if book.key(&key).is_some() => {}
            _ => say(&format!("{} is no key that was recorded, and is not used", dir.join(&name).display())),
        }
    }
    Ok(())
}
