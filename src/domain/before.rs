//! The state before some changes, and after some that are not applied yet: what a patch is made against.
//!
//! Refuses to know how a patch is written: that is [`crate::domain::changes`].

use std::borrow::Cow;

use crate::domain::directory::{Account, Order, RowId};
use crate::domain::execution::Attempt;
use crate::domain::freeze::Freeze;
use crate::domain::id::{AttemptId, CredentialId, FreezeId, IssuerId, KeyId};
use crate::domain::name::SetKey;
use crate::domain::register::{CaGeneration, GenerationId, Issued};
use crate::domain::rotation::{Piece, PieceId};
use crate::domain::state::{Change, CredentialRecord, IssuerRecord, Latch, LatchOn, State, note_automatic};
use crate::domain::time::Timestamp;
use crate::domain::upkeep::KeyRecord;

/// The state before an entry's changes, as far as they are about it. What a store says here must be what lies on its
/// disk: a patch against anything else would lead somewhere else.
pub trait Before {
    /// Why it cannot be told.
    type Error;
    /// A credential's record.
    ///
    /// # Errors
    /// If it cannot be read.
    fn credential(&self, id: &CredentialId) -> Result<Option<Cow<'_, CredentialRecord>>, Self::Error>;
    /// An attempt in flight.
    ///
    /// # Errors
    /// If it cannot be read.
    fn attempt(&self, id: AttemptId) -> Result<Option<Cow<'_, Attempt>>, Self::Error>;
    /// An issuer's record.
    ///
    /// # Errors
    /// If it cannot be read.
    fn issuer(&self, id: &IssuerId) -> Result<Option<Cow<'_, IssuerRecord>>, Self::Error>;
    /// The automatic issuances of a set of names, as they were written.
    ///
    /// # Errors
    /// If they cannot be read.
    fn automatic(&self, names: &str) -> Result<Vec<Timestamp>, Self::Error>;
    /// What is latched.
    ///
    /// # Errors
    /// If it cannot be read.
    fn latch(&self, on: &LatchOn) -> Result<Option<Cow<'_, Latch>>, Self::Error>;
    /// What is frozen.
    ///
    /// # Errors
    /// If it cannot be read.
    fn freeze(&self, id: FreezeId) -> Result<Option<Cow<'_, Freeze>>, Self::Error>;
    /// A generation of a private CA.
    ///
    /// # Errors
    /// If it cannot be read.
    fn generation(&self, id: &GenerationId) -> Result<Option<Cow<'_, CaGeneration>>, Self::Error>;
    /// What a private CA issued.
    ///
    /// # Errors
    /// If it cannot be read.
    fn issued(&self, serial: &str) -> Result<Option<Cow<'_, Issued>>, Self::Error>;
    /// A tracked key's record.
    ///
    /// # Errors
    /// If it cannot be read.
    fn key(&self, id: &KeyId) -> Result<Option<Cow<'_, KeyRecord>>, Self::Error>;
    /// What is known about a rotation.
    ///
    /// # Errors
    /// If it cannot be read.
    fn piece(&self, id: &PieceId) -> Result<Option<Cow<'_, Piece>>, Self::Error>;
    /// An account of an ACME directory.
    ///
    /// # Errors
    /// If it cannot be read.
    fn account(&self, id: &RowId) -> Result<Option<Cow<'_, Account>>, Self::Error>;
    /// An order of an ACME directory.
    ///
    /// # Errors
    /// If it cannot be read.
    fn order(&self, id: &RowId) -> Result<Option<Cow<'_, Order>>, Self::Error>;
}

impl Before for State {
    type Error = core::convert::Infallible;

    fn credential(&self, id: &CredentialId) -> Result<Option<Cow<'_, CredentialRecord>>, Self::Error> {
        Ok(self.credentials.get(id).map(|record| Cow::Borrowed(&**record)))
    }

    fn attempt(&self, id: AttemptId) -> Result<Option<Cow<'_, Attempt>>, Self::Error> {
        Ok(self.attempts.get(&id).map(|attempt| Cow::Borrowed(&**attempt)))
    }

    fn issuer(&self, id: &IssuerId) -> Result<Option<Cow<'_, IssuerRecord>>, Self::Error> {
        Ok(self.issuers.get(id).map(Cow::Borrowed))
    }

    fn automatic(&self, names: &str) -> Result<Vec<Timestamp>, Self::Error> {
        Ok(self.ledger.automatic.get(&SetKey::from(names)).cloned().unwrap_or_default())
    }

    fn latch(&self, on: &LatchOn) -> Result<Option<Cow<'_, Latch>>, Self::Error> {
        Ok(self.latches.get(on).map(Cow::Borrowed))
    }

    fn freeze(&self, id: FreezeId) -> Result<Option<Cow<'_, Freeze>>, Self::Error> {
        Ok(self.freezes.get(&id).map(Cow::Borrowed))
    }

    fn generation(&self, id: &GenerationId) -> Result<Option<Cow<'_, CaGeneration>>, Self::Error> {
        Ok(self.generations.get(id).map(|generation| Cow::Borrowed(&**generation)))
    }

    fn issued(&self, serial: &str) -> Result<Option<Cow<'_, Issued>>, Self::Error> {
        Ok(self.issued.get(serial).map(|issued| Cow::Borrowed(&**issued)))
    }

    fn key(&self, id: &KeyId) -> Result<Option<Cow<'_, KeyRecord>>, Self::Error> {
        Ok(self.keys.get(id).map(|record| Cow::Borrowed(&**record)))
    }

    fn piece(&self, id: &PieceId) -> Result<Option<Cow<'_, Piece>>, Self::Error> {
        Ok(self.pieces.get(id).map(|piece| Cow::Borrowed(&**piece)))
    }

    fn account(&self, id: &RowId) -> Result<Option<Cow<'_, Account>>, Self::Error> {
        Ok(self.accounts.get(id).map(|account| Cow::Borrowed(&**account)))
    }

    fn order(&self, id: &RowId) -> Result<Option<Cow<'_, Order>>, Self::Error> {
        Ok(self.orders.get(id).map(|order| Cow::Borrowed(&**order)))
    }
}

/// A state after some changes that are not applied yet.
#[derive(Debug)]
pub struct After<'a, B> {
    /// The state.
    pub state: &'a B,
    /// The changes, in order.
    pub changes: &'a [Change],
}

impl<B: Before> Before for After<'_, B> {
    type Error = B::Error;

    fn credential(&self, id: &CredentialId) -> Result<Option<Cow<'_, CredentialRecord>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Credential(other, record) = change
                && other == id
            {
                return Ok(Some(Cow::Borrowed(record)));
            }
            if matches!(change, Change::Forget(other) if other == id) {
                return Ok(None);
            }
        }
        self.state.credential(id)
    }

    fn attempt(&self, id: AttemptId) -> Result<Option<Cow<'_, Attempt>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Attempt(attempt) = change
                && attempt.id == id
            {
                return Ok(Some(Cow::Borrowed(attempt)));
            }
            if matches!(change, Change::AttemptEnded(other) if *other == id) {
                return Ok(None);
            }
        }
        self.state.attempt(id)
    }

    fn issuer(&self, id: &IssuerId) -> Result<Option<Cow<'_, IssuerRecord>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Issuer(other, record) = change
                && other == id
            {
                return Ok(Some(Cow::Borrowed(record)));
            }
        }
        self.state.issuer(id)
    }

    fn automatic(&self, names: &str) -> Result<Vec<Timestamp>, Self::Error> {
        let mut times = self.state.automatic(names)?;
        for change in self.changes {
            if let Change::AutomaticIssuance(other, at) = change
                && **other == *names
            {
                note_automatic(&mut times, *at);
            }
        }
        Ok(times)
    }

    fn latch(&self, on: &LatchOn) -> Result<Option<Cow<'_, Latch>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Latch(other, latch) = change
                && other == on
            {
                return Ok(latch.as_ref().map(Cow::Borrowed));
            }
        }
        self.state.latch(on)
    }

    fn freeze(&self, id: FreezeId) -> Result<Option<Cow<'_, Freeze>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Freeze(other, freeze) = change
                && *other == id
            {
                return Ok(freeze.as_ref().map(Cow::Borrowed));
            }
        }
        self.state.freeze(id)
    }

    fn generation(&self, id: &GenerationId) -> Result<Option<Cow<'_, CaGeneration>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Generation(other, generation) = change
                && other == id
            {
                return Ok(Some(Cow::Borrowed(generation)));
            }
        }
        self.state.generation(id)
    }

    fn issued(&self, serial: &str) -> Result<Option<Cow<'_, Issued>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Issued(other, issued) = change
                && **other == *serial
            {
                return Ok(issued.as_deref().map(Cow::Borrowed));
            }
        }
        self.state.issued(serial)
    }

    fn key(&self, id: &KeyId) -> Result<Option<Cow<'_, KeyRecord>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Key(other, record) = change
                && other == id
            {
                return Ok(Some(Cow::Borrowed(record)));
            }
        }
        self.state.key(id)
    }

    fn piece(&self, id: &PieceId) -> Result<Option<Cow<'_, Piece>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Piece(other, piece) = change
                && other == id
            {
                return Ok(piece.as_deref().map(Cow::Borrowed));
            }
        }
        self.state.piece(id)
    }

    fn account(&self, id: &RowId) -> Result<Option<Cow<'_, Account>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Account(other, account) = change
                && other == id
            {
                return Ok(account.as_deref().map(Cow::Borrowed));
            }
        }
        self.state.account(id)
    }

    fn order(&self, id: &RowId) -> Result<Option<Cow<'_, Order>>, Self::Error> {
        for change in self.changes.iter().rev() {
            if let Change::Order(other, order) = change
                && other == id
            {
                return Ok(order.as_deref().map(Cow::Borrowed));
            }
        }
        self.state.order(id)
    }
}
