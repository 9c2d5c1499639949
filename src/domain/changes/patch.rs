//! Writing a merge patch (RFC 7396), member by member: only what differs.

use std::sync::Arc;

use crate::domain::execution::Trigger;
use crate::domain::json::{SAFE, write_integer, write_plain, write_string};
use crate::domain::key::{Digest, hex};
use crate::domain::name::NameSet;
use crate::domain::private::Told;
use crate::domain::time::Timestamp;

/// An object of the patch that is being written.
pub(super) struct Patch<'a, 's> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) told: &'a mut Told<'s>,
    /// Whether a member stands in it already.
    pub(super) written: bool,
}

impl Patch<'_, '_> {
    fn key(&mut self, key: &str) {
        if self.written {
            self.out.push(b',');
        }
        self.written = true;
        write_string(key, self.out);
        self.out.push(b':');
    }

    /// An object inside, which is left out if nothing stands in it.
    pub(super) fn object<E>(
        &mut self,
        key: &str,
        write: impl FnOnce(&mut Patch<'_, '_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (start, before) = (self.out.len(), self.written);
        self.key(key);
        self.out.push(b'{');
        let mut inner = Patch { out: &mut *self.out, told: &mut *self.told, written: false };
        let done = write(&mut inner);
        let empty = !inner.written;
        self.out.push(b'}');
        if empty {
            self.out.truncate(start);
            self.written = before;
        }
        done
    }

    pub(super) fn inside(&mut self, key: &str, write: impl FnOnce(&mut Patch<'_, '_>)) {
        let done: Result<(), core::convert::Infallible> = self.object(key, |p| {
            write(p);
            Ok(())
        });
        match done {
            Ok(()) => {}
        }
    }

    /// A member of a map: what is new is written whole (even if it is empty), what changed by its differences, what is
    /// gone as null.
    pub(super) fn entry<T: PartialEq>(
        &mut self,
        key: &str,
        old: Option<&T>,
        new: Option<&T>,
        write: impl FnOnce(&mut Patch<'_, '_>, Option<&T>, &T),
    ) {
        if old == new {
            return;
        }
        self.key(key);
        let Some(new) = new else { return self.out.extend_from_slice(b"null") };
        self.out.push(b'{');
        write(&mut Patch { out: &mut *self.out, told: &mut *self.told, written: false }, old, new);
        self.out.push(b'}');
    }

    pub(super) fn member<T: PartialEq>(
        &mut self,
        key: &str,
        old: Option<&T>,
        new: Option<&T>,
        write: impl FnOnce(&mut Patch<'_, '_>, Option<&T>, &T),
    ) {
        self.entry(key, old, new, write);
    }

    pub(super) fn text(&mut self, key: &str, old: Option<&str>, new: Option<&str>) {
        if old != new {
            self.key(key);
            match new {
                Some(text) => write_string(text, self.out),
                None => self.out.extend_from_slice(b"null"),
            }
        }
    }

    /// A free text: its commitment stands here, the text itself beside the log.
    pub(super) fn private(&mut self, key: &'static str, old: Option<&Arc<str>>, new: Option<&Arc<str>>) {
        if old != new {
            self.key(key);
            match new {
                Some(text) => {
                    let commitment: Digest = self.told.keep(key, text);
                    write_plain(&commitment.hex(), self.out);
                }
                None => self.out.extend_from_slice(b"null"),
            }
        }
    }

    /// A hash or an id, whose text has nothing to escape.
    pub(super) fn plain<T: PartialEq, const N: usize>(
        &mut self,
        key: &str,
        old: Option<&T>,
        new: Option<&T>,
        text: impl FnOnce(&T) -> [u8; N],
    ) {
        if old != new {
            self.key(key);
            match new {
                Some(thing) => write_plain(&text(thing), self.out),
                None => self.out.extend_from_slice(b"null"),
            }
        }
    }

    pub(super) fn names(&mut self, old: Option<&NameSet>, new: &NameSet) {
        if old != Some(new) {
            self.key("names");
            write_string(new.key(), self.out);
        }
    }

    /// A large number, as a text, so that no reader rounds it.
    pub(super) fn digits(&mut self, key: &str, old: Option<u64>, new: u64) {
        if old != Some(new) {
            self.key(key);
            write_plain(new.to_string().as_bytes(), self.out);
        }
    }

    /// Bytes, in hexadecimal.
    pub(super) fn hex(&mut self, key: &str, old: Option<&[u8]>, new: &[u8]) {
        self.maybe_hex(key, old, Some(new));
    }

    pub(super) fn maybe_hex(&mut self, key: &str, old: Option<&[u8]>, new: Option<&[u8]>) {
        if old != new {
            self.key(key);
            match new {
                Some(bytes) => write_plain(hex(bytes).as_bytes(), self.out),
                None => self.out.extend_from_slice(b"null"),
            }
        }
    }

    /// The detail of a trigger; most have none.
    pub(super) fn detail(&mut self, old: Option<&Trigger>, new: &Trigger) {
        let detail = |t: &Trigger| Some(t.detail().to_owned()).filter(|d| !d.is_empty());
        if old != Some(new) {
            self.text("detail", old.and_then(detail).as_deref(), detail(new).as_deref());
        }
    }

    /// A count; nought is left out of what is new.
    pub(super) fn count(&mut self, key: &str, old: Option<u32>, new: u32) {
        if old.unwrap_or(0) != new {
            self.key(key);
            write_integer(i64::from(new), self.out);
        }
    }

    pub(super) fn time(&mut self, key: &str, old: Option<Timestamp>, new: Option<Timestamp>) {
        if old != new {
            self.key(key);
            match new {
                Some(at) => write_time(at, self.out),
                None => self.out.extend_from_slice(b"null"),
            }
        }
    }

    pub(super) fn times(&mut self, key: &str, times: &[Timestamp]) {
        self.key(key);
        self.out.push(b'[');
        for (i, at) in times.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            write_time(*at, self.out);
        }
        self.out.push(b']');
    }
}

/// A number, or a string where a reader of numbers might round it.
fn write_time(at: Timestamp, out: &mut Vec<u8>) {
    let seconds = at.unix();
    match (SAFE.saturating_neg()..=SAFE).contains(&seconds) {
        true => write_integer(seconds, out),
        false => write_plain(seconds.to_string().as_bytes(), out),
    }
}
