//! What one caller may have at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::book::{Book, Entry, Svid, Trust, Wanted};
use crate::codec::grpc::Code;
use crate::domain::workload::Caller;
use crate::shell::wire::workload::{PeerProcess, Programs, Want};

/// Why a call ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// For the client.
    pub(super) grpc: Code,
    /// For people.
    pub(super) code: &'static str,
    /// One sentence.
    pub(super) text: String,
}

impl End {
    pub(super) fn new(grpc: Code, code: &'static str, text: impl Into<String>) -> Self {
        Self { grpc, code, text: text.into() }
    }
}

/// No workload of the configuration.
const NOBODY: &str = "KW4851";
/// The path is closed.
const WITHHELD: &str = "KW4852";
/// The process cannot be told, or has ended.
const UNKNOWN: &str = "KW4854";
/// The CA does not issue now.
const UNAVAILABLE: &str = "KW4857";

/// What is there.
pub(super) struct View {
    pub(super) caller: Caller,
    pub(super) svids: Vec<(Arc<Entry>, Arc<Svid>)>,
    /// By trust domain: those of the workloads that this caller is.
    pub(super) trusts: BTreeMap<String, Arc<Trust>>,
    /// What the caller would have, and why it does not.
    pub(super) withheld: Vec<(String, String)>,
}

/// Everything there, or something still being made.
pub(super) enum Seen {
    Ready(View),
    Waits(String),
}

/// What a call needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Certificates with keys.
    Certificates,
    /// What to trust.
    Trust,
}

/// One caller's eyes: what it wants stays wanted while this lives.
pub(super) struct Eyes {
    pub(super) book: Arc<Book>,
    peer: Arc<Result<PeerProcess, String>>,
    programs: Arc<Programs>,
    needs: Needs,
    wanted: Option<Wanted>,
}

impl Eyes {
    pub(super) fn new(
        book: Arc<Book>,
        peer: Arc<Result<PeerProcess, String>>,
        programs: Arc<Programs>,
        needs: Needs,
    ) -> Self {
        Self { book, peer, programs, needs, wanted: None }
    }

    /// Whether whoever connected is still there.
    pub(super) fn is_alive(&self) -> bool {
        self.peer.as_ref().as_ref().is_ok_and(PeerProcess::is_alive)
    }

    /// Looks again: at the process, the configuration, the paths and the certificates.
    pub(super) async fn look(&mut self) -> Result<Seen, End> {
        let caller = self.caller().await?;
        let entries = self.book.of(&caller);
        if entries.is_empty() {
            return Err(End::new(
                Code::PermissionDenied,
                NOBODY,
                format!("no [[workload]] has selectors for {caller}"),
            ));
        }
        if self.book.authority.is_none() {
            let text = "the guardian issues nothing: it has no private CA, or its state is not believed";
            return Err(End::new(Code::Unavailable, UNAVAILABLE, text));
        }
        let (mut open, mut withheld) = (Vec::new(), Vec::new());
        for entry in entries {
            match self.book.withheld(&entry.workload) {
                None => open.push(entry),
                Some(why) => withheld.push((entry.workload.spiffe.to_string(), why)),
            }
        }
        if open.is_empty() {
            self.wanted = None;
            let why: Vec<String> = withheld.iter().map(|(id, why)| format!("{id} is withheld: {why}")).collect();
            return Err(End::new(Code::PermissionDenied, WITHHELD, why.join("; ")));
        }
        let trusts = open.iter().filter_map(|entry| {
            let domain = entry.workload.spiffe.trust_domain();
            Some((domain.to_owned(), self.book.trust(domain)?))
        });
        let trusts: BTreeMap<String, Arc<Trust>> = trusts.collect();
        if self.needs == Needs::Trust {
            return match trusts.is_empty() {
                true => Ok(Seen::Waits("the CA of the trust domain was not made yet".to_owned())),
                false => Ok(Seen::Ready(View { caller, svids: Vec::new(), trusts, withheld })),
            };
        }
        if !self.wanted.as_ref().is_some_and(|wanted| wanted.is(&open)) {
            self.wanted = Some(self.book.want(open.clone()));
        }
        let (mut svids, mut problem, mut making) = (Vec::new(), None, false);
        for entry in open {
            match entry.svid() {
                (Some(svid), _) if trusts.contains_key(entry.workload.spiffe.trust_domain()) => {
                    svids.push((entry, svid))
                }
                (_, Some(why)) => problem = Some(format!("{}: {why}", entry.workload.spiffe)),
                (..) => making = true,
            }
        }
        match (making, svids.is_empty(), problem) {
            // It may be mended in a moment: the caller is told why if it is not.
            (_, true, Some(why)) => Ok(Seen::Waits(why)),
            (true, _, _) => Ok(Seen::Waits("its certificate is being made".to_owned())),
            (false, _, _) => Ok(Seen::Ready(View { caller, svids, trusts, withheld })),
        }
    }

    async fn caller(&self) -> Result<Caller, End> {
        let unknown = |why: &String| End::new(Code::PermissionDenied, UNKNOWN, why.clone());
        let peer = self.peer.as_ref().as_ref().map_err(unknown)?;
        let caller = peer.look(&self.programs, Want::Ids).await.map_err(|e| unknown(&e))?;
        let asks = |entry: &Arc<Entry>| entry.workload.asks_digest() && entry.workload.may_be(&caller);
        if self.book.entries().iter().any(asks) {
            return peer.look(&self.programs, Want::Digest).await.map_err(|e| unknown(&e));
        }
        Ok(caller)
    }

    /// Writes down that the caller gets these keys, once for each; without that it does not get them.
    pub(super) async fn record(&self, caller: &Caller, keys: &[&(Arc<Entry>, Arc<Svid>)]) -> Result<(), End> {
        for (entry, svid) in keys.iter().filter(|(entry, svid)| !entry.is_told(&svid.serial, caller)) {
            let id = entry.workload.spiffe.as_str();
            let told = self.book.records.given(entry.ca(), id, &svid.serial, caller).await;
            let why = |e| format!("it cannot be recorded who gets the key: {e}");
            told.map_err(|e| End::new(Code::Unavailable, UNAVAILABLE, why(e)))?;
            entry.tell(&svid.serial, caller);
        }
        Ok(())
    }
}
