//! The ACME directory over a private CA: spoken to by hand, by Debian's clients unmodified, and by Keyward itself.

mod clients;
mod corp;
mod protocol;
mod reach;
mod waiting;
