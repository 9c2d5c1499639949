//! `keyward audit forget`.

use super::args::Forget;
use crate::shell::cli::console::Exit;
use crate::shell::cli::{Done, Run};
use crate::shell::http::model::Accepted;

impl Run {
    pub(super) fn audit_forget(&self, told: &Forget) -> Done {
        let daemon = self.daemon()?;
        let asked = serde_json::json!({"entry": told.id, "key": told.key, "plan": told.plan});
        let accepted: Accepted = daemon.post("/v1/audit/forget", &asked)?;
        self.console.note(accepted.text);
        Ok(Exit::Ok)
    }
}
