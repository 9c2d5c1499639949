//! What a CA says about renewals: the windows of its certificates (RFC 9773), and what its directory offers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::audit::{Target, TargetKind, bounded_text};
use crate::domain::certificate::CertId;
use crate::domain::execution::{Generation, Stage};
use crate::domain::id::{CaId, CredentialId, IssuerId};
use crate::domain::inventory::Ari;
use crate::domain::json::Json;
use crate::domain::register::{GenerationId, Issued, Phase};
use crate::domain::renewal::{POLL_WITHOUT_ARI, pick, poll_after};
use crate::domain::rotating;
use crate::domain::rotation::compromised;
use crate::domain::state::{AriRecord, Change, CredentialRecord, LatchOn, State};
use crate::domain::time::{DAY, HOUR, Timestamp};
use crate::engine::agenda::{Agenda, Task};
use crate::engine::looking::Looked;
use crate::engine::{Desk, Engine, Event};
use crate::ports::{Batch, Doing, IssuerError, IssuerMeta, Notice, RenewalInfo, Urgency};

impl Engine {
    pub(super) fn ask_ari(&self, id: &CredentialId) -> Option<Doing<'_, Event>> {
        let (issuer, cert_id, credential) = {
            let desk = self.read();
            let (_, current, cert_id) = asked(&desk, id)?;
            (current.issuer.clone(), cert_id.clone(), id.clone())
        };
        Some(Box::pin(async move {
            let answer = self.ports.issuer.renewal_info(&issuer, &cert_id).await;
            Event::Looked(Looked::Ari { credential, cert_id, answer })
        }))
    }

    pub(super) fn ask_meta(&self, id: &IssuerId) -> Option<Doing<'_, Event>> {
        let issuer = self.read().estate.issuers.get(id)?.id.clone();
        Some(Box::pin(async move {
            let answer = self.ports.issuer.meta(&issuer).await;
            Event::Looked(Looked::Meta { issuer, answer })
        }))
    }

    pub(super) async fn note_ari(
        &self,
        id: &CredentialId,
        cert_id: &CertId,
        answer: Result<Option<RenewalInfo>, IssuerError>,
        agenda: &mut Agenda,
    ) {
        let now = self.ports.clock.now();
        if self.is_attempted(id) {
            // The attempt may be writing the same record. Once it has ended, the window is asked for again.
            return;
        }
        let (old, lifetime, is_ordered) = {
            let desk = self.read();
            let record = desk.state.credentials.get(id);
            let current = record.and_then(|r| r.current.as_ref()).filter(|g| g.cert_id.as_ref() == Some(cert_id));
            // Replaced in the meantime: the answer is about another certificate.
            let Some(current) = current else { return };
            let old = record.and_then(|r| r.ari.clone()).filter(|a| a.cert_id == *cert_id);
            let is_ordered = desk.state.attempt_for(id).is_some_and(|a| a.stage != Stage::Issued);
            (old, current.validity.lifetime(), is_ordered)
        };
        // Installed while the configuration did not want to know.
        let unasked =
            AriRecord { cert_id: cert_id.clone(), window: None, picked: None, next_poll: now, explanation: None };
        let old = old.unwrap_or(unasked);
        let mut new = AriRecord { next_poll: now.plus(poll_after(None, lifetime)), ..old.clone() };
        match answer {
            Ok(Some(info)) => {
                new.next_poll = now.plus(poll_after(info.retry_after, lifetime));
                match pick(cert_id, info.start, info.end) {
                    Ok(picked) => {
                        new.window = Some((info.start, info.end));
                        new.picked = Some(picked);
                        new.explanation = info.explanation.as_deref().map(Arc::from);
                    }
                    Err(error) => {
                        let text = format!(
                            "the CA's renewal information is not believed: {error} ({} to {})",
                            info.start, info.end
                        );
                        self.notify(id, "KW1102", Urgency::Act, text);
                    }
                }
            }
            Ok(None) => new.next_poll = now.plus(POLL_WITHOUT_ARI),
            Err(error) => {
                new.next_poll = now.plus(poll_after(error.retry_after, lifetime));
            }
        }
        if is_ordered {
            // Whether its order takes from the CA's limits was decided by the window as it was when it began; what it gives
            // back if it fails is decided by the same.
            new = AriRecord { next_poll: new.next_poll, ..old.clone() };
        }
        if asks_ari(&self.read(), id) {
            agenda.set(Task::Ari(id.clone()), new.next_poll);
        }
        if new.window == old.window && new.picked == old.picked && new.explanation == old.explanation {
            // Only the time of the next poll changed: not worth a commit; after a restart it is asked at once.
            if let Some(record) = self.write().state.credentials.get_mut(id) {
                Arc::make_mut(record).ari = Some(new);
            }
            return;
        }
        let mut draft = self.draft("certificate.schedule", "KW2010", Target::new(TargetKind::Credential, id));
        draft.facts = vec![
            ("window_start", Json::opt(new.window.map(|w| Json::show(&w.0)))),
            ("window_end", Json::opt(new.window.map(|w| Json::show(&w.1)))),
            ("picked", Json::opt(new.picked.as_ref().map(Json::show))),
        ];
        draft.private.extend(new.explanation.iter().map(|e| ("explanation", e.clone())));
        // A CA explains only what is out of the ordinary (RFC 9773 section 4.2), also the first time that it is asked.
        if let Some(url) = new.explanation.as_ref().filter(|_| new.explanation != old.explanation) {
            self.notify(id, "KW2010", Urgency::Act, format!("the CA explains its renewal window, see {url}"));
        }
        let record = CredentialRecord { ari: Some(new), ..CredentialRecord::clone(&self.read().state.credential(id)) };
        let batch = Batch { changes: vec![Change::Credential(id.clone(), Arc::new(record))], entries: vec![draft] };
        if self.commit(batch).await.is_ok() {
            agenda.set(Task::Plan(id.clone()), now);
        }
    }

    /// Terms of service that changed since they were last seen are reported to people: orders may be refused because of
    /// them (RFC 8555 section 7.3.3), and what is agreed to is not automation's to decide.
    pub(super) async fn note_meta(
        &self,
        issuer: IssuerId,
        answer: Result<IssuerMeta, IssuerError>,
        agenda: &mut Agenda,
    ) {
        let now = self.ports.clock.now();
        agenda.set(Task::Meta(issuer.clone()), now.plus(if answer.is_ok() { DAY } else { HOUR }));
        let Ok(meta) = answer else { return };
        self.note_offer(&issuer, meta.ari, agenda);
        let Some(terms) = meta.terms else { return };
        let mut record = self.read().state.issuers.get(&issuer).cloned().unwrap_or_default();
        let old = record.terms.replace(Arc::from(bounded_text(&terms)));
        if old == record.terms {
            return;
        }
        let mut draft = self.draft("issuer.terms", "KW2012", Target::new(TargetKind::Issuer, &issuer));
        draft.private.push(("terms", Arc::from(bounded_text(&terms))));
        draft.private.extend(old.iter().map(|before| ("before", before.clone())));
        let changes = vec![Change::Issuer(issuer.clone(), record)];
        let recorded = self.commit(Batch { changes, entries: vec![draft] }).await.is_ok();
        if let Some(old) = old.filter(|_| recorded) {
            let text = format!("the terms of service changed: they were at {old}, and are now at {terms}; read them");
            let notice = Notice { about: issuer.to_string(), owner: None, code: "KW2012", text, urgent: Urgency::Act };
            self.ports.notifier.notify(notice);
        }
    }

    /// Whether an issuer's directory offers renewal information. One that begins to is asked for all that it has issued.
    fn note_offer(&self, issuer: &IssuerId, ari: bool, agenda: &mut Agenda) {
        let issued: Vec<CredentialId> = {
            let mut desk = self.write();
            if !ari {
                desk.without_ari.insert(issuer.clone());
                return;
            }
            if !desk.without_ari.remove(issuer) {
                return;
            }
            let own = |record: &CredentialRecord| record.current.as_ref().is_some_and(|g| g.issuer == *issuer);
            desk.state.credentials.iter().filter(|(_, record)| own(record)).map(|(id, _)| id.clone()).collect()
        };
        issued.iter().for_each(|id| self.plan_ari(id, agenda));
    }

    /// Whoever holds what a private CA takes back asks for its window at once: else it would only after the next poll that a
    /// replacement is due.
    pub(super) fn ask_about_distrusted(&self, agenda: &mut Agenda, now: Timestamp) {
        let due: Vec<CredentialId> = {
            let moved = self.read().trust_moves.count();
            if core::mem::replace(&mut self.write().trust_seen, moved) == moved {
                return;
            }
            let desk = self.read();
            let mut bad = BTreeMap::new();
            let mut hit = |record: &CredentialRecord| {
                // Whose time has come is renewed as soon as it can be.
                let waits = record.ari.as_ref().is_none_or(|ari| ari.picked.is_none_or(|at| at > now));
                let issued = record.current.as_ref().filter(|_| waits).and_then(|g| desk.state.issued.get(&g.serial));
                issued.is_some_and(|issued| is_taken_back(&desk.state, issued, &mut bad))
            };
            let all = desk.state.credentials.iter().filter(|(_, record)| hit(record)).map(|(id, _)| id.clone());
            let all: Vec<CredentialId> = all.collect();
            all.into_iter().filter(|id| asked(&desk, id).is_some()).collect()
        };
        due.into_iter().for_each(|id| agenda.set(Task::Ari(id), now));
    }

    fn is_attempted(&self, id: &CredentialId) -> bool {
        let desk = self.read();
        let mut running = desk.running.iter().filter_map(|attempt| desk.state.attempts.get(attempt));
        running.any(|a| a.credential == *id)
    }

    /// When the renewal window is asked for next, after an attempt or a reload changed what it is about.
    pub(super) fn plan_ari(&self, id: &CredentialId, agenda: &mut Agenda) {
        let now = self.ports.clock.now();
        let desk = self.read();
        let next = asked(&desk, id).map(|(record, ..)| record.ari.as_ref().map_or(now, |a| a.next_poll));
        drop(desk);
        match next {
            Some(at) => agenda.set(Task::Ari(id.clone()), at),
            None => agenda.drop_task(&Task::Ari(id.clone())),
        }
    }
}

/// Whether a leaf is revoked, or its key is in other hands, or nobody shall trust its generation any more. While a generation
/// signs although it is compromised there is no better one; and one that just signs no more leaves time.
fn is_taken_back(state: &State, issued: &Issued, bad: &mut BTreeMap<CaId, BTreeSet<u32>>) -> bool {
    let GenerationId { ca, number } = &issued.generation;
    let phase = state.generations.get(&issued.generation).map(|g| g.phase);
    let of = || compromised(&rotating::standing(state, ca), &rotating::evidence(state, ca));
    issued.revoked.is_some()
        || state.latches.contains_key(&LatchOn::Key(issued.spki))
        || !phase.is_some_and(Phase::is_trusted)
        || (phase != Some(Phase::SIGNING) && bad.entry(ca.clone()).or_insert_with(of).contains(number))
}

/// Whether the CA is asked about what is installed.
pub(super) fn asks_ari(desk: &Desk, id: &CredentialId) -> bool {
    asked(desk, id).is_some()
}

/// What the CA is asked about, if it is.
fn asked<'a>(desk: &'a Desk, id: &CredentialId) -> Option<(&'a CredentialRecord, &'a Generation, &'a CertId)> {
    let managed = desk.estate.credentials.get(id)?.managed()?;
    let record = desk.state.credentials.get(id).filter(|_| managed.renewal.ari == Ari::Ask)?;
    let current = record.current.as_ref().filter(|current| !desk.without_ari.contains(&current.issuer))?;
    Some((record, current, current.cert_id.as_ref()?))
}
