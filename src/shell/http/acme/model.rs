//! The answers about orders that wait for a person, as JSON.

use serde::{Deserialize, Serialize};

/// An order that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id: `corp/1f`.
    pub id: String,
    /// What is ordered.
    pub names: Vec<String>,
    /// By which profile of the CA.
    pub profile: String,
    /// Its account: `corp/1e`.
    pub account: String,
    /// The id of the external account key that the account was made with.
    pub external_account_key: Option<String>,
    /// Whose that is.
    pub owner: Option<String>,
    /// Since when it waits.
    pub since: String,
    /// Until when it does; then it becomes invalid.
    pub until: String,
}

/// Why a person decides as they do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// In a sentence; the client of an order that is denied sees it.
    pub reason: String,
}

/// An order that a person decided about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruled {
    /// Its id.
    pub id: String,
}
