//! What the facts say, as tables; the sixteen invariants are in `properties`.

mod bytes;
mod holes;
mod monotone;
mod properties;
mod tables;
mod times;
mod world;
