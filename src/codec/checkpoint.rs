//! Checkpoints (C2SP tlog-checkpoint v1.0.0): the signed statement of a log's size and root.

use core::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ParseError;
use super::note::Note;
use crate::domain::key::Digest;
use crate::domain::tree::{LARGEST_TREE, TreeHead};

/// What a checkpoint says. As text it has three lines: origin, size, root in base64; lines after them are kept by the note
/// and mean nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log, for ever: also the name of its key.
    pub origin: String,
    /// Its size and root.
    pub head: TreeHead,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.head.size, STANDARD.encode(self.head.root.0))
    }
}

impl FromStr for Checkpoint {
    type Err = ParseError;

    /// Parses a note's text.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let text = text.strip_suffix('\n').ok_or_else(|| ParseError::new("does not end with a newline"))?;
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(ParseError::new("has fewer than three lines: origin, size, root"));
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(ParseError::new("has an empty line"));
        }
        let number: Option<u64> = size.parse().ok().filter(|n| *n <= LARGEST_TREE);
        // Neither a sign nor leading zeroes.
        let size = number.filter(|n| n.to_string() == size);
        let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        match (size, root) {
            (Some(size), Some(root)) => {
                Ok(Self { origin: origin.to_owned(), head: TreeHead { size, root: Digest(root) } })
            }
            (None, _) => Err(ParseError::new("has a second line that is no size")),
            (_, None) => Err(ParseError::new("has a third line that is no root hash in base64")),
        }
    }
}

impl Checkpoint {
    /// Parses what a note says, without a word on who signed it.
    ///
    /// # Errors
    /// If its text is no checkpoint.
    pub fn of(note: &Note) -> Result<Self, ParseError> {
        note.text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_and_ignores_what_follows_the_third_line() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!((checkpoint.head.size, checkpoint.to_string().as_str()), (20_852_163, text));
        assert_eq!(format!("{text}extension\n").parse(), Ok(checkpoint));
    }

    #[test]
    fn anything_else_is_refused() {
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        for bad in [
            String::new(),
            "a\n1\n".into(),
            format!("a\n1\n{root}"),
            format!("\n1\n{root}\n"),
            format!("a\n01\n{root}\n"),
            format!("a\n+1\n{root}\n"),
            format!("a\n-1\n{root}\n"),
            format!("a\n18446744073709551616\n{root}\n"),
            format!("a\n1\n{}\n", &root[4..]),
            format!("a\n1\n{root}\n\n"),
        ] {
            assert!(bad.parse::<Checkpoint>().is_err(), "{bad:?}");
        }
    }
}
