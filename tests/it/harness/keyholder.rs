//! A key holder as a process, and a log in the hand of a test that allows what it does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyward::adapters::holder::SocketHolder;
use keyward::codec::checkpoint::Checkpoint;
use keyward::codec::note::{Note, SignerKey, Signs};
use keyward::codec::tbs;
use keyward::domain::audit::{Draft, Phase, Target, TargetKind, seal};
use keyward::domain::id::{EntryId, Ulid};
use keyward::domain::json::Json;
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::domain::private::Told;
use keyward::domain::time::Timestamp;
use keyward::domain::tree::{Frontier, Subtree, TreeError, TreeHead, prove_inclusion};
use keyward::ports::{HeldKey, KeyHolder, Operation, StoredEntry, ToBeSigned, Warrant};
use rcgen::{BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod};
use rcgen::{KeyUsagePurpose, PublicKeyData, SerialNumber, SigningKey};
use zeroize::Zeroizing;

use super::life::PATIENCE;

pub const ORIGIN: &str = "keyward/0123456789abcdef";
/// The user that the holder becomes.
pub const USER: &str = "nobody";
pub const PASSPHRASE: &str = "correct horse battery staple";

/// A guardian's log: entries, checkpoints and proofs.
pub struct GuardianLog {
    pub key: SignerKey,
    frontier: Frontier,
    nodes: BTreeMap<Subtree, Digest>,
    entries: Vec<StoredEntry>,
    heads: Vec<TreeHead>,
}

impl GuardianLog {
    pub fn new(seed: u8) -> Self {
        let frontier = Frontier::default();
        let heads = vec![frontier.head()];
        let key = SignerKey::from_seed(ORIGIN, Signs::Notes, Zeroizing::new([seed; 32])).unwrap();
        Self { key, frontier, nodes: BTreeMap::new(), entries: Vec::new(), heads }
    }

    /// Commits an entry; gives its sequence.
    pub fn commit(&mut self, action: &'static str, phase: Phase, facts: Vec<(&'static str, Json)>) -> u64 {
        let sequence = self.frontier.size();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&sequence.to_be_bytes());
        let target = Target::new(TargetKind::Daemon, "keyward");
        let id = EntryId(Ulid::new(now(), random));
        let draft = Draft { phase, facts, ..Draft::new(id, now(), action, "KW4600", target) };
        self.append(seal(&draft, sequence, None, &Told::nothing()).bytes)
    }

    /// Appends any bytes.
    pub fn append(&mut self, bytes: Vec<u8>) -> u64 {
        let sequence = self.frontier.size();
        let leaf = keyward::domain::audit::leaf_hash(&bytes);
        self.nodes.insert(Subtree { level: 0, place: sequence }, leaf);
        let nodes = &mut self.nodes;
        self.frontier.push(leaf, |subtree, hash| {
            nodes.insert(subtree, *hash);
        });
        self.heads.push(self.frontier.head());
        self.entries.push(StoredEntry { sequence, leaf, bytes });
        sequence
    }

    /// How many entries it has.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Forgets what came after so many entries.
    pub fn truncate(&mut self, size: u64) {
        let entries: Vec<StoredEntry> = self.entries.drain(..).take(usize::try_from(size).unwrap()).collect();
        (self.frontier, self.nodes) = (Frontier::default(), BTreeMap::new());
        self.heads.truncate(1);
        for entry in entries {
            self.append(entry.bytes);
        }
    }

    /// An intent for this operation.
    pub fn intend(&mut self, operation: &Operation) -> u64 {
        let facts = operation.facts().into_iter().map(|(k, v)| (k, Json::str(v))).collect();
        self.commit("ca.key", Phase::Intent, facts)
    }

    /// The proof of an entry under the newest checkpoint.
    pub fn warrant(&self, sequence: u64) -> Warrant {
        self.warrant_at(sequence, self.frontier.size())
    }

    /// The proof of an entry under the checkpoint of this size.
    pub fn warrant_at(&self, sequence: u64, size: u64) -> Warrant {
        let head = self.heads[usize::try_from(size).unwrap()];
        let text = Checkpoint { origin: ORIGIN.into(), head }.to_string();
        let note = Note { signatures: vec![self.key.sign(&text, now())], text }.to_string();
        let proof = prove_inclusion(sequence, size, |at| Ok::<_, TreeError>(self.nodes[&at])).unwrap();
        Warrant { entry: self.entries[usize::try_from(sequence).unwrap()].clone(), proof, note }
    }

    /// Intent and proof.
    pub fn allow(&mut self, operation: &Operation) -> Warrant {
        let sequence = self.intend(operation);
        self.warrant(sequence)
    }

    /// So many entries of other kinds.
    pub fn grow(&mut self, count: u64) {
        for _ in 0..count {
            self.commit("certificate.look", Phase::Event, Vec::new());
        }
    }
}

pub fn generating(label: &str) -> Operation {
    Operation::Generate { algorithm: KeyAlgorithm::P256, label: label.into() }
}

pub fn signing(key: &HeldKey, kind: ToBeSigned, tbs: &[u8]) -> Operation {
    Operation::Sign { key: Digest::of(&key.spki), kind, tbs: Digest::of(tbs) }
}

/// The public half of a key in the holder, which writes down what it is asked to sign.
pub struct Recorder {
    bits: Vec<u8>,
    algorithm: KeyAlgorithm,
    tbs: RefCell<Vec<u8>>,
}

impl Recorder {
    pub fn new(key: &HeldKey) -> Self {
        let bits = tbs::key_bits(&key.spki).unwrap().to_vec();
        Self { bits, algorithm: key.algorithm, tbs: RefCell::default() }
    }

    fn taken(&self) -> Vec<u8> {
        self.tbs.borrow().clone()
    }
}

impl PublicKeyData for Recorder {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.algorithm {
            KeyAlgorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
            KeyAlgorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                panic!("the holder has no RSA keys")
            }
        }
    }
}

impl SigningKey for Recorder {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.tbs.replace(message.to_vec());
        Ok(vec![0; 64])
    }
}

fn params(cn: &str, serial: u8, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.serial_number = Some(SerialNumber::from_slice(&[serial; 20]));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch();
    params.not_after = params.not_before + Duration::from_secs(days * 86_400);
    params
}

fn since_epoch() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_unix(since_epoch().as_secs().try_into().unwrap())
}

fn ca(cn: &str) -> CertificateParams {
    let mut ca = params(cn, 1, 3_650);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.use_authority_key_identifier_extension = true;
    ca
}

/// What a root with this key signs about itself.
pub fn root_tbs(key: &HeldKey) -> Vec<u8> {
    let recorder = Recorder::new(key);
    ca("root").self_signed(&recorder).unwrap();
    recorder.taken()
}

/// A leaf by this key, which lives for so many days.
pub fn leaf_tbs(key: &HeldKey, serial: u8, days: u64) -> Vec<u8> {
    let recorder = Recorder::new(key);
    let mut leaf = params("leaf", serial, days);
    leaf.use_authority_key_identifier_extension = true;
    let own = rcgen::KeyPair::generate().unwrap();
    let ca = ca("root");
    let issuer = Issuer::from_params(&ca, recorder);
    leaf.signed_by(&own, &issuer).unwrap();
    issuer.key().taken()
}

/// A revocation list by this key.
pub fn list_tbs(key: &HeldKey) -> Vec<u8> {
    let ca = ca("root");
    let issuer = Issuer::from_params(&ca, Recorder::new(key));
    let begin = rcgen::date_time_ymd(1970, 1, 1) + since_epoch();
    let list = CertificateRevocationListParams {
        this_update: begin,
        next_update: begin + Duration::from_secs(86_400),
        crl_number: SerialNumber::from(7),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&issuer).unwrap();
    issuer.key().taken()
}

/// `keyward keyholder`; killed when dropped.
pub struct Holder {
    child: Child,
    pub dir: tempfile::TempDir,
    extra: Vec<String>,
    prefix: Vec<String>,
    environment: Option<(String, PathBuf)>,
}

impl Holder {
    /// In a directory of its own, belonging to this log.
    pub fn start(log: &GuardianLog) -> Self {
        Self::with(log, &[], &[])
    }

    /// With more arguments, and with words before the program.
    pub fn with(log: &GuardianLog, extra: &[&str], prefix: &[&str]) -> Self {
        let mut own = Self::prepared(log, extra);
        own.prefix = prefix.iter().map(|&s| s.into()).collect();
        own.restart();
        own
    }

    /// Everything but the process.
    pub fn prepared(log: &GuardianLog, extra: &[&str]) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests change users: run tests/run as root");
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
        fs::write(path("log.pub"), format!("# the guardian's\n{}\n", log.key.verifier())).unwrap();
        for name in ["keys", "run"] {
            fs::create_dir(path(name)).unwrap();
        }
        let uid = uid(USER);
        for (name, mode) in [("passphrase", 0o600), ("keys", 0o700), ("run", 0o755)] {
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(path(name), Some(uid), None).unwrap();
        }
        let nothing = Command::new("true").spawn().unwrap();
        Self {
            child: nothing,
            dir,
            extra: extra.iter().map(|&s| s.into()).collect(),
            prefix: Vec::new(),
            environment: None,
        }
    }

    /// Other arguments, and a variable, from the next start on.
    pub fn say_instead(&mut self, extra: &[&str], environment: Option<(&str, &Path)>) {
        self.extra = extra.iter().map(|&s| s.into()).collect();
        self.environment = environment.map(|(key, value)| (key.into(), value.to_owned()));
    }

    /// Starts another one beside it, with these arguments instead of the same of its own; what it says as it refuses.
    pub fn second(&self, instead: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.arg("keyholder").arg("--directory").arg(self.path("keys")).args(["--user", USER]).args(instead);
        let ended = command.arg("--passphrase-file").arg(self.path("passphrase")).output().unwrap();
        assert!(!ended.status.success());
        String::from_utf8(ended.stderr).unwrap()
    }

    /// The same directory, with other words before the program.
    pub fn resumed(mut before: Self, prefix: &[&str]) -> Self {
        before.prefix = prefix.iter().map(|&s| s.into()).collect();
        before.restart();
        before
    }

    /// Its process.
    pub fn process(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/socket")
    }

    fn command(&self) -> Command {
        let mut words = self.prefix.clone();
        words.push(env!("CARGO_BIN_EXE_keyward").into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("keyholder").arg("--directory").arg(self.path("keys"));
        command.arg("--socket").arg(self.socket()).args(["--user", USER, "--peer", "root"]);
        command.arg("--log-key").arg(self.path("log.pub"));
        if !self.extra.iter().any(|a| a.starts_with("--passphrase")) {
            command.arg("--passphrase-file").arg(self.path("passphrase"));
        }
        // A passphrase command takes all that follows.
        command.args(&self.extra).envs(self.environment.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Starts it again, and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        fs::remove_file(self.socket()).ok();
        let log = fs::File::options().create(true).append(true).open(self.path("stderr")).unwrap();
        self.child = self.command().stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let began = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "the key holder did not start: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it where it must refuse to; what it says.
    pub fn refuses(&mut self) -> String {
        self.kill();
        let ended = self.command().output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success(), "it started: {said}");
        said
    }

    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the key holder did not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    pub fn client(&self) -> SocketHolder {
        SocketHolder::new(&self.socket(), Some(uid(USER)))
    }

    /// Makes a key.
    pub async fn key(&self, log: &mut GuardianLog, label: &str) -> HeldKey {
        let warrant = log.allow(&generating(label));
        self.client().generate(KeyAlgorithm::P256, label, &warrant).await.unwrap()
    }

    /// Sends a raw frame and gives what comes back.
    pub fn raw(&self, frame: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may close before it has read all.
        stream.write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes()).ok();
        stream.write_all(frame).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        answer
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn uid(name: &str) -> u32 {
    let table = fs::read_to_string("/etc/passwd").unwrap();
    keyward::codec::accounts::account_in(&table, name).unwrap().0
}

/// Runs a program as another user.
pub fn as_user(user: &str, program: &[&str]) -> std::process::Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--clear-groups", "--"]).args(program);
    command.output().unwrap()
}

/// The private key in a file of the holder, opened with its passphrase.
pub fn opened(path: &Path) -> Zeroizing<Vec<u8>> {
    keyward::codec::sealed::open(&fs::read_to_string(path).unwrap(), PASSPHRASE.as_bytes()).unwrap()
}
