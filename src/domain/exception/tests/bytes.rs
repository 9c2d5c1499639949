//! Invariant 9: any byte that is hashed, changed, is another scope, and what was approved is not.
