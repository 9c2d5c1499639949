//! `keyward snippet`.

use super::console::{Exit, Failure};
use super::gate_args;
use super::{Done, Run};
use crate::shell::snippet::{Wanted, render};

impl Run {
    pub(super) fn snippet(&self, told: &gate_args::Snippet) -> Done {
        let settings = self.settings()?;
        let wanted = Wanted { proxy: told.proxy, path: told.path.clone(), listen: told.listen, portal: told.portal };
        let text = render(&settings, &wanted).map_err(|e| Failure::new(Exit::Failed, e.what, e.mend))?;
        self.console.out(text.trim_end());
        Ok(Exit::Ok)
    }
}
