//! What keys mean for a path: those of its certificates, and those that are no certificate's.

use super::{Bench, COMPROMISED, KEY_NOT_LIVE, KEY_OVERDUE, KEY_PAST, KEY_STOLEN, KEY_UNFIT, KEY_UNSEEN};
use crate::domain::snapshot::{KeyPart, Part};
use crate::domain::time::human_span;
use crate::domain::tracked::KeyState;

impl Bench<'_> {
    /// The key of a certificate.
    pub(super) fn key(&mut self, part: &Part) {
        let (name, now) = (&part.credential, self.snapshot.at);
        if let Some(spki) = part.compromised.first() {
            let text = format!("{name}: a person reported the key with SPKI {} as compromised", spki.short());
            self.close(COMPROMISED, Some(part), text, "a certificate with another key is in place");
        }
        if let Some((limit, since)) = self.snapshot.rules.key_limit.zip(part.key_since) {
            let end = since.plus(limit);
            if now >= end {
                let text = format!("{name}: its key is in use since {since}, longer than {}", human_span(limit));
                self.close(KEY_OVERDUE, Some(part), text, "the key is rotated and seen to be served");
            } else {
                self.ends(end, || format!("{name}: its key"));
            }
        }
    }

    /// A key that is no certificate's. Overdue and compromised are told apart: the one is borne until its hard limit, the
    /// other not at all.
    pub(super) fn tracked(&mut self, part: &KeyPart) {
        let (key, now) = (&part.key, self.snapshot.at);
        if let Some(since) = part.compromised {
            let text = format!("key {key}: others may have it since {since}");
            self.close(KEY_STOLEN, None, text, "another key is in its place, and the old one is accepted no more");
        }
        match part.state {
            Some(KeyState::Active) => {}
            // That is said above.
            Some(KeyState::Compromised) if part.compromised.is_some() => {}
            Some(state) => {
                let text = format!("key {key} is {}", state.as_str());
                self.close(KEY_UNFIT, None, text, "an active key is in its place");
            }
            None => {}
        }
        if part.state.is_none() || !part.seen {
            let why = match &part.failing {
                Some((_, why)) => format!("cannot be looked at: {why}"),
                None => "was not looked at yet".to_owned(),
            };
            self.close(KEY_UNSEEN, None, format!("key {key} {why}"), "the key is seen");
            return;
        }
        if let Some((created, ends)) = part.span {
            if now >= ends {
                let age = human_span(created.until(ends));
                let text = format!("key {key} was made {created}, and its hard limit of {age} is over since {ends}");
                self.close(KEY_PAST, None, text, "the key is rotated, and the old one accepted no more");
            } else {
                self.ends(ends, || format!("key {key}"));
            }
        }
        let troubles = [
            (KEY_UNSEEN, &part.failing, "cannot be looked at", "the key is seen"),
            (KEY_NOT_LIVE, &part.not_live, "is not the one in use", "the live system uses the key"),
        ];
        for (code, trouble, what, reopens) in troubles {
            let Some((since, why)) = trouble else { continue };
            let end = since.plus(part.grace);
            if now >= end {
                self.close(code, None, format!("key {key} {what} since {since}: {why}"), reopens);
            } else {
                self.ends(end, || format!("key {key}, which {what}"));
            }
        }
    }
}
